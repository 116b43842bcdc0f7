// Package inbox keeps blocks above the end of a storage node's chain until the blocks before them are there.
//
// The package knows the folder and the format. When blocks move to the chain is up to the node. Blocks of a repair are
// not kept here: the node puts them at their place in the chain as they arrive.
package inbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// Each block is a file of its own, named after its number, 20 decimal digits and ".block" (big endian):
//
//	magic "CSIB" ‖ version u8 = 1 ‖ 0 0 0 ‖ number u64 ‖ length u32 ‖ block ‖ CRC-32C u32 of all before
//
// With keys the block is one message of package atrest, whose additional data is the number:
//
//	magic "CSIB" ‖ version u8 = 2 ‖ 0 0 0 ‖ number u64 ‖ key header ‖ message ‖ CRC-32C u32 of all before
//
// The first 16 bytes are the context of the key header.
var (
	format          = durable.Format{Magic: "CSIB", Version: 1, Zeros: 3}
	encryptedFormat = durable.Format{Magic: "CSIB", Version: 2, Zeros: 3}
)

const (
	nameSize = 8 + 8            // of the bytes that name the file
	overhead = nameSize + 4 + 4 // bytes of a file besides the block
	// encryptedOverhead is overhead for an encrypted block.
	encryptedOverhead = nameSize + atrest.HeaderSize + atrest.Overhead + 4
	suffix            = ".block"
)

// Unit is the space that a small file is counted as, in bytes. It bounds the number of small blocks too.
const Unit = 4096

// Inbox is the content of the folder. It belongs to one goroutine at a time.
type Inbox struct {
	dir   string
	keys  *atrest.Ring
	sizes map[uint64]int64 // of the files, by block
	bytes int64            // of all, as they are counted
	run   chain.Range      // the blocks without a gap that end with the highest one
}

// Open lists the folder, which must exist. Files that a crash left half written are removed. With keys, new blocks are
// encrypted.
func Open(dir string, keys *atrest.Ring) (*Inbox, error) {
	x := &Inbox{dir: dir, keys: keys, sizes: map[uint64]int64{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, ".") && !e.IsDir() {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				return nil, err
			}
			continue
		}
		digits, ok := strings.CutSuffix(name, suffix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || len(digits) != 20 || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		x.add(number, info.Size())
	}
	x.findRun()
	return x, nil
}

func counted(size int64) int64 { return max(size, Unit) }

func (x *Inbox) add(number uint64, size int64) {
	x.sizes[number] = size
	x.bytes += counted(size)
}

// findRun finds the run again after blocks were removed.
func (x *Inbox) findRun() {
	x.run = chain.Range{}
	for number := range x.sizes {
		x.run.To = max(x.run.To, number+1)
	}
	x.run.From = x.run.To
	x.extendRun()
}

func (x *Inbox) extendRun() {
	for x.run.From > 0 && x.Has(x.run.From-1) {
		x.run.From--
	}
}

// Has reports whether a block is in the inbox.
func (x *Inbox) Has(number uint64) bool {
	_, ok := x.sizes[number]
	return ok
}

// Len returns the number of blocks.
func (x *Inbox) Len() int { return len(x.sizes) }

// Bytes returns the space of all blocks. A small one counts as [Unit].
func (x *Inbox) Bytes() int64 { return x.bytes }

// Run returns the blocks without a gap that end with the highest one. It is empty if the inbox is.
func (x *Inbox) Run() chain.Range { return x.run }

// Path returns the path of a block's file.
func (x *Inbox) Path(number uint64) string {
	return filepath.Join(x.dir, fmt.Sprintf("%020d%s", number, suffix))
}

// Space returns the space that a block of so many bytes is counted as.
func (x *Inbox) Space(blockBytes int) int64 {
	if x.keys.Has() {
		return counted(int64(encryptedOverhead + blockBytes))
	}
	return counted(overhead + int64(blockBytes))
}

// CheckKeys checks that the keys of all files in a folder are there. The error wraps [atrest.ErrNoKey] and names the
// file. Files that cannot be read are passed over, and the folder may be missing.
func CheckKeys(dir string, keys *atrest.Ring) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return err
	}
	x := &Inbox{dir: dir, keys: keys}
	for _, path := range paths {
		number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), suffix), 10, 64)
		if err != nil {
			continue
		}
		id, encrypted, err := KeyID(path)
		if err != nil || !encrypted || keys.HasKey(id) {
			continue
		}
		if _, err := x.Read(number); errors.Is(err, atrest.ErrNoKey) { // else the id is damaged
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// KeyID returns the id of the key that a file of an inbox needs. encrypted is false if it is not encrypted.
func KeyID(path string) (id atrest.ID, encrypted bool, err error) {
	header, err := keyHeader(path)
	if header == nil || err != nil {
		return id, false, err
	}
	return atrest.IDOf(header), true, nil
}

// keyHeader reads the key header of a file, nil if it is not encrypted.
func keyHeader(path string) ([]byte, error) {
	f, err := durable.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var start [nameSize + atrest.HeaderSize]byte
	if _, err := f.ReadAt(start[:], 0); err != nil || encryptedFormat.CheckHeader(start[:]) != nil {
		if err == io.EOF {
			err = nil
		}
		return nil, err
	}
	return start[nameSize:], nil
}

// nameOf returns the bytes that name the encrypted file of a block.
func nameOf(number uint64) []byte {
	return binary.BigEndian.AppendUint64(encryptedFormat.AppendHeader(nil), number)
}

// Rewrap writes the encrypted file of a block again with its data key under the current key. write writes a file
// durably. It does nothing if the file is not encrypted, is so already, or is damaged.
func Rewrap(path string, keys *atrest.Ring, write func(string, []byte, os.FileMode) error) error {
	id, encrypted, err := KeyID(path)
	if err != nil || !encrypted || id == keys.Current() {
		return err
	}
	data, err := durable.ReadFile(path)
	if err != nil || encryptedFormat.Decode(data, func(f *durable.Fields) { _ = f.Bytes(f.Len()) }) != nil {
		return err
	}
	name, header := data[:nameSize], data[nameSize:nameSize+atrest.HeaderSize]
	key, err := keys.Unwrap(header, name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	copy(header, keys.Wrap(key, name))
	file := data[:len(data)-4]
	return write(path, binary.BigEndian.AppendUint32(file, durable.Checksum(file)), 0o600)
}

// IsCurrent reports whether the file of a block is encrypted with the current key, or cannot be read. Without keys it
// is true.
func (x *Inbox) IsCurrent(number uint64) bool {
	if !x.keys.Has() {
		return true
	}
	id, encrypted, err := KeyID(x.Path(number))
	return err != nil || encrypted && id == x.keys.Current()
}

// Put adds a block, which must not be there. write writes a file durably.
func (x *Inbox) Put(number uint64, block []byte, write func(string, []byte, os.FileMode) error) error {
	file := x.encode(number, block)
	if err := write(x.Path(number), file, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", x.Path(number), err)
	}
	x.add(number, int64(len(file)))
	switch {
	case x.run.Len() > 0 && number == x.run.To:
		x.run.To++
	case number >= x.run.To:
		x.run = chain.Range{From: number, To: number + 1}
	}
	x.extendRun()
	return nil
}

// Rewrite writes a block that is there again, for the case that it was not synced.
func (x *Inbox) Rewrite(number uint64, block []byte, write func(string, []byte, os.FileMode) error) error {
	if err := write(x.Path(number), x.encode(number, block), 0o600); err != nil {
		return fmt.Errorf("write %s again: %w", x.Path(number), err)
	}
	return nil
}

// Read returns a block. The error wraps [durable.ErrDamaged] or [durable.ErrNewerFormat], or is the disk's. A key that
// is missing counts as an access that the system denies.
func (x *Inbox) Read(number uint64) ([]byte, error) {
	data, err := durable.ReadFile(x.Path(number))
	if err != nil {
		return nil, err
	}
	if encryptedFormat.CheckHeader(data) != nil {
		return Decode(data, number)
	}
	block, err := x.decrypt(data, number)
	if errors.Is(err, atrest.ErrNoKey) {
		err = errors.Join(err, syscall.EACCES)
	}
	return block, err
}

// RemoveBelow removes the blocks below a height, and reports whether there were any.
func (x *Inbox) RemoveBelow(height uint64) (removed bool, err error) {
	for _, number := range x.Numbers() {
		if number >= height {
			break
		}
		if err := os.Remove(x.Path(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		x.forget(number)
		removed = true
	}
	if removed {
		x.findRun()
	}
	return removed, nil
}

// Forget drops a block whose file was moved away.
func (x *Inbox) Forget(number uint64) {
	x.forget(number)
	x.findRun()
}

func (x *Inbox) forget(number uint64) {
	x.bytes -= counted(x.sizes[number])
	delete(x.sizes, number)
}

// Numbers returns the numbers of all blocks in ascending order.
func (x *Inbox) Numbers() []uint64 { return slices.Sorted(maps.Keys(x.sizes)) }

// BehindGap lists the blocks above a number that a gap separates from it.
func (x *Inbox) BehindGap(number uint64) []uint64 {
	end := number + 1
	for x.Has(end) {
		end++
	}
	if x.run.To <= end {
		return nil
	}
	all := x.Numbers()
	from, _ := slices.BinarySearch(all, end)
	return all[from:]
}

// encode returns the file of a block, encrypted with keys.
func (x *Inbox) encode(number uint64, block []byte) []byte {
	if !x.keys.Has() {
		return Encode(number, block)
	}
	name := nameOf(number)
	key, header := x.keys.NewKey(name)
	file := make([]byte, 0, encryptedOverhead+len(block))
	file = append(append(file, name...), header...)
	file = key.Seal(file, block, name[8:])
	return binary.BigEndian.AppendUint32(file, durable.Checksum(file))
}

// decrypt returns the block in an encrypted file, in its memory.
func (x *Inbox) decrypt(data []byte, number uint64) (block []byte, err error) {
	var header, message []byte
	err = encryptedFormat.Decode(data, func(f *durable.Fields) {
		if got := f.Uint64(); got != number {
			f.Fail(fmt.Errorf("it holds block %d, not %d", got, number))
		}
		header = f.Fixed(atrest.HeaderSize)
		message = f.Bytes(f.Len())
	})
	if err != nil {
		return nil, err
	}
	name := nameOf(number)
	key, err := x.keys.Unwrap(header, name)
	if err != nil {
		return nil, err
	}
	return key.Open(message, name[8:])
}

// Encode returns the file of a block that is not encrypted.
func Encode(number uint64, block []byte) []byte {
	head := binary.BigEndian.AppendUint64(nil, number)
	head = binary.BigEndian.AppendUint32(head, uint32(len(block)))
	return format.Append(make([]byte, 0, overhead+len(block)), head, block)
}

// Decode returns the block in a file that is not encrypted; it points into data. The error wraps [durable.ErrDamaged]
// or [durable.ErrNewerFormat].
func Decode(data []byte, number uint64) (block []byte, err error) {
	err = format.Decode(data, func(f *durable.Fields) {
		if got := f.Uint64(); got != number {
			f.Fail(fmt.Errorf("it holds block %d, not %d", got, number))
		}
		block = f.Bytes(int(f.Uint32()))
	})
	if err != nil {
		return nil, err
	}
	return block, nil
}
