package chain

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"slices"
)

// Tree is the compact range of an RFC 6962 tree: enough to add leaves and to compute the root, 32 bytes for each set
// bit of its size. The zero value is the empty tree. A Tree is a value: Append never changes a copy that was made
// before.
type Tree struct {
	size  uint64
	nodes []Hash // roots of the full subtrees, largest first; never written in place once shared
}

// NewTree returns a tree of a size and the roots of its full subtrees, largest first. The error wraps [ErrTree] if
// their number does not match the size.
func NewTree(size uint64, nodes []Hash) (Tree, error) {
	if len(nodes) != bits.OnesCount64(size) {
		return Tree{}, fmt.Errorf("%w: a tree of %d leaves has %d full subtrees, not %d",
			ErrTree, size, bits.OnesCount64(size), len(nodes))
	}
	return Tree{size: size, nodes: slices.Clone(nodes)}, nil
}

// Size is the number of leaves.
func (t Tree) Size() uint64 { return t.size }

// Nodes returns a copy of the roots of the full subtrees, largest first.
func (t Tree) Nodes() []Hash { return slices.Clone(t.nodes) }

// Append returns the tree with more leaf hashes appended. t itself does not change.
func (t Tree) Append(leaves ...Hash) Tree { return t.grow(leaves, nil) }

// SubtreeLevel is the level of the subtrees whose roots [Verifier.Subtrees] returns: 16 leaves each.
const SubtreeLevel = 4

// grow is Append. If subtrees is not nil, it gets the roots of the subtrees of 1<<SubtreeLevel leaves that are complete
// now.
func (t Tree) grow(leaves []Hash, subtrees *[]Hash) Tree {
	nodes := make([]Hash, len(t.nodes), len(t.nodes)+bits.Len(uint(len(leaves)))+1)
	copy(nodes, t.nodes)
	size := t.size
	for _, leaf := range leaves {
		// Each trailing one bit of the size is a full subtree that the new leaf completes one level up.
		for ones, level := size, 1; ones&1 == 1; ones, level = ones>>1, level+1 {
			leaf = NodeHash(nodes[len(nodes)-1], leaf)
			nodes = nodes[:len(nodes)-1]
			if level == SubtreeLevel && subtrees != nil {
				*subtrees = append(*subtrees, leaf)
			}
		}
		nodes = append(nodes, leaf)
		size++
	}
	return Tree{size: size, nodes: nodes}
}

// Root is the tree's root hash, RFC 6962 section 2.1; that of the empty tree is SHA-256 of nothing.
func (t Tree) Root() Hash {
	if t.size == 0 {
		return emptyRoot
	}
	root := t.nodes[len(t.nodes)-1]
	for i := len(t.nodes) - 2; i >= 0; i-- {
		root = NodeHash(t.nodes[i], root)
	}
	return root
}

var emptyRoot = Hash(sha256.Sum256(nil))
