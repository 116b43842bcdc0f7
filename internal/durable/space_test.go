package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// noDescriptors runs a function while the process can open no file.
func noDescriptors(t *testing.T, run func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	run()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// TestNoDescriptors checks that each operation that finds no free descriptor says so and changes nothing.
func TestNoDescriptors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := durable.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs map[string]error
	noDescriptors(t, func() {
		errs = map[string]error{
			"WriteFile":       durable.WriteFile(path, []byte("new"), 0o600),
			"Rename":          durable.Rename(path, filepath.Join(dir, "other")),
			"MkdirAll":        durable.MkdirAll(filepath.Join(dir, "folder")),
			"KeepReserve":     durable.KeepReserve(dir),
			"HaveDescriptors": durable.HaveDescriptors(1),
		}
	})
	for name, err := range errs {
		if !errors.Is(err, durable.ErrExhausted) || !durable.NoResources(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	onlyFile(t, path, "old", 0o600)
	if err := durable.HaveDescriptors(8); err != nil {
		t.Error(err)
	}
}

// TestFailedSyncIsFinal checks that no error counts as an exhausted resource because of its number alone.
func TestFailedSyncIsFinal(t *testing.T) {
	err := error(&os.PathError{Op: "sync", Path: "x", Err: syscall.ENOSPC})
	if errors.Is(err, durable.ErrExhausted) || !durable.NoSpace(err) {
		t.Error(err)
	}
	if err := durable.Unchanged(syscall.EIO); errors.Is(err, durable.ErrExhausted) {
		t.Error(err)
	}
}

// TestReserve checks that the reserve is written once, and that only a reserve is removed.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	if durable.UseReserve(dir) {
		t.Error("there was a reserve")
	}
	for range 2 {
		if err := durable.KeepReserve(dir); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "reserve")
	if info, err := os.Stat(path); err != nil || info.Size() != 1<<20 {
		t.Errorf("%+v, %v", info, err)
	}
	if !durable.UseReserve(dir) || durable.UseReserve(dir) {
		t.Error("the reserve cannot be used once")
	}
	if err := os.WriteFile(path, []byte("a user's file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if durable.UseReserve(dir) {
		t.Error("another file was removed")
	}
}
