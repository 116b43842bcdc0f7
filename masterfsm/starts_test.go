package masterfsm

import (
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// TestAStartIsJudgedOnce checks that from level 1 on a start is judged only at its first registration. A repeated
// registration, because the level has risen or a response was lost, comes from a worker that has continued meanwhile.
// It is neither damaged nor behind.
func TestAStartIsJudgedOnce(t *testing.T) {
	b := newTable(t, smallSettings())
	b.fill(40)
	b.mine()
	again := &Register{Role: RoleStorage, ID: "a", URL: "http://a", Boot: "1", Lists: true, Time: b.now}
	b.ok(&Register{Role: RoleStorage, ID: "a", URL: "http://a", Boot: "1", Time: b.now})
	b.ack("a", 2)
	b.raise()
	version, found := b.storage("a").Version, b.integrity.Totals.BadBlocks
	n := b.ok(again).(*Storage)
	b.is("a", Valid, 2)
	if !n.Lists || n.Version != version || b.integrity.Totals.BadBlocks != found || len(b.integrity.Events) > 0 {
		t.Errorf("%+v, events %+v", n, b.integrity.Events)
	}
	b.ack("a", 3)
	b.ok(again) // repeated
	b.is("a", Valid, 3)
	// A new start is judged, and so is a worker that has moved.
	next := *again
	next.Boot, next.Previous = "2", "1"
	b.ok(&next)
	if got := b.storage("a"); got.Height != 0 || got.Version == version || b.integrity.Totals.BadBlocks != found+3 {
		t.Errorf("a new start: %+v", got)
	}
}

// TestRestoredCopyIsNoSecondCopy checks that a storage node whose folder was replaced by an older copy counts only with
// the blocks of the copy, where the masters cannot know that it is one. A copy that lacks a start changes nothing.
func TestRestoredCopyIsNoSecondCopy(t *testing.T) {
	b := newTable(t, smallSettings()) // two replicas
	b.raise()
	start := func(boot, previous string, height uint64) *Register {
		r := &Register{Role: RoleStorage, ID: "a", URL: "http://a", Boot: boot, Previous: previous, Lists: true,
			Height: height, Time: startTime}
		if at, ok := b.BoundaryAt(height); ok {
			r.Hash = at.Hash
		}
		return r
	}
	b.ok(start("a1", "", 0))
	b.node("b", 0)
	b.node("slow", 0)
	b.fill(40)
	b.mine() // 10 blocks
	b.ack("slow", 5)
	b.ack("b", 8)
	b.ack("a", 10)
	if b.Stored() != 8 {
		t.Fatalf("stored %d", b.Stored())
	}

	b.ok(start("a2", "a1", 10))
	b.refused(start("a3", "a1", 7), wire.ErrOtherStart) // made before a2 began
	b.is("a", Valid, 10)
	b.ok(start("a4", "a2", 7)) // made since
	b.is("a", Valid, 7)
	b.ack("b", 10)
	if b.Stored() != 8 || b.heldFrom() != 5 {
		t.Errorf("stored %d, held from %d: blocks that the copy lacks count", b.Stored(), b.heldFrom())
	}
	events := b.IntegrityLog().Events
	if f := events[len(events)-1]; f.Node != "a" || f.Findings[0].What != chain.WrongShort ||
		f.Ranges[0] != (chain.Range{From: 7, To: 10}) {
		t.Errorf("the integrity log has %+v", f)
	}
	b.ack("a", 10)
	if b.Stored() != 10 {
		t.Errorf("stored %d", b.Stored())
	}
}
