package chain

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Head is the end of a chain: enough to decide whether a block extends it. The zero Head is that of an empty chain.
type Head struct {
	Height uint64 // number of blocks
	Hash   Hash   // of the last block, zero for an empty chain
	Time   uint64 // of the last block, unix milliseconds
	Tree   Tree   // all leaves, the last seal included
}

// Verifier takes blocks one by one and decides whether each extends the chain. No other code decides this. Take takes a
// whole block. TakeLeaves and TakeSeal take its leaves and its seal if its records are not available. TakeHashes takes
// the hashes of leaves that are not available either. A Verifier belongs to one goroutine.
type Verifier struct {
	head   Head
	leaves []Hash // of the last block taken, its seal last; reused
	// subtrees were completed by the last block taken: see Subtrees; reused.
	subtrees []Hash
	// open is the block whose leaves TakeLeaves gets.
	open struct {
		tree       Tree // head.Tree with its leaves so far
		newest     uint64
		disordered bool
	}
}

// NewVerifier starts at a head that the caller trusts; the zero Head starts at block 0.
func NewVerifier(head Head) *Verifier {
	v := &Verifier{}
	v.move(head)
	return v
}

// move sets the verifier's head, with no open leaves.
func (v *Verifier) move(head Head) {
	v.head = head
	v.open.tree, v.open.newest, v.open.disordered = head.Tree, head.Time, false
}

// Head is the chain's head after the last block that was taken.
func (v *Verifier) Head() Head { return v.head }

// Take checks number, link, first leaf index, count, time, root and proof of work, hashing every payload again, and
// moves the head if all are right. Otherwise it returns a [*BlockError] and the head stays. On success it returns the
// hashes of the leaves that the block adds to the tree, the seal's last; the slice is valid until the next call.
func (v *Verifier) Take(b *Block) ([]Hash, error) {
	if err := v.checkLink(&b.Header); err != nil {
		return nil, err
	}
	v.leaves = b.Leaves(v.leaves[:0])
	leaves, err := v.TakeHashed(b, v.leaves)
	if err == nil {
		v.leaves = leaves
	}
	return leaves, err
}

// TakeHashed is Take for a block whose [Block.Leaves] are already known. It returns them with the seal's hash appended,
// in the same memory if that has room.
func (v *Verifier) TakeHashed(b *Block, leaves []Hash) ([]Hash, error) {
	if err := v.checkLink(&b.Header); err != nil {
		return nil, err
	}
	if uint64(len(leaves)) != uint64(b.Header.Count) {
		return nil, v.refuse("%w: %d leaf hashes for %d records", ErrCount, len(leaves), b.Header.Count)
	}
	v.subtrees = v.subtrees[:0]
	seal, err := v.seal(&b.Header, v.head.Tree.grow(leaves, &v.subtrees), b.ordered(v.head.Time))
	if err != nil {
		return nil, err
	}
	return append(leaves, seal), nil
}

// TakeLeaves takes the next leaves of the block after the head, all or some of them. Any number of calls may precede
// TakeSeal. Only the tree's compact range is kept, so memory does not grow with the leaves.
func (v *Verifier) TakeLeaves(leaves ...Leaf) {
	v.leaves, v.subtrees = v.leaves[:0], v.subtrees[:0]
	for i := range leaves {
		v.open.disordered = v.open.disordered || leaves[i].Time < v.open.newest
		v.open.newest = leaves[i].Time
		v.leaves = append(v.leaves, leaves[i].Hash())
	}
	v.open.tree = v.open.tree.Append(v.leaves...)
}

// TakeHashes is TakeLeaves for leaves of which only the hashes are known. The order of their times is not checked.
func (v *Verifier) TakeHashes(leaves ...Hash) {
	v.subtrees = v.subtrees[:0]
	v.open.tree = v.open.tree.Append(leaves...)
}

// TakeSeal ends the block whose leaves TakeLeaves has taken, or TakeHashes. It checks what Take checks, except that the
// records match their leaves. If all is right the head moves. Otherwise it returns a [*BlockError] and the head stays.
func (v *Verifier) TakeSeal(h Header) error {
	if err := v.checkLink(&h); err != nil {
		return err
	}
	if have := v.open.tree.Size() - v.head.Tree.Size(); have != uint64(h.Count) {
		return v.refuse("%w: %d leaves before the seal of a block of %d records", ErrCount, have, h.Count)
	}
	_, err := v.seal(&h, v.open.tree, !v.open.disordered && v.open.newest <= h.Time)
	return err
}

// Open is the head's tree with the leaves that TakeLeaves has taken since the last seal.
func (v *Verifier) Open() Tree { return v.open.tree }

// seal ends a block whose header follows from the head: tree is the head's with the block's records, ordered says
// whether their times are in order. It moves the head and returns the seal's hash as a leaf.
func (v *Verifier) seal(h *Header, tree Tree, ordered bool) (Hash, error) {
	if tree.Root() != h.Root {
		return Hash{}, v.refuse("%w", ErrRoot)
	}
	if !ordered {
		return Hash{}, v.refuse("%w within the block", ErrTime)
	}
	hash := h.Hash()
	if !Mined(hash, h.Difficulty) {
		return Hash{}, v.refuse("%w: %v has %d leading zero bits, %d are due",
			ErrWork, hash, LeadingZeros(hash), h.Difficulty)
	}
	seal := h.SealHash()
	v.move(Head{Height: v.head.Height + 1, Hash: hash, Time: h.Time, Tree: tree.grow([]Hash{seal}, &v.subtrees)})
	return seal, nil
}

// Subtrees returns the roots of the subtrees of 1<<[SubtreeLevel] leaves that the last block of Take or TakeHashed has
// completed, in order. Code that stores hashes of the tree need not compute them again. The slice is valid until the
// next block.
func (v *Verifier) Subtrees() []Hash { return v.subtrees }

// Follows returns nil if a header follows from the head, as far as its leaves and its nonce do not matter. Otherwise it
// returns a [*BlockError].
func (v *Verifier) Follows(h *Header) error { return v.checkLink(h) }

// checkLink compares a header with the head: everything that does not depend on the records and the nonce.
func (v *Verifier) checkLink(h *Header) error {
	switch {
	case h.Version != Version:
		return v.refuse("%w: version %d", ErrVersion, h.Version)
	case h.Block != v.head.Height:
		return v.refuse("%w: %d where %d is due", ErrNumber, h.Block, v.head.Height)
	case h.Prev != v.head.Hash:
		return v.refuse("%w: prev is %v, the block before is %v", ErrLink, h.Prev, v.head.Hash)
	case h.First != v.head.Tree.Size():
		return v.refuse("%w: %d where %d is due", ErrFirst, h.First, v.head.Tree.Size())
	case h.Count == 0:
		return v.refuse("%w: no record", ErrCount)
	case h.Time < v.head.Time:
		return v.refuse("%w: %d after %d", ErrTime, h.Time, v.head.Time)
	}
	return nil
}

// refuse makes the error of a block that does not extend the chain.
func (v *Verifier) refuse(format string, args ...any) error {
	return &BlockError{Block: v.head.Height, Err: fmt.Errorf(format, args...)}
}

// AppendTo adds the head to dst (big endian): height u64 ‖ hash[32] ‖ time u64 ‖ size u64 ‖ nodes, 32 bytes for each
// set bit of size.
func (h *Head) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, h.Height)
	dst = append(dst, h.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, h.Time)
	dst = binary.BigEndian.AppendUint64(dst, h.Tree.size)
	dst, _ = binary.Append(dst, binary.BigEndian, h.Tree.nodes)
	return dst
}

// ParseHead reads a head that fills data exactly. The error wraps [ErrFrame] or [ErrTree].
func ParseHead(data []byte) (Head, error) {
	const fixed = 8 + HashSize + 8 + 8
	if len(data) < fixed || (len(data)-fixed)%HashSize != 0 {
		return Head{}, fmt.Errorf("%w: %d bytes are no head", ErrFrame, len(data))
	}
	var nodes []Hash
	for node := range slices.Chunk(data[fixed:], HashSize) {
		nodes = append(nodes, Hash(node))
	}
	tree, err := NewTree(binary.BigEndian.Uint64(data[48:]), nodes)
	if err != nil {
		return Head{}, err
	}
	return Head{
		Height: binary.BigEndian.Uint64(data),
		Hash:   Hash(data[8:40]),
		Time:   binary.BigEndian.Uint64(data[40:]),
		Tree:   tree,
	}, nil
}
