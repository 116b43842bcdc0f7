package storagenode

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
	"github.com/chainstore/chainstore/wire"
)

// A transfer brings blocks from one storage node to another (big endian):
//
//	stream  magic "CSTR" ‖ version u8 = 1 ‖ 0 0 0 ‖ piece … ‖ from u64 = 2^64-1 ‖ count u32 = 0
//	piece   from u64 ‖ count u32 ‖ size u64 ‖ hash[32] for each set bit of size ‖ header[103] × count ‖ (length u32 ‖ block) × count
//
// A piece ends where one that was ordered ends, and may begin behind its begin. The receiver knows the hash of its last block, from
// which the headers prove themselves backwards. size and hashes are the tree before its first block, as a compact range: the first
// header's root proves them. So nothing in a stream needs to be believed.
const (
	transferMagic   = "CSTR"
	transferVersion = 1
	transferEnd     = math.MaxUint64
	// BufferSize is how much is read and written at a time.
	BufferSize = 256 << 10
	// maxTransferBlock bounds a block's bytes, so that a wrong length does not fill the memory.
	maxTransferBlock = 256 << 20
)

func AppendHeader(dst []byte) []byte {
	return append(append(dst, transferMagic...), transferVersion, 0, 0, 0)
}

func AppendEnd(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(dst, transferEnd), 0)
}

// Piece is what comes before a piece's blocks.
type Piece struct {
	From    uint64
	Tree    chain.Tree
	Headers []chain.Header
}

func (p *Piece) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, p.From)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(p.Headers)))
	dst = binary.BigEndian.AppendUint64(dst, p.Tree.Size())
	for _, h := range p.Tree.Nodes() {
		dst = append(dst, h[:]...)
	}
	for i := range p.Headers {
		dst = p.Headers[i].AppendTo(dst)
	}
	return dst
}

// Prove holds the headers against the hash of the last. The error wraps ErrBadBlock.
func (p *Piece) Prove(last chain.Hash) error {
	for i := len(p.Headers) - 1; i >= 0; i-- {
		h := &p.Headers[i]
		number := p.From + uint64(i)
		switch {
		case h.Block != number:
			return fmt.Errorf("%w: the header of block %d names block %d", ErrBadBlock, number, h.Block)
		case h.Hash() != last:
			return fmt.Errorf("%w: the header of block %d hashes to %v, not %v", ErrBadBlock, number, h.Hash(), last)
		case i > 0 && h.First != p.Headers[i-1].Size():
			return fmt.Errorf("%w: the header of block %d names leaf %d as its first, not %d", ErrBadBlock, number, h.First, p.Headers[i-1].Size())
		}
		last = h.Prev
	}
	if p.Tree.Size() != p.Headers[0].First {
		return fmt.Errorf("%w: a tree of %d leaves before block %d, whose first is %d", ErrBadBlock, p.Tree.Size(), p.From, p.Headers[0].First)
	}
	return nil
}

// Reader decodes a transfer. Its errors wrap ErrBadBlock where the bytes cannot be a transfer's, ErrNewerFormat, or are those of
// the reader below: io.ErrUnexpectedEOF where the stream ends early.
type Reader struct {
	r     *bufio.Reader
	small [chain.HeaderSize]byte
	buf   []byte
}

func NewReader(r io.Reader) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, BufferSize)}
}

func (s *Reader) read(size int) ([]byte, error) {
	if _, err := io.ReadFull(s.r, s.small[:size]); err != nil {
		return nil, early(err)
	}
	return s.small[:size], nil
}

// early takes the end of the stream for what it is, before its end mark.
func early(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Header reads the stream's first bytes.
func (s *Reader) Header() error {
	b, err := s.read(8)
	if err != nil {
		return err
	}
	if string(b[:4]) == transferMagic && b[4] > transferVersion {
		return fmt.Errorf("%w: a transfer of version %d, this program knows %d", ErrNewerFormat, b[4], transferVersion)
	}
	if string(b) != string(AppendHeader(nil)) {
		return fmt.Errorf("%w: %x does not begin a transfer", ErrBadBlock, b)
	}
	return nil
}

// Piece reads what comes before a Piece's blocks. The error is io.EOF at the end mark.
func (s *Reader) Piece() (*Piece, error) {
	b, err := s.read(12)
	if err != nil {
		return nil, err
	}
	from, count := binary.BigEndian.Uint64(b), binary.BigEndian.Uint32(b[8:])
	if from == transferEnd && count == 0 {
		return nil, io.EOF
	}
	if count == 0 || count > wire.MaxPiece || from+uint64(count) < from {
		return nil, fmt.Errorf("%w: a piece of %d blocks from %d, 1 to %d are possible", ErrBadBlock, count, from, wire.MaxPiece)
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
		return nil, fmt.Errorf("%w: %w", ErrBadBlock, err)
	}
	for range count {
		if b, err = s.read(chain.HeaderSize); err != nil {
			return nil, err
		}
		h, err := chain.ParseHeader(b)
		if err != nil {
			return nil, fmt.Errorf("%w: a header: %w", ErrBadBlock, err)
		}
		p.Headers = append(p.Headers, h)
	}
	return p, nil
}

// Block reads a Block; it is good until the next call.
func (s *Reader) Block() ([]byte, error) {
	b, err := s.read(4)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(b)
	if length < chain.HeaderSize || length > maxTransferBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes, %d to %d are possible", ErrBadBlock, length, chain.HeaderSize, maxTransferBlock)
	}
	s.buf = s.buf[:0]
	for left := int(length); left > 0; {
		n := min(left, 1<<20) // memory only for what really comes
		s.buf = slices.Grow(s.buf, n)
		if _, err := io.ReadFull(s.r, s.buf[len(s.buf):len(s.buf)+n]); err != nil {
			return nil, early(err)
		}
		s.buf = s.buf[:len(s.buf)+n]
		left -= n
	}
	return s.buf, nil
}
