// Package blockindex knows where each block of a storage node's chain is stored.
//
// [Index] holds one [Place] for each block in memory. [File] is its copy on disk, which is rebuilt from the segments
// where it is missing or wrong. [Find] makes an Index from both.
package blockindex

import (
	"slices"
	"sort"
	"sync"

	"github.com/chainstore/chainstore/storagenode/segment"
)

// Place is where a block is stored. It is all that a node keeps of a block in memory: 24 bytes.
type Place struct {
	First  uint64 // leaf index of the block's first record
	Offset int64  // of the frame in its segment
	Length uint32 // of the encoded block; 0 for a lost block, whose frame cannot be found
	Count  uint32 // records
}

// Next is the first leaf index of the following block. It has no meaning for a lost block.
func (p *Place) Next() uint64 { return p.First + uint64(p.Count) + 1 }

// Lost reports whether the block existed and its frame cannot be found.
func (p *Place) Lost() bool { return p.Length == 0 }

// End is the offset after the frame in its segment.
func (p *Place) End() int64 { return p.Offset + segment.FrameHeader + int64(p.Length) }

const pageSize = 1 << 12 // places that are allocated at a time

// Index holds the places of all blocks. Its methods may be called from any goroutine.
type Index struct {
	mu       sync.RWMutex // guards the fields below; nothing waits while it is held
	pages    []*[pageSize]Place
	height   uint64   // blocks
	segments []uint64 // first blocks of the segments, ascending
}

// Get returns the place of a block and the first block of its segment.
func (x *Index) Get(block uint64) (p Place, seg uint64, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if block >= x.height {
		return Place{}, 0, false
	}
	if i := x.after(block); i > 0 {
		seg = x.segments[i-1]
	}
	return *x.at(block), seg, true
}

// after finds the first segment that begins after a block; mu is held.
func (x *Index) after(block uint64) int {
	return sort.Search(len(x.segments), func(i int) bool { return x.segments[i] > block })
}

// at is the place of a block below height; mu is held.
func (x *Index) at(block uint64) *Place { return &x.pages[block/pageSize][block%pageSize] }

// Find returns the block that a leaf belongs to: the last one whose first leaf is not above it.
func (x *Index) Find(leaf uint64) (block uint64, p Place, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := sort.Search(int(x.height), func(i int) bool { return x.at(uint64(i)).First > leaf })
	if n == 0 {
		return 0, Place{}, false
	}
	return uint64(n - 1), *x.at(uint64(n - 1)), true
}

// Add appends the place of the next block.
func (x *Index) Add(p Place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.height%pageSize == 0 && x.height/pageSize == uint64(len(x.pages)) {
		x.pages = append(x.pages, new([pageSize]Place))
	}
	x.height++
	*x.at(x.height - 1) = p
}

// Cut drops all blocks from a number on.
func (x *Index) Cut(height uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.height = height
	x.pages = x.pages[:(height+pageSize-1)/pageSize]
}

// Set replaces the places of known blocks, from a number on.
func (x *Index) Set(from uint64, places []Place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range places {
		*x.at(from + uint64(i)) = places[i]
	}
}

// SegmentEnd returns the first block after a segment: the first block of the next segment, or the number of blocks.
func (x *Index) SegmentEnd(seg uint64) uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if i := x.after(seg); i < len(x.segments) {
		return min(x.segments[i], x.height)
	}
	return x.height
}

// AddSegment adds a segment, unless it is known.
func (x *Index) AddSegment(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, known := slices.BinarySearch(x.segments, first); !known {
		x.segments = slices.Insert(x.segments, i, first)
	}
}

// DropSegment forgets a segment.
func (x *Index) DropSegment(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i, known := slices.BinarySearch(x.segments, first); known {
		x.segments = slices.Delete(x.segments, i, i+1)
	}
}

// Len returns the number of blocks.
func (x *Index) Len() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.height
}

// Last returns the place of the last block and the first block of its segment.
func (x *Index) Last() (p Place, seg uint64, ok bool) {
	n := x.Len()
	if n == 0 {
		return Place{}, 0, false
	}
	return x.Get(n - 1)
}

// BytesBelow returns the bytes that the frames of the blocks below a height have in the segments.
func (x *Index) BytesBelow(height uint64) (bytes uint64) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for block := range min(height, x.height) {
		bytes += segment.FrameHeader + uint64(x.at(block).Length)
	}
	return bytes
}
