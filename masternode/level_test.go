package masternode

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// newOlderGroup returns the leader m1, with m2 as a voter and m3 without a vote. The members named in older run a
// program of protocol level 0.
func newOlderGroup(t *testing.T, older ...string) (*rig, *groupMasters) {
	t.Helper()
	masters := newGroupMasters()
	r := newRig(t, 0, func(c *Config, r *rig) {
		c.Masters = masters
		r.members.List = append(r.members.List, wire.Master{ID: "m2", Raft: "m2:1", Voter: true},
			wire.Master{ID: "m3", Raft: "m3:1"})
	})
	for _, id := range older {
		masters.setLevel(id, 0)
	}
	for _, id := range []string{"m2", "m3"} {
		masters.set(member(id))
		if _, err := r.Announce(t.Context(), member(id), false); err != nil {
			t.Fatal(err)
		}
	}
	return r, masters
}

// registerAgain registers the miners once more, with their level, as their programs do every ten seconds. The table
// has the levels of workers from level 2 on.
func (r *rig) registerAgain(t *testing.T) {
	t.Helper()
	for _, m := range r.table().Miners {
		_, err := r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.Register{
			Role: masterfsm.RoleMiner, ID: m.ID, URL: m.URL, MasterToken: "x", Boot: "1",
			Level: masterfsm.ProtocolLevel, Time: r.leader.Now(),
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestLevelIsRaisedWhenAllKnowIt checks that the group's level is raised once every member, including non-voters, has
// announced it. Until then the status names the members that are missing.
func TestLevelIsRaisedWhenAllKnowIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m3")
		defer r.stop()
		waits := func() bool {
			m := r.notice(wire.CodeLevelWaits)
			return !m.IsZero() && m.Args["level"] == uint64(0) && m.Args["next"] == uint64(masterfsm.ProtocolLevel) &&
				slices.Equal(m.Args["nodes"].([]string), []string{"m3"})
		}
		older := func() bool {
			m := r.notice(wire.CodeOlderMaster)
			return !m.IsZero() && m.Args["node"] == "m3" && m.Args["level"] == uint64(0) &&
				m.Args["next"] == uint64(masterfsm.ProtocolLevel)
		}
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != 0 || !waits() || !older() {
			t.Fatalf("level %d although m3 does not know the next; notices %q", level, r.Cluster(t.Context()).Notices)
		}
		masters.setLevel("m3", masterfsm.ProtocolLevel)
		masters.away("m3")
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != 0 || !waits() {
			t.Fatalf("level %d although m3 does not answer; notices %q", level, r.Cluster(t.Context()).Notices)
		}
		masters.set(member("m3"))
		time.Sleep(10 * time.Second)
		r.registerAgain(t)
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != masterstest.Level || waits() || older() {
			t.Fatalf("level %d; notices %q", level, r.Cluster(t.Context()).Notices)
		}

		// From now on no older program is admitted.
		old := member("m4")
		masters.setLevel("m4", 0)
		masters.set(old)
		if _, err := r.Announce(t.Context(), old, false); !errors.Is(err, wire.ErrBadRequest) ||
			!strings.Contains(err.Error(), "protocol level 0") {
			t.Errorf("an older master: %v", err)
		}
		masters.setLevel("m4", masterfsm.ProtocolLevel)
		if _, err := r.Announce(t.Context(), old, false); err != nil {
			t.Errorf("a master of this level: %v", err)
		}
	})
}

// TestLevelBetween checks that the group gets the highest level that all members know, even if it is not that of this
// program.
func TestLevelBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m2", "m3")
		defer r.stop()
		masters.setLevel("m2", 1)
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != 0 {
			t.Fatalf("level %d with a member of level 0", level)
		}
		masters.setLevel("m3", masterfsm.ProtocolLevel)
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != 1 {
			t.Fatalf("level %d with a member of level 1", level)
		}
		if nodes := r.notice(wire.CodeLevelWaits).Args["nodes"]; !reflect.DeepEqual(nodes, []string{"m2"}) {
			t.Errorf("it waits for %v", nodes)
		}
		if m := r.notice(wire.CodeOlderMaster); m.Args["node"] != "m2" || m.Args["level"] != uint64(1) {
			t.Errorf("the notice is %+v", m)
		}
		masters.setLevel("m2", masterfsm.ProtocolLevel+1)
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != masterfsm.LevelProofs-1 {
			t.Fatalf("level %d with a miner that has not announced its level", level)
		}
		r.registerAgain(t)
		time.Sleep(10 * time.Second)
		if level := r.table().Level; level != masterstest.Level {
			t.Fatalf("level %d", level)
		}
	})
}

// TestFailedChecksAndRepairsBelowTheLevelOfCodes checks that failed checks and repairs are recorded with the earlier
// commands, which every member can read, while the group is below the level of codes.
func TestFailedChecksAndRepairsBelowTheLevelOfCodes(t *testing.T) {
	for level := range uint64(masterfsm.LevelCodes) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := newDamageRig(t, func(c *Config, r *rig) {
				c.CheckInterval = 0
				masters := newGroupMasters()
				masters.set(member("m2"))
				masters.setLevel("m2", level)
				c.Masters = masters
				r.members.List = append(r.members.List, wire.Master{ID: "m2", Raft: "m2:1", Voter: true})
			})
			defer r.stop()
			if _, err := r.Announce(t.Context(), member("m2"), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
			r.on("http://s1", func(s *masterstest.Storage) {
				s.Report = func(wire.CheckOrder) wire.CheckStatus {
					return wire.CheckStatus{Error: "too many open files"}
				}
			})
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
			if n := r.nodeOf(t, "http://s1"); n.Aborted == nil {
				t.Errorf("level %d: the check that ended early is not recorded: %+v", level, n)
			}
			r.on("http://s1", func(s *masterstest.Storage) {
				s.Report, s.Bad[3], s.ReceiveErr = nil, true, errors.New("HTTP 500")
			})
			time.Sleep(time.Minute)
			if i := r.Integrity(t.Context()); i.Totals.FailedRepairs == 0 {
				t.Errorf("level %d: the repair that failed is not recorded: %+v", level, i.Totals)
			}
			r.on("http://s1", func(s *masterstest.Storage) { s.ReceiveErr = nil })
			r.allValid(t, 2*time.Minute)
			if got := r.table().Level; got != level {
				t.Errorf("the level is %d, not %d: the test shows nothing", got, level)
			}
		})
	}
}

// TestSettingsChangeByCommandOnly checks that settings change by an administrator's command, that the integrity log has
// the change, and that a flag with another value has a notice.
func TestSettingsChangeByCommandOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, func(c *Config, _ *rig) { c.SettingsGiven = []string{"replicas", "peers"} })
		defer r.stop()
		time.Sleep(10 * time.Second)
		before := r.Cluster(t.Context()).Settings
		if level := r.table().Level; level < masterfsm.LevelSettings || before.Replicas != 2 {
			t.Fatalf("level %d, settings %+v", level, before)
		}
		if m := r.notice(wire.CodeSettingIgnored); !m.IsZero() {
			t.Errorf("notice %+v", m)
		}
		for name, c := range map[string]wire.SettingsChange{
			"nothing":          {},
			"replicas":         {Replicas: new(uint8)},
			"more than it has": {WitnessQuorum: new(uint8(1))},
		} {
			if _, err := r.ChangeSettings(t.Context(), c); wire.ProblemOf(err) != wire.ErrBadRequest &&
				!errors.Is(err, masterfsm.ErrBadCommand) {
				t.Errorf("%s: %v", name, err)
			}
		}
		want := before
		want.Replicas, want.MaxKeys = 1, 7
		got, err := r.ChangeSettings(t.Context(), wire.SettingsChange{Replicas: new(uint8(1)), MaxKeys: new(uint32(7))})
		if err != nil || got != want {
			t.Fatalf("%+v, %v", got, err)
		}
		c := r.Cluster(t.Context())
		if c.Settings != want || c.Replicas != 1 {
			t.Errorf("the status has %+v", c.Settings)
		}
		// max-keys was not given on the command line, so only replicas has a notice.
		var ignored []wire.Args
		for _, m := range c.NoticesCoded {
			if m.Code == wire.CodeSettingIgnored {
				ignored = append(ignored, m.Args)
			}
		}
		if notice := (wire.Args{"setting": "replicas", "asked": "2", "value": "1"}); len(ignored) != 1 ||
			!reflect.DeepEqual(ignored[0], notice) {
			t.Errorf("notices %v", ignored)
		}
		events := 0
		for _, e := range r.Integrity(t.Context()).Events {
			if e.Kind == wire.EventSetting {
				events++
			}
		}
		if events != 2 {
			t.Errorf("%d events of changed settings", events)
		}
	})
}
