package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrLocked: another process has the folder.
var ErrLocked = errors.New("folder is in use by another process")

// Lock is the hold on a data folder, given back by Close or by the end of the process.
type Lock struct{ file, dir *os.File }

// LockDir takes hold of a folder through flock(2) on its file LOCK, and on the folder itself: a LOCK that is removed or replaced while the
// folder is in use lets nobody in. The error wraps [ErrLocked] when another process has it.
func LockDir(dir string) (*Lock, error) {
	folder, err := flock(os.Open(dir))
	if err != nil {
		return nil, lockError(dir, err)
	}
	file, err := flock(os.OpenFile(filepath.Join(dir, "LOCK"), os.O_CREATE|os.O_RDWR, 0o600))
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

// flock takes the exclusive lock on what was opened, and closes it where it cannot.
func flock(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Locked reports whether some process has a folder. It changes nothing; where there is no folder nobody has it.
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

// Close gives the folder back.
func (l *Lock) Close() error { return errors.Join(l.file.Close(), l.dir.Close()) }
