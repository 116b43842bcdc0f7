package logstore

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/durable"
)

// The format of a segment, of package segment, in little endian:
//
//	header = magic u32 ‖ zero × 3 ‖ version u8 ‖ first entry u64 ‖ id u64 ‖ codec u64
//	frame  = kind u8 ‖ zero × 3 ‖ length or checksum u32 ‖ content ‖ zeros up to a multiple of 8 bytes
//	batch  = entry × n ‖ commit; in a complete segment, the last batch has an index block in front of its commit
//
// A commit has the CRC-32C of its batch, which for the first batch includes the header. It has no content. The index
// block has the place of each entry's frame as u32.
const (
	headerBytes  = 32
	frameBytes   = 8
	segmentMagic = 0x58eb6b0d
	readBytes    = 1 << 20
)

// batchEnd is the end of a batch in a file.
type batchEnd struct {
	last uint64 // the newest entry, the one before the segment if there is none
	end  int64  // where in the file the batch ends
}

// scanned is what a segment's file contains.
type scanned struct {
	batchEnd                         // of the last complete batch
	indexStart uint64                // where the places of the entries are, 0 if the segment is not complete
	rest       int64                 // bytes behind the last complete batch, up to the last one that is not zero
	torn       error                 // why the rest is not a batch, nil if there is none
	contains   func(uint64) batchEnd // returns the first batch whose last entry is at least the given one
}

// scanner reads one segment.
type scanner struct {
	info    types.SegmentInfo
	in      *bufio.Reader
	at      int64  // bytes that were read
	batch   []byte // of the present batch
	pending []*raft.Log
	places  []uint32 // of the entries of the file, 0 where it is not known
	wrong   error    // what is wrong with the header
	index   uint64   // see scanned.indexStart; of the present batch
	result  scanned
	ends    []batchEnd
	visit   func(*raft.Log)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn is an end of the file that is no batch: one that was being written, or that was damaged.
var errTorn = errors.New("the last batch is incomplete")

// scan reads a segment and checks everything in its complete batches. It calls visit with each entry of these, in
// order. The error wraps [durable.ErrDamaged], or is that of a read. A batch that is not complete at the end is no
// error, unless a complete one follows: the next is written only after one was synced.
func scan(f io.ReaderAt, size int64, info types.SegmentInfo, visit func(*raft.Log)) (scanned, error) {
	s := &scanner{info: info, in: section(f, 0, size), visit: visit}
	s.result.batchEnd = batchEnd{last: info.BaseIndex - 1}
	err := s.readBatches()
	if errors.Is(err, errTorn) {
		s.result.torn = err
		err = checkTorn(f, size, s.result.end, err)
	}
	if err == nil {
		s.result.rest, err = contentBehind(f, s.result.end, size)
	}
	s.result.contains = func(index uint64) batchEnd {
		for _, e := range s.ends {
			if e.last >= index {
				return e
			}
		}
		return s.result.batchEnd
	}
	return s.result, err
}

// section returns a reader of a part of a file.
func section(f io.ReaderAt, from, size int64) *bufio.Reader {
	return bufio.NewReaderSize(io.NewSectionReader(f, from, size-from), int(min(size-from+1, readBytes)))
}

// contentBehind returns how many bytes there are from a place up to the last one that is not zero.
func contentBehind(f io.ReaderAt, from, size int64) (count int64, err error) {
	in := section(f, from, size)
	for at := int64(1); ; at++ {
		switch b, err := in.ReadByte(); {
		case errors.Is(err, io.EOF):
			return count, nil
		case err != nil:
			return 0, err
		case b != 0:
			count = at
		}
	}
}

// read reads bytes into the present batch. At the end of the file the error wraps errTorn.
func (s *scanner) read(count int) ([]byte, error) {
	from := len(s.batch)
	for count > 0 { // in pieces: the length may be wrong
		piece := min(count, readBytes)
		start := len(s.batch)
		s.batch = append(s.batch, make([]byte, piece)...)
		n, err := io.ReadFull(s.in, s.batch[start:])
		s.at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("%w: the file ends in it", errTorn)
		}
		if err != nil {
			return nil, err
		}
		count -= piece
	}
	return s.batch[from:], nil
}

func (s *scanner) readBatches() error {
	header, err := s.read(headerBytes)
	if err != nil {
		if errors.Is(err, errTorn) && s.at == 0 {
			return nil // nothing was written yet
		}
		return err
	}
	s.wrong = checkHeader(header, s.info)
	return s.readFrames()
}

// readFrames reads batches up to the end.
func (s *scanner) readFrames() error {
	for {
		complete, err := s.readFrame()
		if err != nil {
			return err
		}
		if complete && s.result.indexStart > 0 {
			return nil
		}
	}
}

func checkHeader(b []byte, info types.SegmentInfo) error {
	le := binary.LittleEndian
	if le.Uint64(b) != segmentMagic || le.Uint64(b[8:]) != info.BaseIndex || le.Uint64(b[16:]) != info.ID ||
		le.Uint64(b[24:]) != info.Codec || info.Codec != wal.CodecBinaryV1 {
		return fmt.Errorf("%w: its header is %x, of another segment", durable.ErrDamaged, b)
	}
	return nil
}

// readFrame reads the next frame. complete says that it ended a batch.
func (s *scanner) readFrame() (complete bool, err error) {
	at, inBatch := s.at, len(s.batch)
	head, err := s.read(frameBytes)
	if err != nil {
		if errors.Is(err, errTorn) && inBatch == 0 {
			return false, fmt.Errorf("%w: nothing follows", errTorn)
		}
		return false, err
	}
	value := binary.LittleEndian.Uint32(head[4:])
	switch kind := head[0]; {
	case kind == segment.FrameCommit:
		sum := durable.Checksum(s.batch[:inBatch])
		if value != sum {
			return false, fmt.Errorf("%w: the checksum at byte %d is %08x, its bytes have %08x", errTorn, at, value,
				sum)
		}
		return true, s.endBatch()
	case kind == segment.FrameEntry, kind == segment.FrameIndex:
		return false, s.readContent(kind, at, int(value))
	}
	return false, fmt.Errorf("%w: at byte %d there is no frame but %x", errTorn, at, head)
}

// readContent reads the content of an entry or of the index block.
func (s *scanner) readContent(kind uint8, at int64, length int) error {
	content, err := s.read((length + frameBytes - 1) / frameBytes * frameBytes)
	if err != nil {
		return err
	}
	if content = content[:length]; kind == segment.FrameIndex {
		s.index = uint64(at) + frameBytes
		return s.checkIndex(content)
	}
	l, err := decodeEntry(content, s.info.BaseIndex+uint64(len(s.places)))
	if err != nil {
		// The checksum of the batch says which of the two it is.
		return fmt.Errorf("%w, at byte %d: %w", errTorn, at, err)
	}
	s.places, s.pending = append(s.places, uint32(at)), append(s.pending, &l)
	return nil
}

func (s *scanner) checkIndex(content []byte) error {
	right := len(content) == 4*len(s.places)
	for i := 0; right && i < len(s.places); i++ {
		right = binary.LittleEndian.Uint32(content[4*i:]) == s.places[i] || s.places[i] == 0
	}
	if !right {
		return fmt.Errorf("%w: the index block at byte %d has other places of the entries", errTorn, s.index)
	}
	return nil
}

// endBatch passes on the entries of a complete batch. If the header is wrong, although the checksum of the batch is
// right, they are of another segment.
func (s *scanner) endBatch() error {
	if s.wrong != nil {
		return s.wrong
	}
	for _, l := range s.pending {
		s.visit(l)
		s.result.last = l.Index
	}
	s.result.end, s.result.indexStart = s.at, s.index
	s.ends = append(s.ends, s.result.batchEnd)
	s.batch, s.pending, s.index = s.batch[:0], nil, 0
	return nil
}

// checkTorn returns an error if a batch behind that place has the right checksum. The one at the place cannot be
// decoded then, or is followed by one that was written after it was synced.
func checkTorn(f io.ReaderAt, size, from int64, why error) error {
	in := section(f, from, size)
	sum := uint32(0)
	next := func(b []byte) error {
		_, err := io.ReadFull(in, b)
		return err
	}
	skip := int64(0) // bytes of content in front of the next frame
	if from == 0 {
		skip = headerBytes
	}
	for buf := make([]byte, 4096); ; {
		for skip > 0 {
			piece := buf[:min(skip, int64(len(buf)))]
			if err := next(piece); err != nil {
				return unlessEOF(err)
			}
			sum, skip = crc32.Update(sum, castagnoli, piece), skip-int64(len(piece))
		}
		head := buf[:frameBytes]
		if err := next(head); err != nil {
			return unlessEOF(err)
		}
		value := binary.LittleEndian.Uint32(head[4:])
		switch head[0] {
		case segment.FrameEntry, segment.FrameIndex:
			sum = crc32.Update(sum, castagnoli, head)
			skip = (int64(value) + frameBytes - 1) / frameBytes * frameBytes
		case segment.FrameCommit:
			if value == sum && value != 0 {
				return fmt.Errorf("%w: a batch behind byte %d is complete, and the one there is not: %w",
					durable.ErrDamaged, from, why)
			}
			sum = 0
		default:
			return nil
		}
	}
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
