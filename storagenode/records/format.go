package records

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// A run is the file "FROM-TO.run", 20 decimal digits each: the blocks from FROM up to TO. All integers are big endian:
//
//	header   magic "CSRX" ‖ version u8 = 1 ‖ 0 0 0 ‖ from u64 ‖ to u64 ‖ first u64 ‖ end u64 ‖ hash of block to-1 [32]
//	         ‖ entries of each section u32 × 3 ‖ CRC-32C u32 of all before
//	section  chunks of 341 entries, the last with the rest: entry … ‖ CRC-32C u32 of them
//	entry    tag u64 ‖ value u32
//
// first is the leaf index of block from's first record, end that after the seal of block to-1. Places are counted from
// first. Entries are sorted by tag and value. The sections, in this order:
//
//	keys      tag: first 8 bytes of SHA-256(project u32 ‖ key)      value: the record's place
//	projects  tag: project u32 ‖ place u32 of the first of consecutive records  value: their number
//	hashes    tag: first 8 bytes of a leaf hash or a block's hash  value: the place of the leaf or the block's seal
const (
	headerSize = 8 + 4*8 + chain.HashSize + sections*4 + 4
	entrySize  = 8 + 4
	chunkSize  = 4096
	perChunk   = (chunkSize - 4) / entrySize
)

var format = durable.Format{Magic: "CSRX", Version: 1, Zeros: 3}

// An encrypted run has a key header first. Then the header of a run that is not encrypted, and each chunk, follow as
// one message of package atrest. Its additional data is the offset of the message, u64:
//
//	file     magic "CSRX" ‖ version u8 = 2 ‖ 0 0 0 ‖ from u64 ‖ key header ‖ CRC-32C u32 of all before ‖ message …
//
// The first 16 bytes are the context of the key header. from is that of the file's name.
var encryptedFormat = durable.Format{Magic: "CSRX", Version: 2, Zeros: 3}

const (
	nameSize      = 8 + 8                            // of the bytes that name an encrypted file
	encryptedHead = nameSize + atrest.HeaderSize + 4 // bytes before the first message
)

// layout says where the parts of a run are in its file.
type layout struct {
	key  *atrest.DataKey // nil if it is not encrypted
	name []byte          // of an encrypted file
	id   atrest.ID       // of the key of its header
}

// overhead returns the bytes of a message besides its text.
func (l *layout) overhead() int64 {
	if l.key == nil {
		return 0
	}
	return atrest.Overhead
}

// headAt returns the offset of the run's header.
func (l *layout) headAt() int64 {
	if l.key == nil {
		return 0
	}
	return int64(encryptedHead)
}

// stride returns the bytes from one chunk of a section to the next.
func (l *layout) stride() int64 { return chunkSize + l.overhead() }

// sectionSize returns the bytes of a section of that many entries.
func (l *layout) sectionSize(entries uint32) int64 {
	return sectionSize(entries) + chunks(entries)*l.overhead()
}

// size returns the bytes of the whole file.
func (l *layout) size(h *head) int64 {
	size := l.headAt() + headerSize + l.overhead()
	for _, n := range h.counts {
		size += l.sectionSize(n)
	}
	return size
}

// seal appends the bytes in the file of a header or a chunk to dst.
func (l *layout) seal(dst, text []byte, at int64) []byte {
	if l.key == nil {
		return append(dst, text...)
	}
	return l.key.Seal(dst, text, binary.BigEndian.AppendUint64(nil, uint64(at)))
}

// open returns the header or the chunk in bytes of the file, in their memory. The error wraps durable.ErrDamaged.
func (l *layout) open(data []byte, at int64) ([]byte, error) {
	if l.key == nil {
		return data, nil
	}
	return l.key.Open(data, binary.BigEndian.AppendUint64(nil, uint64(at)))
}

// nameOf returns the bytes that name an encrypted run.
func nameOf(from uint64) []byte {
	return binary.BigEndian.AppendUint64(encryptedFormat.AppendHeader(nil), from)
}

// newLayout returns the layout of a new run, and the bytes before its header.
func newLayout(keys *atrest.Ring, from uint64) (l layout, start []byte) {
	if !keys.Has() {
		return layout{}, nil
	}
	l.name = nameOf(from)
	key, header := keys.NewKey(l.name)
	l.key, l.id = key, atrest.IDOf(header)
	return l, encryptedFormat.Append(nil, l.name[8:], header)
}

// parseLayout returns the layout of a file that begins with data. The error wraps atrest.ErrNoKey, ErrDamaged or
// durable.ErrNewerFormat.
func parseLayout(data []byte, keys *atrest.Ring) (l layout, err error) {
	if encryptedFormat.CheckHeader(data) != nil {
		return layout{}, nil // parseHead judges it
	}
	var header []byte
	err = encryptedFormat.Decode(data[:min(len(data), encryptedHead)], func(f *durable.Fields) {
		_ = f.Uint64()
		header = f.Fixed(atrest.HeaderSize)
	})
	if err == nil {
		l.name, l.id = slices.Clone(data[:nameSize]), atrest.IDOf(header)
		l.key, err = keys.Unwrap(header, l.name)
	}
	if errors.Is(err, durable.ErrDamaged) {
		err = fmt.Errorf("%w: the key of a run: %w", ErrDamaged, err)
	}
	return l, err
}

// KeyID returns the id of the key that the file of a run needs, whose first bytes are data. encrypted is false if it is
// not encrypted.
func KeyID(data []byte) (id atrest.ID, encrypted bool) {
	if len(data) < encryptedHead || encryptedFormat.CheckHeader(data) != nil {
		return id, false
	}
	return atrest.IDOf(data[nameSize : nameSize+atrest.HeaderSize]), true
}

// The sections of a run.
const (
	byKey = iota
	byProject
	byHash
	sections
)

// ErrDamaged: a run cannot be read, or is not what was written. [Index.Mend] forgets it.
var ErrDamaged = fmt.Errorf("index of records: %w", durable.ErrDamaged)

// entry is an element of a section.
type entry struct {
	tag   uint64
	value uint32
}

// compare orders entries.
func (e entry) compare(o entry) int {
	return cmp.Or(cmp.Compare(e.tag, o.tag), cmp.Compare(e.value, o.value))
}

func keyTag[T string | []byte](project uint32, key T) uint64 {
	var buf [4 + chain.MaxKey]byte
	h := sha256.Sum256(append(binary.BigEndian.AppendUint32(buf[:0], project), key...))
	return binary.BigEndian.Uint64(h[:])
}

func projectTag(project, place uint32) uint64 { return uint64(project)<<32 | uint64(place) }

func hashTag(h chain.Hash) uint64 { return binary.BigEndian.Uint64(h[:]) }

// head is the header of a run.
type head struct {
	from, to   uint64 // blocks
	first, end uint64 // leaves
	last       chain.Hash
	counts     [sections]uint32
}

func runName(from, to uint64) string { return fmt.Sprintf("%020d-%020d.run", from, to) }

func runPath(dir string, h *head) string { return filepath.Join(dir, runName(h.from, h.to)) }

func (h *head) appendTo(dst []byte) []byte {
	numbers, _ := binary.Append(nil, binary.BigEndian, []uint64{h.from, h.to, h.first, h.end})
	counts, _ := binary.Append(nil, binary.BigEndian, h.counts)
	return format.Append(dst, numbers, h.last[:], counts)
}

// parseHead reads a header. The error wraps ErrDamaged or durable.ErrNewerFormat.
func parseHead(data []byte) (h head, err error) {
	err = format.Decode(data[:min(len(data), headerSize)], func(f *durable.Fields) {
		h.from, h.to, h.first, h.end = f.Uint64(), f.Uint64(), f.Uint64(), f.Uint64()
		copy(h.last[:], f.Bytes(chain.HashSize))
		for i := range h.counts {
			h.counts[i] = f.Uint32()
		}
		if h.from >= h.to || h.first >= h.end {
			f.Fail(fmt.Errorf("a run of blocks %d to %d, leaves %d to %d", h.from, h.to, h.first, h.end))
		}
	})
	if errors.Is(err, durable.ErrDamaged) {
		err = fmt.Errorf("%w: the header of a run: %w", ErrDamaged, err)
	}
	return h, err
}

// chunks returns the chunks of a section of that many entries.
func chunks(entries uint32) int64 { return (int64(entries) + perChunk - 1) / perChunk }

// sectionSize returns the bytes of a section of that many entries, in clear.
func sectionSize(entries uint32) int64 { return int64(entries)*entrySize + 4*chunks(entries) }

func parseEntry(data []byte) entry {
	return entry{tag: binary.BigEndian.Uint64(data), value: binary.BigEndian.Uint32(data[8:])}
}

func appendEntry(dst []byte, e entry) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, e.tag), e.value)
}
