package logstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// allocate gives a part of a file its place on the disk, and extends the file to its end. It is zero.
func allocate(f *os.File, from, size int64) error { return unix.Fallocate(int(f.Fd()), 0, from, size) }

// syncData makes the content of a file durable, without its times.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}
