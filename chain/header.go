package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Version is the version of blocks that this code writes and reads.
const Version = 1

// HeaderSize is the size of an encoded header in bytes, innerSize that of the header without its nonce.
const (
	HeaderSize = 1 + 1 + 8 + 8 + 4 + HashSize + HashSize + 8 + 1 + 8
	innerSize  = HeaderSize - 8
)

// Header is the head of a block. With its nonce it is the block's seal, the leaf after the block's records. The fields
// are in their encoded order.
type Header struct {
	Version    uint8
	Block      uint64 // the block's number, from 0
	First      uint64 // leaf index of the block's first record
	Count      uint32 // number of records, at least 1
	Prev       Hash   // hash of the block before, zero for block 0
	Root       Hash   // root of the tree over all leaves before the seal: of size First+Count
	Time       uint64 // unix milliseconds of the cut, never less than that of the block before
	Difficulty uint8  // leading zero bits that the block's hash must have
	Nonce      uint64 // found by the miner
}

// Seal is the leaf index of the block's seal, First+Count.
func (h *Header) Seal() uint64 { return h.First + uint64(h.Count) }

// Size is the size of the tree including the block, First+Count+1. It is also the first leaf index of the next block.
func (h *Header) Size() uint64 { return h.Seal() + 1 }

// AppendTo adds the 103 bytes of the header to dst (big endian):
//
//	0x02 ‖ version u8 ‖ block u64 ‖ first u64 ‖ count u32 ‖ prev[32] ‖ root[32] ‖ time u64 ‖ difficulty u8 ‖ nonce u64
func (h *Header) AppendTo(dst []byte) []byte {
	dst, _ = binary.Append(append(dst, leafSeal), binary.BigEndian, h) // fails for types of no fixed size only
	return dst
}

// ParseHeader reads the header at the start of data, which may be longer. It checks the form only. The [Verifier]
// decides whether the header extends a chain. The error wraps [ErrFrame], or [ErrVersion] if a newer ChainStore wrote
// it.
func ParseHeader(data []byte) (Header, error) {
	if len(data) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes are too few for a header", ErrFrame, len(data))
	}
	if data[0] != leafSeal {
		return Header{}, fmt.Errorf("%w: a header starts with 0x02, not 0x%02x", ErrFrame, data[0])
	}
	if data[1] != Version {
		return Header{}, fmt.Errorf("%w: version %d, this program knows %d", ErrVersion, data[1], Version)
	}
	var h Header
	_, err := binary.Decode(data[1:], binary.BigEndian, &h)
	return h, err
}

// Inner is SHA-256(header without nonce), all that a miner needs of a header.
func (h *Header) Inner() Hash {
	var buf [HeaderSize]byte
	h.AppendTo(buf[:0])
	return sha256.Sum256(buf[:innerSize])
}

// Hash is the block's hash, SHA-256(Inner ‖ nonce).
func (h *Header) Hash() Hash { return BlockHash(h.Inner(), h.Nonce) }

// SealHash is the hash of the seal as a leaf of the tree: SHA-256(0x00 ‖ header), RFC 6962 section 2.1.
func (h *Header) SealHash() Hash {
	var buf [1 + HeaderSize]byte // buf[0] is RFC 6962's 0x00
	h.AppendTo(buf[:1])
	return sha256.Sum256(buf[:])
}
