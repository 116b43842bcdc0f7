package durable

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
)

// Space returns the bytes of the file system of a folder that this process may still use, and the bytes in total.
// Quotas of a user or project are not included, unless the file system reports them.
func Space(dir string) (free, total uint64, err error) {
	var s syscall.Statfs_t
	for {
		if err = syscall.Statfs(dir, &s); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	unit := uint64(s.Bsize)
	return s.Bavail * unit, s.Blocks * unit, nil
}

// The file "reserve" in a data folder: magic "CSRE" ‖ version u8 = 1 ‖ bytes without a meaning, 1 MiB in all.
var reserveFormat = Format{Magic: "CSRE", Version: 1}

const (
	reserveName = "reserve"
	// reserveBytes is enough for the small files of a data folder.
	reserveBytes = 1 << 20
	// smallBytes is the size of a file up to which its write may use the reserve.
	smallBytes = 64 << 10
)

// KeepReserve makes sure that a data folder has its reserve, the file "reserve". When the disk is full, the write of a
// small file in the folder, or in a folder directly below it, removes the reserve and is tried again. So identity,
// fence and marks can still be written. The caller calls KeepReserve again when there is room.
func KeepReserve(dir string) error {
	path := filepath.Join(dir, reserveName)
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && info.Size() == reserveBytes {
		return nil
	}
	return Write(path, 0o600, func(w io.Writer) error {
		// Random bytes, because a file system may compress what is regular.
		data := make([]byte, reserveBytes)
		_, _ = rand.NewChaCha8([32]byte{}).Read(data) // it never fails
		_, err := w.Write(reserveFormat.AppendHeader(data[:0])[:reserveBytes])
		return err
	})
}

// useReserve removes the reserve that the file at path may use. It reports whether there was one.
func useReserve(path string) bool {
	dir := filepath.Dir(path)
	return UseReserve(dir) || UseReserve(filepath.Dir(dir))
}

// UseReserve removes the reserve of a data folder, so that there is room on a full disk. It leaves any other file of
// that name. It reports whether there was one.
func UseReserve(dir string) bool {
	path := filepath.Join(dir, reserveName)
	f, err := OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return false
	}
	var header [5]byte
	_, err = io.ReadFull(f, header[:])
	if err = errors.Join(err, f.Close()); err != nil || reserveFormat.CheckHeader(header[:]) != nil {
		return false
	}
	return os.Remove(path) == nil
}
