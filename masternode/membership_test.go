package masternode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// member returns a master of the test's group.
func member(id string) wire.Member {
	return wire.Member{ID: id, URL: "http://" + id, Raft: id + ":1", Group: "cs-test", Epoch: 1}
}

// newGroup returns the leader m1, with m2 and m3 as voters that reply.
func newGroup(t *testing.T) (*rig, *groupMasters) {
	t.Helper()
	masters := newGroupMasters()
	r := newJoiningRig(t, 1, func(cfg *Config, r *rig) { cfg.Masters = masters })
	r.members.Mu.Lock()
	r.members.ReachesMember = masters.reaches
	r.members.Mu.Unlock()
	for _, id := range []string{"m2", "m3"} {
		masters.set(member(id))
		if _, err := r.Announce(t.Context(), member(id), false); err != nil {
			t.Fatal(err)
		}
		if err := r.members.Promote(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second) // until the leader has registered itself
	synctest.Wait()
	return r, masters
}

func (r *rig) table() (v masterfsm.View) {
	r.ledger.Read(func(s *masterfsm.State) { v = s.View() })
	return v
}

// row returns the table's row of a master.
func (r *rig) row(id string) masterfsm.Master {
	v := r.table()
	return v.Master(id)
}

func (r *rig) ids() (ids []string) {
	for _, m := range r.members.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// TestJoin checks that a new master becomes a member without a vote, and gets a vote when it has nearly all of the log.
func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		r.members.Mu.Lock()
		r.members.OnApplied = func() uint64 { return 100_000 }
		r.members.Mu.Unlock()
		fresh := member("m4")
		fresh.Group, fresh.Epoch = "", 0
		masters.set(fresh)
		answer, err := r.Announce(t.Context(), fresh, false)
		if err != nil || answer.Group != "cs-test" || answer.Epoch != 1 {
			t.Fatalf("%+v, %v", answer, err)
		}
		voter := func() bool {
			for _, m := range r.members.Members() {
				if m.ID == "m4" {
					return m.Voter
				}
			}
			t.Fatal("m4 is no member")
			return false
		}
		behind := member("m4")
		behind.Applied = 100_000 - nearlyAll - 1
		masters.set(behind)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if voter() {
			t.Fatal("it votes while it is far behind")
		}
		behind.Applied++
		masters.set(behind)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if !voter() {
			t.Fatal("it has caught up and does not vote")
		}
		// A repeated announcement creates no log entry; a new address is accepted.
		entries := r.ledger.Applied()
		if _, err := r.Announce(t.Context(), behind, false); err != nil || r.ledger.Applied() != entries {
			t.Errorf("announced again: %v, %d entries more", err, r.ledger.Applied()-entries)
		}
		moved := behind
		moved.URL, moved.Raft = "http://m4-new", "m4-new:1"
		masters.set(moved)
		if _, err := r.Announce(t.Context(), moved, false); err != nil || r.row("m4").URL != moved.URL {
			t.Errorf("moved: %v, %+v", err, r.table().Masters)
		}
		if m := r.members.Members(); m[3].Raft != moved.Raft || !m[3].Voter {
			t.Errorf("moved: %+v", m[3])
		}
	})
}

func TestAnnounceRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		other, old, silent, liar, removed := member("m5"), member("m5"), member("m6"), member("m7"), member("m2")
		other.Group = "cs-other"
		old.Epoch = 0
		there := member("m7")
		there.ID = "m8"
		masters.set(there)
		masters.set(other)
		if err := r.RemoveMaster(t.Context(), "http://m2", false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the leader has done what follows from the removal
		for name, c := range map[string]struct {
			m    wire.Member
			want error
		}{
			"of another group":             {other, wire.ErrOtherGroup},
			"of before a recovery":         {old, masterfsm.ErrMasterRemoved},
			"removed":                      {removed, masterfsm.ErrMasterRemoved},
			"not there":                    {silent, wire.ErrBadRequest},
			"another one is there":         {liar, wire.ErrBadRequest},
			"the leader's own address":     {wire.Member{ID: "m9", URL: "http://m9", Raft: "m1:1"}, wire.ErrOtherKey},
			"no id":                        {wire.Member{URL: "http://x", Raft: "x:1"}, wire.ErrBadRequest},
			"an id that raft cannot carry": {wire.Member{ID: "a@b", URL: "http://x", Raft: "x:1"}, wire.ErrBadRequest},
			"no URL":                       {wire.Member{ID: "x", URL: "x", Raft: "x:1"}, wire.ErrBadRequest},
			"no raft address":              {wire.Member{ID: "x", URL: "http://x", Raft: "x"}, wire.ErrBadRequest},
		} {
			if name == "the leader's own address" {
				masters.set(c.m)
			}
			announced := r.signed(c.m)
			before := r.ledger.Applied()
			if _, err := r.Node.Announce(t.Context(), announced, false); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			if r.ledger.Applied() != before || !slices.Equal(r.ids(), []string{"m1", "m3"}) {
				t.Errorf("%s: it changed something: %v", name, r.ids())
			}
		}
	})
}

// newGroupOf returns a group of m1, m2 and m3, which is that of newGroup, or one below protocol level 7.
func newGroupOf(t *testing.T, older bool) (*rig, *groupMasters) {
	t.Helper()
	if !older {
		return newGroup(t)
	}
	r, masters := newOlderGroup(t, "m2")
	r.members.Mu.Lock()
	r.members.ReachesMember = masters.reaches
	r.members.Mu.Unlock()
	if err := r.members.Promote(t.Context(), "m3"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // until the leader has registered itself
	synctest.Wait()
	return r, masters
}

// TestRemovedMasterIsReplaced checks that a wiped master joins at the old address with a ticket once the old member was
// removed, and that it neither joins nor removes anything before.
func TestRemovedMasterIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		wiped := member("m3")
		wiped.ID, wiped.Group, wiped.Epoch = "m3b", "", 0
		masters.set(wiped)
		_, err := r.Announce(t.Context(), wiped, false)
		for _, key := range []joining.Key{keyOf("m3"), keyOf("m3b")} {
			if !errors.Is(err, wire.ErrOtherKey) || !strings.Contains(err.Error(), fmt.Sprint(key)) {
				t.Errorf("%v does not name the key %v", err, key)
			}
		}
		if !slices.Equal(r.ids(), []string{"m1", "m2", "m3"}) {
			t.Fatalf("the members are %v", r.ids())
		}
		if err := r.RemoveMaster(t.Context(), "m3", false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Announce(t.Context(), wiped, false); err != nil ||
			!slices.Equal(r.ids(), []string{"m1", "m2", "m3b"}) {
			t.Fatalf("%v, %v", err, r.ids())
		}
	})
}

// TestWipedMasterTakesItsPlace checks that below protocol level 7 a wiped master, which returns with another id at the
// old address, replaces the old member if the others have a quorum without it.
func TestWipedMasterTakesItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroupOf(t, true)
		defer r.stop()
		wiped := member("m3")
		wiped.ID, wiped.Group, wiped.Epoch = "m3b", "", 0
		masters.set(wiped)
		masters.away("m2")
		if _, err := r.Announce(t.Context(), wiped, false); !errors.Is(err, wire.ErrTooFewMasters) ||
			!slices.Equal(r.ids(), []string{"m1", "m2", "m3"}) {
			t.Fatalf("while another is away: %v, %v", err, r.ids())
		}
		masters.set(member("m2"))
		if _, err := r.Announce(t.Context(), wiped, false); err != nil ||
			!slices.Equal(r.ids(), []string{"m1", "m2", "m3b"}) {
			t.Fatalf("%v, %v", err, r.ids())
		}
		if v := r.table(); !slices.Equal(v.RemovedMasters, []string{"m3"}) || v.Master("m3b").URL != "http://m3" {
			t.Errorf("the table: %+v, removed %v", v.Masters, v.RemovedMasters)
		}
	})
}

func TestRemoveMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		ctx := t.Context()
		if err := r.RemoveMaster(ctx, "m9", false); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("one that is not there: %v", err)
		}
		masters.away("m2")
		masters.away("m3")
		if err := r.RemoveMaster(ctx, "m2", false); !errors.Is(err, wire.ErrTooFewMasters) || len(r.ids()) != 3 {
			t.Errorf("with m3 away: %v, %v", err, r.ids())
		}
		masters.set(member("m3"))
		if err := r.RemoveMaster(ctx, "m2", false); err != nil || !slices.Equal(r.ids(), []string{"m1", "m3"}) {
			t.Errorf("%v, %v", err, r.ids())
		}
		// The leader transfers the leadership first; the next one removes it.
		if err := r.RemoveMaster(ctx, "http://m1/", false); !errors.Is(err, wire.ErrNotLeader) ||
			!slices.Equal(r.members.Handed, []string{""}) {
			t.Errorf("the leader itself: %v, handed to %q", err, r.members.Handed)
		}
		masters.away("m3")
		if err := r.RemoveMaster(ctx, "m3", true); err != nil || !slices.Equal(r.ids(), []string{"m1"}) {
			t.Errorf("by force: %v, %v", err, r.ids())
		}
		if err := r.RemoveMaster(ctx, "m1", true); !errors.Is(err, wire.ErrTooFewMasters) {
			t.Errorf("the only one, by force: %v", err)
		}
	})
}

// TestRemovalIsFinished checks that the plan of this leader, or of the next, completes a removal that was committed to
// the table but did not reach raft's configuration.
func TestRemovalIsFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newGroup(t)
		defer r.stop()
		r.members.Mu.Lock()
		r.members.Fail = wire.ErrNotLeader
		r.members.Mu.Unlock()
		if err := r.RemoveMaster(t.Context(), "m2", false); !errors.Is(err, wire.ErrNotLeader) {
			t.Fatal(err)
		}
		r.ledger.CutLeadership()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if !slices.Equal(r.ids(), []string{"m1", "m3"}) {
			t.Errorf("members: %v", r.ids())
		}
	})
}

// TestMasterEnds checks that a master exits and records the reason if it learns of a higher epoch, or finds itself
// removed from the table.
func TestMasterEnds(t *testing.T) {
	for name, happen := range map[string]func(t *testing.T, r *rig, masters *groupMasters){
		"recovered without it": func(t *testing.T, r *rig, _ *groupMasters) {
			m := member("m2")
			m.Epoch = 2
			m = r.signed(m)
			if _, err := r.Node.Announce(t.Context(), m, false); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("the announcement: %v", err)
			}
		},
		"removed": func(t *testing.T, r *rig, _ *groupMasters) {
			if _, err := r.leader.Propose(t.Context(),
				&masterfsm.RemoveMaster{ID: "m1", Time: r.leader.Now()}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, masters := newGroup(t)
				ended := r.ended
				happen(t, r, masters)
				select {
				case err := <-ended:
					if !errors.Is(err, wire.ErrRemoved) {
						t.Errorf("it ended with %v", err)
					}
				case <-time.After(time.Minute):
					t.Error("it goes on")
					r.stop()
				}
				if !r.members.Retired {
					t.Error("it did not write it down")
				}
			})
		})
	}
}

// TestUnprovenEpoch checks that a master goes on if another one says that the group was recovered, and does not prove
// that it is a member: whoever has the cluster token can say so.
func TestUnprovenEpoch(t *testing.T) {
	signed := func(m wire.Member, key string) wire.Member {
		m.Proof = joining.Prove("cs-test", m, 9, keyOf(key), joining.Key{})
		return m
	}
	for name, say := range map[string]func(r *rig, m wire.Member) wire.Member{
		"without a signature": func(_ *rig, m wire.Member) wire.Member { return m },
		"with another key":    func(_ *rig, m wire.Member) wire.Member { return signed(m, "thief") },
		"of another epoch": func(_ *rig, m wire.Member) wire.Member {
			m = signed(m, "m2")
			m.Epoch = 999
			return m
		},
		"of a master that the table does not have": func(_ *rig, m wire.Member) wire.Member {
			m.ID = "m9"
			return signed(m, "m9")
		},
		"of this master": func(_ *rig, m wire.Member) wire.Member {
			m.ID = "m1"
			return signed(m, "m1")
		},
		"of another master at the URL": func(r *rig, m wire.Member) wire.Member {
			at := m
			at.ID = "m9"
			r.cfg.Masters.(*groupMasters).set(at)
			return m
		},
		"at the URL of the member": func(r *rig, m wire.Member) wire.Member {
			r.cfg.Masters.(*groupMasters).set(m)
			return m
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newGroup(t)
				m := member("m2")
				m.Epoch = 2
				m = say(r, m)
				if _, err := r.Node.Announce(t.Context(), m, false); !errors.Is(err, wire.ErrUnavailable) {
					t.Errorf("the announcement: %v", err)
				}
				select {
				case err := <-r.ended:
					t.Errorf("it ended with %v", err)
				case <-time.After(time.Minute):
					r.stop()
				}
				if r.members.Retired {
					t.Error("it has written down that it was removed")
				}
			})
		})
	}
}

func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		if _, err := r.TransferLeadership(t.Context(), "m9"); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("to one that is not there: %v", err)
		}
		if id, err := r.TransferLeadership(t.Context(), "m1"); err != nil || id != "m1" || len(r.members.Handed) != 0 {
			t.Errorf("to itself: %q, %v", id, err)
		}
		r.members.Mu.Lock()
		r.members.Fail = errors.New("it does not answer")
		r.members.Mu.Unlock()
		if _, err := r.TransferLeadership(t.Context(), "m2"); !errors.Is(err, wire.ErrNotVoter) ||
			!slices.Equal(r.members.Handed, []string{"m2"}) {
			t.Errorf("to one that does not answer: %v, %q", err, r.members.Handed)
		}
		// A master without a vote cannot become leader. It gets no vote while it is so far behind.
		r.members.Mu.Lock()
		r.members.OnApplied = func() uint64 { return 10 * nearlyAll }
		r.members.Mu.Unlock()
		masters.set(member("m4"))
		if _, err := r.Announce(t.Context(), member("m4"), false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.TransferLeadership(t.Context(), "http://m4"); !errors.Is(err, wire.ErrNotVoter) ||
			len(r.members.Handed) != 1 {
			t.Errorf("to one without a vote: %v, %q", err, r.members.Handed)
		}
		// The leadership is transferred, but no term begins.
		begin := time.Now()
		if _, err := r.TransferLeadership(t.Context(), "m3"); !errors.Is(err, wire.ErrNoLeader) ||
			time.Since(begin) != handOverWait {
			t.Errorf("without an end: %v after %v", err, time.Since(begin))
		}
	})
}
