package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestOpenFileOpensRegularFilesAlone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("file"), []byte("text"), 0o600), os.Mkdir(at("folder"), 0o700), os.Symlink("file", at("link")),
		os.Symlink("folder", at("folder-link")), os.Symlink("loop", at("loop")), os.Symlink("gone",
			at("dangling")), syscall.Mkfifo(at("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const follow, nofollow, create = os.O_RDONLY, os.O_RDONLY | syscall.O_NOFOLLOW, os.O_RDWR | os.O_CREATE
	for _, c := range []struct {
		path string
		flag int
		want error
	}{
		{"file", follow, nil}, {"file", nofollow, nil}, {"file", create, nil}, {"new", create, nil},
		{"link", follow, nil}, {"link", nofollow, ErrNotFile}, {"link", create, ErrNotFile},
		{"folder", follow, ErrNotFile}, {"folder", create, ErrNotFile}, {"folder-link", follow, ErrNotFile},
		{"fifo", follow, ErrNotFile}, {"fifo", create, ErrNotFile}, {"loop", follow, ErrNotFile}, {"loop", nofollow,
			ErrNotFile},
		{"dangling", follow, fs.ErrNotExist}, {"dangling", create, ErrNotFile}, {"gone", follow,
			fs.ErrNotExist}, {"/dev/null", follow, ErrNotFile},
		{"file/below", follow, syscall.ENOTDIR},
	} {
		path := at(c.path)
		if filepath.IsAbs(c.path) {
			path = c.path
		}
		f, err := OpenFile(path, c.flag, 0o600)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s, flags %#x: %v, want %v", c.path, c.flag, err, c.want)
		}
		if err != nil && !Absent(err) {
			t.Errorf("%s: %v does not count as absent", c.path, err)
		}
		if f != nil {
			_ = f.Close()
		}
	}
	if _, err := os.Lstat(at("gone")); err == nil {
		t.Error("a file was made through a link")
	}
	if Absent(syscall.EMFILE) || Absent(syscall.EIO) || Absent(syscall.EACCES) {
		t.Error("a file that cannot be read counts as absent")
	}
	if data, err := ReadFile(at("file")); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestCannotRead checks which errors say that the system could not read a file, and which speak of the file itself.
func TestCannotRead(t *testing.T) {
	for _, errno := range []syscall.Errno{
		syscall.EIO, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM, syscall.ELOOP,
		syscall.ESTALE, syscall.ETIMEDOUT,
	} {
		if err := fmt.Errorf("block 7: %w", &os.PathError{Op: "read", Path: "x", Err: errno}); !CannotRead(err) {
			t.Errorf("%v counts as damage", err)
		}
	}
	for _, err := range []error{
		nil, os.ErrNotExist, syscall.ENOENT, syscall.ENOTDIR, io.EOF, io.ErrUnexpectedEOF, ErrDamaged,
		fmt.Errorf("%w: %w", ErrNotFile, syscall.ELOOP), fmt.Errorf("%w: %w", ErrDamaged, syscall.EIO),
	} {
		if CannotRead(err) {
			t.Errorf("%v counts as an error of the system", err)
		}
	}
}
