// Package export is the form of a whole chain in one file: for cold storage, and for moving a chain to other machines.
// docs/formats.md draws it.
//
//	"CSEX" ‖ version u8 = 1 ‖ 0 0 0 ‖ part …
//	part = kind u8 ‖ length u32 ‖ bytes ‖ CRC-32C u32 of everything of the part before it
//
// The parts are one group, any number of keys, any number of signed checkpoints, the blocks from 0 on, and one end,
// behind which nothing stands: a file without its end is not taken for a whole one.
//
// The package holds the form alone. Whether the blocks are a chain is for chain.Verifier, whether the checkpoints are
// its tree's for package verify; a [Writer] writes no other.
package export

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
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

// Bounds of a part's bytes.
const (
	maxText  = 64 << 10 // of group, key and checkpoint
	maxBlock = 1<<32 - 1
	endSize  = 8 + 8 + 2*chain.HashSize
)

// maxTexts bounds how many keys, and how many checkpoints, a file may hold.
const maxTexts = 1000

// What can be wrong with a file.
var (
	// ErrFormat: it does not have the form of an export, or its end is missing.
	ErrFormat = errors.New("not a whole export")
	// ErrNewerFormat: a newer ChainStore wrote it. It wraps ErrFormat.
	ErrNewerFormat = fmt.Errorf("%w: written by a newer version of ChainStore", ErrFormat)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Group is the cluster that the chain is of, and the highest order that the node which it was exported from had seen: a
// group that is founded on the chain begins with a higher epoch.
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

// End is where the chain in a file ends.
type End struct {
	Height uint64     // blocks
	Size   uint64     // of the tree
	Hash   chain.Hash // of the last block
	Root   chain.Hash // of the tree
}

// EndOf is the end of a chain that stands at a head.
func EndOf(head chain.Head) End {
	return End{Height: head.Height, Size: head.Tree.Size(), Hash: head.Hash, Root: head.Tree.Root()}
}

func (e End) appendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, e.Height)
	dst = binary.BigEndian.AppendUint64(dst, e.Size)
	dst = append(dst, e.Hash[:]...)
	return append(dst, e.Root[:]...)
}

func parseEnd(data []byte) (End, error) {
	if len(data) != endSize {
		return End{}, fmt.Errorf("%w: its end has %d bytes, not %d", ErrFormat, len(data), endSize)
	}
	return End{
		Height: binary.BigEndian.Uint64(data), Size: binary.BigEndian.Uint64(data[8:]),
		Hash: chain.Hash(data[16:48]), Root: chain.Hash(data[48:80]),
	}, nil
}
