package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// LeafSize is the size of a record's leaf in bytes. With RFC 6962's 0x00 in front it is 50 bytes: one SHA-256 block.
const LeafSize = 1 + 4 + 8 + 4 + HashSize

// Kinds of leaf: the first byte of every leaf distinguishes a record's leaf from a seal.
const (
	leafRecord = 0x01
	leafSeal   = 0x02
)

// Leaf is what the tree keeps of a record. It holds no payload, so leaves may be public while payloads are not.
type Leaf struct {
	Project uint32
	Time    uint64 // unix milliseconds
	Size    uint32 // of the payload, in bytes
	Commit  Hash
}

// AppendTo adds the 49 bytes of the leaf to dst (big endian): 0x01 ‖ project u32 ‖ time u64 ‖ size u32 ‖ commit[32].
func (l Leaf) AppendTo(dst []byte) []byte {
	dst = append(dst, leafRecord)
	dst = binary.BigEndian.AppendUint32(dst, l.Project)
	dst = binary.BigEndian.AppendUint64(dst, l.Time)
	dst = binary.BigEndian.AppendUint32(dst, l.Size)
	return append(dst, l.Commit[:]...)
}

// Hash is the leaf's hash in the tree: SHA-256(0x00 ‖ leaf), RFC 6962 section 2.1.
func (l Leaf) Hash() Hash {
	var buf [1 + LeafSize]byte // buf[0] is RFC 6962's 0x00
	l.AppendTo(buf[:1])
	return sha256.Sum256(buf[:])
}

// ParseLeaf reads the 49 bytes of a record's leaf. The error wraps [ErrFrame].
func ParseLeaf(data []byte) (Leaf, error) {
	if len(data) != LeafSize || data[0] != leafRecord {
		return Leaf{}, fmt.Errorf("%w: not a record's leaf (%d bytes)", ErrFrame, len(data))
	}
	return Leaf{
		Project: binary.BigEndian.Uint32(data[1:]),
		Time:    binary.BigEndian.Uint64(data[5:]),
		Size:    binary.BigEndian.Uint32(data[13:]),
		Commit:  Hash(data[17:]),
	}, nil
}
