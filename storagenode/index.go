package storagenode

import (
	"sort"
	"sync"

	"github.com/chainstore/chainstore/storagenode/segment"
)

// Place says where a block stands. It is all that a node keeps in memory of a block: 24 bytes.
type Place struct {
	First  uint64 // leaf index of the block's first record
	Offset int64  // of the frame in its segment
	Length uint32 // of the encoded block; 0 for a block that is lost: known to have been here, no one knows where
	Count  uint32 // records
}

// Next is the first leaf index of the block behind it; not meaningful for a lost one.
func (p *Place) Next() uint64 { return p.First + uint64(p.Count) + 1 }

func (p *Place) Lost() bool { return p.Length == 0 }

// End is where the frame ends in its segment.
func (p *Place) End() int64 { return p.Offset + segment.FrameHeader + int64(p.Length) }

const indexPage = 1 << 12 // places that are allocated at a time

// Index is the places of all blocks. Its methods may be called from any goroutine.
type Index struct {
	mu       sync.RWMutex
	pages    []*[indexPage]Place
	height   uint64   // blocks
	segments []uint64 // first blocks of the segments, ascending
}

// Get is the place of a block and the first block of its segment.
func (x *Index) Get(block uint64) (p Place, seg uint64, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if block >= x.height {
		return Place{}, 0, false
	}
	i := sort.Search(len(x.segments), func(i int) bool { return x.segments[i] > block })
	if i > 0 {
		seg = x.segments[i-1]
	}
	return *x.at(block), seg, true
}

// at is the place of a block below height; mu is held.
func (x *Index) at(block uint64) *Place { return &x.pages[block/indexPage][block%indexPage] }

// Find is the block that a leaf belongs to: the last whose first leaf is not behind it.
func (x *Index) Find(leaf uint64) (block uint64, p Place, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := sort.Search(int(x.height), func(i int) bool { return x.at(uint64(i)).First > leaf })
	if n == 0 {
		return 0, Place{}, false
	}
	return uint64(n - 1), *x.at(uint64(n - 1)), true
}

// Add puts a block behind the last.
func (x *Index) Add(p Place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.height%indexPage == 0 && x.height/indexPage == uint64(len(x.pages)) {
		x.pages = append(x.pages, new([indexPage]Place))
	}
	x.height++
	*x.at(x.height - 1) = p
}

// Cut forgets all blocks from a number on.
func (x *Index) Cut(height uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.height = height
	x.pages = x.pages[:(height+indexPage-1)/indexPage]
}

// Set changes the places of blocks that are there, from a number on.
func (x *Index) Set(from uint64, places []Place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range places {
		*x.at(from + uint64(i)) = places[i]
	}
}

// Reset forgets everything.
func (x *Index) Reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pages, x.height, x.segments = nil, 0, nil
}

// SegmentEnd is the first block behind a segment: that of the next one, or the number of blocks.
func (x *Index) SegmentEnd(seg uint64) uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := sort.Search(len(x.segments), func(i int) bool { return x.segments[i] > seg })
	if i < len(x.segments) {
		return min(x.segments[i], x.height)
	}
	return x.height
}

// AddSegment names a segment; ascending order is kept.
func (x *Index) AddSegment(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := sort.Search(len(x.segments), func(i int) bool { return x.segments[i] >= first })
	if i < len(x.segments) && x.segments[i] == first {
		return
	}
	x.segments = append(x.segments, 0)
	copy(x.segments[i+1:], x.segments[i:])
	x.segments[i] = first
}

// DropSegment forgets a segment.
func (x *Index) DropSegment(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range x.segments {
		if s == first {
			x.segments = append(x.segments[:i:i], x.segments[i+1:]...)
			return
		}
	}
}

// Len is the number of blocks.
func (x *Index) Len() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.height
}

// Last is the place of the Last block; ok is false where there is none.
func (x *Index) Last() (p Place, seg uint64, ok bool) {
	n := x.Len()
	if n == 0 {
		return Place{}, 0, false
	}
	return x.Get(n - 1)
}
