package e2e

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/wire"
)

// TestHistoryChecker: small histories by hand, and what the checker says of them.
func TestHistoryChecker(t *testing.T) {
	// A batch that runs over from block 0, which has three records, into block 1.
	batch := func(o *oracle, began time.Time) {
		at := []wire.Position{{Block: 0, Offset: 2, Index: 2}, {Block: 1, Offset: 0, Index: 4}}
		o.ack([]client.Entry{{Key: "a"}, {Key: "b"}}, at)
		o.appended(1, began, began.Add(time.Millisecond), at[0], at[1])
	}
	for _, row := range []struct {
		name  string
		look  place
		found bool
		fits  bool
	}{
		{"a record is found", place{0, 2}, true, true},
		{"a record is not found", place{0, 2}, false, false},
		{"the last record is not found", place{1, 0}, false, false},
		{"what lies behind the end of a block is not found", place{0, 3}, false, true},
		{"what lies behind the end of the chain is not found", place{1, 1}, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := newOracle()
			batch(o, birth)
			o.looked(operation{
				client: 2, call: int64(time.Second), ended: int64(time.Second) + 1, read: true, found: row.found,
				first: orderOf(row.look.block, row.look.offset), last: orderOf(row.look.block, row.look.offset),
			})
			after := wire.Position{Block: 1, Offset: 1, Index: 5} // a piece's last looks are left out
			o.ack([]client.Entry{{Key: "c"}}, []wire.Position{after})
			o.appended(1, birth.Add(2*time.Second), birth.Add(3*time.Second), after, after)
			o.checkHistory(t)
			if fits := len(o.faults) == 0; fits != row.fits {
				t.Errorf("it fits: %v, with %q", fits, o.faults)
			}
		})
	}
}
