package masterfsm

import (
	"sort"

	"github.com/chainstore/chainstore/chain"
)

// Span is the records of a block that the masters hold, as they stood when it was taken. It may be kept and must not be changed.
type Span struct {
	Block  uint64
	First  uint64        // leaf index of its first record
	Header *chain.Header // nil as long as the block is not mined
	Stored bool

	block   chain.Block // once it is mined
	ends    []uint32    // before
	records []byte
}

// Count is the number of records.
func (s *Span) Count() uint32 {
	if s.Header != nil {
		return s.Header.Count
	}
	return uint32(len(s.ends))
}

// Next is the leaf index behind the last record.
func (s *Span) Next() uint64 { return s.First + uint64(s.Count()) }

// Encoded is the encoded record at an offset below Count.
func (s *Span) Encoded(offset uint32) []byte {
	if s.Header != nil {
		return s.block.Encoded(offset)
	}
	return encodedAt(s.ends, s.records, offset)
}

// HeldLeaf is the leaf index from which on the masters hold all records: what is before is with the storage nodes alone.
func (s *State) HeldLeaf() uint64 {
	if len(s.held) == 0 {
		return s.open.first
	}
	return s.held[0].first
}

// Spans are the blocks that the masters hold, the open one last, from the first on that does not end before a leaf.
func (s *State) Spans(leaf uint64) []Span {
	from := sort.Search(len(s.held), func(i int) bool {
		b := s.held[i]
		return b.first+b.count() >= leaf // its seal
	})
	spans := make([]Span, 0, len(s.held)-from+1)
	for i := from; i < len(s.held); i++ {
		spans = append(spans, s.span(s.held[i]))
	}
	if b := &s.open; len(b.ends) > 0 {
		spans = append(spans, Span{Block: b.number, First: b.first, ends: b.ends, records: b.records})
	}
	return spans
}

// Span is the block of a number, where the masters hold it.
func (s *State) Span(block uint64) (Span, bool) {
	if b := s.heldAt(block); b != nil {
		return s.span(b), true
	}
	if b := &s.open; b.number == block && len(b.ends) > 0 {
		return Span{Block: b.number, First: b.first, ends: b.ends, records: b.records}, true
	}
	return Span{}, false
}

func (s *State) span(b *heldBlock) Span {
	span := Span{Block: b.number, First: b.first, Stored: b.number < s.stored, ends: b.ends, records: b.records}
	if b.mined {
		header := b.block.Header
		span.Header, span.block = &header, b.block
	}
	return span
}
