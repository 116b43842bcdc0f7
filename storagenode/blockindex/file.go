package blockindex

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
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

// File writes the index file. It belongs to one goroutine at a time. After an error it must not be written again.
type File struct {
	file segment.File
	path string
	buf  []byte
	want []byte
}

// OpenFile opens the index file to append after the entries of the first height blocks, which must be good. It creates
// the file in the folder dir if it is missing.
func OpenFile(open segment.OpenFunc, dir, path string, height uint64) (*File, error) {
	_, statErr := os.Lstat(path)
	f, err := open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	w := &File{file: f, path: path}
	err = w.truncate(height)
	if err == nil {
		_, err = f.WriteAt([]byte(fileHeader), 0)
	}
	if err == nil && statErr != nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create %s: %w", path, err), f.Close())
	}
	return w, nil
}

func (w *File) truncate(height uint64) error { return w.file.Truncate(entryOffset(height)) }

func entryOffset(block uint64) int64 { return headerSize + int64(block)*entrySize }

// Put writes the entry of a block.
func (w *File) Put(block uint64, p *Place) error {
	w.buf = appendEntry(w.buf[:0], block, p)
	return w.write(block)
}

func (w *File) write(block uint64) error {
	if _, err := w.file.WriteAt(w.buf, entryOffset(block)); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

// Spoil makes the entry of a block invalid and syncs it. A start then scans the segments from that block on.
func (w *File) Spoil(block uint64) error {
	w.buf = w.buf[:0]
	for range entrySize {
		w.buf = append(w.buf, 0xff)
	}
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
func (w *File) Differing(x *Index, from, to uint64) ([]uint64, error) {
	size := int(to-from) * entrySize
	if cap(w.buf) < size {
		w.buf = make([]byte, size)
	}
	got, err := w.file.ReadAt(w.buf[:size], entryOffset(from))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	var blocks []uint64
	for i := range int(to - from) {
		p, _, _ := x.Get(from + uint64(i))
		w.want = appendEntry(w.want[:0], from+uint64(i), &p)
		end := (i + 1) * entrySize
		if end > got || string(w.buf[end-entrySize:end]) != string(w.want) {
			blocks = append(blocks, from+uint64(i))
		}
	}
	return blocks, nil
}
