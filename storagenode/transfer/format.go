// Package transfer is the form of the stream that brings blocks from one storage node to another during a repair.
//
// Nothing in a stream has to be believed. The receiver knows the hash of each piece's last block from its order. From
// that hash, the headers prove themselves backwards, and the first header's root proves the tree before it.
package transfer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// A stream (big endian):
//
//	stream  magic "CSTR" ‖ version u8 = 1 ‖ 0 0 0 ‖ piece … ‖ from u64 = 2^64-1 ‖ count u32 = 0
//	piece   from u64 ‖ count u32 ‖ size u64 ‖ hash[32] for each set bit of size ‖ header[103] × count
//	        ‖ (length u32 ‖ block) × count
//
// A piece ends where an ordered piece ends, and may begin after that one's begin. size and hashes are the tree before
// the piece's first block, as a compact range.
var format = durable.Format{Magic: "CSTR", Version: 1, Zeros: 3}

const (
	endMark = math.MaxUint64
	// BufferSize is how much is read and written at a time, in bytes.
	BufferSize = 256 << 10
	// maxBlock bounds a block's bytes, so that a wrong length does not fill the memory.
	maxBlock = 256 << 20
)

// CheckPieces checks the pieces of an order. The error wraps [wire.ErrBadBlock].
func CheckPieces(pieces []wire.Piece) error {
	last := uint64(0)
	for _, p := range pieces {
		if p.From >= p.To || p.Len() > wire.MaxPiece || p.From < last || p.To == math.MaxUint64 {
			return fmt.Errorf("%w: a piece from block %d to %d after one to %d; pieces ascend and have 1 to %d blocks",
				wire.ErrBadBlock, p.From, p.To, last, wire.MaxPiece)
		}
		last = p.To
	}
	return nil
}

// AppendHeader appends the begin of a stream to dst.
func AppendHeader(dst []byte) []byte { return format.AppendHeader(dst) }

// AppendEnd appends the end mark of a stream to dst.
func AppendEnd(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, endMark), 0)
}

// Piece is what precedes the blocks of a piece.
type Piece struct {
	From    uint64
	Tree    chain.Tree // before block From
	Headers []chain.Header
}

// AppendTo appends the encoded piece to dst, without its blocks.
func (p *Piece) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.From)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Headers)))
	dst = binary.BigEndian.AppendUint64(dst, p.Tree.Size())
	dst, _ = binary.Append(dst, binary.BigEndian, p.Tree.Nodes())
	for i := range p.Headers {
		dst = p.Headers[i].AppendTo(dst)
	}
	return dst
}

// End is the first block after the piece.
func (p *Piece) End() uint64 { return p.From + uint64(len(p.Headers)) }

// Head returns the head before the piece's first block. It is proven once that block's root is.
func (p *Piece) Head() chain.Head {
	return chain.Head{Height: p.From, Hash: p.Headers[0].Prev, Tree: p.Tree}
}

// Prove checks the headers against the hash of the last one. The error wraps [wire.ErrBadBlock].
func (p *Piece) Prove(last chain.Hash) error {
	for i := len(p.Headers) - 1; i >= 0; i-- {
		h := &p.Headers[i]
		number := p.From + uint64(i)
		switch {
		case h.Block != number:
			return fmt.Errorf("%w: the header of block %d names block %d", wire.ErrBadBlock, number, h.Block)
		case h.Hash() != last:
			return fmt.Errorf("%w: the header of block %d hashes to %v, not %v",
				wire.ErrBadBlock, number, h.Hash(), last)
		case i > 0 && h.First != p.Headers[i-1].Size():
			return fmt.Errorf("%w: the header of block %d names leaf %d as its first, not %d",
				wire.ErrBadBlock, number, h.First, p.Headers[i-1].Size())
		}
		last = h.Prev
	}
	if p.Tree.Size() != p.Headers[0].First {
		return fmt.Errorf("%w: a tree of %d leaves before block %d, whose first leaf is %d",
			wire.ErrBadBlock, p.Tree.Size(), p.From, p.Headers[0].First)
	}
	return nil
}

// Reader decodes a stream. Its errors wrap [wire.ErrBadBlock] if the bytes cannot be a stream, wrap
// [durable.ErrNewerFormat], or are those of the reader below: io.ErrUnexpectedEOF if the stream ends early.
type Reader struct {
	r     *bufio.Reader
	small [chain.HeaderSize]byte
	buf   []byte
}

// NewReader returns a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, BufferSize)} }

func (s *Reader) read(size int) ([]byte, error) {
	if _, err := io.ReadFull(s.r, s.small[:size]); err != nil {
		return nil, endedEarly(err)
	}
	return s.small[:size], nil
}

// endedEarly replaces io.EOF, which is only right after the end mark.
func endedEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Header reads the first bytes of a stream.
func (s *Reader) Header() error {
	b, err := s.read(8)
	if err != nil {
		return err
	}
	if err := format.CheckHeader(b); errors.Is(err, durable.ErrNewerFormat) {
		return err
	}
	if string(b) != string(AppendHeader(nil)) {
		return fmt.Errorf("%w: %x does not begin a stream of blocks", wire.ErrBadBlock, b)
	}
	return nil
}

// Piece reads what precedes the blocks of a piece. The error is io.EOF at the end mark.
func (s *Reader) Piece() (*Piece, error) {
	b, err := s.read(12)
	if err != nil {
		return nil, err
	}
	from, count := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
	if from == endMark && count == 0 {
		return nil, io.EOF
	}
	if count == 0 || count > wire.MaxPiece || from+uint64(count) < from {
		return nil, fmt.Errorf("%w: a piece of %d blocks from %d, 1 to %d are possible",
			wire.ErrBadBlock, count, from, wire.MaxPiece)
	}
	if b, err = s.read(8); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint64(b)
	nodes := make([]chain.Hash, bits.OnesCount64(size))
	for i := range nodes {
		if b, err = s.read(chain.HashSize); err != nil {
			return nil, err
		}
		nodes[i] = chain.Hash(b)
	}
	p := &Piece{From: from}
	if p.Tree, err = chain.NewTree(size, nodes); err != nil {
		return nil, fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
	}
	for range count {
		if b, err = s.read(chain.HeaderSize); err != nil {
			return nil, err
		}
		h, err := chain.ParseHeader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: a header: %w", wire.ErrBadBlock, err)
		}
		p.Headers = append(p.Headers, h)
	}
	return p, nil
}

// Block reads a block. It is valid until the next call.
func (s *Reader) Block() ([]byte, error) {
	b, err := s.read(4)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(b)
	if length < chain.HeaderSize || length > maxBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes, %d to %d are possible",
			wire.ErrBadBlock, length, chain.HeaderSize, maxBlock)
	}
	s.buf = s.buf[:0]
	for left := int(length); left > 0; {
		n := min(left, 1<<20) // memory only for what arrives
		s.buf = slices.Grow(s.buf, n)
		if _, err := io.ReadFull(s.r, s.buf[len(s.buf):len(s.buf)+n]); err != nil {
			return nil, endedEarly(err)
		}
		s.buf = s.buf[:len(s.buf)+n]
		left -= n
	}
	return s.buf, nil
}

// WriteBlock writes a block of a piece to w.
func WriteBlock(w io.Writer, block []byte) error {
	var length [4]byte
	binary.BigEndian.PutUint32(length[:], uint32(len(block)))
	if _, err := w.Write(length[:]); err != nil {
		return err
	}
	_, err := w.Write(block)
	return err
}
