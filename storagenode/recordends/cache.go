package recordends

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
)

const (
	pageRecords = 1 << 8 // records of a page
	slotBits    = 14     // of the number of pages that are kept
	slots       = 1 << slotBits
)

// MaxBytes bounds the memory of a [Cache], 20 MiB: each page has 4 bytes for each record and one more, and less than
// 256 bytes besides. It is room for the ends of four million records.
const MaxBytes = slots * (endSize*(pageRecords+1) + 256)

// Cache keeps pages of the tables of ends that were read last. Each page has one possible slot. There is no lock: a
// slot is replaced atomically. The zero value is empty. The methods may be called from any goroutine.
type Cache struct {
	slots [slots]atomic.Pointer[page]
	gen   atomic.Uint64 // counts Drop: pages read before the last one are not used
}

// page is a part of a block's table. It is not changed.
type page struct {
	block uint64
	place blockindex.Place // of the block, when the page was read
	index uint32           // of its first record, in pages
	gen   uint64           // of the cache before it was read
	raw   []byte           // where its first record begins, and where each ends
}

func slotOf(block uint64, index uint32) uint64 {
	// Fibonacci hashing: the high bits of a product with 2^64 / golden ratio (Knuth, TAOCP 6.4). A block of the default
	// settings has up to 64 pages.
	return (block<<6 + uint64(index)) * 0x9e3779b97f4a7c15 >> (64 - slotBits)
}

// Span returns where a record begins and ends, counted from the start of its block's first record; see [Offset]. f is
// the segment of the block and p its place, which has that offset. kept reports that the file was not read for it. The
// error is as of [Read].
func (c *Cache) Span(
	f io.ReaderAt, block uint64, p *blockindex.Place, offset uint32,
) (begin, end uint32, kept bool, err error) {
	if offset >= p.Count {
		return 0, 0, false, fmt.Errorf("%w: block %d has %d records, and no record %d", durable.ErrDamaged, block,
			p.Count, offset)
	}
	index, gen := offset/pageRecords, c.gen.Load()
	slot := &c.slots[slotOf(block, index)]
	known := slot.Load()
	kept = known != nil && known.block == block && known.index == index && known.gen == gen && known.place == *p
	if !kept {
		first := index * pageRecords
		raw, err := readTable(f, p, first, min(pageRecords, p.Count-first))
		if err != nil {
			return 0, 0, false, err
		}
		known = &page{block: block, place: *p, index: index, gen: gen, raw: raw}
		slot.Store(known)
	}
	at := known.raw[offset%pageRecords*endSize:]
	return binary.BigEndian.Uint32(at), binary.BigEndian.Uint32(at[endSize:]), kept, nil
}

// Forget drops the page of a record: what is at its place is not a record.
func (c *Cache) Forget(block uint64, offset uint32) {
	index := offset / pageRecords
	slot := &c.slots[slotOf(block, index)]
	if known := slot.Load(); known != nil && known.block == block && known.index == index {
		slot.CompareAndSwap(known, nil)
	}
}

// Drop drops all pages, also those that are being read: a file may have other bytes from now on.
func (c *Cache) Drop() { c.gen.Add(1) }
