package masternode

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// join adds masters to the group, with a vote.
func (r *rig) join(t *testing.T, masters *groupMasters, ids ...string) {
	t.Helper()
	for _, id := range ids {
		masters.set(member(id))
		if _, err := r.Announce(t.Context(), member(id), false); err != nil {
			t.Fatal(err)
		}
		if err := r.members.Promote(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}

// joiner is a new master. Its addresses may belong to another master.
func joiner(id, url, raft string) wire.Member { return wire.Member{ID: id, URL: url, Raft: raft} }

// TestLivingMasterKeepsItsPlace checks that a new master that announces an address of a live member is refused, however
// the member shows that it is live, and that no member is removed. From level 7 on the member keeps its addresses also
// when it is not live: only its own key changes them.
func TestLivingMasterKeepsItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		m      wire.Member
		happen func(*groupMasters)
	}{
		"a mistyped raft address": {m: joiner("m4", "http://m4", "m3:1"), happen: func(*groupMasters) {}},
		"its HTTP does not answer": {m: joiner("m4", "http://m4", "m3:1"), happen: func(g *groupMasters) {
			g.away("m3")
			g.set(wire.Member{ID: "m3", URL: "raft alone", Raft: "m3:1"})
		}},
		"it has moved and not told yet": {m: joiner("m4", "http://m3", "m4:1"), happen: func(g *groupMasters) {
			g.set(wire.Member{ID: "m3", URL: "http://elsewhere", Raft: "elsewhere:1"})
		}},
	} {
		for _, older := range []bool{true, false} {
			t.Run(fmt.Sprint(name, ", older ", older), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, masters := newGroupOf(t, older)
					defer r.stop()
					c.happen(masters)
					masters.set(c.m)
					announced, want := r.signed(c.m), wire.ErrOtherKey
					if older {
						want = wire.ErrBadRequest
					}
					before := r.ledger.Applied()
					if _, err := r.Node.Announce(t.Context(), announced, false); !errors.Is(err, want) {
						t.Errorf("it got %v", err)
					}
					if v := r.table(); !slices.Equal(r.ids(), []string{"m1", "m2", "m3"}) ||
						len(v.RemovedMasters) != 0 || r.ledger.Applied() != before {
						t.Errorf("it changed something: %v, removed %v", r.ids(), v.RemovedMasters)
					}
				})
			})
		}
	}
}

// TestJoinersWithOneRaftAddress checks that the second of two joiners with the default raft address gets an error, and
// does not replace the first.
func TestJoinersWithOneRaftAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		first, second := joiner("m4", "http://m4", "127.0.0.1:8010"), joiner("m5", "http://m5", "127.0.0.1:8010")
		masters.set(first)
		masters.set(second)
		if _, err := r.Announce(t.Context(), first, false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Announce(t.Context(), second, false); !errors.Is(err, wire.ErrOtherKey) {
			t.Errorf("the second got %v", err)
		}
		if !slices.Equal(r.ids(), []string{"m1", "m2", "m3", "m4"}) {
			t.Errorf("members: %v", r.ids())
		}
	})
}

// TestSwappedAddresses checks that members that have swapped their addresses, or rotated them, all stay in the group,
// whichever announces itself first.
func TestSwappedAddresses(t *testing.T) {
	for _, c := range []struct{ more, movers []string }{
		{nil, []string{"m2", "m3"}},
		{nil, []string{"m3", "m2"}},
		{[]string{"m4", "m5"}, []string{"m4", "m5"}},
		{[]string{"m4", "m5"}, []string{"m2", "m5", "m3", "m4"}},
	} {
		t.Run(fmt.Sprint(len(c.more)+3, " masters, ", c.movers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, masters := newGroup(t)
				defer r.stop()
				r.join(t, masters, c.more...)
				var moved []wire.Member
				for i, id := range c.movers {
					m := member(c.movers[(i+1)%len(c.movers)])
					m.ID = id
					moved = append(moved, m)
					masters.set(m)
				}
				for _, m := range moved {
					if _, err := r.Announce(t.Context(), m, false); err != nil {
						t.Fatalf("%s: %v", m.ID, err)
					}
				}
				v := r.table()
				if len(v.RemovedMasters) != 0 || len(r.ids()) != 3+len(c.more) {
					t.Errorf("members %v, removed %v", r.ids(), v.RemovedMasters)
				}
				for _, m := range moved {
					if !memberOf(r.members.Members(), v, m) {
						t.Errorf("%s is not known at %s and %s: %+v", m.ID, m.URL, m.Raft, v.Masters)
					}
				}
			})
		})
	}
}

// TestMemberWithAWrongRaftAddress checks that a member that announces a raft address at which it is not reachable does
// not replace the member at that address.
func TestMemberWithAWrongRaftAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		r.members.Mu.Lock()
		r.members.ReachesMember = func(id, address string) bool { return address == "" || address == id+":1" }
		r.members.Mu.Unlock()
		wrong := member("m2")
		wrong.Raft = "m3:1"
		masters.set(wrong)
		if _, err := r.Announce(t.Context(), wrong, false); !errors.Is(err, wire.ErrBadRequest) ||
			r.row("m3").Raft != "m3:1" {
			t.Errorf("%v, %+v", err, r.table().Masters)
		}
	})
}

// TestJoinCutShort checks that a join that was interrupted between the table and raft, and is never retried, does not
// block its address, and can be removed.
func TestJoinCutShort(t *testing.T) {
	for name, mend := range map[string]func(t *testing.T, r *rig, masters *groupMasters){
		"it comes again": func(t *testing.T, r *rig, _ *groupMasters) {
			if _, err := r.Announce(t.Context(), joiner("m4", "http://m4", "m4:1"), false); err != nil ||
				!slices.Contains(r.ids(), "m4") {
				t.Errorf("%v, %v", err, r.ids())
			}
		},
		"its disk was wiped": func(t *testing.T, r *rig, masters *groupMasters) {
			wiped := joiner("m4b", "http://m4", "m4:1")
			masters.set(wiped)
			if _, err := r.Announce(t.Context(), wiped, false); !errors.Is(err, wire.ErrOtherKey) {
				t.Errorf("before the other is removed: %v", err)
			}
			if err := r.RemoveMaster(t.Context(), "m4", false); err != nil {
				t.Error(err)
			}
			if _, err := r.Announce(t.Context(), wiped, false); err != nil ||
				!slices.Equal(r.ids(), []string{"m1", "m2", "m3", "m4b"}) {
				t.Errorf("%v, %v", err, r.ids())
			}
			if v := r.table(); !slices.Equal(v.RemovedMasters, []string{"m4"}) {
				t.Errorf("removed: %v", v.RemovedMasters)
			}
		},
		"it is removed": func(t *testing.T, r *rig, masters *groupMasters) {
			masters.away("m4")
			if err := r.RemoveMaster(t.Context(), "http://m4", false); err != nil {
				t.Error(err)
			}
			if v := r.table(); !slices.Equal(v.RemovedMasters, []string{"m4"}) || v.Master("m4").URL != "" {
				t.Errorf("the table: %+v, removed %v", v.Masters, v.RemovedMasters)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, masters := newGroup(t)
				defer r.stop()
				masters.set(joiner("m4", "http://m4", "m4:1"))
				r.members.Mu.Lock()
				r.members.Fail = errors.New("raft does not take it")
				r.members.Mu.Unlock()
				if _, err := r.Announce(t.Context(), joiner("m4", "http://m4", "m4:1"), false); err == nil ||
					r.row("m4").URL == "" || slices.Contains(r.ids(), "m4") {
					t.Fatalf("not cut short: %v, %v", err, r.ids())
				}
				mend(t, r, masters)
			})
		})
	}
}

// TestForwardedAnnouncement checks that a forwarded announcement is not forwarded again. Otherwise two masters that
// each consider the other the leader would forward it in a loop.
func TestForwardedAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		masters.set(member("m2"))
		ledger := &swaying{leader: "m1"}
		r := newJoiningRig(t, 0, func(cfg *Config, r *rig) {
			ledger.Ledger = r.ledger
			cfg.Ledger, cfg.Masters = ledger, masters
		})
		defer r.stop()
		if _, err := r.leader.Propose(t.Context(), &masterfsm.BeginTerm{
			Term: 9, Member: "m2", URL: "http://m2", Time: r.leader.Now(), Settings: r.cfg.Settings,
		}); err != nil {
			t.Fatal(err)
		}
		r.ledger.Vacancy = func() time.Duration { return time.Hour }
		ledger.elect("m2")
		r.ledger.CutLeadership()
		synctest.Wait()
		if _, err := r.Announce(t.Context(), member("m3"), true); !errors.Is(err, wire.ErrNotLeader) ||
			len(masters.announced) != 0 {
			t.Errorf("forwarded: %v, sent on to %v", err, masters.announced)
		}
		if _, err := r.Announce(t.Context(), member("m3"), false); err != nil ||
			!slices.Equal(masters.announced, []string{"http://m2"}) {
			t.Errorf("from the master itself: %v, sent on to %v", err, masters.announced)
		}
	})
}
