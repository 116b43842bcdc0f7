package records

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/chainstore/chainstore/chain"
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

// sectionSize returns the bytes of a section of that many entries.
func sectionSize(entries uint32) int64 {
	chunks := (int64(entries) + perChunk - 1) / perChunk
	return int64(entries)*entrySize + 4*chunks
}

// size returns the bytes of the whole file.
func (h *head) size() int64 {
	size := int64(headerSize)
	for _, n := range h.counts {
		size += sectionSize(n)
	}
	return size
}

func parseEntry(data []byte) entry {
	return entry{tag: binary.BigEndian.Uint64(data), value: binary.BigEndian.Uint32(data[8:])}
}

func appendEntry(dst []byte, e entry) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, e.tag), e.value)
}
