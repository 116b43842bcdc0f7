package chain_test

import (
	"errors"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// sealedProof proves a record of a block in the tree of all leaves in the store. It returns the record's leaf and the
// root of that tree.
func sealedProof(t *testing.T, blocks []chain.Block, block, offset int) (p chain.SealedProof, leaf, root chain.Hash) {
	t.Helper()
	store := &logStore{}
	for i := range blocks {
		for _, hash := range blocks[i].Leaves(nil) {
			store.add(t, hash)
		}
		store.add(t, blocks[i].Header.SealHash())
	}
	h := blocks[block].Header
	in := &logStore{nodes: store.nodes}
	p = chain.SealedProof{
		Header: h, RecordPath: prove(t, in, int(h.Seal()), int(h.First)+offset).Path,
		Size: uint64(store.size), SealPath: prove(t, in, int(store.size), int(h.Seal())).Path,
	}
	return p, blocks[block].Leaves(nil)[offset], store.root(t, int(store.size))
}

func TestSealedProof(t *testing.T) {
	blocks, _ := makeChain(t, 6, 20, 4)
	for block := range blocks {
		for offset := range blocks[block].Header.Count {
			p, leaf, root := sealedProof(t, blocks, block, int(offset))
			index := p.Header.First + uint64(offset)
			if err := p.Check(index, leaf, root); err != nil {
				t.Fatalf("record %d of block %d: %v", offset, block, err)
			}
			for _, c := range []struct {
				what   string
				change func(*chain.SealedProof)
				want   error
			}{
				{"another header", func(p *chain.SealedProof) { p.Header.Time++ }, chain.ErrSealPath},
				{"no record", func(p *chain.SealedProof) { p.Header.Count = 0 }, chain.ErrSealPath},
				{"past every index", func(p *chain.SealedProof) { p.Header.First = 1<<64 - 1 }, chain.ErrSealPath},
				{"a longer seal path",
					func(
						p *chain.SealedProof) {
						p.SealPath = append(p.SealPath[:len(p.SealPath):len(p.SealPath)], leaf)
					},
					chain.ErrSealPath},
				{"a longer record path", func(p *chain.SealedProof) {
					p.RecordPath = append(p.RecordPath[:len(p.RecordPath):len(p.RecordPath)], leaf)
				}, chain.ErrRecordPath},
			} {
				bad := p
				c.change(&bad)
				if err := bad.Check(index, leaf, root); !errors.Is(err, c.want) || !errors.Is(err, chain.ErrProof) {
					t.Errorf("record %d of block %d, %s: %v", offset, block, c.what, err)
				}
			}
			for what, err := range map[string]error{
				"another leaf":  p.Check(index, leafHash(1), root),
				"another index": p.Check(index+1, leaf, root),
				"another root":  p.Check(index, leaf, leaf),
				"other block":   p.Check(p.Header.First-1, leaf, root),
			} {
				if !errors.Is(err, chain.ErrProof) {
					t.Errorf("record %d of block %d, %s: %v", offset, block, what, err)
				}
			}
		}
	}
}

// TestSealedProofOfAnotherTree checks that a header in the tree that names the root of another tree proves nothing
// about the leaves of that other tree.
func TestSealedProofOfAnotherTree(t *testing.T) {
	blocks, head := makeChain(t, 3, 20, 4)
	shown, hidden := makeRecords(900, 1, head.Time, 20), makeRecords(901, 1, head.Time, 20)
	h := headerFor(head, head.Time, 4, hidden)
	mine(t, &h)
	bad := assemble(t, h, shown)
	p, _, root := sealedProof(t, append(blocks, bad), 3, 0)
	leaf := hidden[0].Leaf().Hash()
	if err := p.CheckRecord(h.First, leaf); err != nil {
		t.Fatalf("the path to the header's own root: %v", err)
	}
	if err := p.CheckSeal(root); !errors.Is(err, chain.ErrPrefix) {
		t.Errorf("the header: %v", err)
	}
	if err := p.Check(h.First, leaf, root); !errors.Is(err, chain.ErrPrefix) {
		t.Errorf("the record: %v", err)
	}
}
