package storagenode

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

// The file "index" tells where each block stands. All integers are big endian:
//
//	magic "CSIX" ‖ version u8 = 1 ‖ 0 0 0 ‖ entries of 28 bytes, one a block from block 0 on
//
//	entry  first u64 ‖ offset u64 ‖ length u32 ‖ count u32 ‖ CRC-32C u32 of (block number u64 ‖ the 24 bytes before)
//
// offset is that of the frame in its segment: a block at offset 20 is the first of a segment. A length of 0 marks a
// block that was lost. The file is written behind the segments; where it ends, or an entry is not good, the segments
// say the rest.
const (
	indexMagic   = "CSIX"
	indexVersion = 1
	indexHeader  = 8
	indexEntry   = 8 + 8 + 4 + 4 + 4
)

func appendEntry(dst []byte, block uint64, p *Place) []byte {
	var buf [8 + indexEntry]byte
	e := binary.BigEndian.AppendUint64(buf[:0], block)
	e = binary.BigEndian.AppendUint64(e, p.First)
	e = binary.BigEndian.AppendUint64(e, uint64(p.Offset))
	e = binary.BigEndian.AppendUint32(e, p.Length)
	e = binary.BigEndian.AppendUint32(e, p.Count)
	e = binary.BigEndian.AppendUint32(e, segment.Checksum(e))
	return append(dst, e[8:]...)
}

func parseEntry(data []byte, block uint64) (Place, bool) {
	var buf [8 + indexEntry - 4]byte
	binary.BigEndian.PutUint64(buf[:], block)
	copy(buf[8:], data)
	if segment.Checksum(buf[:]) != binary.BigEndian.Uint32(data[indexEntry-4:]) {
		return Place{}, false
	}
	return Place{
		First:  binary.BigEndian.Uint64(data),
		Offset: int64(binary.BigEndian.Uint64(data[8:])),
		Length: binary.BigEndian.Uint32(data[16:]),
		Count:  binary.BigEndian.Uint32(data[20:]),
	}, true
}

func indexFileHeader() []byte {
	return append(make([]byte, 0, indexHeader), indexMagic[0], indexMagic[1], indexMagic[2], indexMagic[3], indexVersion, 0, 0, 0)
}

// readIndexFile hands out the places in the file one by one, until the file ends, an entry is not good or take returns
// false. A missing or foreign file has none. The error wraps ErrNewerFormat, or is the disk's.
func readIndexFile(path string, take func(Place) bool) error {
	f, err := durable.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if durable.Absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	r := bufio.NewReaderSize(f, 1<<16)
	var header [indexHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return endOfFile(err)
	}
	if string(header[:4]) == indexMagic && header[4] > indexVersion {
		return fmt.Errorf("%s: %w: version %d, this program knows %d", path, ErrNewerFormat, header[4], indexVersion)
	}
	if string(header[:]) != string(indexFileHeader()) {
		return nil
	}
	var entry [indexEntry]byte
	for block := uint64(0); ; block++ {
		if _, err := io.ReadFull(r, entry[:]); err != nil {
			return endOfFile(err)
		}
		p, ok := parseEntry(entry[:], block)
		if !ok || !take(p) {
			return nil
		}
	}
}

// endOfFile takes the end of a file for no error.
func endOfFile(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// File appends to the file. It belongs to the goroutine that puts blocks.
type File struct {
	file  segment.File
	path  string
	small []byte
}

// OpenFile opens the file to append behind the good entries of the first height blocks, or begins it.
func OpenFile(open segment.OpenFunc, dir, path string, height uint64) (*File, error) {
	_, statErr := os.Lstat(path)
	f, err := open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	w := &File{file: f, path: path}
	err = f.Truncate(indexHeader + int64(height)*indexEntry)
	if err == nil {
		_, err = f.WriteAt(indexFileHeader(), 0)
	}
	if err == nil && statErr != nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin %s: %w", path, err), f.Close())
	}
	return w, nil
}

func (w *File) Put(block uint64, p *Place) error {
	w.small = appendEntry(w.small[:0], block, p)
	if _, err := w.file.WriteAt(w.small, indexHeader+int64(block)*indexEntry); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return nil
}

// Spoil makes the entry of a block one that is not good, durably: a start now looks into the segments from there on.
func (w *File) Spoil(block uint64) error {
	bad := make([]byte, indexEntry)
	for i := range bad {
		bad[i] = 0xff
	}
	if _, err := w.file.WriteAt(bad, indexHeader+int64(block)*indexEntry); err != nil {
		return fmt.Errorf("write %s: %w", w.path, err)
	}
	return w.Sync()
}

func (w *File) Sync() error {
	if err := w.file.DataSync(); err != nil {
		return fmt.Errorf("sync %s: %w", w.path, err)
	}
	return nil
}
