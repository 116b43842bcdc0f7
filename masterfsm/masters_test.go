package masterfsm

import (
	"fmt"
	"testing"
)

func TestMasters(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: startTime + 5})
	b.ok(&AdmitMaster{ID: "m0", URL: "http://m0", Raft: "m0:1", Time: startTime + 6})
	b.refused(&AdmitMaster{ID: "m2", URL: "http://m1", Raft: "m2:1", Time: startTime}, ErrBadCommand)
	b.refused(&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m1:1", Time: startTime}, ErrBadCommand)
	b.refused(&AdmitMaster{ID: "m@2", URL: "http://m2", Raft: "m2:1", Time: startTime}, ErrBadCommand)
	b.refused(&AdmitMaster{ID: "m2", Raft: "m2:1", Time: startTime}, ErrBadCommand)
	b.refused(&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2", Time: startTime}, ErrBadCommand)
	// It moves, and keeps the time since which it is a member.
	b.ok(&AdmitMaster{ID: "m1", URL: "http://new", Raft: "new:1", Time: startTime + 9})
	want := []Master{
		{ID: "m0", URL: "http://m0", Raft: "m0:1", Since: startTime + 6},
		{ID: "m1", URL: "http://new", Raft: "new:1", Since: startTime + 5},
	}
	if got := b.View().Masters; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	before := b.View()
	b.ok(&RemoveMaster{ID: "m1", Time: startTime})
	b.ok(&RemoveMaster{ID: "m1", Time: startTime})
	b.ok(&RemoveMaster{ID: "never seen", Time: startTime})
	b.refused(&RemoveMaster{Time: startTime}, ErrBadCommand)
	b.refused(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: startTime}, ErrMasterRemoved)
	if v := b.View(); len(v.Masters) != 1 || fmt.Sprint(v.RemovedMasters) != "[m1 never seen]" ||
		!b.MasterRemoved("m1") || b.MasterRemoved("m0") {
		t.Errorf("%+v, removed %v", v.Masters, v.RemovedMasters)
	}
	if len(before.Masters) != 2 || len(before.RemovedMasters) != 0 {
		t.Errorf("a view that was taken before changed: %+v", before.Masters)
	}
	for n := range maxMasters - 1 {
		b.ok(&AdmitMaster{ID: fmt.Sprint("n", n), URL: fmt.Sprint("http://n", n), Raft: fmt.Sprint("n:", n),
			Time: startTime})
	}
	b.refused(&AdmitMaster{ID: "one more", URL: "http://x", Raft: "x:1", Time: startTime}, ErrBadCommand)
	for n := range maxRemovedMasters {
		if _, err := b.Apply(Encode(&RemoveMaster{ID: fmt.Sprint("gone", n), Time: startTime})); err != nil {
			t.Fatal(err)
		}
	}
	if v := b.View(); len(v.RemovedMasters) != maxRemovedMasters || v.RemovedMasters[0] != "gone0" {
		t.Errorf("%d are remembered as removed, the first is %s", len(v.RemovedMasters), v.RemovedMasters[0])
	}
}

// TestAddressesTakenOver checks that a master that has moved to the address of another takes it over. The other master
// stays a member without an address until it announces a new one.
func TestAddressesTakenOver(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&AdmitMaster{ID: "m1", URL: "http://a", Raft: "a:1", Time: startTime})
	b.ok(&AdmitMaster{ID: "m2", URL: "http://b", Raft: "b:1", Time: startTime})
	b.ok(&AdmitMaster{ID: "m3", URL: "http://c", Raft: "c:1", Time: startTime})
	before := b.View()
	b.ok(&AdmitMaster{ID: "m1", URL: "http://b", Raft: "c:1", Take: true, Time: startTime})
	if got := fmt.Sprint(b.View().Masters); got != fmt.Sprintf(
		"[{m1 http://b c:1 %d  0} {m2  b:1 %d  0} {m3 http://c  %d  0}]",
		startTime, startTime, startTime) {
		t.Errorf("taken over: %s", got)
	}
	b.refused(&AdmitMaster{ID: "m2", URL: "http://c", Raft: "b:1", Time: startTime}, ErrBadCommand)
	b.ok(&AdmitMaster{ID: "m2", URL: "http://a", Raft: "a:1", Take: true, Time: startTime})
	b.ok(&AdmitMaster{ID: "m3", URL: "http://c", Raft: "b:1", Time: startTime})
	if got := fmt.Sprint(b.View().Masters); got != fmt.Sprintf(
		"[{m1 http://b c:1 %d  0} {m2 http://a a:1 %d  0} {m3 http://c b:1 %d  0}]", startTime, startTime, startTime) {
		t.Errorf("all have moved: %s", got)
	}
	if before.Masters[1].URL != "http://b" || before.Masters[2].Raft != "c:1" || len(b.View().RemovedMasters) != 0 {
		t.Errorf("a view that was taken before changed: %+v, or one was removed: %v", before.Masters,
			b.View().RemovedMasters)
	}
}

// TestSubmissionsOfARemovedMaster checks that submissions of a removed master are refused, and that the outcomes of its
// earlier submissions are removed with it.
func TestSubmissionsOfARemovedMaster(t *testing.T) {
	b := newTable(t, smallSettings())
	one := call{project: 1, payloads: []string{"x"}}
	for _, member := range []string{"m1", "m2"} {
		if _, err := only(b.Apply(appendOf(t, member, 1, 1, startTime, one))); err != nil {
			t.Fatal(err)
		}
	}
	b.ok(&RemoveMaster{ID: "m2", Time: startTime})
	if len(b.members) != 1 || b.members["m1"] == nil {
		t.Errorf("submissions of %d members are remembered", len(b.members))
	}
	b.refusedBytes(appendOf(t, "m2", 1, 2, startTime, one), ErrMasterRemoved)
	b.refusedBytes(appendOf(t, "m2", 2, 1, startTime, one), ErrMasterRemoved)
}
