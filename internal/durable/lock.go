package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked: another process uses the folder.
var ErrLocked = errors.New("folder is in use by another process")

// Lock is the lock of a data folder. Close releases it, and so does the end of the process.
type Lock struct{ file, dir *os.File }

// LockDir locks a folder with flock(2) on its file LOCK, and on the folder itself: so the folder stays locked when
// LOCK is removed or replaced. The error wraps [ErrLocked] where another process has locked it, or [ErrNotFile].
func LockDir(dir string) (*Lock, error) {
	folder, err := flock(os.Open(dir))
	if err != nil {
		return nil, lockError(dir, err)
	}
	file, err := flock(OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600))
	if err != nil {
		return nil, errors.Join(lockError(dir, err), folder.Close())
	}
	return &Lock{file: file, dir: folder}, nil
}

func lockError(dir string, err error) error {
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: %s (stop that process, or choose another --data folder)", ErrLocked, dir)
	}
	return fmt.Errorf("lock %s: %w", dir, err)
}

// flock locks an opened file exclusively. Where it fails, it closes the file.
func flock(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Locked reports whether a process has locked a folder. It changes nothing. A folder that does not exist is not locked.
func Locked(dir string) (bool, error) {
	f, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, f.Close()
	}
	return false, errors.Join(err, f.Close())
}

// Close releases the folder.
func (l *Lock) Close() error { return errors.Join(l.file.Close(), l.dir.Close()) }
