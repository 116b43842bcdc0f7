package raftstore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/internal/joining"
)

// TestKeyOfAMaster checks that a master keeps the key of its first start, in a file that only its owner may read, and
// that a folder of before the key gets one.
func TestKeyOfAMaster(t *testing.T) {
	dir := t.TempDir()
	key := func() string {
		t.Helper()
		s, err := Open(Config{Dir: dir, Bind: "127.0.0.1:0", Secret: testSecret})
		if err != nil {
			t.Fatal(err)
		}
		public := s.Key().Public()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return public
	}
	first := key()
	if again := key(); again != first || first == "" {
		t.Errorf("the key was %s and is %s", first, again)
	}
	path := filepath.Join(dir, "master.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	id, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if saved, err := joining.KeyOf(id.Key); err != nil || saved.Public() != first {
		t.Errorf("the file has the key %v: %v", saved, err)
	}
	id.Key = nil
	if err := id.save(dir); err != nil {
		t.Fatal(err)
	}
	if other := key(); other == "" || other == first {
		t.Errorf("a folder without a key gets %q", other)
	}
	id.Key = []byte("short")
	if err := id.save(dir); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(Config{Dir: dir, Bind: "127.0.0.1:0", Secret: testSecret}); err == nil {
		_ = s.Close()
		t.Error("a folder with a damaged key opens")
	}
}
