package logstore

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/durable"
)

// allocateBytes is how much of a segment gets its place on the disk at once.
const allocateBytes = 1 << 20

// files are the files of segments, for the library. The errors of some calls are not returned by the library, so they
// are also reported.
type files struct {
	failed func(error) error
	tail   *atomic.Int64 // where the content of the last segment ends
	disk   disk
}

// ListDir lists the files of a folder.
func (files) ListDir(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// Create creates a segment of at most about size bytes. Its name is durable.
func (v files) Create(dir, name string, size uint64) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	var f *os.File
	err := v.failed(untilRoom(func() (err error) {
		// The second one is for the sync of the folder.
		if err := durable.HaveDescriptors(2); err != nil {
			return err
		}
		return v.disk.do("create", path, func() (err error) {
			f, err = durable.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
			if err != nil {
				return durable.Unchanged(err)
			}
			return durable.SyncDir(dir)
		})
	}))
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
		return nil, err
	}
	v.tail.Store(0)
	return &segmentFile{File: f, limit: int64(size), tail: v.tail, disk: v.disk}, nil
}

// Delete deletes a segment that the list of segments does not have any more. The name is gone durably.
func (v files) Delete(dir, name string) error {
	path := filepath.Join(dir, name)
	return v.failed(v.disk.do("delete", path, func() error {
		err := untilRoom(func() error {
			if err := durable.HaveDescriptors(1); err != nil {
				return err
			}
			return durable.Unchanged(os.Remove(path))
		})
		if err == nil {
			err = durable.SyncDir(dir)
		}
		return err
	}))
}

// OpenReader opens a complete segment.
func (files) OpenReader(dir, name string) (types.ReadableFile, error) {
	return durable.OpenFile(filepath.Join(dir, name), os.O_RDONLY, 0)
}

// OpenWriter opens the last segment.
func (v files) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := durable.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segmentFile{File: f, allocated: info.Size(), limit: info.Size(), tail: v.tail, disk: v.disk}, nil
}

// segmentFile is the last segment. Its place on the disk is allocated in pieces.
type segmentFile struct {
	*os.File
	allocated int64 // bytes of the file that have a place, or for which that was tried
	limit     int64 // up to where it is worth it
	tail      *atomic.Int64
	disk      disk
}

// WriteAt writes bytes.
func (f *segmentFile) WriteAt(b []byte, at int64) (int, error) {
	if end := at + int64(len(b)); end > f.allocated && f.allocated < f.limit {
		from := f.allocated
		f.allocated = max(end, min((end+allocateBytes-1)/allocateBytes*allocateBytes, f.limit))
		// It saves changes of the file's size when it is synced. Without room, the write itself fails.
		_ = allocate(f.File, from, f.allocated-from)
	}
	f.tail.Store(at + int64(len(b)))
	n := 0
	err := f.disk.do("write", f.Name(), func() (err error) {
		n, err = f.File.WriteAt(b, at)
		return err
	})
	return n, err
}

// Sync makes what was written durable.
func (f *segmentFile) Sync() error {
	return f.disk.do("sync", f.Name(), func() error { return syncData(f.File) })
}
