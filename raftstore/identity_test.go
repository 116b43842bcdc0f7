package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// The identity of a master is not read through a symbolic link, be it one that leads nowhere.
func TestIdentityIsNoSymbolicLink(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(t.TempDir(), "none"), filepath.Join(dir, "master.json")); err != nil {
		t.Fatal(err)
	}
	if id, err := loadIdentity(dir); !errors.Is(err, durable.ErrNotFile) {
		t.Errorf("%+v, %v, want %v", id, err, durable.ErrNotFile)
	}
}
