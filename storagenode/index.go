package storagenode

import (
	"sort"
	"sync"

	"github.com/chainstore/chainstore/storagenode/segment"
)

// place says where a block stands. It is all that a node keeps in memory of a block: 24 bytes.
type place struct {
	first  uint64 // leaf index of the block's first record
	offset int64  // of the frame in its segment
	length uint32 // of the encoded block; 0 for a block that is lost: known to have been here, no one knows where
	count  uint32 // records
}

// next is the first leaf index of the block behind it; not meaningful for a lost one.
func (p *place) next() uint64 { return p.first + uint64(p.count) + 1 }

func (p *place) lost() bool { return p.length == 0 }

// end is where the frame ends in its segment.
func (p *place) end() int64 { return p.offset + segment.FrameHeader + int64(p.length) }

const indexPage = 1 << 12 // places that are allocated at a time

// index is the places of all blocks. Its methods may be called from any goroutine.
type index struct {
	mu       sync.RWMutex
	pages    []*[indexPage]place
	height   uint64   // blocks
	segments []uint64 // first blocks of the segments, ascending
}

// get is the place of a block and the first block of its segment.
func (x *index) get(block uint64) (p place, seg uint64, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if block >= x.height {
		return place{}, 0, false
	}
	i := sort.Search(len(x.segments), func(i int) bool { return x.segments[i] > block })
	if i > 0 {
		seg = x.segments[i-1]
	}
	return *x.at(block), seg, true
}

// at is the place of a block below height; mu is held.
func (x *index) at(block uint64) *place { return &x.pages[block/indexPage][block%indexPage] }

// find is the block that a leaf belongs to: the last whose first leaf is not behind it.
func (x *index) find(leaf uint64) (block uint64, p place, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	n := sort.Search(int(x.height), func(i int) bool { return x.at(uint64(i)).first > leaf })
	if n == 0 {
		return 0, place{}, false
	}
	return uint64(n - 1), *x.at(uint64(n - 1)), true
}

// add puts a block behind the last.
func (x *index) add(p place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.height%indexPage == 0 && x.height/indexPage == uint64(len(x.pages)) {
		x.pages = append(x.pages, new([indexPage]place))
	}
	x.height++
	*x.at(x.height - 1) = p
}

// cut forgets all blocks from a number on.
func (x *index) cut(height uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.height = height
	x.pages = x.pages[:(height+indexPage-1)/indexPage]
}

// set changes the places of blocks that are there, from a number on.
func (x *index) set(from uint64, places []place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range places {
		*x.at(from + uint64(i)) = places[i]
	}
}

// reset forgets everything.
func (x *index) reset() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pages, x.height, x.segments = nil, 0, nil
}

// segmentEnd is the first block behind a segment: that of the next one, or the number of blocks.
func (x *index) segmentEnd(seg uint64) uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := sort.Search(len(x.segments), func(i int) bool { return x.segments[i] > seg })
	if i < len(x.segments) {
		return min(x.segments[i], x.height)
	}
	return x.height
}

// addSegment names a segment; ascending order is kept.
func (x *index) addSegment(first uint64) {
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

// dropSegment forgets a segment.
func (x *index) dropSegment(first uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i, s := range x.segments {
		if s == first {
			x.segments = append(x.segments[:i:i], x.segments[i+1:]...)
			return
		}
	}
}

// len is the number of blocks.
func (x *index) len() uint64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.height
}

// last is the place of the last block; ok is false where there is none.
func (x *index) last() (p place, seg uint64, ok bool) {
	n := x.len()
	if n == 0 {
		return place{}, 0, false
	}
	return x.get(n - 1)
}
