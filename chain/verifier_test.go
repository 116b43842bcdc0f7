package chain_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// TestVerifierRefuses has a row for each way in which a block can be invalid while everything else about it is valid.
func TestVerifierRefuses(t *testing.T) {
	_, head := makeChain(t, 3, 50, workBits)
	const now = startTime + 10_000
	good := func() ([]chain.Record, chain.Header) {
		records := makeRecords(1000, 4, now, 60)
		return records, headerFor(head, now+5, workBits, records)
	}
	// header changes the header before it is mined, so that the work is valid.
	header := func(change func(*chain.Header)) func(*testing.T) chain.Block {
		return func(t *testing.T) chain.Block {
			records, h := good()
			change(&h)
			mine(t, &h)
			return assemble(t, h, records)
		}
	}
	// record changes one record, and keeps the mined header.
	record := func(change func(*chain.Record)) func(*testing.T) chain.Block {
		return func(t *testing.T) chain.Block {
			records, h := good()
			mine(t, &h)
			change(&records[1])
			return assemble(t, h, records)
		}
	}
	// times changes the times of the records, and computes root and work again.
	times := func(times ...uint64) func(*testing.T) chain.Block {
		return func(t *testing.T) chain.Block {
			records := makeRecords(1000, len(times), 0, 60)
			for i := range times {
				records[i].Time = times[i]
			}
			return makeBlock(t, head, now+5, workBits, records)
		}
	}
	for _, c := range []struct {
		name string
		make func(*testing.T) chain.Block
		want error
	}{
		{"number too high", header(func(h *chain.Header) { h.Block++ }), chain.ErrNumber},
		{"number too low", header(func(h *chain.Header) { h.Block-- }), chain.ErrNumber},
		{"link", header(func(h *chain.Header) { h.Prev[0] ^= 1 }), chain.ErrLink},
		{"no link", header(func(h *chain.Header) { h.Prev = chain.Hash{} }), chain.ErrLink},
		{"first too high", header(func(h *chain.Header) { h.First++ }), chain.ErrFirst},
		{"first too low", header(func(h *chain.Header) { h.First-- }), chain.ErrFirst},
		{"older than the block before", header(func(h *chain.Header) { h.Time = head.Time - 1 }), chain.ErrTime},
		{"root", header(func(h *chain.Header) { h.Root[31] ^= 1 }), chain.ErrRoot},
		{"version", header(func(h *chain.Header) { h.Version++ }), chain.ErrVersion},
		{"version 0", header(func(h *chain.Header) { h.Version = 0 }), chain.ErrFrame},

		{"payload", record(func(r *chain.Record) { r.Payload[59] ^= 1 }), chain.ErrRoot},
		{"salt", record(func(r *chain.Record) { r.Salt[0] ^= 1 }), chain.ErrRoot},
		{"key", record(func(r *chain.Record) { r.Key = "other" }), chain.ErrRoot},
		{"type", record(func(r *chain.Record) { r.Type = "other" }), chain.ErrRoot},
		{"time", record(func(r *chain.Record) { r.Time++ }), chain.ErrRoot},
		{"project", record(func(r *chain.Record) { r.Project++ }), chain.ErrRoot},
		{"payload cut", record(func(r *chain.Record) { r.Payload = r.Payload[:59] }), chain.ErrRoot},

		{"times out of order", times(now, now+2, now+1), chain.ErrTime},
		{"record later than the block", times(now, now+6), chain.ErrTime},
		{"record earlier than the block before", times(head.Time-1, now), chain.ErrTime},

		{"records swapped", func(t *testing.T) chain.Block {
			records, h := good()
			mine(t, &h)
			records[0], records[1] = records[1], records[0]
			return assemble(t, h, records)
		}, chain.ErrRoot},
		{"record left out", func(t *testing.T) chain.Block {
			records, h := good()
			h.Count--
			mine(t, &h)
			return assemble(t, h, records[:3])
		}, chain.ErrRoot},
		{"no record", func(t *testing.T) chain.Block {
			h := headerFor(head, now, workBits, nil)
			mine(t, &h)
			b, err := chain.ParseBlock(h.AppendTo(nil))
			if err != nil {
				t.Fatal(err)
			}
			return b
		}, chain.ErrCount},
		{"no work", func(t *testing.T) chain.Block {
			records, h := good()
			h.Difficulty = 20
			for chain.Mined(h.Hash(), h.Difficulty) {
				h.Nonce++
			}
			return assemble(t, h, records)
		}, chain.ErrWork},
		{"zero block", func(*testing.T) chain.Block { return chain.Block{} }, chain.ErrFrame},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := c.make(t)
			v := chain.NewVerifier(head)
			_, err := v.Take(&b)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			var bad *chain.BlockError
			if !errors.As(err, &bad) || bad.Block != head.Height {
				t.Errorf("%v does not name block %d", err, head.Height)
			}
			if !reflect.DeepEqual(v.Head(), head) {
				t.Error("the head moved")
			}
			// Its leaves and its seal give the same result.
			apart := chain.NewVerifier(head)
			if err := takeApart(t, apart, &b); !errors.Is(err, c.want) || !errors.As(err, &bad) ||
				bad.Block != head.Height {
				t.Errorf("by its leaves: got %v, want %v", err, c.want)
			}
			if !reflect.DeepEqual(apart.Head(), head) {
				t.Error("the head moved by leaves")
			}
			// The verifier continues: it still accepts the valid block.
			records, h := good()
			mine(t, &h)
			fine := assemble(t, h, records)
			if _, err := v.Take(&fine); err != nil {
				t.Errorf("the good block after it: %v", err)
			}
		})
	}
}

// takeApart passes a block to a verifier as leaves, a few at a time, and a seal.
func takeApart(t *testing.T, v *chain.Verifier, b *chain.Block) error {
	t.Helper()
	var leaves []chain.Leaf
	for i := range b.Header.Count {
		r, err := b.Record(i)
		if err != nil {
			t.Fatal(err)
		}
		if leaves = append(leaves, r.Leaf()); len(leaves) > 2 {
			v.TakeLeaves(leaves...)
			leaves = leaves[:0]
		}
	}
	v.TakeLeaves(leaves...)
	return v.TakeSeal(b.Header)
}

// TestVerifierTakesLeaves checks that a chain that is passed as leaves and seals has the same head as its blocks, and
// that both forms may be mixed.
func TestVerifierTakesLeaves(t *testing.T) {
	blocks, head := makeChain(t, 9, 20, workBits)
	for turns := range 3 {
		v := chain.NewVerifier(chain.Head{})
		for i := range blocks {
			if turns > 0 && i%(turns+1) == 0 {
				if _, err := v.Take(&blocks[i]); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := takeApart(t, v, &blocks[i]); err != nil {
				t.Fatal(err)
			}
			if v.Open().Root() != v.Head().Tree.Root() {
				t.Errorf("block %d leaves something open", i)
			}
		}
		if !reflect.DeepEqual(v.Head(), head) {
			t.Errorf("the head is %+v, not %+v", v.Head(), head)
		}
	}
	// One leaf too many, and one too few.
	v := chain.NewVerifier(chain.Head{})
	v.TakeLeaves(chain.Leaf{}, chain.Leaf{})
	if err := v.TakeSeal(blocks[0].Header); !errors.Is(err, chain.ErrCount) || v.Open().Size() != 2 {
		t.Errorf("a leaf too many: %v", err)
	}
	if err := chain.NewVerifier(chain.Head{}).TakeSeal(blocks[0].Header); !errors.Is(err, chain.ErrCount) {
		t.Errorf("a leaf too few: %v", err)
	}
}

func TestVerifierTakesTimesThatStandStill(t *testing.T) {
	_, head := makeChain(t, 2, 50, workBits)
	b := makeBlock(t, head, head.Time, workBits, makeRecords(7, 3, head.Time, 10))
	if _, err := chain.NewVerifier(head).Take(&b); err != nil {
		t.Error(err)
	}
}

func TestVerifierGivesTheLeavesOfTheTree(t *testing.T) {
	blocks, head := makeChain(t, 12, 20, workBits)
	v := chain.NewVerifier(chain.Head{})
	store := &logStore{}
	for i := range blocks {
		leaves, err := v.Take(&blocks[i])
		if err != nil {
			t.Fatal(err)
		}
		if uint64(store.size) != blocks[i].Header.First {
			t.Errorf("block %d starts at %d, not %d", i, blocks[i].Header.First, store.size)
		}
		for _, leaf := range leaves[:len(leaves)-1] {
			store.add(t, leaf)
		}
		if store.root(t, int(store.size)) != blocks[i].Header.Root {
			t.Errorf("block %d: root before the seal", i)
		}
		store.add(t, leaves[len(leaves)-1])
		if store.root(t, int(store.size)) != v.Head().Tree.Root() {
			t.Errorf("block %d: root with the seal", i)
		}
	}
	if !reflect.DeepEqual(v.Head(), head) {
		t.Error("another head")
	}
	// Every record and every seal is proven in the final tree.
	root := head.Tree.Root()
	for i := range blocks {
		h := &blocks[i].Header
		for offset := range h.Count {
			r, err := blocks[i].Record(offset)
			if err != nil {
				t.Fatal(err)
			}
			p := prove(t, store, int(store.size), int(h.First)+int(offset))
			if err := p.Check(r.Leaf().Hash(), root); err != nil {
				t.Error(err)
			}
		}
		p := prove(t, store, int(store.size), int(h.Seal()))
		if err := p.Check(h.SealHash(), root); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryBitFlipIsFound checks that the parser or the verifier detects every single bit flip in an encoded chain. In
// the header of the last block, to which no later block links, the hash of the trusted head detects it.
func TestEveryBitFlipIsFound(t *testing.T) {
	blocks, head := makeChain(t, 3, 24, 12)
	for k := range blocks {
		data := blocks[k].Bytes()
		start := chain.Head{}
		v := chain.NewVerifier(start)
		for i := range k {
			if _, err := v.Take(&blocks[i]); err != nil {
				t.Fatal(err)
			}
		}
		start = v.Head()
		for bit := range 8 * len(data) {
			flipped := bytes.Clone(data)
			flipped[bit/8] ^= 1 << (bit % 8)
			if !flipIsFound(t, start, head, flipped, blocks[k+1:]) {
				t.Errorf("block %d, byte %d, bit %d: not found", k, bit/8, bit%8)
			}
		}
	}
}

func flipIsFound(t *testing.T, start, head chain.Head, flipped []byte, rest []chain.Block) bool {
	t.Helper()
	b, err := chain.ParseBlock(flipped)
	if err != nil {
		if !errors.Is(err, chain.ErrFrame) {
			t.Errorf("an error of another kind: %v", err)
		}
		return true
	}
	v := chain.NewVerifier(start)
	if _, err := v.Take(&b); err != nil {
		return true
	}
	for i := range rest {
		if _, err := v.Take(&rest[i]); err != nil {
			return true
		}
	}
	// Only the last header may be accepted, since no block follows it.
	return len(rest) == 0 && v.Head().Hash != head.Hash
}

func TestHeadRoundTrip(t *testing.T) {
	heads := []chain.Head{{}}
	for n := 1; n <= 9; n++ {
		_, head := makeChain(t, n, 10, workBits)
		heads = append(heads, head)
	}
	for _, head := range heads {
		data := head.AppendTo(nil)
		back, err := chain.ParseHead(data)
		if err != nil {
			t.Fatal(err)
		}
		if back.Height != head.Height || back.Hash != head.Hash || back.Time != head.Time ||
			back.Tree.Size() != head.Tree.Size() || back.Tree.Root() != head.Tree.Root() {
			t.Errorf("height %d: got %+v", head.Height, back)
		}
		if again := back.AppendTo(nil); !bytes.Equal(again, data) {
			t.Errorf("height %d: other bytes", head.Height)
		}
		for n := range data {
			if _, err := chain.ParseHead(data[:n]); !errors.Is(err, chain.ErrFrame) && !errors.Is(err, chain.ErrTree) {
				t.Fatalf("height %d cut to %d bytes: %v", head.Height, n, err)
			}
		}
		if _, err := chain.ParseHead(append(data, make([]byte, chain.HashSize)...)); !errors.Is(err, chain.ErrTree) {
			t.Errorf("a node too many: %v", err)
		}
	}
}

// TestVerifierSubtrees checks that the subtrees that a verifier returns are those of the tree, however the leaves are
// divided into blocks.
func TestVerifierSubtrees(t *testing.T) {
	v := chain.NewVerifier(chain.Head{})
	var leaves, subtrees []chain.Hash
	for n := range 60 {
		b := makeBlock(t, v.Head(), startTime+uint64(n), workBits, makeRecords(100*n, 1+n*5%37, startTime+uint64(n), 5))
		added, err := v.Take(&b)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, added...)
		subtrees = append(subtrees, v.Subtrees()...)
		if len(subtrees) != len(leaves)/(1<<chain.SubtreeLevel) {
			t.Fatalf("block %d: %d subtrees of %d leaves", n, len(subtrees), len(leaves))
		}
	}
	for i, root := range subtrees {
		if want := (chain.Tree{}).Append(
			leaves[i<<chain.SubtreeLevel : (i+1)<<chain.SubtreeLevel]...).Root(); root != want {
			t.Fatalf("subtree %d is %v, want %v", i, root, want)
		}
	}
}
