package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// Writer appends blocks to one segment. It belongs to one goroutine at a time. After an error it must not be used
// again, because the kernel may have dropped what it could not write, unless the error wraps [durable.ErrExhausted].
type Writer struct {
	file  File
	path  string
	first uint64
	size  int64
	small [FrameHeader]byte
	buf   []byte // of an encrypted block
}

// Create creates the segment whose first block has that number, and syncs it and its folder. The file must not exist.
// With keys it is encrypted. The error wraps [durable.ErrExhausted] if a resource is exhausted and no file was left.
func Create(open OpenFunc, keys *atrest.Ring, dir string, first uint64) (_ *Writer, err error) {
	path := filepath.Join(dir, Name(first))
	folder, err := os.Open(dir) // first, so that nothing is lacking to sync it
	if err != nil {
		return nil, durable.Unchanged(err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	f, err := WriteHeader(open, keys, path, os.O_CREATE|os.O_EXCL, first)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Sync(), folder.Sync()); err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", path, err), f.Close())
	}
	return &Writer{file: f, path: path, first: first, size: Start(f)}, nil
}

// WriteHeader opens a file with more flags and writes the header of a segment to it, of an encrypted one with keys. It
// syncs nothing. The error wraps [durable.ErrExhausted] if a resource is exhausted; if WriteHeader created the file, it
// has removed it then.
func WriteHeader(open OpenFunc, keys *atrest.Ring, path string, flags int, first uint64) (File, error) {
	f, err := open(path, os.O_RDWR|flags)
	if err != nil {
		return nil, durable.Unchanged(err)
	}
	header := appendHeader(nil, first)
	if keys.Has() {
		key, wrapped := keys.NewKey(fileName(first))
		header = bytes.Repeat(encodePage(first, wrapped), headers)
		f = &encrypted{File: f, key: key}
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		err = durable.Unchanged(fmt.Errorf("write %s: %w", path, err))
		if flags&os.O_CREATE != 0 && durable.CanRetry(err) {
			err = errors.Join(err, os.Remove(path))
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// RestoreHeader writes the header of a segment again and syncs it. That of an encrypted segment is written from its
// other copy.
func RestoreHeader(open OpenFunc, path string, first uint64) error {
	f, err := open(path, os.O_RDWR)
	if err != nil {
		return durable.Unchanged(err)
	}
	if e, ok := f.(*encrypted); ok {
		err = restorePages(e, first)
	} else if _, err = f.WriteAt(appendHeader(nil, first), 0); err == nil {
		err = f.Sync()
	}
	if err != nil {
		err = durable.Unchanged(fmt.Errorf("write the header of %s: %w", path, err))
	}
	return errors.Join(err, f.Close())
}

// Continue opens a segment to append to it. Its size must be as given.
func Continue(open OpenFunc, dir string, first uint64, size int64) (*Writer, error) {
	path := filepath.Join(dir, Name(first))
	f, err := open(path, os.O_RDWR)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%s has %d bytes, not %d", path, info.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Writer{file: f, path: path, first: first, size: size}, nil
}

// Write appends a block and returns the offset of its frame. After Sync the block survives a power cut. If there is no
// room for it, Write cuts off what it has written of it, and the error wraps [durable.ErrExhausted].
func (w *Writer) Write(block []byte) (offset int64, err error) {
	if uint64(w.ContentLength(block)) > MaxBlock {
		return 0, fmt.Errorf("a block of %d bytes does not fit a frame", len(block))
	}
	if key := keyOf(w.file); key != nil {
		w.buf = sealBlock(w.buf[:0], key, block, w.size)
		block = w.buf
	}
	binary.BigEndian.PutUint32(w.small[:], uint32(len(block)))
	binary.BigEndian.PutUint32(w.small[4:], durable.Checksum(block))
	if _, err := w.file.WriteAt(w.small[:], w.size); err != nil {
		return 0, w.undo(err)
	}
	if _, err := w.file.WriteAt(block, w.size+FrameHeader); err != nil {
		return 0, w.undo(err)
	}
	offset = w.size
	w.size += FrameHeader + int64(len(block))
	return offset, nil
}

// ContentLength returns the length of the content of a block's frame in this segment.
func (w *Writer) ContentLength(block []byte) int { return storedLength(keyOf(w.file), len(block)) }

// IsEncrypted reports whether the segment is encrypted.
func (w *Writer) IsEncrypted() bool { return IsEncrypted(w.file) }

// undo cuts off what a failed write has written, if the disk is full.
func (w *Writer) undo(err error) error {
	err = fmt.Errorf("write %s: %w", w.path, err)
	if !durable.NoSpace(err) && !durable.NoResources(err) {
		return err
	}
	if cutErr := w.file.Truncate(w.size); cutErr != nil {
		return errors.Join(err, cutErr)
	}
	return durable.Unchanged(err)
}

// Remove cuts off the block that was written last, which is not synced. offset is that of its frame.
func (w *Writer) Remove(offset int64) error {
	if err := w.file.Truncate(offset); err != nil {
		return fmt.Errorf("cut %s: %w", w.path, err)
	}
	w.size = offset
	return nil
}

// Sync makes what was written durable.
func (w *Writer) Sync() error {
	if err := w.file.DataSync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.path, err)
	}
	return nil
}

// Stat describes the open file, wherever its path points now.
func (w *Writer) Stat() (os.FileInfo, error) { return w.file.Stat() }

// First is the number of the segment's first block.
func (w *Writer) First() uint64 { return w.first }

// Filled reports whether the frames fill a segment of that size. The second copy of an encrypted segment's header does
// not count.
func (w *Writer) Filled(segmentBytes int64) bool {
	return w.size-Start(w.file)+HeaderSize >= segmentBytes
}

// Size is the size of the file in bytes.
func (w *Writer) Size() int64 { return w.size }

// Close closes the file without syncing it.
func (w *Writer) Close() error { return w.file.Close() }
