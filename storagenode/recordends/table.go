package recordends

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// endSize is the size of one entry of a table, in bytes.
const endSize = 4

// Read reads where count records of a block end, after where the first of them begins, and appends these count+1
// offsets to ends. They count from the start of the block's first record; see [Offset]. The error wraps
// [durable.ErrDamaged] if the offsets cannot be those of records of the block, and is that of the file otherwise.
func Read(ends []uint32, f io.ReaderAt, p *blockindex.Place, first, count uint32) ([]uint32, error) {
	raw, err := readTable(f, p, first, count)
	if err != nil {
		return nil, err
	}
	for at := range count + 1 {
		ends = append(ends, binary.BigEndian.Uint32(raw[endSize*at:]))
	}
	return ends, nil
}

// readTable is Read without decoding the offsets.
func readTable(f io.ReaderAt, p *blockindex.Place, first, count uint32) ([]byte, error) {
	length := segment.BlockLength(f, p.Length)
	if uint64(length) < uint64(chain.BlockOverhead(p.Count))+chain.RecordOverhead {
		return nil, fmt.Errorf("%w: %d bytes cannot hold %d records", durable.ErrDamaged, length, p.Count)
	}
	raw := make([]byte, endSize*(int(count)+1))
	into, at := raw, chain.HeaderSize+endSize*(int64(first)-1)
	if first == 0 { // no end precedes the first record
		clear(raw[:endSize])
		into, at = raw[endSize:], at+endSize
	}
	if err := segment.ReadPart(f, into, p.Offset, p.Length, at); err != nil {
		return nil, err
	}
	last, limit := uint32(0), length-uint32(chain.BlockOverhead(p.Count))
	for i := 0; i < len(raw); i += endSize {
		end := binary.BigEndian.Uint32(raw[i:])
		if end < last || end > limit || i > 0 && end-last < chain.RecordOverhead {
			return nil, fmt.Errorf("%w: the block's table of ends is damaged", durable.ErrDamaged)
		}
		last = end
	}
	return raw, nil
}

// Offset is where a record is in its segment that begins at an offset of its block's records, if the segment is not
// encrypted.
func Offset(p *blockindex.Place, begin uint32) int64 {
	return p.Offset + segment.FrameHeader + int64(chain.BlockOverhead(p.Count)) + int64(begin)
}

// ReadRecords reads the records of a block from an offset of its records on into buf, in one read of the file. The
// error is that of [segment.ReadPart].
func ReadRecords(f io.ReaderAt, buf []byte, p *blockindex.Place, begin uint32) error {
	return segment.ReadPart(f, buf, p.Offset, p.Length, int64(chain.BlockOverhead(p.Count))+int64(begin))
}
