package chain

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof is an inclusion proof, RFC 6962 section 2.1.1: the sibling hashes on the path from a leaf to the root, the
// lowest first.
type Proof struct {
	Index uint64 // of the leaf
	Size  uint64 // of the tree
	Path  []Hash
}

// Check returns nil if the proof shows that leaf is at its index in the tree of that root, and otherwise an error that
// wraps [ErrProof].
func (p *Proof) Check(leaf, root Hash) error {
	if p.Index >= p.Size || p.Size > maxTreeSize {
		return fmt.Errorf("%w: leaf %d of a tree of %d", ErrProof, p.Index, p.Size)
	}
	path := make(tlog.RecordProof, len(p.Path))
	for i, h := range p.Path {
		path[i] = tlog.Hash(h)
	}
	if err := tlog.CheckRecord(path, int64(p.Size), tlog.Hash(root), int64(p.Index), tlog.Hash(leaf)); err != nil {
		return fmt.Errorf("%w: leaf %d is not shown in the tree of %d", ErrProof, p.Index, p.Size)
	}
	return nil
}

// Before returns the tree of the leaves before the proven one. The left siblings on its path are the roots of the full
// subtrees of exactly these leaves (RFC 9162 section 2.1.3.2 says which siblings are on the left). So a valid proof
// also shows the tree before its leaf, without another hash. Call it for a proof that [Proof.Check] has accepted. The
// error wraps [ErrTree] if the path lacks the siblings that the index requires.
func (p *Proof) Before() (Tree, error) {
	var left []Hash
	at, last := p.Index, p.Size-1
	for _, sibling := range p.Path {
		if at&1 == 1 || at == last {
			left = append(left, sibling)
			for at&1 == 0 && at != 0 {
				at, last = at>>1, last>>1
			}
		}
		at, last = at>>1, last>>1
	}
	slices.Reverse(left)
	return NewTree(p.Index, left)
}

// maxTreeSize is the largest tree for which tlog's arithmetic with signed sizes does not overflow.
const maxTreeSize = 1 << 62
