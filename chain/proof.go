package chain

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// Proof is an inclusion proof, RFC 6962 section 2.1.1: the hashes beside the way from a leaf up to the root, the lowest
// first.
type Proof struct {
	Index uint64 // of the leaf
	Size  uint64 // of the tree
	Path  []Hash
}

// Check reports whether the proof shows that leaf stands at its index in the tree of that root: nil, or an error that
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

// Before is the tree of the leaves before the one that the proof is of. The siblings on the left of its way up are the
// roots of the full subtrees of just these leaves (RFC 9162 section 2.1.3.2 says which ones are on the left), so a
// proof that holds shows the tree before its leaf too, without one hash more. It is for a proof that [Proof.Check] has
// found good. The error wraps [ErrTree] where the path has not the siblings that the index asks for.
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

// maxTreeSize is the largest tree that tlog's signed sizes can name with room for its own arithmetic.
const maxTreeSize = 1 << 62
