package masterfsm

import (
	"bytes"
	"testing"
)

// TestSpans holds spans against Record and Locate, from every leaf on, while blocks are open, cut, mined and dropped.
func TestSpans(t *testing.T) {
	b := newTable(t, smallSettings())
	if spans := b.HeldBlocks(0); len(spans) != 0 || b.HeldLeaf() != 0 {
		t.Errorf("of an empty table: %+v, from %d", spans, b.HeldLeaf())
	}
	check := func() {
		t.Helper()
		held := b.HeldLeaf()
		for leaf := uint64(0); leaf < b.NextIndex()+3; leaf++ {
			// Every record from the leaf on that the masters hold is in the spans, in order.
			next := max(leaf, held)
			for _, s := range b.HeldBlocks(leaf) {
				one, ok := b.HeldBlock(s.Block)
				if !ok || one.First != s.First || one.Count() != s.Count() || (one.Header == nil) != (s.Header == nil) {
					t.Fatalf("block %d: %+v and %+v", s.Block, one, s)
				}
				if s.Stored != (s.Block < b.Stored()) || s.First < held {
					t.Fatalf("%+v, stored %d, held from %d", s, b.Stored(), held)
				}
				for offset := range s.Count() {
					found, at, encoded, header := b.Record(s.Block, offset)
					if found != FoundRecord || at.Index != s.First+uint64(offset) ||
						!bytes.Equal(encoded, s.Encoded(offset)) || (header == nil) != (s.Header == nil) {
						t.Fatalf("block %d, offset %d: %v, %+v", s.Block, offset, found, at)
					}
					if at.Index == next {
						next++
					}
				}
				if found, _ := b.Locate(next); found == FoundSeal {
					next++
				}
			}
			if next < b.NextIndex() {
				t.Fatalf("from leaf %d: leaf %d is in no span, of %d", leaf, next, b.NextIndex())
			}
		}
	}
	n0, n1 := b.node("s0", 0), b.node("s1", 0)
	for range 4 {
		b.fill(3)
		check()
		b.fill(7)
		check()
		b.mine()
		check()
	}
	b.ack(n0.ID, 3)
	check()
	b.ack(n1.ID, 3)
	check()
	if b.HeldLeaf() == 0 {
		t.Error("no block was dropped")
	}
	if _, ok := b.HeldBlock(0); ok {
		t.Error("block 0 is still there")
	}
	hash := b.Boundary().Hash
	if block, ok := b.BlockOfHash(hash); !ok || block != b.Head().Height-1 {
		t.Errorf("block %d, %v", block, ok)
	}
	if _, ok := b.BlockOfHash([32]byte{1}); ok {
		t.Error("a hash of nothing was found")
	}
}
