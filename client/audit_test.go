package client

import (
	"errors"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestUnreadableEntries checks that a record of the audit trail which cannot be decoded does not end the list, and that
// a broken list does.
func TestUnreadableEntries(t *testing.T) {
	good := trail.Record{Act: trail.AdminCreate}
	newer := good.AppendTo(nil)
	newer[4] = 9
	broken := errors.New("broken")
	records := func(yield func(wire.Record, error) bool) {
		for i, payload := range [][]byte{good.AppendTo(nil), newer, good.AppendTo(nil)} {
			r := wire.Record{Payload: payload}
			r.Index, r.Block = uint64(i), 7
			if !yield(r, nil) {
				return
			}
		}
		if yield(wire.Record{}, broken) {
			t.Error("the list continues after an error")
		}
	}
	var list []AuditEntry
	var end error
	for e, err := range auditEntries(records) {
		if end = err; err == nil {
			list = append(list, e)
		}
	}
	if !errors.Is(end, broken) || len(list) != 3 {
		t.Fatalf("%d entries, and %v", len(list), end)
	}
	for i, e := range list {
		if e.Index != uint64(i) || e.Block != 7 || (e.Unreadable != "") != (i == 1) ||
			(e.Act == trail.AdminCreate) != (i != 1) {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
	if !strings.Contains(list[1].Unreadable, "version 9") {
		t.Errorf("the reason is %q", list[1].Unreadable)
	}
}
