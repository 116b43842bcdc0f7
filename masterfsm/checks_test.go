package masterfsm

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func ranges(pairs ...uint64) []chain.Range {
	var list []chain.Range
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, chain.Range{From: pairs[i], To: pairs[i+1]})
	}
	return list
}

// threeNodes returns a table of three nodes that all have blocks 0 to 5. The masters have dropped these blocks.
func threeNodes(t *testing.T) *table {
	b := newTable(t, smallSettings())
	for _, id := range []string{"a", "b", "c"} {
		b.node(id, 0)
	}
	b.fill(6 * 4)
	b.mine()
	for _, id := range []string{"a", "b", "c"} {
		b.ack(id, 6)
	}
	if b.heldFrom() != 6 {
		t.Fatalf("held from %d", b.heldFrom())
	}
	return b
}

// check begins a check of a node, and ends it with a result.
func (b *table) check(id string, end EndCheck) {
	b.t.Helper()
	began := b.ok(&BeginCheck{ID: id, Version: b.storage(id).Version, Time: b.now}).(*Storage)
	end.ID, end.Version, end.Time = id, began.Version, b.now+5
	b.ok(&end)
}

// repair begins a repair of an Invalid node from another, and ends it with a result.
func (b *table) repair(id, sender string, end EndRepair) {
	b.t.Helper()
	c := &BeginRepair{ID: id, Version: b.storage(id).Version, Ticket: "t", Keep: 6, Time: b.now}
	if sender != "" {
		c.Sender, c.SenderVersion = sender, b.storage(sender).Version
	}
	began := b.ok(c).(*Storage)
	end.ID, end.Version, end.Height, end.Hash, end.Time = id, began.Version, b.head.Height, b.head.Hash, b.now+7
	b.ok(&end)
}

func TestCheckAndRepair(t *testing.T) {
	b := threeNodes(t)
	b.check("a", EndCheck{Bytes: 100})
	b.is("a", Valid, 6)
	b.check("b", EndCheck{
		Bad: ranges(3, 4), Findings: []Finding{{Block: 3, What: chain.WrongPayload, Detail: TextCause("record 1")}},
		Bytes: 100, Millis: 9,
	})
	b.is("b", Invalid, 6)
	if n := b.storage("b"); n.CountsAsCopy || n.Cause.Text() != "damaged: block 3" || n.Checked != b.now {
		t.Errorf("%+v", n)
	}
	began := b.ok(&BeginRepair{
		ID: "b", Version: b.storage("b").Version, Sender: "c", SenderVersion: b.storage("c").Version, Ticket: "secret",
		Keep:    6,
		Missing: ranges(3, 4), Time: b.now,
	}).(*Storage)
	if began.State != Receiving || began.Target.Height != 6 || began.Target.Hash != b.head.Hash ||
		b.storage("c").State != Sending {
		t.Errorf("%+v, %+v", began, b.storage("c"))
	}
	b.ok(&EndRepair{
		ID: "b", Version: began.Version, Height: 6, Hash: b.head.Hash, Blocks: 1, Bytes: 50,
		Changed: TextCause("one byte"), Time: b.now + 3,
	})
	b.is("b", Valid, 6)
	b.is("c", Valid, 6)
	if n := b.storage("b"); n.Ticket != "" || n.Peer != "" || n.Missing != nil || n.Target != (Target{}) ||
		!n.CountsAsCopy {
		t.Errorf("%+v", n)
	}
	log := b.IntegrityLog()
	want := Totals{Checks: 2, CheckedBytes: 200, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1, RepairedBytes: 50}
	if log.Totals != want || len(log.Events) != 2 {
		t.Errorf("%+v", log)
	}
	finding, repair := log.Events[0], log.Events[1]
	if finding.Kind != EventFinding || finding.Node != "b" || finding.Blocks != 1 ||
		finding.Findings[0].Detail.Text() != "record 1" {
		t.Errorf("%+v", finding)
	}
	if repair.Kind != EventRepair || repair.Source != "c" || repair.Bytes != 50 || repair.Millis != 3 ||
		repair.Cause.Text() != "one byte" ||
		!reflect.DeepEqual(repair.Ranges, ranges(3, 4)) {
		t.Errorf("%+v", repair)
	}
}

func TestCheckIsRefused(t *testing.T) {
	b := threeNodes(t)
	begin := func(id string) *BeginCheck {
		return &BeginCheck{ID: id, Version: b.storage(id).Version, Time: b.now + 99}
	}
	b.ok(begin("a"))
	b.refused(begin("b"), ErrStale) // one at a time
	b.ok(&EndCheck{ID: "a", Version: b.storage("a").Version, Aborted: TextCause("no answer"), Time: b.now})
	b.is("a", Valid, 6)
	if b.storage("a").Due.Text() != "no answer" || b.storage("a").Checked != 0 {
		t.Errorf("%+v", b.storage("a"))
	}
	b.check("a", EndCheck{Bad: ranges(1, 2)})
	b.check("b", EndCheck{Bad: ranges(1, 2)})
	b.refused(begin("c"), ErrStale) // the last valid node
	b.ok(&Suspect{ID: "c", Cause: TextCause("it answered wrong"), Time: b.now})
	b.check("c", EndCheck{}) // unless there is a cause
	b.ok(&RemoveStorage{ID: "a", Force: true, Time: b.now})
	b.ok(&RemoveStorage{ID: "b", Force: true, Time: b.now})
	b.ok(begin("c")) // unless it is alone
	b.refused(&EndCheck{ID: "c", Version: b.storage("c").Version, Bad: ranges(2, 2), Time: b.now + 99}, ErrBadCommand)
	b.refused(&EndCheck{ID: "c", Version: b.storage("c").Version, Bad: ranges(2, 4, 4, 6), Time: b.now + 99},
		ErrBadCommand)
	for name, end := range map[string]EndCheck{
		"too many findings": {Findings: make([]Finding, chain.MaxFindings+1)},
		"too many ranges":   {Bad: manyRanges(maxRanges + 1)},
		"a long finding":    {Findings: []Finding{{Detail: TextCause(strings.Repeat("x", maxText+1))}}},
		"a long cause":      {Aborted: TextCause(strings.Repeat("x", maxText+1))},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			end.ID, end.Version, end.Time = "c", b.storage("c").Version, b.now+99
			b.refused(&end, ErrBadCommand)
		})
	}
	b.t = t
	b.ok(&EndCheck{ID: "c", Version: b.storage("c").Version, Time: b.now})
	b.refused(&EndCheck{ID: "c", Version: b.storage("c").Version, Time: b.now + 99}, ErrStale) // it is valid
}

// manyRanges returns count ranges of one block each.
func manyRanges(count int) []chain.Range {
	list := make([]chain.Range, count)
	for i := range list {
		list[i] = chain.Range{From: 2 * uint64(i), To: 2*uint64(i) + 1}
	}
	return list
}

func TestRepairIsRefused(t *testing.T) {
	b := threeNodes(t)
	b.check("a", EndCheck{Bad: ranges(1, 2)})
	c := func(sender string) *BeginRepair {
		return &BeginRepair{
			ID: "a", Version: b.storage("a").Version, Sender: sender, SenderVersion: b.storage("b").Version,
			Ticket: "t", Time: b.now + 99,
		}
	}
	b.refused(c("x"), ErrUnknownNode)
	b.refused(c("a"), ErrUnknownNode)
	stale := c("b")
	stale.SenderVersion++
	b.refused(stale, ErrStale)
	b.ok(&BeginCheck{ID: "b", Version: b.storage("b").Version, Time: b.now})
	b.refused(c("b"), ErrStale) // it is being checked
	for name, change := range map[string]func(*BeginRepair){
		"a long ticket":         func(c *BeginRepair) { c.Ticket = strings.Repeat("x", maxText+1) },
		"too many ranges":       func(c *BeginRepair) { c.Missing = manyRanges(maxRanges + 1) },
		"an empty range":        func(c *BeginRepair) { c.Missing = ranges(3, 3) },
		"blocks above the head": func(c *BeginRepair) { c.Missing = ranges(5, b.head.Height+1) },
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			bad := c("")
			change(bad)
			b.refused(bad, ErrBadCommand)
		})
	}
	b.t = t
	end := func(change func(*EndRepair)) *EndRepair {
		e := &EndRepair{ID: "a", Version: b.storage("a").Version, Time: b.now + 99}
		change(e)
		return e
	}
	b.refused(end(func(*EndRepair) {}), ErrStale) // it is not being repaired
	began := c("")
	began.Time = b.now
	b.ok(began)
	b.refused(end(func(e *EndRepair) { e.Bad = manyRanges(maxRanges + 1) }), ErrBadCommand)
	b.refused(end(func(e *EndRepair) { e.Bad = ranges(2, 2) }), ErrBadCommand)
	b.refused(end(func(e *EndRepair) { e.Failed = TextCause(strings.Repeat("x", maxText+1)) }), ErrBadCommand)
}

// TestFailedRepair checks that a failed repair keeps the known bad blocks, and releases the sender.
func TestFailedRepair(t *testing.T) {
	b := threeNodes(t)
	b.check("a", EndCheck{Bad: ranges(1, 2, 4, 5)})
	b.repair("a", "b", EndRepair{Failed: TextCause("the sender died"), Bad: ranges(4, 5)})
	b.is("a", Invalid, 6)
	b.is("b", Valid, 6)
	if n := b.storage("a"); n.CountsAsCopy || !reflect.DeepEqual(n.Bad, ranges(4, 5)) ||
		b.IntegrityLog().Totals.FailedRepairs != 1 {
		t.Errorf("%+v", n)
	}
	b.repair("a", "c", EndRepair{Bad: ranges(4, 5)}) // c did not have the block either
	b.is("a", Invalid, 6)
	b.repair("a", "c", EndRepair{Unchecked: 5})
	b.is("a", Invalid, 6)
	b.repair("a", "c", EndRepair{})
	b.is("a", Valid, 6)
}

// TestLostBlocks checks that all nodes may lack a block that was confirmed as lost. Before that, nodes that lack only
// this block continue to store new blocks.
func TestLostBlocks(t *testing.T) {
	b := threeNodes(t)
	b.refused(&ConfirmLost{Block: 2, Time: b.now + 99}, wire.ErrNotLost)
	b.check("a", EndCheck{Bad: ranges(2, 3)})
	b.check("b", EndCheck{Bad: ranges(2, 3, 5, 6)})
	if len(b.IntegrityLog().Lost) != 0 {
		t.Fatalf("%+v", b.IntegrityLog().Lost)
	}
	b.ok(&RemoveStorage{ID: "c", Force: true, Time: b.now}) // the last node that had it
	if lost := b.IntegrityLog().Lost; !reflect.DeepEqual(lost, ranges(2, 3)) {
		t.Fatalf("%+v", lost)
	}
	for block := range uint64(7) {
		if lost, confirmed := b.Lost(block); lost != (block == 2) || confirmed {
			t.Errorf("block %d: lost %v, confirmed %v", block, lost, confirmed)
		}
	}
	v := b.View()
	n := v.Storage("b")
	if got := n.Lacks(8); !reflect.DeepEqual(got, ranges(2, 3, 5, 8)) || v.Storage("x").ID != "" {
		t.Errorf("b lacks %v", got)
	}
	if !b.storage("a").CountsAsCopy || b.storage("b").CountsAsCopy {
		t.Fatalf("%+v", b.Storages())
	}
	b.repair("b", "a", EndRepair{Bad: ranges(2, 3)})
	b.is("b", Invalid, 6)
	b.fill(4)
	b.mine()
	b.ack("a", 7)
	b.ack("b", 7)
	if b.Stored() != 7 {
		t.Errorf("stored %d: nodes that lack only what is lost everywhere must count", b.Stored())
	}
	b.ok(&ConfirmLost{Block: 2, Time: b.now})
	b.ok(&ConfirmLost{Block: 2, Time: b.now}) // a repetition has no effect
	if lost, confirmed := b.Lost(2); !lost || !confirmed {
		t.Errorf("lost %v, confirmed %v", lost, confirmed)
	}
	b.is("a", Valid, 7)
	b.is("b", Valid, 7)
	// A check that does not report the lost block keeps it in the table, and so does one that finds more.
	b.check("a", EndCheck{})
	b.is("a", Valid, 7)
	if !reflect.DeepEqual(b.storage("a").Bad, ranges(2, 3)) {
		t.Errorf("%+v", b.storage("a"))
	}
	b.check("a", EndCheck{Bad: ranges(3, 4)})
	b.is("a", Invalid, 7)
	if !reflect.DeepEqual(b.storage("a").Bad, ranges(2, 4)) {
		t.Errorf("%+v", b.storage("a"))
	}
	kinds := []EventKind{}
	for _, e := range b.IntegrityLog().Events {
		kinds = append(kinds, e.Kind)
	}
	want := []EventKind{EventFinding, EventFinding, EventRemoved, EventLost, EventRepair, EventConfirmed, EventFinding}
	if !slices.Equal(kinds, want) {
		t.Errorf("%v", kinds)
	}
	// A node that may have the block returns: it is no longer lost, nor confirmed as lost.
	b.node("d", 7)
	if s := b.IntegrityLog(); len(s.Lost) != 0 || len(s.Confirmed) != 0 ||
		s.Events[len(s.Events)-1].Kind != EventFound {
		t.Errorf("%+v", s)
	}
	b.is("b", Invalid, 7)
}

// TestRegistrationKeepsWhatIsKnown checks that the known damage of a node is kept when it restarts.
func TestRegistrationKeepsWhatIsKnown(t *testing.T) {
	b := threeNodes(t)
	b.check("a", EndCheck{Bad: ranges(2, 3)})
	b.node("a", 6)
	b.is("a", Invalid, 6)
	if n := b.storage("a"); n.Cause.Text() != "damaged: block 2" || !n.OnGroupChain {
		t.Errorf("%+v", n)
	}
	// The height of a node that returns with fewer blocks is recorded.
	b.node("b", 4)
	b.is("b", Invalid, 4)
	e := b.IntegrityLog().Events
	if f := e[len(e)-1]; f.Kind != EventFinding || f.Node != "b" || f.Findings[0].What != chain.WrongShort ||
		f.Findings[0].Block != 4 {
		t.Errorf("%+v", f)
	}
	b.repair("a", "c", EndRepair{})
	// A node that was not shut down cleanly is checked at once.
	b.ok(&Register{Role: RoleStorage, ID: "c", URL: "http://c", Height: 6, Hash: b.head.Hash, Unclean: true,
		Time: b.now})
	if n := b.storage("c"); n.Due.IsZero() || n.State != Valid {
		t.Errorf("%+v", n)
	}
	b.check("c", EndCheck{Tiles: 2})
	if n := b.storage("c"); !n.Due.IsZero() || b.IntegrityLog().Totals.BadTiles != 2 {
		t.Errorf("%+v", n)
	}
}

// TestRestartsWithinARepair checks that the repair continues if the sender restarts. A restart of the receiver ends the
// repair, and releases the sender.
func TestRestartsWithinARepair(t *testing.T) {
	b := threeNodes(t)
	begin := func() {
		b.ok(&BeginRepair{
			ID: "a", Version: b.storage("a").Version, Sender: "b", SenderVersion: b.storage("b").Version, Ticket: "t",
			Keep:    6,
			Missing: ranges(2, 3), Time: b.now,
		})
	}
	b.check("a", EndCheck{Bad: ranges(2, 3)})
	begin()
	b.node("b", 6)
	b.is("b", Sending, 6)
	b.node("a", 6)
	b.is("a", Invalid, 6)
	b.is("b", Valid, 6)
	begin()
	// A node takes over the sender's address.
	b.ok(&Register{Role: RoleStorage, ID: "z", URL: b.storage("b").URL, Time: b.now})
	b.is("a", Receiving, 6)
	b.ok(&Invalidate{ID: "a", Version: b.storage("a").Version, Cause: TextCause("another chain"), Time: b.now})
	if b.storage("a").OnGroupChain || b.storage("a").Peer != "" {
		t.Errorf("%+v", b.storage("a"))
	}
	// If the receiver is removed, its sender is released.
	b.repair("a", "", EndRepair{})
	b.check("a", EndCheck{Bad: ranges(2, 3)})
	b.ok(&BeginRepair{
		ID: "a", Version: b.storage("a").Version, Sender: "c", SenderVersion: b.storage("c").Version, Ticket: "t",
		Keep: 6, Time: b.now,
	})
	b.is("c", Sending, 6)
	b.ok(&RemoveStorage{ID: "a", Force: true, Time: b.now})
	b.is("c", Valid, 6)
}

func TestSuspectIsDueOnce(t *testing.T) {
	b := threeNodes(t)
	b.refused(&Suspect{ID: "x", Cause: TextCause("c"), Time: b.now + 99}, ErrUnknownNode)
	b.refused(&Suspect{ID: "a", Time: b.now + 99}, ErrBadCommand)
	b.refused(&Suspect{ID: "a", Cause: TextCause(strings.Repeat("x", maxText+1)), Time: b.now + 99}, ErrBadCommand)
	b.ok(&Suspect{ID: "a", Cause: TextCause("it answered wrong"), Time: b.now})
	b.ok(&Suspect{ID: "a", Cause: TextCause("it answered wrong again"), Time: b.now})
	if b.storage("a").Due.Text() != "it answered wrong" || len(b.IntegrityLog().Events) != 1 {
		t.Errorf("%+v, %+v", b.storage("a"), b.IntegrityLog().Events)
	}
}

func TestStoryIsBounded(t *testing.T) {
	b := threeNodes(t)
	var findings []Finding
	var bad []chain.Range
	for i := range uint64(chain.MaxFindings) {
		findings = append(findings, Finding{Block: 2 * i, What: chain.WrongFrame})
		bad = append(bad, chain.Range{From: 2 * i, To: 2*i + 1})
	}
	for i := range maxEvents {
		b.ok(&BeginCheck{ID: "a", Version: b.storage("a").Version, Time: b.now})
		b.ok(&EndCheck{
			ID: "a", Version: b.storage("a").Version, Findings: findings, Bad: bad, Millis: uint64(i), Time: b.now,
		})
		b.repair("a", "b", EndRepair{})
	}
	e := b.IntegrityLog().Events
	if len(e) != maxEvents || e[0].Number != maxEvents || len(e[0].Findings) != maxEventFindings ||
		len(e[0].Ranges) != maxEventRanges {
		t.Errorf("%d events, the first %+v", len(e), e[0])
	}
	back := restored(t, b.State)
	if !reflect.DeepEqual(back.IntegrityLog(), b.IntegrityLog()) {
		t.Error("the integrity log differs after a snapshot")
	}
}

func TestBlocksSentence(t *testing.T) {
	for want, list := range map[string][]chain.Range{
		"block 7":                               ranges(7, 8),
		"no block":                              nil,
		"blocks 7 to 8":                         ranges(7, 9),
		"blocks 1, 3 to 5":                      ranges(1, 2, 3, 6),
		"blocks 0, 2, 4, 6, 8, 10, 2 more runs": ranges(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
		fmt.Sprintf("blocks 0 to %d", uint64(1<<40)-1): ranges(0, 1<<40),
	} {
		if got := blocksSentence(list); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestResultsOfChecks checks that the end of a check says its result from protocol level 3 on, and that a result that
// the other fields contradict is refused.
func TestResultsOfChecks(t *testing.T) {
	b := threeNodes(t)
	b.raise()
	began := b.ok(&BeginCheck{ID: "a", Version: b.storage("a").Version, Time: b.now}).(*Storage)
	aborted := Cause{Code: wire.CodeCheckUnfinished}
	end := func(c EndCheck) *EndCheck {
		c.ID, c.Version, c.Time = "a", began.Version, b.now
		return &c
	}
	b.refused(end(EndCheck{}), ErrStale)
	b.refused(end(EndCheck{Aborted: aborted}), ErrStale)
	for _, c := range []EndCheck{
		{Result: CheckBad}, {Result: CheckAborted}, {Result: CheckNone}, {Result: "other"},
		{Result: CheckGood, Unchecked: 1}, {Result: CheckGood, Strange: true}, {Result: CheckGood, Bad: ranges(1, 2)},
		{Result: CheckGood, Aborted: aborted}, {Result: CheckBad, Aborted: aborted},
		{Result: CheckNone, Bad: ranges(1, 2)},
	} {
		b.refused(end(c), ErrBadCommand)
	}
	b.ok(end(EndCheck{Result: CheckGood}))
	b.is("a", Valid, 6)
}

// TestNodeThatIsNotChecked checks that a node whose checks do not end does not count as a copy until a check has looked
// at all blocks: no body leaves the masters because of it. Snapshots and restarts of the node keep that.
func TestNodeThatIsNotChecked(t *testing.T) {
	b := threeNodes(t)
	b.ok(&RaiseLevel{Level: LevelAudit - 1, Time: startTime}) // above, blocks have records of the audit trail too
	aborted := Cause{Code: wire.CodeCheckAborted,
		Args: wire.Args{"blocks": uint64(0), "height": uint64(6), "detail": "input/output error"}}
	b.check("a", EndCheck{Aborted: aborted, Result: CheckAborted})
	b.is("a", Valid, 6)
	b.ok(&RemoveStorage{ID: "c", Force: true, Time: b.now})
	b.check("a", EndCheck{Aborted: aborted, Result: CheckNone})
	b.is("a", Invalid, 6)
	if n := b.storage("a"); n.CountsAsCopy || !n.NotChecked() || n.Cause.Code != wire.CodeCheckAborted ||
		n.Due.IsZero() || len(b.IntegrityLog().Lost) > 0 {
		t.Errorf("%+v", n)
	}
	held := b.heldFrom()
	b.fill(4)
	b.mine()
	b.ack("b", 7)
	b.ack("a", 7)
	if b.Stored() != 6 || b.heldFrom() != held {
		t.Errorf("stored %d, held from %d, before %d", b.Stored(), b.heldFrom(), held)
	}
	b.node("a", 6)
	b.is("a", Invalid, 6)
	events := len(b.IntegrityLog().Events)
	b.repair("a", "", EndRepair{Failed: aborted, Unchecked: 1})
	b.is("a", Invalid, 6)
	if log := b.IntegrityLog(); len(log.Events) != events || log.Totals.FailedRepairs != 0 {
		t.Errorf("a check that is tried again: %+v", log)
	}
	if n := restored(t, b.State).storage("a"); n.CountsAsCopy || !n.NotChecked() {
		t.Errorf("restored: %+v", n)
	}
	found := []Finding{{Block: 2, What: chain.WrongPayload}}
	b.repair("a", "", EndRepair{Bad: ranges(2, 3), Findings: found})
	if e := b.IntegrityLog().Events; len(e) != events+1 || e[events].Kind != EventFinding || e[events].Blocks != 1 {
		t.Errorf("a check that found damage: %+v", e)
	}
	b.repair("a", "b", EndRepair{})
	b.is("a", Valid, 7)
	if n := b.storage("a"); !n.CountsAsCopy || n.NotChecked() || b.Stored() != 7 || b.heldFrom() != 7 {
		t.Errorf("%+v, stored %d, held from %d", n, b.Stored(), b.heldFrom())
	}
}

// TestNodeThatIsNotCheckedAlone checks that the only node does not count as a copy, and that no block counts as lost.
func TestNodeThatIsNotCheckedAlone(t *testing.T) {
	b := threeNodes(t)
	b.raise()
	for _, id := range []string{"b", "c"} {
		b.ok(&RemoveStorage{ID: id, Force: true, Time: b.now})
	}
	b.check("a", EndCheck{Aborted: Cause{Code: wire.CodeCheckUnfinished}, Result: CheckNone})
	if n := b.storage("a"); n.CountsAsCopy || !n.NotChecked() || len(b.IntegrityLog().Lost) > 0 {
		t.Errorf("%+v, lost %v", n, b.IntegrityLog().Lost)
	}
	b.repair("a", "", EndRepair{})
	b.is("a", Valid, 6)
}

// TestEarlyEnds checks that the table counts the checks in a row that ended early, from protocol level 3 on, until one
// looks at all blocks.
func TestEarlyEnds(t *testing.T) {
	b := threeNodes(t)
	is := func(want uint64) {
		t.Helper()
		if n := b.storage("a"); n.EarlyEnds != want {
			t.Errorf("%d are counted, want %d", n.EarlyEnds, want)
		}
	}
	b.check("a", EndCheck{Aborted: TextCause("no answer"), Early: 1})
	is(0)
	b.raise()
	aborted := Cause{Code: wire.CodeCheckUnfinished}
	b.check("a", EndCheck{Aborted: aborted, Result: CheckAborted, Early: 1})
	is(1)
	b.check("a", EndCheck{Result: CheckGood})
	is(0)
	b.check("a", EndCheck{Aborted: aborted, Result: CheckAborted, Early: 2})
	if n := restored(t, b.State).storage("a"); n.EarlyEnds != 2 {
		t.Errorf("restored: %d", n.EarlyEnds)
	}
	b.check("a", EndCheck{Aborted: aborted, Result: CheckNone, Early: 3})
	b.repair("a", "", EndRepair{Failed: aborted, Unchecked: 1})
	is(3)
	b.repair("a", "", EndRepair{Unchecked: 1})
	is(3)
	b.repair("a", "", EndRepair{})
	is(0)
	b.check("a", EndCheck{Bad: ranges(1, 2), Result: CheckBad, Early: 1})
	b.repair("a", "b", EndRepair{}) // without a check
	is(1)
}
