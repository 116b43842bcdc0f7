package raftstore

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// TestControlCharactersInFolder starts a master on a data folder whose log has keys and types with control
// characters. The folder is described in masterfsm/testdata/controls, which also has its state's hash.
func TestControlCharactersInFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	identity, err := os.ReadFile("testdata/controls/master.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "master.json"), identity, 0o600); err != nil {
		t.Fatal(err)
	}
	packed, err := os.Open("testdata/controls/raft.db.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	log, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "raft.db"), log, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, testConfig(t, dir))
	ctx := patience(t)
	for changed := s.StateChanged(); s.Applied() < 21; changed = s.StateChanged() {
		select {
		case <-changed:
		case err := <-s.Failed():
			t.Fatal(err)
		case <-ctx.Done():
			t.Fatalf("only %d entries are applied", s.Applied())
		}
	}
	// No master leads here, so no command is appended: the state is that of the folder.
	var digest chain.Hash
	s.Read(func(state *masterfsm.State) { digest, err = state.Snapshot().Digest() })
	const want = "eec463ced304877e107d2507e3bd7a19fffbc0c2b2ca1fcd312f0a41ff1f0d2c"
	if err != nil || digest.String() != want {
		t.Errorf("the state's hash is %v, want %s: %v", digest, want, err)
	}
}
