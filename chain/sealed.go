package chain

import (
	"errors"
	"fmt"
)

// Errors of the parts of a [SealedProof]. All wrap [ErrProof].
var (
	// ErrSealPath: the block's header is not shown to be in the tree.
	ErrSealPath = fmt.Errorf("%w: the block's seal in the tree", ErrProof)
	// ErrPrefix: the header is in the tree, but its root is that of another tree.
	ErrPrefix = fmt.Errorf("%w: the header's root is not that of the tree before its seal", ErrProof)
	// ErrRecordPath: the record's leaf is not shown to be in the block.
	ErrRecordPath = fmt.Errorf("%w: the record in its block", ErrProof)
)

// SealedProof shows by its block that a record is in a tree:
//
//	leaf ─RecordPath─► Header.Root ─► Header ─► its seal ─SealPath─► root
//
// The first arrow alone would prove nothing about the tree: a miner may name any root in a header, also that of a tree
// with other leaves. So the header's root is compared with the tree before the seal, which SealPath shows. See
// [Proof.Before].
type SealedProof struct {
	Header     Header
	RecordPath []Hash // of the record's leaf in the tree of Header.Seal() leaves
	Size       uint64 // of the tree
	SealPath   []Hash // of the header, as a leaf, in the tree of Size leaves
}

// Check returns nil if a leaf is at an index, in this block, in the tree of that root, and otherwise an error that
// wraps [ErrProof]. It does not check the proof of work.
func (p *SealedProof) Check(index uint64, leaf, root Hash) error {
	return errors.Join(p.CheckSeal(root), p.CheckRecord(index, leaf))
}

// CheckSeal is the half of Check for the block: its header is in the tree of that root, and the root in the header is
// that of the leaves before it. The error wraps [ErrSealPath] or [ErrPrefix].
func (p *SealedProof) CheckSeal(root Hash) error {
	h := &p.Header
	if h.Count == 0 || h.Seal() < h.First {
		return fmt.Errorf("%w: no block has %d records from leaf %d on", ErrSealPath, h.Count, h.First)
	}
	seal := Proof{Index: h.Seal(), Size: p.Size, Path: p.SealPath}
	if err := seal.Check(h.SealHash(), root); err != nil {
		return fmt.Errorf("%w: %w", ErrSealPath, err)
	}
	before, err := seal.Before()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSealPath, err)
	}
	if have := before.Root(); have != h.Root {
		return fmt.Errorf("%w: it names %v, and the first %d leaves have %v", ErrPrefix, h.Root, h.Seal(), have)
	}
	return nil
}

// CheckRecord is the other half: the leaf is at that index in the tree whose root the header names, and within the
// block. Alone it proves nothing about the larger tree. The error wraps [ErrRecordPath].
func (p *SealedProof) CheckRecord(index uint64, leaf Hash) error {
	h := &p.Header
	if index < h.First || index >= h.Seal() {
		return fmt.Errorf("%w: leaf %d is none of block %d", ErrRecordPath, index, h.Block)
	}
	path := Proof{Index: index, Size: h.Seal(), Path: p.RecordPath}
	if err := path.Check(leaf, h.Root); err != nil {
		return fmt.Errorf("%w: %w", ErrRecordPath, err)
	}
	return nil
}
