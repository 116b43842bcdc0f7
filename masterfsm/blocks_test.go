package masterfsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

func TestCut(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&Cut{Block: 0, Time: startTime + 9}, ErrStale) // nothing to cut
	b.fill(1)
	b.refused(&Cut{Block: 1, Time: startTime + 9}, ErrStale)
	b.ok(&Cut{Block: 0, Time: startTime + 10})
	b.refused(&Cut{Block: 0, Time: startTime + 11}, ErrStale) // sent twice
	b.refused(&Cut{Block: 1, Time: startTime + 11}, ErrStale) // open and empty
	if w := b.waiting; w == nil || w.header.Count != 1 || w.header.Time != startTime+10 || w.header.First != 0 {
		t.Errorf("waiting %+v", w)
	}
	if b.Height() != 1 || b.NextIndex() != 2 {
		t.Errorf("height %d, next index %d", b.Height(), b.NextIndex())
	}
	// A cut closes a block. The next block is prepared only after this one is mined.
	b.fill(2)
	b.ok(&Cut{Block: 1, Time: startTime + 20})
	if b.waiting.header.Block != 0 {
		t.Errorf("block %d waits", b.waiting.header.Block)
	}
	b.ok(b.solved())
	if h := b.waiting.header; h.Block != 1 || h.First != 2 || h.Count != 2 || h.Prev != b.head.Hash ||
		h.Time != startTime+20 {
		t.Errorf("waiting %+v", h)
	}
}

func TestMined(t *testing.T) {
	b := newTable(t, smallSettings())
	b.refused(&Mined{Block: 0, Nonce: 1, Time: startTime + 9}, ErrStale) // nothing waits
	b.fill(8)
	good := b.solved()
	for _, block := range []uint64{1, 2, 1 << 63} {
		b.refused(&Mined{Block: block, Nonce: good.Nonce, Time: startTime + 9}, ErrStale)
	}
	header := b.waiting.header
	for header.Nonce = 0; chain.Mined(header.Hash(), header.Difficulty); header.Nonce++ {
	}
	b.refused(&Mined{Block: 0, Nonce: header.Nonce, Time: startTime + 9}, ErrNonce)

	good.Time = startTime + 30
	b.ok(good)
	b.refused(good, ErrStale) // sent twice
	if h := b.Head(); h.Height != 1 || h.Tree.Size() != 5 || h.Time != header.Time || b.Now() != startTime+30 {
		t.Errorf("head %+v, now %d", h, b.Now())
	}
	block, ok := b.Block(0)
	if !ok || block.Header.Nonce != good.Nonce || block.Header.Hash() != b.Head().Hash {
		t.Errorf("block 0: %v, %+v", ok, block.Header)
	}
	if _, err := chain.ParseBlock(block.Bytes()); err != nil {
		t.Error(err)
	}
	if _, ok := b.Block(1); ok {
		t.Error("block 1 is not mined")
	}
	if _, ok := b.Block(2); ok {
		t.Error("block 2 is open")
	}
	b.mine()
	if b.waiting != nil {
		t.Errorf("waiting %+v", b.waiting)
	}
	checkHeldChain(t, b.State, zeroHead)
}

// TestBoundaries checks the boundaries of a long chain. They advance, while an earlier snapshot keeps its own.
func TestBoundaries(t *testing.T) {
	settings := smallSettings()
	settings.MaxRecords, settings.Difficulty, settings.Replicas, settings.RetainBytes = 1, 0, 1, 0
	b := newTable(t, settings)
	if at := b.Boundary(); at.Height != 0 || at.Size != 0 || at.Root != (chain.Tree{}).Root() {
		t.Errorf("boundary of an empty chain: %+v", at)
	}
	b.node("a", 0)
	var all []Boundary
	v := chain.NewVerifier(zeroHead)
	var early *Snapshot
	var earlyBytes []byte
	for n := range uint64(Boundaries + 200) {
		if _, err := b.Apply(appendOf(t, "m1", 1, n+1, startTime,
			call{project: 1, payloads: []string{fmt.Sprint(n)}})); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Apply(Encode(&Mined{Block: n, Nonce: n, Time: startTime})); err != nil {
			t.Fatal(err)
		}
		block, _ := b.Block(n)
		if _, err := v.Take(&block); err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Boundary())
		ack := &Acknowledge{Nodes: []NodeHeight{{ID: "a", Version: b.storage("a").Version, Height: n + 1}},
			Time: startTime}
		if _, err := b.Apply(Encode(ack)); err != nil {
			t.Fatal(err)
		}
		if n == Boundaries+20 {
			early, earlyBytes = b.Snapshot(), snapshotBytes(t, b.State)
		}
	}
	checkInvariants(t, b.State)
	for i, want := range all {
		height := uint64(i + 1)
		got, ok := b.BoundaryAt(height)
		if ok != (i >= len(all)-Boundaries) || ok && got != want {
			t.Fatalf("boundary at %d: %+v, %v", height, got, ok)
		}
	}
	for _, height := range []uint64{0, uint64(len(all)) + 1, 1 << 63} {
		if _, ok := b.BoundaryAt(height); ok {
			t.Errorf("a boundary at %d", height)
		}
	}
	if head := v.Head(); head.Hash != b.head.Hash || head.Tree.Root() != b.head.Tree.Root() {
		t.Error("the blocks lead to another head")
	}
	var late bytes.Buffer
	if err := early.Write(&late); err != nil || !bytes.Equal(late.Bytes(), earlyBytes) {
		t.Errorf("an early snapshot changed: %v", err)
	}
}

func TestBlocksAreDroppedWhenReplicasHaveThem(t *testing.T) {
	b := newTable(t, smallSettings()) // 2 replicas
	for _, id := range []string{"a", "b", "c"} {
		b.node(id, 0)
	}
	b.fill(20)
	b.mine() // 5 blocks
	check := func(what string, stored, from uint64) {
		t.Helper()
		if b.Stored() != stored || b.heldFrom() != from {
			t.Errorf("%s: stored %d, held from %d, want %d and %d", what, b.Stored(), b.heldFrom(), stored, from)
		}
	}
	b.ack("a", 5)
	check("one copy", 0, 0)
	b.ack("b", 2)
	check("two copies of 2 blocks, one node is behind", 2, 0)
	b.ack("c", 1)
	check("all have block 0", 2, 1)
	b.ack("c", 4)
	check("two copies of 4 blocks", 4, 2)
	b.ack("b", 5)
	check("two copies of all", 5, 4)
	b.ack("c", 5)
	check("all have all", 5, 5)
	for _, id := range []string{"a", "b", "c"} {
		b.is(id, Valid, 5)
	}
	if b.pendingBytes != 0 || b.retained != 0 {
		t.Errorf("%d pending, %d retained", b.pendingBytes, b.retained)
	}
}

func TestOnlyNodesThatKeepTheirBlocksCount(t *testing.T) {
	for _, c := range []struct {
		state NodeState
		path  []NodeState // from Valid to it
		keeps bool
	}{
		{Valid, nil, true},
		{Validating, []NodeState{Validating}, true},
		{Sending, []NodeState{Sending}, true},
		{Invalid, []NodeState{Invalid}, false},
		{Receiving, []NodeState{Invalid, Receiving}, false},
	} {
		t.Run(string(c.state), func(t *testing.T) {
			b := newTable(t, smallSettings())
			b.node("a", 0)
			b.node("b", 0)
			if c.state == Sending {
				b.node("other", 0)
			}
			for _, to := range c.path {
				b.ok(b.command("b", to))
			}
			b.fill(8)
			b.mine()
			b.ack("a", 2)
			b.ack("b", 2)
			want := uint64(0)
			if c.keeps {
				want = 2
			}
			b.is("b", c.state, want)
			if c.state.RetainsBlocks() != c.keeps || b.Stored() != want || b.heldFrom() != want {
				t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
			}
		})
	}
}

func TestStoredNeverFalls(t *testing.T) {
	b := newTable(t, smallSettings())
	b.node("a", 0)
	b.node("b", 0)
	b.node("c", 0)
	b.fill(8)
	b.mine()
	b.ack("a", 2)
	b.ack("b", 2)
	if b.Stored() != 2 || b.heldFrom() != 0 {
		t.Fatalf("stored %d, held from %d", b.Stored(), b.heldFrom())
	}
	// A node returns with fewer blocks than it had acknowledged.
	b.node("b", 1)
	b.is("b", Valid, 1)
	if b.Stored() != 2 || b.heldFrom() != 0 {
		t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
	}
}

func TestAcknowledgeIsPassedOver(t *testing.T) {
	b := newTable(t, smallSettings())
	b.node("a", 0)
	version := b.node("a", 0).Version
	b.fill(8)
	b.mine()
	for name, n := range map[string]NodeHeight{
		"unknown node":        {ID: "x", Version: version, Height: 1},
		"older version":       {ID: "a", Version: version - 1, Height: 1},
		"newer version":       {ID: "a", Version: version + 1, Height: 1},
		"more than is mined":  {ID: "a", Version: version, Height: 3},
		"far more than there": {ID: "a", Version: version, Height: 1 << 63},
	} {
		before := snapshotBytes(t, b.State)
		b.ok(&Acknowledge{Nodes: []NodeHeight{n}, Time: b.now})
		if !bytes.Equal(before, snapshotBytes(t, b.State)) {
			t.Errorf("%s: the state changed", name)
		}
	}
	b.ok(&Acknowledge{Nodes: []NodeHeight{{ID: "x"}, {ID: "a", Version: version, Height: 2}}, Time: b.now})
	b.is("a", Valid, 2)
	b.ack("a", 1) // late: the height does not decrease
	b.is("a", Valid, 2)
}

func TestSlowNodeIsLeftBehind(t *testing.T) {
	settings := smallSettings()
	settings.RetainBytes = 500
	b := newTable(t, settings)
	for _, id := range []string{"a", "b", "slow"} {
		b.node(id, 0)
	}
	b.fill(40)
	b.mine() // 10 blocks
	size := b.held[0].size()
	if size > 500 || 5*size < 500 {
		t.Fatalf("a block has %d bytes", size)
	}
	b.ack("slow", 1)
	b.ack("a", 3)
	b.ack("b", 3)
	b.is("slow", Valid, 1)
	if b.heldFrom() != 1 || b.Stored() != 3 {
		t.Errorf("held from %d, stored %d", b.heldFrom(), b.Stored())
	}
	b.ack("a", 10)
	b.ack("b", 10)
	b.is("slow", Invalid, 1)
	if n := b.storage("slow"); n.Cause.IsZero() || b.retained > 500 || b.Stored() != 10 {
		t.Errorf("cause %v, retained %d, stored %d", n.Cause, b.retained, b.Stored())
	}
	// Blocks that are not stored are never dropped, whatever their total size.
	b.fill(40)
	b.mine()
	b.ack("a", 20)
	if b.heldFrom() > 10 || b.Stored() != 10 {
		t.Errorf("held from %d, stored %d", b.heldFrom(), b.Stored())
	}
}

// TestNodeCannotBeMadeValidBehindWhatIsHeld checks that a node does not become Valid if it lacks blocks that the
// masters no longer hold. It could never catch up.
func TestNodeCannotBeMadeValidBehindWhatIsHeld(t *testing.T) {
	settings := smallSettings()
	settings.Replicas = 1
	b := newTable(t, settings)
	b.node("a", 0)
	b.node("b", 0)
	b.ok(b.command("b", Invalid))
	b.fill(8)
	b.mine()
	b.ack("a", 2)
	if b.heldFrom() != 2 {
		t.Fatalf("held from %d", b.heldFrom())
	}
	b.ok(b.command("b", Receiving))
	b.ok(b.command("b", Valid))
	b.is("b", Invalid, 0)
}

func TestRecord(t *testing.T) {
	settings := smallSettings()
	settings.Replicas = 1
	b := newTable(t, settings)
	b.node("a", 0)
	b.fill(4 + 4 + 4 + 4 + 2) // blocks 0 to 3 are full, block 4 is open
	for range 3 {
		b.ok(b.solved())
	}
	b.ack("a", 1) // block 0 is dropped, 1 and 2 are mined, 3 is pending
	type look struct {
		block  uint64
		offset uint32
		found  Found
		index  uint64
		mined  bool
	}
	for _, c := range []look{
		{0, 0, FoundElsewhere, 0, false},
		{0, 99, FoundElsewhere, 0, false},
		{1, 0, FoundRecord, 5, true},
		{1, 3, FoundRecord, 8, true},
		{1, 4, FoundBeyond, 9, false},
		{2, 3, FoundRecord, 13, true},
		{3, 0, FoundRecord, 15, false},
		{3, 3, FoundRecord, 18, false},
		{3, 4, FoundBeyond, 19, false},
		{3, 1<<32 - 1, FoundBeyond, 15 + 1<<32 - 1, false},
		{4, 0, FoundRecord, 20, false},
		{4, 1, FoundRecord, 21, false},
		{4, 2, FoundNothing, 0, false},
		{5, 0, FoundNothing, 0, false},
		{1<<64 - 1, 0, FoundNothing, 0, false},
	} {
		found, at, encoded, header := b.Record(c.block, c.offset)
		want := Position{Block: c.block, Offset: c.offset, Index: c.index}
		if found != c.found || at != want || (encoded != nil) != (found == FoundRecord) || (header != nil) != c.mined {
			t.Errorf("%d/%d: found %d at %+v, %d bytes, header %v; want %+v", c.block, c.offset, found, at,
				len(encoded), header, c)
		}
		if header != nil && header.Block != c.block {
			t.Errorf("%d/%d: header of block %d", c.block, c.offset, header.Block)
		}
	}
	for index, want := range map[uint64]struct {
		found Found
		at    Position
	}{
		0:         {FoundElsewhere, Position{Index: 0}},
		4:         {FoundElsewhere, Position{Index: 4}},
		5:         {FoundRecord, Position{Block: 1, Offset: 0, Index: 5}},
		8:         {FoundRecord, Position{Block: 1, Offset: 3, Index: 8}},
		9:         {FoundSeal, Position{Block: 1, Index: 9}},
		18:        {FoundRecord, Position{Block: 3, Offset: 3, Index: 18}},
		19:        {FoundSeal, Position{Block: 3, Index: 19}},
		20:        {FoundRecord, Position{Block: 4, Offset: 0, Index: 20}},
		21:        {FoundRecord, Position{Block: 4, Offset: 1, Index: 21}},
		22:        {FoundNothing, Position{}},
		1<<64 - 1: {FoundNothing, Position{}},
	} {
		if found, at := b.Locate(index); found != want.found || at != want.at {
			t.Errorf("index %d: found %d at %+v, want %+v", index, found, at, want)
		}
	}
}

// TestHandedOutBytesStay checks that records returned by Record do not change while the state continues: blocks are
// cut, mined and dropped, and the state is restored.
func TestHandedOutBytesStay(t *testing.T) {
	settings := smallSettings()
	settings.Replicas, settings.RetainBytes = 1, 0
	b := newTable(t, settings)
	b.node("a", 0)
	type handed struct {
		got, copy []byte
	}
	var all []handed
	take := func() {
		for number := b.heldFrom(); number <= b.Height(); number++ {
			for offset := uint32(0); ; offset++ {
				found, _, encoded, _ := b.Record(number, offset)
				if found != FoundRecord {
					break
				}
				all = append(all, handed{encoded, bytes.Clone(encoded)})
				if cap(encoded) != len(encoded) {
					t.Fatalf("record %d/%d can be appended to", number, offset)
				}
			}
		}
	}
	for n := range 60 {
		b.fill(1)
		take()
		switch n % 7 {
		case 3:
			b.mine()
		case 5:
			b.ack("a", b.Head().Height)
		case 6:
			b.State = restored(t, b.State)
		}
		take()
	}
	for i, h := range all {
		if !bytes.Equal(h.got, h.copy) {
			t.Fatalf("slice %d of %d changed", i, len(all))
		}
	}
}

func TestView(t *testing.T) {
	b := newTable(t, smallSettings())
	b.node("a", 0)
	b.ok(&Register{Role: RoleMiner, ID: "m", URL: "http://m", Time: startTime})
	b.fill(4 + 4 + 3)
	b.ok(b.solved())
	v := b.View()
	if v.Group.ID != "g" || v.Term.Leader != "m1" || v.Settings != b.Settings() || v.Now != startTime ||
		v.Head != b.Boundary() || v.HeldFrom != 0 || v.Stored != 0 || v.OpenBlock != 2 || v.OpenRecords != 3 ||
		v.OpenBytes != len(b.open.records) || v.OpenSince != startTime || v.Pending != 2 ||
		v.PendingBytes != b.pendingBytes {
		t.Errorf("%+v", v)
	}
	if v.Waiting == nil || *v.Waiting != b.waiting.header || len(v.Storages) != 1 || len(v.Miners) != 1 {
		t.Fatalf("%+v", v)
	}
	// A view is a copy.
	v.Waiting.Nonce, v.Storages[0].Height, v.Miners[0].ID = 5, 9, "other"
	b.mine()
	if b.storage("a").Height != 0 || b.miners[0].ID != "m" {
		t.Error("the view leads into the state")
	}
	if v := b.View(); v.Waiting != nil {
		t.Errorf("%+v waits", v.Waiting)
	}
}

func TestReplicatedHeight(t *testing.T) {
	for _, c := range []struct {
		heights  []uint64
		replicas int
		want     uint64
	}{
		{nil, 2, 0},
		{nil, 0, 0},
		{[]uint64{3, 9}, 0, 9},
		{[]uint64{7}, 2, 0},
		{[]uint64{7}, 1, 7},
		{[]uint64{3, 9}, 2, 3},
		{[]uint64{3, 9, 9}, 2, 9},
		{[]uint64{9, 1, 5, 5}, 3, 5},
	} {
		if got := ReplicatedHeight(c.heights, c.replicas); got != c.want {
			t.Errorf("%v with %d replicas: %d, want %d", c.heights, c.replicas, got, c.want)
		}
	}
}

// TestSpans compares spans, starting at every leaf, with Record and Locate while blocks are open, cut, mined and
// dropped.
func TestSpans(t *testing.T) {
	b := newTable(t, smallSettings())
	if spans := b.HeldBlocks(0); len(spans) != 0 || b.HeldLeaf() != 0 {
		t.Errorf("of an empty table: %+v, from %d", spans, b.HeldLeaf())
	}
	check := func() {
		t.Helper()
		held := b.HeldLeaf()
		for leaf := uint64(0); leaf < b.NextIndex()+3; leaf++ {
			// The spans contain, in order, every record from the leaf on that the masters hold.
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

// TestBodyStaysWithTooFewCopiesNow checks that the masters keep the bodies of a stored block when fewer than Replicas
// nodes have it now, although enough had it when it became stored.
func TestBodyStaysWithTooFewCopiesNow(t *testing.T) {
	for _, retain := range []uint64{1_000_000, 0} {
		for level, want := range map[uint64]uint64{LevelCopies - 1: 10, LevelCopies: 5} {
			t.Run(fmt.Sprintf("retain %d, level %d", retain, level), func(t *testing.T) {
				settings := smallSettings()
				b := newTable(t, settings)
				b.ok(&RaiseLevel{Level: level, Time: startTime})
				for _, id := range []string{"a", "b", "slow"} {
					b.node(id, 0)
				}
				b.fill(40)
				b.mine() // 10 blocks
				b.ack("slow", 5)
				b.ack("a", 10)
				b.ack("b", 10)
				if b.Stored() != 10 || b.heldFrom() != 5 {
					t.Fatalf("stored %d, held from %d", b.Stored(), b.heldFrom())
				}
				b.ok(b.command("a", Invalid)) // b has all, slow half of the blocks
				b.settings.RetainBytes = retain
				b.ok(b.command("slow", Invalid)) // b alone has a good copy
				if b.heldFrom() != want {
					t.Fatalf("with one copy of blocks 5 to 9 they are held from %d, want %d", b.heldFrom(), want)
				}
				if level < LevelCopies {
					return
				}
				retained := b.retained
				b.fill(40)
				b.mine()
				b.ack("b", 20)
				if b.Stored() != 10 || b.heldFrom() != 5 || b.retained != retained {
					t.Errorf("stored %d, held from %d, %d bytes retained, before %d", b.Stored(), b.heldFrom(),
						b.retained, retained)
				}
				b.node("new", 10) // a second copy of the first 10 blocks
				if b.heldFrom() != 10 {
					t.Errorf("with two copies they are held from %d", b.heldFrom())
				}
				b.ack("new", 20)
				if b.Stored() != 20 || b.heldFrom() != 20 {
					t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
				}
			})
		}
	}
}

// TestFindHashesNothing checks that a search by hash compares the leaf hashes that are kept, and hashes no payload.
func TestFindHashesNothing(t *testing.T) {
	b := newTable(t, smallSettings())
	b.fill(6) // a block that is cut, and the open one
	for i, block := range b.HeldBlocks(0) {
		kept := chain.Hash{byte(i + 1)}
		block.body.leaves = slices.Clone(block.body.leaves)
		block.body.leaves[1] = kept
		if at, ok := block.Find(kept); !ok || at != 1 {
			t.Errorf("block %d: %d, %v", block.Block, at, ok)
		}
		if _, ok := block.Find(chain.Hash{99}); ok {
			t.Errorf("block %d has a hash that nothing has", block.Block)
		}
	}
}
