package masternode

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

const year = 365 * 24 * time.Hour

// newClockGroup returns the leader m1, with m2 and m3 as voters, and the clock of m1.
func newClockGroup(t *testing.T) (*rig, *groupMasters, *masterstest.Clock) {
	t.Helper()
	masters, machine := newGroupMasters(), &masterstest.Clock{}
	r := newRig(t, 3, func(c *Config, r *rig) {
		c.Masters, c.Clock, c.CheckInterval = masters, machine.Now, 20*time.Second
	})
	r.join(t, masters, "m2", "m3")
	time.Sleep(10 * time.Second) // until the clocks are compared
	return r, masters, machine
}

// handed returns the targets of the leader's transfers.
func (r *rig) handed() []string {
	r.members.Mu.Lock()
	defer r.members.Mu.Unlock()
	return slices.Clone(r.members.Handed)
}

// timeOfRecord appends a record and returns by how much its time is wrong.
func (r *rig) timeOfRecord(t *testing.T) time.Duration {
	t.Helper()
	added, err := r.add(t, 1, "")
	if err != nil {
		t.Fatal(err)
	}
	return time.UnixMilli(int64(added.Positions[0].Time)).Sub(time.Now().Round(0)).Round(time.Second)
}

// TestClocksOfMasters tests what a leader does by rows: how wrong the clocks of the masters are, and the time of
// records, the notices and whether it hands the leadership over.
func TestClocksOfMasters(t *testing.T) {
	type notices map[string]uint64 // argument seconds or count, by code
	for name, c := range map[string]struct {
		m1, m2, m3 time.Duration
		away       []string // masters that do not answer
		record     time.Duration
		notices    notices
		handed     bool
	}{
		"all are right":       {},
		"a year ahead":        {m1: year, handed: true, notices: notices{wire.CodeClockAhead: 31_536_000}},
		"years behind":        {m1: -20 * year, handed: true, notices: notices{wire.CodeClockBehind: 630_720_000}},
		"before 1970":         {m1: -90 * year, handed: true, notices: notices{wire.CodeClockBehind: 946_684_860}},
		"eleven seconds":      {m1: 11 * time.Second, handed: true, notices: notices{wire.CodeClockAhead: 11}},
		"nine seconds":        {m1: 9 * time.Second, record: 9 * time.Second},
		"a follower":          {m3: -year, notices: notices{wire.CodeClockBehind: 31_536_000}},
		"all in the same way": {m1: year, m2: year, m3: year, record: year},
		"the others agree":    {m1: year, m2: year, record: year, notices: notices{wire.CodeClockBehind: 31_536_000}},
		"all in different ways": {m1: year, m2: -year,
			notices: notices{wire.CodeClocksDisagree: 3, wire.CodeTimeBehind: 31_536_000}},
		"behind, in different ways": {m1: -year, m2: year, m3: 5 * year,
			notices: notices{wire.CodeClocksDisagree: 3, wire.CodeTimeAhead: 31_536_000}},
		"two clocks": {m1: year, away: []string{"m3"}, notices: notices{wire.CodeTimeBehind: 31_536_000}},
		"one clock":  {m1: -year, away: []string{"m2", "m3"}, notices: notices{wire.CodeTimeAhead: 31_536_000}},
		"two clocks that agree on another year": {m1: year, m2: year, away: []string{"m3"},
			notices: notices{wire.CodeTimeBehind: 31_536_000}},
	} {
		for _, newTerm := range []bool{false, true} {
			if newTerm {
				name += ", and a new term"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, masters, machine := newClockGroup(t)
					defer r.stop()
					for _, id := range c.away {
						masters.away(id)
					}
					// Until their answers do not count any more, and then not in the moment of a comparison.
					time.Sleep(30*time.Second + 50*time.Millisecond)
					machine.SetWrong(c.m1)
					masters.clocks["m2"].SetWrong(c.m2)
					masters.clocks["m3"].SetWrong(c.m3)
					if newTerm {
						r.ledger.CutLeadership()
					}
					time.Sleep(20 * time.Second) // until the clocks are compared
					got := notices{}
					for _, m := range r.Cluster(t.Context()).NoticesCoded {
						switch m.Code {
						case wire.CodeClockAhead, wire.CodeClockBehind, wire.CodeTimeAhead, wire.CodeTimeBehind:
							got[m.Code] = m.Args["seconds"].(uint64)
						case wire.CodeClocksDisagree:
							got[m.Code] = m.Args["count"].(uint64)
						}
					}
					f := r.Figures()
					_, disagree := got[wire.CodeClocksDisagree]
					if f.Disagree != disagree || uint64(f.Ahead/time.Second) != got[wire.CodeTimeAhead] ||
						uint64(f.Behind/time.Second) != got[wire.CodeTimeBehind] {
						t.Errorf("metrics %v, %v, %v do not say what the notices %v say", f.Disagree, f.Ahead,
							f.Behind, got)
					}
					if wrong := r.timeOfRecord(t); wrong != c.record {
						t.Errorf("the time of a record is wrong by %v, want %v", wrong, c.record)
					}
					if len(got) != len(c.notices) {
						t.Errorf("notices %v, want %v", got, c.notices)
					}
					for code, want := range c.notices {
						if diff := max(got[code], want) - min(got[code], want); diff > 1 {
							t.Errorf("notice %s with %d, want %d", code, got[code], want)
						}
					}
					if handed := r.handed(); (len(handed) > 0) != c.handed || c.handed && handed[0] != "m2" {
						t.Errorf("the leadership was handed to %v", handed)
					}
				})
			})
		}
	}
}

// TestLeadershipThatComesBack checks that appends continue if the master with the right clock cannot win the election:
// the master with the wrong clock is elected again each time.
func TestLeadershipThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _, machine := newClockGroup(t)
		defer r.stop()
		r.members.Mu.Lock()
		r.members.OnHanded = func() {
			time.Sleep(time.Second) // the election
			r.ledger.CutLeadership()
		}
		r.members.Mu.Unlock()
		machine.SetWrong(year)
		r.ledger.CutLeadership()
		time.Sleep(time.Minute)
		added := 0
		for range 60 {
			if _, err := r.add(t, 1, ""); err == nil {
				added++
			}
			time.Sleep(time.Second)
		}
		if handed := len(r.handed()); added < 50 || handed < 2 || handed > 15 {
			t.Errorf("%d of 60 appends, and the leadership was handed over %d times", added, handed)
		}
	})
}

// TestGroupAfterAPause checks the time of records after the group was down for a day. Three clocks that agree bring the
// time at once. One clock does not, and a person sets the time.
func TestGroupAfterAPause(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		r, masters, machine := newClockGroup(t)
		defer r.stop()
		r.raise(t)
		setTime := func(by time.Duration) error {
			_, err := r.SetTime(t.Context(), uint64(time.Now().Add(by).UnixMilli()), by == 3*day)
			return err
		}
		if err := setTime(day); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("the time was set although the clocks agree: %v", err)
		}
		// A day passes for the wall clocks alone, as if no master had run meanwhile.
		for _, clock := range []*masterstest.Clock{machine, masters.clocks["m2"], masters.clocks["m3"]} {
			clock.SetWrong(day)
		}
		r.ledger.CutLeadership()
		time.Sleep(time.Second)
		if wrong := r.timeOfRecord(t); wrong != day {
			t.Errorf("three clocks agree, and the time of a record is wrong by %v", wrong)
		}
		masters.away("m2")
		masters.away("m3")
		time.Sleep(time.Minute)
		machine.SetWrong(3 * day)
		r.ledger.CutLeadership()
		time.Sleep(time.Second)
		if wrong := r.timeOfRecord(t); wrong != day {
			t.Errorf("one clock alone brought a time that is wrong by %v", wrong)
		}
		for _, by := range []time.Duration{0, day - time.Minute, 3*day - time.Second} {
			err := setTime(by)
			utc := time.Now().Add(by).UTC().Format("time 2006-01-02T15:04:05.000Z is")
			if !errors.Is(err, wire.ErrBadRequest) || by < day && !strings.Contains(err.Error(), utc) {
				t.Errorf("set to %v: %v", by, err)
			}
		}
		if _, err := r.SetTime(t.Context(), masterfsm.MaxTime+1, true); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("set to the year 10000: %v", err)
		}
		if err := setTime(3 * day); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if wrong := r.timeOfRecord(t); wrong != 3*day || !r.notice(wire.CodeTimeBehind).IsZero() {
			t.Errorf("a person has set the time, and the time of a record is wrong by %v", wrong)
		}
		events := r.Integrity(t.Context()).Events
		if !slices.ContainsFunc(events, func(e wire.Event) bool {
			return e.Kind == wire.EventTime && e.CauseCoded.Code == wire.CodeTimeSet
		}) {
			t.Errorf("the integrity log has %+v", events)
		}
	})
}

// TestTimeIsSetFromLevelThreeOn checks that masters which do not know the command never get it.
func TestTimeIsSetFromLevelThreeOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m3")
		defer r.stop()
		time.Sleep(10 * time.Second)
		entries := r.entries()
		_, err := r.SetTime(t.Context(), masterfsm.MaxTime, true)
		if !errors.Is(err, wire.ErrUnavailable) || r.entries() != entries {
			t.Errorf("%v, and %d log entries", err, r.entries()-entries)
		}
		masters.setLevel("m3", masterfsm.ProtocolLevel)
	})
}
