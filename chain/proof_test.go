package chain_test

import (
	"errors"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
)

func prove(t testing.TB, store *logStore, size, index int) chain.Proof {
	t.Helper()
	path, err := tlog.ProveRecord(int64(size), int64(index), store)
	if err != nil {
		t.Fatal(err)
	}
	p := chain.Proof{Index: uint64(index), Size: uint64(size)}
	for _, h := range path {
		p.Path = append(p.Path, chain.Hash(h))
	}
	return p
}

func TestProofsOfTlogHold(t *testing.T) {
	const most = 70
	leaves := leafHashes(most)
	store := &logStore{}
	for _, leaf := range leaves {
		store.add(t, leaf)
	}
	for size := 1; size <= most; size++ {
		root := store.root(t, size)
		for index := range size {
			p := prove(t, store, size, index)
			if err := p.Check(leaves[index], root); err != nil {
				t.Fatalf("leaf %d of %d: %v", index, size, err)
			}
			if before, err := p.Before(); err != nil ||
				before.Root() != (chain.Tree{}).Append(leaves[:index]...).Root() || before.Size() != uint64(index) {
				t.Fatalf("leaf %d of %d: before it %v, %v", index, size, before, err)
			}
			if err := p.Check(leafHash(1000), root); !errors.Is(err, chain.ErrProof) {
				t.Fatalf("leaf %d of %d: a foreign leaf passes: %v", index, size, err)
			}
		}
	}
}

func TestProofsThatDoNotHold(t *testing.T) {
	const size = 45
	leaves := leafHashes(size)
	store := &logStore{}
	for _, leaf := range leaves {
		store.add(t, leaf)
	}
	root := store.root(t, size)
	for index := range size {
		check := func(what string, change func(*chain.Proof), leaf, root chain.Hash) {
			t.Helper()
			p := prove(t, store, size, index)
			change(&p)
			if err := p.Check(leaf, root); !errors.Is(err, chain.ErrProof) {
				t.Errorf("leaf %d: %s: %v", index, what, err)
			}
		}
		leaf := leaves[index]
		check("another root", func(*chain.Proof) {}, leaf, store.root(t, size-1))
		check("no path", func(p *chain.Proof) { p.Path = nil }, leaf, root)
		check("path cut", func(p *chain.Proof) { p.Path = p.Path[:len(p.Path)-1] }, leaf, root)
		check("path longer", func(p *chain.Proof) { p.Path = append(p.Path, chain.Hash{}) }, leaf, root)
		check("beyond the tree", func(p *chain.Proof) { p.Index = size }, leaf, root)
		check("empty tree", func(p *chain.Proof) { p.Index, p.Size = 0, 0 }, leaf, root)
		check("huge", func(p *chain.Proof) { p.Index, p.Size = 1<<63, 1<<64-1 }, leaf, root)
		check("largest", func(p *chain.Proof) { p.Size = 1 << 62 }, leaf, root)
		check("over the largest", func(p *chain.Proof) { p.Size = 1<<62 + 1 }, leaf, root)
		for other := range size {
			if other != index {
				check("another index", func(p *chain.Proof) { p.Index = uint64(other) }, leaf, root)
			}
		}
		for i := range prove(t, store, size, index).Path {
			check("path changed", func(p *chain.Proof) { p.Path[i][7] ^= 1 }, leaf, root)
		}
	}
}

// TestProofBeforeOfABadPath checks that Before rejects a path whose length does not match its leaf and tree size.
func TestProofBeforeOfABadPath(t *testing.T) {
	for _, p := range []chain.Proof{
		{Index: 5, Size: 9}, {Index: 5, Size: 0}, {Index: 0, Size: 1, Path: make([]chain.Hash, 70)},
		{Index: 1<<64 - 1, Path: make([]chain.Hash, 63)},
	} {
		if _, err := p.Before(); !errors.Is(err, chain.ErrTree) {
			t.Errorf("leaf %d of %d: %v", p.Index, p.Size, err)
		}
	}
}
