package chain

import (
	"encoding/binary"
	"fmt"
)

// Block is an encoded block whose form was checked. Its parts point into one slice of bytes. The bytes are the same on
// disk, on the wire and in memory.
//
//	header[103] ‖ end u32 × count ‖ records
//
// where end[i] is where record i ends, counted from the start of the records. So one lookup in the table finds record
// i. The zero Block is not valid: make one with [ParseBlock] or [NewBlock].
type Block struct {
	Header Header
	data   []byte
}

// BlockOverhead is how many bytes a block of count records has besides the records.
func BlockOverhead(count uint32) int { return HeaderSize + 4*int(count) }

// NewBlock assembles a block. ends[i] is where record i ends in records. The header's count must be len(ends), the last
// end len(records); a caller that breaks this gets an error that wraps [ErrFrame].
func NewBlock(header Header, ends []uint32, records []byte) (Block, error) {
	if int(header.Count) != len(ends) || len(ends) == 0 || int(ends[len(ends)-1]) != len(records) {
		return Block{}, fmt.Errorf("%w: block %d: count %d, %d ends, %d bytes of records",
			ErrFrame, header.Block, header.Count, len(ends), len(records))
	}
	data := make([]byte, 0, BlockOverhead(header.Count)+len(records))
	data = header.AppendTo(data)
	data, _ = binary.Append(data, binary.BigEndian, ends)
	return Block{Header: header, data: append(data, records...)}, nil
}

// ParseBlock checks the form of an encoded block that fills data exactly: header, table, and that every record fills
// its place. It does not copy, so data must not change afterwards. The [Verifier] decides whether the block extends a
// chain. The error wraps [ErrFrame].
func ParseBlock(data []byte) (Block, error) {
	header, err := ParseHeader(data)
	if err != nil {
		return Block{}, err
	}
	if uint64(len(data)) < uint64(HeaderSize)+4*uint64(header.Count) {
		return Block{}, fmt.Errorf("%w: %d bytes are too few for a block of %d records", ErrFrame, len(data),
			header.Count)
	}
	b := Block{Header: header, data: data}
	records := data[BlockOverhead(header.Count):]
	start := uint32(0)
	for i := range header.Count {
		end := b.end(i)
		if end < start || uint64(end) > uint64(len(records)) {
			return Block{}, fmt.Errorf("%w: record %d ends at %d of %d", ErrFrame, i, end, len(records))
		}
		size, err := EncodedRecordSize(records[start:end])
		if err != nil {
			return Block{}, fmt.Errorf("record %d: %w", i, err)
		}
		if size != int(end-start) {
			return Block{}, fmt.Errorf("%w: record %d has %d bytes in a place of %d", ErrFrame, i, size, end-start)
		}
		start = end
	}
	if int(start) != len(records) {
		return Block{}, fmt.Errorf("%w: %d bytes behind the last record", ErrFrame, len(records)-int(start))
	}
	return b, nil
}

// Bytes is the encoded block. It must not be changed.
func (b *Block) Bytes() []byte { return b.data }

func (b *Block) end(i uint32) uint32 {
	return binary.BigEndian.Uint32(b.data[HeaderSize+4*int(i):])
}

// Encoded is the encoded record at an offset below Header.Count. It must not be changed.
func (b *Block) Encoded(offset uint32) []byte {
	start := uint32(0)
	if offset > 0 {
		start = b.end(offset - 1)
	}
	records := b.data[BlockOverhead(b.Header.Count):]
	return records[start:b.end(offset):b.end(offset)]
}

// Record decodes the record at an offset below Header.Count. Its payload points into the block.
func (b *Block) Record(offset uint32) (Record, error) { return ParseRecord(b.Encoded(offset)) }

// Leaves appends the leaf hashes of the block's records to dst. It hashes every payload again, which is nearly all the
// work of checking a block. Several blocks may be hashed at a time and given to [Verifier.TakeHashed] in order.
func (b *Block) Leaves(dst []Hash) []Hash {
	for i := range b.Header.Count {
		encoded := b.Encoded(i)
		leaf := EncodedLeaf(encoded, EncodedCommit(encoded))
		dst = append(dst, leaf.Hash())
	}
	return dst
}

// ordered reports whether the times of the records are in order, not earlier than since, the time of the block before,
// and not later than the block's.
func (b *Block) ordered(since uint64) bool {
	for i := range b.Header.Count {
		t := binary.BigEndian.Uint64(b.Encoded(i)[timeAt:])
		if t < since || t > b.Header.Time {
			return false
		}
		since = t
	}
	return true
}
