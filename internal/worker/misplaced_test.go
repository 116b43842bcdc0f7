package worker

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
)

// TestMisplacedFilesRefused puts something else in place of the files that carry promises of a worker: which orders it
// refuses, who it is, which starts were its own. It must not start without them, must not wait for a pipe, and must
// not write through a link. Nothing is changed.
func TestMisplacedFilesRefused(t *testing.T) {
	opens := map[string]func(dir string) error{
		"fence":  func(dir string) error { _, err := OpenFence(dir); return err },
		"starts": func(dir string) error { _, _, err := OpenStarts(dir); return err },
		"identity.json": func(dir string) error {
			_, err := ReadIdentity(dir)
			_, _, loadErr := LoadIdentity(dir)
			if (err == nil) != (loadErr == nil) {
				t.Errorf("read: %v, load: %v", err, loadErr)
			}
			return loadErr
		},
	}
	for name, open := range opens {
		for kind, put := range map[string]func(path string) error{
			"folder":         func(path string) error { return os.Mkdir(path, 0o700) },
			"link to itself": func(path string) error { return os.Symlink(path, path) },
			"dangling link":  func(path string) error { return os.Symlink(path+"-gone", path) },
			"link to a file": func(path string) error {
				return errors.Join(os.WriteFile(path+"-other", []byte("other"), 0o600), os.Symlink(path+"-other", path))
			},
			"pipe": func(path string) error { return syscall.Mkfifo(path, 0o600) },
			"socket": func(path string) error {
				l, err := net.Listen("unix", path)
				if err == nil {
					t.Cleanup(func() { _ = l.Close() })
				}
				return err
			},
		} {
			dir, err := os.MkdirTemp("", "w") // the path of a socket is limited to 108 bytes
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, name)
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := open(dir); !errors.Is(err, durable.ErrNotFile) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s is a %s: %v", name, kind, err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("%s is a %s: it was replaced", name, kind)
			}
			if data, err := os.ReadFile(path + "-other"); err == nil && string(data) != "other" {
				t.Errorf("%s is a %s: written through the link", name, kind)
			}
			if _, err := os.Lstat(path + "-gone"); err == nil {
				t.Errorf("%s is a %s: created through the link", name, kind)
			}
		}
	}
}
