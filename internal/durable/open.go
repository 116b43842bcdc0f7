package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// ErrNotFile: the path is a folder, a symbolic link that is not followed or leads in a circle, a pipe, a device or a
// socket.
var ErrNotFile = errors.New("it is not a regular file")

// OpenFile is [os.OpenFile] for regular files only: for anything else the error wraps [ErrNotFile]. It never waits
// for the other end of a pipe, and opens no device. It follows a symbolic link only when flag has neither O_CREATE
// nor O_NOFOLLOW: a file that may be created or truncated must be inside the data folder.
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
	// The path may be another file by now: a pipe must not block.
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

// CheckFile returns an error that wraps [ErrNotFile] if something other than a regular file is at a path: for a library
// that opens the file itself would wait for a pipe, or create a file where a link points to. A missing file is no
// error. A link to a file counts as a file if links is true.
func CheckFile(path string, links bool) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink != 0 && links {
		switch target, err := os.Stat(path); {
		case err == nil:
			info = target
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ELOOP):
			return err
		}
	}
	return regular(path, info)
}

// ReadFile is [os.ReadFile] for regular files only, as [OpenFile] opens them. It follows no symbolic link.
func ReadFile(path string) ([]byte, error) {
	f, err := OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// Absent reports whether an error of [OpenFile] or [ReadFile] says that the file does not exist: the path is missing,
// or it, or a part of it, is something other than expected. A file that cannot be read is not absent.
func Absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotFile) || errors.Is(err, syscall.ENOTDIR)
}

// CannotRead reports whether an error of an open or a read says that the system could not do it: no descriptor or
// memory is left, access is denied, the device reports an error. Such an error says nothing about the bytes of the
// file, so it is never damage. A file that is missing, too short, or of another kind can be damage, as can wrong bytes.
func CannotRead(err error) bool {
	if errors.Is(err, ErrDamaged) || Absent(err) {
		return false
	}
	var number syscall.Errno
	return errors.As(err, &number) || errors.Is(err, os.ErrClosed)
}

// OneUnreadable reports whether an error is one of [CannotRead] and concerns a single file: not a lack of descriptors
// or memory, which would hide every file.
func OneUnreadable(err error) bool { return CannotRead(err) && !NoResources(err) }

// AtPath reports whether an open file is still the one at its path, and whether anything is there.
func AtPath(f interface{ Stat() (os.FileInfo, error) }, path string) (same, exists bool, err error) {
	mine, err := f.Stat()
	if err != nil {
		return false, false, err
	}
	there, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	return err == nil && os.SameFile(mine, there), true, err
}

// KindOf returns the kind of a file as text for people.
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
