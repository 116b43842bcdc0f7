package worker_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/worker"
)

func openStarts(t *testing.T, dir string) *worker.Starts {
	t.Helper()
	s, damaged, err := worker.OpenStarts(dir)
	if err != nil || damaged != nil {
		t.Fatal(damaged, err)
	}
	return s
}

func TestStarts(t *testing.T) {
	dir := t.TempDir()
	first := openStarts(t, dir)
	if first.Own() == "" || first.Confirmed() != "" || !first.Has(first.Own()) || first.Has("") {
		t.Errorf("own %q, confirmed %q", first.Own(), first.Confirmed())
	}
	info, err := os.Stat(filepath.Join(dir, "starts"))
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	second := openStarts(t, dir) // the first one was never confirmed
	if second.Own() == first.Own() || second.Confirmed() != "" || !second.Has(first.Own()) || first.Has(second.Own()) {
		t.Errorf("own %q, confirmed %q", second.Own(), second.Confirmed())
	}
	if err := second.Confirm(); err != nil || second.Confirmed() != second.Own() {
		t.Errorf("%v, confirmed %q", err, second.Confirmed())
	}
	third := openStarts(t, dir)
	if third.Confirmed() != second.Own() || !third.Has(first.Own()) || !third.Has(second.Own()) ||
		third.Own() == second.Own() {
		t.Errorf("confirmed %q, want %q", third.Confirmed(), second.Own())
	}
}

// TestStartsAreBounded checks that the file keeps the newest starts, and the newest confirmed one, however many
// followed it.
func TestStartsAreBounded(t *testing.T) {
	dir := t.TempDir()
	confirmed := openStarts(t, dir)
	if err := confirmed.Confirm(); err != nil {
		t.Fatal(err)
	}
	next := openStarts(t, dir)
	var last *worker.Starts
	for range worker.MaxStarts {
		last = openStarts(t, dir)
	}
	if last.Confirmed() != confirmed.Own() || !last.Has(confirmed.Own()) || last.Has(next.Own()) {
		t.Errorf("confirmed %q, want %q; the start after it is kept: %v",
			last.Confirmed(), confirmed.Own(), last.Has(next.Own()))
	}
	if info, err := os.Stat(filepath.Join(dir, "starts")); err != nil || info.Size() > 32*worker.MaxStarts {
		t.Errorf("%v, %v", info, err)
	}
	if err := last.Confirm(); err != nil {
		t.Fatal(err)
	}
	if after := openStarts(t, dir); after.Has(confirmed.Own()) || after.Confirmed() != last.Own() {
		t.Errorf("the first one is still there: %v, confirmed %q", after.Has(confirmed.Own()), after.Confirmed())
	}
}

// TestStartsFormat checks the test vector of docs/formats.md.
func TestStartsFormat(t *testing.T) {
	const vector = "43535354" + "01" + "0002" + "0001" + "01" + "61" + "02" + "6263" + "7ac4f052"
	data, err := hex.DecodeString(vector)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "starts"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStarts(t, dir)
	if s.Confirmed() != "a" || !s.Has("a") || !s.Has("bc") || s.Has("b") {
		t.Errorf("confirmed %q", s.Confirmed())
	}
	now, err := os.ReadFile(filepath.Join(dir, "starts"))
	want := "CSST\x01\x00\x03\x00\x01\x01a\x02bc" + string([]byte{byte(len(s.Own()))}) + s.Own()
	if err != nil || string(now[:len(now)-4]) != want {
		t.Errorf("%q, %v, want %q", now, err, want)
	}
}

func TestStartsThatCannotBeWritten(t *testing.T) {
	if _, _, err := worker.OpenStarts(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	dir := filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := openStarts(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Confirm(); !errors.Is(err, fs.ErrNotExist) || s.Confirmed() != "" {
		t.Errorf("%v, confirmed %q although it is not on disk", err, s.Confirmed())
	}
}

// TestDamagedStarts checks that a list that is damaged at any byte, or truncated, is moved aside, and that the worker
// becomes a new one of the same cluster.
func TestDamagedStarts(t *testing.T) {
	dir := t.TempDir()
	openStarts(t, dir)
	path := filepath.Join(dir, "starts")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := worker.Identity{Version: 1, ID: "w1", MasterToken: "m", AccessToken: "a", Group: "g"}
	check := func(content []byte) {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "starts")
		if err := errors.Join(os.WriteFile(path, content, 0o600), before.Save(dir)); err != nil {
			t.Fatal(err)
		}
		s, damaged, err := worker.OpenStarts(dir)
		if err != nil || damaged == nil || !strings.Contains(damaged.Error(), path) || s.Confirmed() != "" {
			t.Fatalf("%q: %v, %v", content, damaged, err)
		}
		if kept, err := os.ReadFile(path + ".damaged-1"); err != nil || !bytes.Equal(kept, content) {
			t.Fatalf("the damaged file was not kept: %q, %v", kept, err)
		}
		id, damagedIdentity, err := worker.LoadIdentity(dir)
		if err != nil || damagedIdentity != nil || id.ID != "" || id.AccessToken != "" ||
			id.MasterToken == before.MasterToken || id.Group != "g" {
			t.Fatalf("%+v, %v, %v", id, damagedIdentity, err)
		}
		openStarts(t, dir)
		if again, _, err := worker.LoadIdentity(dir); err != nil || again != id {
			t.Fatalf("another identity at the next start: %+v, %v", again, err)
		}
	}
	for n := range good {
		if n == 4 { // the version: see below
			continue
		}
		flipped := bytes.Clone(good)
		flipped[n] ^= 0x80
		check(flipped)
		check(good[:n])
	}
	check(append(bytes.Clone(good), 0))
}

// TestDamagedStartsWithoutIdentity checks that a damaged list is also moved aside if the identity is missing or
// damaged.
func TestDamagedStartsWithoutIdentity(t *testing.T) {
	for name, identity := range map[string]string{"none": "", "damaged": "{}"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "starts"), []byte("CSST"), 0o600); err != nil {
			t.Fatal(err)
		}
		if identity != "" {
			if err := os.WriteFile(filepath.Join(dir, "identity.json"), []byte(identity), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, damaged, err := worker.OpenStarts(dir); err != nil || damaged == nil {
			t.Errorf("%s: %v, %v", name, damaged, err)
		}
		id, damaged, err := worker.LoadIdentity(dir)
		if err != nil || (damaged != nil) != (identity != "") || id.ID != "" {
			t.Errorf("%s: %+v, %v, %v", name, id, damaged, err)
		}
	}
}

func TestStartsOfANewerVersion(t *testing.T) {
	dir := t.TempDir()
	content := []byte("CSST\x02 whatever that is")
	if err := os.WriteFile(filepath.Join(dir, "starts"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := worker.OpenStarts(dir); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("got %v", err)
	}
	if now, err := os.ReadFile(filepath.Join(dir, "starts")); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file changed: %q, %v", now, err)
	}
}
