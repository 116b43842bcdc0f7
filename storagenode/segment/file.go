package segment

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/internal/durable"
)

// File is a file of a storage node. Reads may run beside a write. After a failed write or sync the file must not be
// written again.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Stat() (os.FileInfo, error)
	Truncate(size int64) error
	Sync() error     // all of it, fsync(2)
	DataSync() error // the bytes and what is needed to find them, fdatasync(2)
}

// OpenFunc opens a file as os.OpenFile does, mode 0600.
type OpenFunc func(path string, flag int) (File, error)

// OpenFile is the [OpenFunc] of the real file system. The error wraps [durable.ErrNotFile] if the path holds
// something that is not a file.
func OpenFile(path string, flag int) (File, error) {
	f, err := durable.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

type osFile struct{ *os.File }

// DataSync calls fdatasync(2) until no signal interrupts it.
func (f osFile) DataSync() error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if syncErr = unix.Fdatasync(int(fd)); !errors.Is(syncErr, unix.EINTR) {
				return
			}
		}
	})
	if syncErr != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: syncErr}
	}
	return err
}

// DropCache drops the page cache of a part of the file, so that the next read comes from the disk. A length of 0 means
// everything from the offset on. Pages that are not written back yet stay.
func (f osFile) DropCache(offset, length int64) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var adviseErr error
	err = raw.Control(func(fd uintptr) { adviseErr = unix.Fadvise(int(fd), offset, length, unix.FADV_DONTNEED) })
	return errors.Join(err, adviseErr)
}

// Forget has the kernel drop the page cache of a file, if the file can do that; it is a hint.
func Forget(f File) {
	if c, ok := f.(interface {
		DropCache(offset, length int64) error
	}); ok {
		_ = c.DropCache(0, 0)
	}
}

// OpenExisting opens a segment to read. It returns nil if nothing is at the path, or something that is not a file.
func OpenExisting(open OpenFunc, path string) (File, error) {
	f, err := open(path, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, durable.ErrNotFile) {
		return nil, nil
	}
	return f, err
}
