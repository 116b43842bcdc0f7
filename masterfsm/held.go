package masterfsm

import (
	"sort"

	"github.com/chainstore/chainstore/chain"
)

// HeldBlock is a copy of a block that the masters hold, taken at one moment. Callers may keep it and must not change
// it.
type HeldBlock struct {
	Block  uint64
	First  uint64        // leaf index of its first record
	Header *chain.Header // nil as long as the block is not mined
	Stored bool

	block   chain.Block // once it is mined
	ends    []uint32    // before
	records []byte
}

// Count is the number of records.
func (s *HeldBlock) Count() uint32 {
	if s.Header != nil {
		return s.Header.Count
	}
	return uint32(len(s.ends))
}

// Next is the leaf index behind the last record.
func (s *HeldBlock) Next() uint64 { return s.First + uint64(s.Count()) }

// Encoded is the encoded record at an offset below Count.
func (s *HeldBlock) Encoded(offset uint32) []byte {
	if s.Header != nil {
		return s.block.Encoded(offset)
	}
	return encodedAt(s.ends, s.records, offset)
}

// HeldLeaf is the leaf index from which on the masters hold all records. Only storage nodes have the records before it.
func (s *State) HeldLeaf() uint64 {
	if len(s.held) == 0 {
		return s.open.first
	}
	return s.held[0].first
}

// HeldBlocks returns the blocks that the masters hold, starting with the first that does not end before a leaf. The
// open block is the last.
func (s *State) HeldBlocks(leaf uint64) []HeldBlock {
	from := sort.Search(len(s.held), func(i int) bool {
		b := s.held[i]
		return b.first+b.count() >= leaf // its seal
	})
	spans := make([]HeldBlock, 0, len(s.held)-from+1)
	for i := from; i < len(s.held); i++ {
		spans = append(spans, s.exported(s.held[i]))
	}
	if b := &s.open; len(b.ends) > 0 {
		spans = append(spans, HeldBlock{Block: b.number, First: b.first, ends: b.ends, records: b.records})
	}
	return spans
}

// HeldBlock returns the block of a number if the masters hold it.
func (s *State) HeldBlock(block uint64) (HeldBlock, bool) {
	if b := s.heldAt(block); b != nil {
		return s.exported(b), true
	}
	if b := &s.open; b.number == block && len(b.ends) > 0 {
		return HeldBlock{Block: b.number, First: b.first, ends: b.ends, records: b.records}, true
	}
	return HeldBlock{}, false
}

func (s *State) exported(b *heldBlock) HeldBlock {
	span := HeldBlock{Block: b.number, First: b.first, Stored: b.number < s.stored, ends: b.ends, records: b.records}
	if b.mined {
		header := b.block.Header
		span.Header, span.block = &header, b.block
	}
	return span
}

// heldFrom is the number of the first block that the masters hold.
func (s *State) heldFrom() uint64 {
	if len(s.held) == 0 {
		return s.open.number
	}
	return s.held[0].number
}

func (s *State) heldAt(number uint64) *heldBlock {
	from := s.heldFrom()
	if number < from || number-from >= uint64(len(s.held)) {
		return nil
	}
	return s.held[number-from]
}

// Block is a mined block that the masters hold.
func (s *State) Block(number uint64) (chain.Block, bool) {
	b := s.heldAt(number)
	if b == nil || !b.mined {
		return chain.Block{}, false
	}
	return b.block, true
}

// Found says what the table knows about a position.
type Found uint8

const (
	// FoundNothing: the position is not given out yet.
	FoundNothing Found = iota
	// FoundRecord: the masters hold the record.
	FoundRecord
	// FoundElsewhere: the block was stored and dropped; storage nodes have it, the offset unchecked.
	FoundElsewhere
	// FoundBeyond: the block is known and has fewer records. It gets no more.
	FoundBeyond
	// FoundSeal: the leaf index is that of a seal.
	FoundSeal
)

// Position is the position of a record.
type Position struct {
	Block  uint64
	Offset uint32
	Index  uint64
}

// Record looks up the record at an offset of a block. It returns the encoded record if the masters hold it; callers may
// keep it and must not change it. header is nil until the block is mined.
func (s *State) Record(block uint64, offset uint32) (found Found, at Position, encoded []byte, header *chain.Header) {
	at = Position{Block: block, Offset: offset}
	switch {
	case block < s.heldFrom():
		return FoundElsewhere, at, nil, nil
	case block > s.open.number:
		return FoundNothing, at, nil, nil
	case block == s.open.number:
		if int(offset) >= len(s.open.ends) {
			return FoundNothing, at, nil, nil
		}
		at.Index = s.open.first + uint64(offset)
		return FoundRecord, at, encodedAt(s.open.ends, s.open.records, offset), nil
	}
	b := s.heldAt(block)
	at.Index = b.first + uint64(offset)
	if b.mined {
		if offset >= b.block.Header.Count {
			return FoundBeyond, at, nil, nil
		}
		header := b.block.Header
		return FoundRecord, at, b.block.Encoded(offset), &header
	}
	if int(offset) >= len(b.ends) {
		return FoundBeyond, at, nil, nil
	}
	return FoundRecord, at, encodedAt(b.ends, b.records, offset), nil
}

// Locate finds the position of a leaf index. FoundElsewhere means that a storage node must be asked for the block.
func (s *State) Locate(index uint64) (Found, Position) {
	if index >= s.open.first {
		offset := index - s.open.first
		if offset >= uint64(len(s.open.ends)) {
			return FoundNothing, Position{}
		}
		return FoundRecord, Position{Block: s.open.number, Offset: uint32(offset), Index: index}
	}
	for i := len(s.held) - 1; i >= 0; i-- {
		b := s.held[i]
		if index < b.first {
			continue
		}
		offset := index - b.first
		if offset >= b.count() {
			return FoundSeal, Position{Block: b.number, Index: index}
		}
		return FoundRecord, Position{Block: b.number, Offset: uint32(offset), Index: index}
	}
	return FoundElsewhere, Position{Index: index}
}

func (b *heldBlock) count() uint64 {
	if b.mined {
		return uint64(b.block.Header.Count)
	}
	return uint64(len(b.ends))
}

func encodedAt(ends []uint32, records []byte, offset uint32) []byte {
	start := uint32(0)
	if offset > 0 {
		start = ends[offset-1]
	}
	return records[start:ends[offset]:ends[offset]]
}
