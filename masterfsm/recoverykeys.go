package masterfsm

import (
	"maps"
	"slices"
)

// forget drops the idempotency keys, and what became of submissions, that tell of a record at a position or behind it: other records come
// there, and a retry must append again. What tells of the records before it alone stays.
func (r *Recovery) forget(block uint64, offset uint32) {
	s := r.s
	kept := newKeyWindow()
	for number := s.keys.first; number < s.keys.next; number++ {
		if e := s.keys.at(number); s.endsBefore(e.block, e.offset, e.count, block, offset) {
			kept.add(*e)
		} else {
			r.done.Keys++
		}
	}
	s.keys = kept
	goes := func(run Run) bool { return !s.endsBefore(run.Block, run.Offset, run.Count, block, offset) }
	for _, w := range s.members {
		maps.DeleteFunc(w.Results, func(_ uint64, done result) bool {
			return slices.ContainsFunc(done.placements, func(p Placement) bool { return slices.ContainsFunc(p.Runs, goes) })
		})
	}
}

// endsBefore reports whether count records from (block, offset) on all stand before (endBlock, endOffset). They may run over into the blocks
// behind.
func (s *State) endsBefore(block uint64, offset, count uint32, endBlock uint64, endOffset uint32) bool {
	if block >= endBlock {
		return block == endBlock && uint64(offset)+uint64(count) <= uint64(endOffset)
	}
	blocks := endBlock - block
	first, known := s.firstOf(block)
	end, knownEnd := s.firstOf(endBlock)
	if !known || !knownEnd {
		return uint64(count) <= blocks // each block has a record at least
	}
	return first+uint64(offset)+uint64(count) <= end+uint64(endOffset)-blocks // each block has one leaf more, its seal
}

// firstOf is the leaf index of a block's first record, where the block is held or open, or the table remembers the boundary before it.
func (s *State) firstOf(block uint64) (first uint64, known bool) {
	if block == s.open.number {
		return s.open.first, true
	}
	if b := s.heldAt(block); b != nil {
		return b.first, true
	}
	before, known := s.BoundaryAt(block)
	return before.Size, known || block == 0
}
