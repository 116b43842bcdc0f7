package raftstore

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// otherKinds put something else than a regular file at a path.
var otherKinds = map[string]func(path string) error{
	"folder":         func(path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
	"link to itself": func(path string) error { return os.Symlink(path, path) },
	"dangling link":  func(path string) error { return os.Symlink(path+"-gone", path) },
	"pipe":           func(path string) error { return syscall.Mkfifo(path, 0o600) },
	"socket": func(path string) error {
		short, err := os.MkdirTemp("", "s") // the path of a socket is limited to 108 bytes
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(short) }()
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
		if err != nil {
			return err
		}
		l.SetUnlinkOnClose(false)
		defer func() { _ = l.Close() }()
		return os.Rename(filepath.Join(short, "s"), path)
	},
}

// TestMisplacedFilesRefused puts something else in place of the files of a master. They carry promises: votes, the log,
// the identity. So the master must not start without them, must not wait, and must change nothing.
func TestMisplacedFilesRefused(t *testing.T) {
	cfg := snapshotted(t)
	metas, err := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*", metaFile))
	if err != nil || len(metas) == 0 {
		t.Fatalf("%q, %v", metas, err)
	}
	meta, err := filepath.Rel(cfg.Dir, metas[len(metas)-1])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"master.json", "raft.db", "LOCK", "snapshots", meta, filepath.Join(filepath.Dir(meta), "state.bin"),
		filepath.Join(filepath.Dir(meta), sumFile),
	} {
		path := filepath.Join(cfg.Dir, name)
		for kind, put := range otherKinds {
			if name == "snapshots" && kind == "folder" {
				continue
			}
			if err := os.Rename(path, path+".kept"); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			opened := make(chan error, 1)
			go func() {
				s, err := Open(cfg)
				if err == nil {
					_ = s.Close()
				}
				opened <- err
			}()
			select {
			case err := <-opened:
				if err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
					t.Errorf("%s is a %s: %v", name, kind, err)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("%s is a %s: the start waits", name, kind)
			}
			if after, err := os.Lstat(path); err != nil || after.Mode() != before.Mode() {
				t.Errorf("%s is a %s: it was changed: %v", name, kind, err)
			}
			if _, err := os.Lstat(path + "-gone"); !os.IsNotExist(err) {
				t.Errorf("%s is a %s: a file was made through the link", name, kind)
			}
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(path + "-gone"); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(path+".kept", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("with its own files: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
