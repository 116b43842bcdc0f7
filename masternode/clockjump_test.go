package masternode

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// mostWrong bounds how far the time of a record may be from the true time.
const mostWrong = 10 * time.Second

// TestClockJumps sets the leader's wall clock again and again, by years in both directions, within a term and between
// two terms. After each jump everything continues that depends on time, and records get the right times.
func TestClockJumps(t *testing.T) {
	for name, terms := range map[string]bool{"within a term": false, "between two terms": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var machine masterstest.Clock
				r := newRig(t, 3, func(c *Config, _ *rig) {
					c.Clock, c.CheckInterval = machine.Now, 20*time.Second
				})
				defer r.stop()
				rate := uint64(4)
				if _, err := r.ChangeProject(t.Context(), "p",
					wire.ProjectChange{Quota: &wire.QuotaChange{RecordsPerSecond: &rate}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				for _, wrong := range []time.Duration{
					year, 0, -year, 20 * year, -20 * year, -90 * year, 5 * time.Second, time.Minute, 0,
				} {
					key := "before " + wrong.String()
					before, err := r.add(t, 1, key)
					if err != nil {
						t.Fatal(err)
					}
					machine.SetWrong(wrong)
					if terms {
						r.ledger.CutLeadership()
						time.Sleep(time.Second)
					}
					after, err := r.add(t, 1, key)
					if err != nil || !after.Replay || after.Positions[0].Index != before.Positions[0].Index {
						t.Errorf("the key of before: %+v, %v; at first %+v", after, err, before)
					}
					if r.timeGoesOn(t, "the clock set by "+wrong.String()); t.Failed() {
						return
					}
				}
				// The keys expire after ten minutes, by the time that has passed.
				for range 10 {
					if _, err := r.add(t, 1, ""); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Minute)
				}
				if late, err := r.add(t, 1, "before "+time.Duration(0).String()); err != nil || late.Replay {
					t.Errorf("a key of more than ten minutes ago: %+v, %v", late, err)
				}
			})
		})
	}
}

// add appends a number of equal records.
func (r *rig) add(t *testing.T, records int, key string) (Appended, error) {
	entries := make([]Entry, records)
	for i := range entries {
		entries[i].Payload = []byte("x")
	}
	return r.Append(t.Context(), r.project, entries, key)
}

// timeGoesOn checks that everything continues that depends on time.
func (r *rig) timeGoesOn(t *testing.T, when string) {
	t.Helper()
	before := r.Integrity(t.Context()).Totals.Checks
	time.Sleep(2 * time.Second) // refills the quota
	added, err := r.add(t, 4, "")
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	for _, p := range added.Positions {
		if wrong := time.Since(time.UnixMilli(int64(p.Time))); wrong.Abs() > mostWrong {
			t.Errorf("%s: the time of a record is wrong by %v", when, -wrong)
		}
	}
	if _, err := r.add(t, 4, ""); !errors.Is(err, wire.ErrQuota) {
		t.Errorf("%s: beyond the quota: %v", when, err)
	}
	time.Sleep(2 * time.Second)
	if _, err := r.add(t, 4, ""); err != nil {
		t.Errorf("%s: after the quota was refilled: %v", when, err)
	}
	time.Sleep(5 * time.Second) // to be cut, mined and stored
	if v := r.table(); v.OpenRecords > 0 || v.Stored != v.Head.Height || v.Pending > 0 {
		t.Errorf("%s: %d records are not cut, %d blocks are mined, %d are stored", when, v.OpenRecords, v.Head.Height,
			v.Stored)
	}
	time.Sleep(time.Minute)
	if checks := r.Integrity(t.Context()).Totals.Checks - before; checks < 6 || checks > 14 {
		t.Errorf("%s: %d checks of three nodes in 70 seconds, with one each 20 seconds", when, checks)
	}
}

// TestChecksOfShortTerms checks that nodes are checked on schedule although no leader leads for as long as the
// interval, and although the table's time is a year ahead, because an older version let a clock set it.
func TestChecksOfShortTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(c *Config, _ *rig) { c.CheckInterval = time.Minute })
		defer r.stop()
		r.raise(t)
		if _, err := r.add(t, 1, ""); err != nil {
			t.Fatal(err)
		}
		ahead := uint64(time.Now().AddDate(1, 0, 0).UnixMilli())
		if _, err := r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.CreateProject{
			Name: "of-a-wrong-clock", Time: ahead,
		})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute) // each node is checked once, at a time of the future
		before := r.Integrity(t.Context()).Totals.Checks
		for range 30 {
			r.ledger.CutLeadership()
			time.Sleep(20 * time.Second)
		}
		if checks := r.Integrity(t.Context()).Totals.Checks - before; checks < 24 || checks > 36 {
			t.Errorf("%d checks of three nodes in ten minutes, with one each minute", checks)
		}
	})
}

// raise brings the group to the protocol level of this program.
func (r *rig) raise(t *testing.T) {
	t.Helper()
	if r.table().Level == masterstest.Level {
		return
	}
	if _, err := r.ledger.Propose(t.Context(),
		r.ledger.Encode(&masterfsm.RaiseLevel{Level: masterstest.Level})); err != nil {
		t.Fatal(err)
	}
}
