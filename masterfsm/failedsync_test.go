package masterfsm

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// lastCause returns the code of the newest event's cause, and its node.
func (b *table) lastCause() (code, node string) {
	events := b.IntegrityLog().Events
	if len(events) == 0 {
		return "", ""
	}
	return events[len(events)-1].Cause.Code, events[len(events)-1].Node
}

// TestFailedSync checks that the table remembers a failed sync of each kind of node until the node takes part again
// under another kernel or with an override.
func TestFailedSync(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Key: memberKey(1), Start: 1, Founder: true,
		Time: startTime})
	registers := map[string]*Register{
		"s1": {Role: RoleStorage, ID: "s1", URL: "http://s1", Boot: "1", Lists: true, Kernel: "one", Time: startTime},
		"w1": {Role: RoleMiner, ID: "w1", URL: "http://w1", Boot: "1", Lists: true, Kernel: "one", Time: startTime},
	}
	for _, c := range registers {
		b.ok(c)
	}
	long := strings.Repeat("x", maxText+1)
	b.refused(&ReportFailedSync{ID: "nobody", Time: startTime}, ErrUnknownNode)
	b.refused(&ReportFailedSync{ID: "s1", Kernel: long, Time: startTime}, ErrBadCommand)
	b.refused(&ReportFailedSync{ID: "s1", Detail: long, Time: startTime}, ErrBadCommand)
	b.refused(&ReportFailedSync{ID: "s1", Kernel: "two", Over: true, Time: startTime}, ErrStale)
	for _, id := range []string{"w1", "s1", "m1"} {
		b.ok(&ReportFailedSync{ID: id, Kernel: "one", Detail: "EIO", Time: startTime + 7})
		if code, node := b.lastCause(); code != wire.CodeSyncFailed || node != id {
			t.Errorf("%s: the newest event is %s of %s", id, code, node)
		}
	}
	events := b.IntegrityLog().Next
	b.ok(&ReportFailedSync{ID: "s1", Kernel: "one", Detail: "EIO", Time: startTime + 7})
	if b.IntegrityLog().Next != events {
		t.Error("the same failed sync is recorded twice")
	}
	want := []FailedSync{
		{ID: "m1", Kernel: "one", Detail: "EIO", Since: startTime + 7},
		{ID: "s1", Kernel: "one", Detail: "EIO", Since: startTime + 7},
		{ID: "w1", Kernel: "one", Detail: "EIO", Since: startTime + 7},
	}
	if got := b.View().FailedSyncs; !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if back := restored(t, b.State); !reflect.DeepEqual(back.failedSyncs, want) {
		t.Errorf("restored: %+v", back.failedSyncs)
	}
	again := func(id, kernel string, override bool) *Register {
		c := *registers[id]
		c.Previous, c.Boot, c.Kernel, c.AfterFailedSync = "1", "2", kernel, override
		return &c
	}
	for _, kernel := range []string{"one", ""} {
		b.refused(again("s1", kernel, false), wire.ErrFailedSync)
		b.refused(again("w1", kernel, false), wire.ErrFailedSync)
	}
	b.ok(again("s1", "one", true))
	if code, node := b.lastCause(); code != wire.CodeSyncFailedOverride || node != "s1" {
		t.Errorf("%s of %s", code, node)
	}
	b.ok(again("w1", "two", false))
	if code, node := b.lastCause(); code != wire.CodeSyncFailedRestart || node != "w1" {
		t.Errorf("%s of %s", code, node)
	}
	b.ok(&ReportFailedSync{ID: "m1", Kernel: "two", Over: true, Time: startTime + 8})
	if code, node := b.lastCause(); code != wire.CodeSyncFailedRestart || node != "m1" {
		t.Errorf("%s of %s", code, node)
	}
	if got := b.View().FailedSyncs; len(got) > 0 {
		t.Errorf("%+v", got)
	}
	// A node that is removed leaves nothing behind.
	b.ok(&ReportFailedSync{ID: "s1", Kernel: "one", Time: startTime + 9})
	b.ok(&RemoveStorage{ID: "s1", Force: true, Time: startTime + 9})
	b.ok(&ReportFailedSync{ID: "w1", Kernel: "", Time: startTime + 9})
	if got := b.failedSyncs; len(got) != 1 || got[0].ID != "w1" {
		t.Errorf("%+v", got)
	}
	b.refused(again("w1", "three", false), wire.ErrFailedSync) // the kernel was not known
}

// TestFailedSyncBelowLevel3 checks that older masters need not know the command.
func TestFailedSyncBelowLevel3(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelFailedSyncs - 1, Time: startTime})
	b.node("a", 0)
	if _, err := (&ReportFailedSync{ID: "a", Time: startTime}).apply(b.State); !errors.Is(err, ErrBadCommand) {
		t.Error(err)
	}
}
