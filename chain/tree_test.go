package chain_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
)

// logStore keeps every node of a tree as tlog does. It is the reference implementation for Tree.
type logStore struct {
	nodes []tlog.Hash
	size  int64
}

func (s *logStore) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		hashes[i] = s.nodes[at]
	}
	return hashes, nil
}

func (s *logStore) add(t testing.TB, leaf chain.Hash) {
	t.Helper()
	hashes, err := tlog.StoredHashesForRecordHash(s.size, tlog.Hash(leaf), s)
	if err != nil {
		t.Fatal(err)
	}
	s.nodes = append(s.nodes, hashes...)
	s.size++
}

func (s *logStore) root(t testing.TB, size int) chain.Hash {
	t.Helper()
	root, err := tlog.TreeHash(int64(size), s)
	if err != nil {
		t.Fatal(err)
	}
	return chain.Hash(root)
}

func leafHash(n int) chain.Hash {
	var h chain.Hash
	binary.BigEndian.PutUint64(h[:], uint64(n)*0x9e3779b97f4a7c15)
	return chain.Leaf{Commit: h}.Hash()
}

func leafHashes(n int) []chain.Hash {
	leaves := make([]chain.Hash, n)
	for i := range leaves {
		leaves[i] = leafHash(i)
	}
	return leaves
}

func TestTreeRootIsThatOfTlog(t *testing.T) {
	const most = 300
	leaves := leafHashes(most)
	store := &logStore{}
	var grown chain.Tree
	for size := 0; size <= most; size++ {
		want := store.root(t, size)
		if size == 0 {
			want = chain.Tree{}.Root() // tlog differs from RFC 6962 and the vectors here
		}
		if at := (chain.Tree{}).Append(leaves[:size]...); at.Root() != want || at.Size() != uint64(size) {
			t.Fatalf("%d leaves at once: root %v, want %v", size, at.Root(), want)
		}
		if grown.Root() != want || grown.Size() != uint64(size) {
			t.Fatalf("%d leaves one by one: root %v, want %v", size, grown.Root(), want)
		}
		if size < most {
			grown = grown.Append(leaves[size])
			store.add(t, leaves[size])
		}
	}
}

func TestTreeRootOfRandomSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	leaves := leafHashes(5000)
	store := &logStore{}
	for _, leaf := range leaves {
		store.add(t, leaf)
	}
	for range 20 {
		var tree chain.Tree
		for at := 0; at < len(leaves); {
			step := min(rng.IntN(700), len(leaves)-at)
			tree = tree.Append(leaves[at : at+step]...)
			at += step
			if at > 0 && tree.Root() != store.root(t, at) {
				t.Fatalf("size %d: wrong root", at)
			}
		}
	}
}

// TestTreeAppendNeverChangesACopy checks that a tree is a value: appending to it or to its copies does not change any
// earlier value.
func TestTreeAppendNeverChangesACopy(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	leaves := leafHashes(400)
	type kept struct {
		tree  chain.Tree
		root  chain.Hash
		nodes []chain.Hash
	}
	trees := []kept{{root: chain.Tree{}.Root()}}
	for range 3000 {
		from := trees[rng.IntN(len(trees))].tree
		// Append other leaves than to the sibling: an append into shared memory would be detected.
		at := rng.IntN(len(leaves) - 40)
		grown := from.Append(leaves[at : at+rng.IntN(40)]...)
		if grown.Size() > 1<<16 {
			continue
		}
		trees = append(trees, kept{grown, grown.Root(), grown.Nodes()})
	}
	for i, k := range trees {
		if k.tree.Root() != k.root || !slices.Equal(k.tree.Nodes(), k.nodes) {
			t.Fatalf("tree %d of %d leaves changed", i, k.tree.Size())
		}
	}
	nodes := trees[len(trees)-1].tree.Nodes()
	if len(nodes) > 0 {
		nodes[0] = chain.Hash{}
	}
	if k := trees[len(trees)-1]; k.tree.Root() != k.root {
		t.Error("Nodes gave out the tree's own memory")
	}
}

func TestNewTree(t *testing.T) {
	whole := (chain.Tree{}).Append(leafHashes(300)...)
	for size := range 100 {
		tree := (chain.Tree{}).Append(leafHashes(size)...)
		nodes := tree.Nodes()
		back, err := chain.NewTree(uint64(size), nodes)
		if err != nil || back.Root() != tree.Root() {
			t.Fatalf("size %d: %v", size, err)
		}
		clear(nodes) // the tree must have its own copy
		if got := back.Append(leafHashes(300)[size:]...); got.Root() != whole.Root() {
			t.Fatalf("grown from %d leaves: wrong root", size)
		}
		for _, bad := range [][]chain.Hash{append(tree.Nodes(), chain.Hash{}),
			tree.Nodes()[:max(0, len(tree.Nodes())-1)]} {
			if len(bad) == len(tree.Nodes()) {
				continue
			}
			if _, err := chain.NewTree(uint64(size), bad); !errors.Is(err, chain.ErrTree) {
				t.Errorf("size %d with %d nodes: %v", size, len(bad), err)
			}
		}
	}
}
