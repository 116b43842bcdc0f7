package blockindex

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// The file "index" holds the place of each block. All integers are big endian:
//
//	magic "CSIX" ‖ version u8 = 1 ‖ 0 0 0 ‖ entries of 28 bytes, one for each block from block 0 on
//
//	entry  first u64 ‖ offset u64 ‖ length u32 ‖ count u32 ‖ CRC-32C u32 of (block number u64 ‖ the 24 bytes before)
//
// offset is that of the frame in its segment. A block at offset 20 is the first of a segment. A length of 0 marks a
// lost block. The file is written after the segments. From its end, or from an entry that is not good, the segments are
// scanned instead.
const (
	headerSize = 8
	entrySize  = 8 + 8 + 4 + 4 + 4
)

var format = durable.Format{Magic: "CSIX", Version: 1, Zeros: 3}

var fileHeader = string(format.AppendHeader(nil))

func appendEntry(dst []byte, block uint64, p *Place) []byte {
	var buf [8 + entrySize]byte
	e := binary.BigEndian.AppendUint64(buf[:0], block)
	e = binary.BigEndian.AppendUint64(e, p.First)
	e = binary.BigEndian.AppendUint64(e, uint64(p.Offset))
	e = binary.BigEndian.AppendUint32(e, p.Length)
	e = binary.BigEndian.AppendUint32(e, p.Count)
	e = binary.BigEndian.AppendUint32(e, durable.Checksum(e))
	return append(dst, e[8:]...)
}

func parseEntry(data []byte, block uint64) (Place, bool) {
	var buf [8 + entrySize - 4]byte
	binary.BigEndian.PutUint64(buf[:], block)
	copy(buf[8:], data)
	if durable.Checksum(buf[:]) != binary.BigEndian.Uint32(data[entrySize-4:]) {
		return Place{}, false
	}
	return Place{
		First:  binary.BigEndian.Uint64(data),
		Offset: int64(binary.BigEndian.Uint64(data[8:])),
		Length: binary.BigEndian.Uint32(data[16:]),
		Count:  binary.BigEndian.Uint32(data[20:]),
	}, true
}

// readFile passes the places in the file to use, one by one, until the file ends, an entry is not good or use returns
// false. A missing or foreign file has none. The error wraps [durable.ErrNewerFormat], or is the disk's.
func readFile(path string, use func(Place) bool) error {
	f, err := durable.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if durable.Absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	r := bufio.NewReaderSize(f, 1<<16)
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return ignoreEnd(err)
	}
	if err := format.CheckHeader(header[:]); errors.Is(err, durable.ErrNewerFormat) {
		return fmt.Errorf("%s: %w", path, err)
	}
	if string(header[:]) != fileHeader {
		return nil
	}
	var entry [entrySize]byte
	for block := uint64(0); ; block++ {
		if _, err := io.ReadFull(r, entry[:]); err != nil {
			return ignoreEnd(err)
		}
		p, ok := parseEntry(entry[:], block)
		if !ok || !use(p) {
			return nil
		}
	}
}

// ignoreEnd returns nil for the end of a file.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// File writes the places of an [Index] to its file. It belongs to one goroutine at a time. After an error it must not
// be written again, unless the error wraps [durable.ErrExhausted]: then the entry may be written again.
type File struct {
	file  segment.File
	path  string
	index *Index
	buf   []byte
	want  []byte
}

// OpenFile opens the file of an index to append after the entries of the first height blocks, which must be good. It
// creates the file if it is missing.
func OpenFile(open segment.OpenFunc, path string, index *Index, height uint64) (*File, error) {
	_, statErr := os.Lstat(path)
	f, err := open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, durable.Unchanged(err)
	}
	w := &File{file: f, path: path, index: index}
	err = w.truncate(height)
	if err == nil {
		_, err = f.WriteAt([]byte(fileHeader), 0)
		err = durable.Unchanged(err)
	}
	if err == nil && statErr != nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", path, err), f.Close())
	}
	return w, nil
}

func (w *File) truncate(height uint64) error { return w.file.Truncate(entryOffset(height)) }

func entryOffset(block uint64) int64 { return headerSize + int64(block)*entrySize }

// Put writes the entries of blocks.
func (w *File) Put(blocks ...uint64) error {
	for _, block := range blocks {
		w.buf = w.appendEntry(w.buf[:0], block)
		if err := w.write(block); err != nil {
			return err
		}
	}
	return nil
}

func (w *File) appendEntry(dst []byte, block uint64) []byte {
	p, _, _ := w.index.Get(block)
	return appendEntry(dst, block, &p)
}

func (w *File) write(block uint64) error {
	if _, err := w.file.WriteAt(w.buf, entryOffset(block)); err != nil {
		return durable.Unchanged(fmt.Errorf("write %s: %w", w.path, err))
	}
	return nil
}

// Spoil makes the entry of a block invalid and syncs it. A start then scans the segments from that block on.
func (w *File) Spoil(block uint64) error {
	w.buf = bytes.Repeat([]byte{0xff}, entrySize)
	if err := w.write(block); err != nil {
		return err
	}
	return w.Sync()
}

// Cut drops the entries from a block on and syncs the file.
func (w *File) Cut(height uint64) error {
	if err := w.truncate(height); err != nil {
		return fmt.Errorf("cut %s: %w", w.path, err)
	}
	return w.Sync()
}

// Sync makes the entries durable.
func (w *File) Sync() error {
	if err := w.file.DataSync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.path, err)
	}
	return nil
}

// Close closes the file without syncing it.
func (w *File) Close() error { return w.file.Close() }

// Stat describes the open file, wherever its path points now.
func (w *File) Stat() (os.FileInfo, error) { return w.file.Stat() }

// HeaderGood reports whether the header on disk is the one that was written.
func (w *File) HeaderGood() bool {
	header := make([]byte, headerSize)
	_, err := w.file.ReadAt(header, 0)
	return err == nil && string(header) == fileHeader
}

// RestoreHeader writes the header again and syncs the file.
func (w *File) RestoreHeader() error {
	if _, err := w.file.WriteAt([]byte(fileHeader), 0); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return w.Sync()
}

// Differing returns the blocks from one up to another whose entries on disk are not those of the index. The error is
// that of a read.
func (w *File) Differing(from, to uint64) (blocks []uint64, err error) {
	size := int(to-from) * entrySize
	w.buf = slices.Grow(w.buf[:0], size)[:size]
	got, err := w.file.ReadAt(w.buf, entryOffset(from))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	for at := 0; from < to; from, at = from+1, at+entrySize {
		w.want = w.appendEntry(w.want[:0], from)
		if at+entrySize > got || string(w.buf[at:at+entrySize]) != string(w.want) {
			blocks = append(blocks, from)
		}
	}
	return blocks, nil
}
