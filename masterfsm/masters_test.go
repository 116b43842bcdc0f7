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
	// It moves, and stays since when it was.
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
	if v := b.View(); len(v.Masters) != 1 || fmt.Sprint(v.RemovedMasters) != "[m1 never seen]" || !b.MasterRemoved("m1") || b.MasterRemoved("m0") {
		t.Errorf("%+v, removed %v", v.Masters, v.RemovedMasters)
	}
	if len(before.Masters) != 2 || len(before.RemovedMasters) != 0 {
		t.Errorf("a view that was taken before changed: %+v", before.Masters)
	}
	for n := range maxMasters - 1 {
		b.ok(&AdmitMaster{ID: fmt.Sprint("n", n), URL: fmt.Sprint("http://n", n), Raft: fmt.Sprint("n:", n), Time: startTime})
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
