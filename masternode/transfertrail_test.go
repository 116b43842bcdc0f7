package masternode

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// intentsOf returns the records of the intents of an act.
func (r *rig) intentsOf(t *testing.T, act trail.Act) (list []trail.Record) {
	t.Helper()
	r.ledger.Read(func(s *masterfsm.State) {
		for index := s.HeldLeaf(); index < s.NextIndex(); index++ {
			found, at := s.Locate(index)
			if found != masterfsm.FoundRecord {
				continue
			}
			_, _, encoded, _ := s.Record(at.Block, at.Offset)
			record, err := chain.ParseRecord(encoded)
			if err != nil || record.Project != trail.ProjectID {
				continue
			}
			parsed, err := trail.Parse(record.Payload)
			if err != nil {
				t.Error(err)
			}
			if parsed.Act == act && parsed.Phase == trail.Intent {
				list = append(list, parsed)
			}
		}
	})
	return list
}

// audited brings the group to the level of the audit trail.
func (r *rig) audited(t *testing.T) {
	t.Helper()
	r.ledger.Audited.Store(true)
	_, err := r.leader.Propose(t.Context(), &masterfsm.RaiseLevel{Level: masterfsm.LevelAudit, Time: r.leader.Now()})
	if err != nil && !errors.Is(err, masterfsm.ErrStale) { // the group is there already
		t.Fatal(err)
	}
}

// TestRemovedLeaderRecordsTheTransfer checks that a leader which an administrator removes records that it hands over.
func TestRemovedLeaderRecordsTheTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newGroup(t)
		defer r.stop()
		r.audited(t)
		by := trail.Actor{Kind: trail.ByAdmin, Role: trail.RoleAdmin}
		ctx := origin.With(t.Context(), trail.Origin{Actor: by})
		for range 2 { // the second time the transfer is under way
			if err := r.RemoveMaster(ctx, "m1", false); !errors.Is(err, wire.ErrNotLeader) {
				t.Fatal(err)
			}
		}
		if list := r.intentsOf(t, trail.LeadershipTransfer); len(list) != 1 || list[0].Actor != by {
			t.Errorf("intents %+v", list)
		}
	})
}

// TestWrongClockRecordsTheTransfer checks that a leader with a wrong clock records that it hands over, also before its
// term begins, and that its intents end.
func TestWrongClockRecordsTheTransfer(t *testing.T) {
	for name, cut := range map[string]bool{"while it leads": false, "before its term": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _, machine := newClockGroup(t)
				defer r.stop()
				r.audited(t)
				var list []trail.Record // before their block is stored, and its body dropped
				r.members.Mu.Lock()
				r.members.OnHanded = func() {
					intents := r.intentsOf(t, trail.LeadershipTransfer)
					r.members.Mu.Lock()
					defer r.members.Mu.Unlock()
					list = append(list, intents...)
				}
				r.members.Mu.Unlock()
				machine.SetWrong(year)
				if cut {
					r.ledger.CutLeadership()
				}
				for end := time.Now().Add(5 * time.Minute); len(r.handed()) == 0 && time.Now().Before(end); {
					time.Sleep(time.Second)
				}
				synctest.Wait()
				handed := r.handed()
				r.members.Mu.Lock()
				got := slices.Clone(list)
				r.members.Mu.Unlock()
				leader := trail.Actor{Kind: trail.ByLeader, Name: "m1"}
				if len(handed) == 0 || len(got) != len(handed) || got[0].Actor != leader ||
					got[0].Target.ID != handed[0] {
					t.Errorf("handed to %q, intents %+v", handed, got)
				}
				time.Sleep(time.Minute)
				open := slices.DeleteFunc(r.table().Intents, func(i masterfsm.Intent) bool {
					return r.table().Now-i.Since < 31_000
				})
				if len(open) > 0 {
					t.Errorf("open intents %+v", open)
				}
			})
		})
	}
}
