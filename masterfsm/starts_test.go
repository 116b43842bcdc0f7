package masterfsm

import "testing"

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
