package masternode

import (
	"context"

	"github.com/chainstore/chainstore/chain"
)

// treeProof is the inclusion path of a leaf in the tree of a size, up to which a boundary is needed that a storage node has. The error wraps
// ErrUnavailable where none could prove it.
func (n *Node) treeProof(ctx context.Context, index, size uint64) ([]chain.Hash, error) {
	return n.tree.inclusion(ctx, index, size)
}

// consistency is the proof that the tree of a size goes on from that of a smaller one; it is empty where from is 0 or to. Errors:
// ErrBadRequest for from beyond to, ErrUnavailable.
func (n *Node) consistency(ctx context.Context, from, to uint64) ([]chain.Hash, error) {
	return n.tree.consistency(ctx, from, to)
}
