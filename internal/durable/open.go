package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile: a folder, a symbolic link that is not followed or leads in a circle, a pipe, a device or a socket
// stands where a file is due.
var ErrNotFile = errors.New("it is not a regular file")

// OpenFile is [os.OpenFile] for regular files alone: the error wraps [ErrNotFile] for anything else. It never waits
// for the other end of a pipe, and opens no device. A symbolic link is followed only when neither O_CREATE nor
// O_NOFOLLOW is in flag: a file that may be made or cut must not be one outside the data folder.
func OpenFile(path string, flag int, mode os.FileMode) (*os.File, error) {
	look := os.Stat
	if flag&(os.O_CREATE|syscall.O_NOFOLLOW) != 0 {
		look, flag = os.Lstat, flag|syscall.O_NOFOLLOW
	}
	switch info, err := look(path); {
	case err == nil:
		if err := regular(path, info); err != nil {
			return nil, err
		}
	case errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("%w: %w", ErrNotFile, err)
	case !errors.Is(err, fs.ErrNotExist) || flag&os.O_CREATE == 0:
		return nil, err
	}
	// What stands there may have changed since: a pipe must not block.
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, mode)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: %w", ErrNotFile, err)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = regular(path, info)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func regular(path string, info os.FileInfo) error {
	if info.Mode().IsRegular() {
		return nil
	}
	return fmt.Errorf("open %s: %w but %s", path, ErrNotFile, KindOf(info.Mode()))
}

// ReadFile is [os.ReadFile] for regular files alone, as [OpenFile] opens them; it follows no symbolic link.
func ReadFile(path string) ([]byte, error) {
	f, err := OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// Absent reports whether an error of [OpenFile] or [ReadFile] says that no file of ours is at the path: there is
// nothing, or there is something else in the place of the file, or of a folder above it. A file that cannot be read
// is not absent.
func Absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFile) || errors.Is(err, syscall.ENOTDIR)
}

// KindOf names for people what a mode is of.
func KindOf(mode os.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a file"
	case mode.IsDir():
		return "a folder"
	case mode&os.ModeSymlink != 0:
		return "a symbolic link"
	case mode&os.ModeNamedPipe != 0:
		return "a pipe"
	case mode&os.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}
