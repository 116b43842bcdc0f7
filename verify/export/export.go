// Package export defines the form of a whole chain in one file, for cold storage and for moving a chain to other
// machines. See docs/formats.md.
//
//	"CSEX" ‖ version u8 = 1 ‖ 0 0 0 ‖ part …
//	part = kind u8 ‖ length u32 ‖ bytes ‖ CRC-32C u32 of everything of the part before it
//
// The parts are one group, any number of keys, any number of signed checkpoints, the blocks from 0 on, and one end.
// Nothing follows the end, and a file without it is incomplete.
//
// The package reads and writes the form only. chain.Verifier decides whether the blocks are a chain, and package verify
// whether the checkpoints are those of its tree. A [Writer] writes only such chains.
package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
)

const (
	magic   = "CSEX"
	version = 1
)

// Kinds of parts.
const (
	kindGroup      = 1
	kindKey        = 2
	kindCheckpoint = 3
	kindBlock      = 4
	kindEnd        = 255
)

const (
	maxText = 64 << 10 // bytes of group, key and checkpoint
	endSize = 8 + 8 + 2*chain.HashSize
)

// limits bound the bytes of a part, by its kind.
var limits = map[byte]uint64{
	kindGroup: maxText, kindKey: maxText, kindCheckpoint: maxText, kindBlock: math.MaxUint32, kindEnd: endSize,
}

// maxTexts bounds the number of keys, and of checkpoints, in a file.
const maxTexts = 1000

// Errors in the form of a file.
var (
	// ErrFormat: it does not have the form of an export, or its end is missing.
	ErrFormat = errors.New("not a whole export")
	// ErrNewerFormat: a newer ChainStore wrote it. It wraps ErrFormat.
	ErrNewerFormat = fmt.Errorf("%w: written by a newer version of ChainStore", ErrFormat)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Group is the cluster of the chain, and the highest order that the exported node had seen. A group that is founded on
// the chain begins with a higher epoch.
type Group struct {
	ID          string // "" for a chain that was never part of a cluster
	Epoch, Term uint64
}

func (g Group) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, g.Epoch)
	dst = binary.BigEndian.AppendUint64(dst, g.Term)
	return append(dst, g.ID...)
}

func parseGroup(data []byte) (Group, error) {
	if len(data) < 16 || !utf8.Valid(data[16:]) {
		return Group{}, fmt.Errorf("%w: the part of the group is malformed", ErrFormat)
	}
	return Group{Epoch: binary.BigEndian.Uint64(data), Term: binary.BigEndian.Uint64(data[8:]), ID: string(data[16:])},
		nil
}

// End is the end of the chain in a file.
type End struct {
	Height uint64     // blocks
	Size   uint64     // of the tree
	Hash   chain.Hash // of the last block
	Root   chain.Hash // of the tree
}

// EndOf returns the end of a chain with a head.
func EndOf(head chain.Head) End {
	return End{Height: head.Height, Size: head.Tree.Size(), Hash: head.Hash, Root: head.Tree.Root()}
}

// appendTo appends the fields in their order, big endian.
func (e End) appendTo(dst []byte) []byte {
	dst, _ = binary.Append(dst, binary.BigEndian, e) // it fails only for types without a fixed size
	return dst
}

func parseEnd(data []byte) (e End, err error) {
	if len(data) != endSize {
		return End{}, fmt.Errorf("%w: its end has %d bytes, not %d", ErrFormat, len(data), endSize)
	}
	_, err = binary.Decode(data, binary.BigEndian, &e)
	return e, err
}
