package leader

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestEndsOfChecks checks that the leader counts from the moment at which the end of a check appears in the table,
// whatever time it has there.
func TestEndsOfChecks(t *testing.T) {
	const table = 1_700_000_000_000
	began := time.UnixMilli(table)
	for name, c := range map[string]struct {
		age         uint64        // of the last check; the term began at 10_000
		first, then uint64        // times of the last check in the table
		want, after time.Duration // when they ended by the leader's clock, which is 3 s further when the second appears
	}{
		"a check of a minute ago, then one of now": {first: table - 60_000, want: -time.Minute, then: table + 3000,
			after: 3 * time.Second},
		"no other": {first: table - 60_000, want: -time.Minute, then: table - 60_000,
			after: -time.Minute},
		"a check in a year":         {first: table + 1<<35, then: table + 1<<35},
		"two checks in a year":      {first: table + 1<<35, then: table + 1<<35 + 1, after: 3 * time.Second},
		"the clock was set back":    {first: table, then: table - 1<<35, after: 3 * time.Second},
		"a check before all clocks": {first: table, then: 1<<64 - 5, after: 3 * time.Second},
		// From protocol level 3 on the age counts.
		"by the age": {age: 8000, first: table + 1<<35, want: -2 * time.Second, then: table + 1<<35,
			after: -2 * time.Second},
		"by an age of the future": {age: 10_500, first: table - 60_000, then: table - 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(began)
			ended := func(checked uint64, elapsed time.Duration) time.Duration {
				n := masterfsm.Storage{ID: "a", Checked: checked, CheckedAge: c.age}
				view := masterfsm.View{Storages: []masterfsm.Storage{n}, Begun: 10_000}
				m.noteChecks(view, table+uint64(elapsed.Milliseconds()), began.Add(elapsed))
				return m.node("a").checkedAt.Sub(began)
			}
			if got := ended(c.first, 0); got != c.want {
				t.Errorf("the first ended at %v, want %v", got, c.want)
			}
			if got := ended(c.then, 3*time.Second); got != c.after {
				t.Errorf("the second ended at %v, want %v", got, c.after)
			}
		})
	}
}

// TestAnswersEndNotices checks that a notice about the last answer of a node ends with any good answer. A node that
// gets blocks all the time is not pinged.
func TestAnswersEndNotices(t *testing.T) {
	l, ledger := newLeadership(t, members{})
	var view masterfsm.View
	ledger.Read(func(s *masterfsm.State) { view = s.View() })
	m := &memory{nodes: map[string]*lastSeen{}}
	for name, learn := range map[string]func(*memory, time.Time){
		"a status": l.learnStatus("s1", wire.StorageStatus{}, view), "an order": answered("s1"),
	} {
		m.node("s1").notice = wire.CodeOtherNodeAtURL
		learn(m, time.Unix(1_800_000_000, 0))
		if notice := m.node("s1").notice; notice != "" {
			t.Errorf("after the answer to %s the notice is %s", name, notice)
		}
	}
}
