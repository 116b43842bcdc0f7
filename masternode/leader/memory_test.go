package leader

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// TestEndsOfChecks checks that the leader counts from the moment at which the end of a check appears in the table,
// whatever time it has there.
func TestEndsOfChecks(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	m := newMemory(began)
	n := masterfsm.Storage{ID: "a", Checked: uint64(began.AddDate(1, 0, 0).UnixMilli())}
	see := func(at time.Time) { m.noteChecks(masterfsm.View{Storages: []masterfsm.Storage{n}}, at) }
	for _, c := range []struct {
		what    string
		checked uint64
		at      time.Duration
		want    time.Duration
	}{
		{"found in the table", n.Checked, time.Second, 0},
		{"unchanged", n.Checked, 2 * time.Second, 0},
		{"another check", n.Checked + 1, 3 * time.Second, 3 * time.Second},
		{"unchanged again", n.Checked + 1, 4 * time.Second, 3 * time.Second},
	} {
		n.Checked = c.checked
		see(began.Add(c.at))
		if got := m.checkSeen(&n).Sub(began); got != c.want {
			t.Errorf("%s: seen %v after the start of the term, want %v", c.what, got, c.want)
		}
	}
	if got := m.checkSeen(&masterfsm.Storage{ID: "b"}); got != began {
		t.Errorf("a node that was not seen counts from %v, want the start of the term", got)
	}
}
