package leader

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// members replies to calls in place of the other masters, by URL.
type members map[string]wire.Member

func (m members) Member(_ context.Context, url string) (wire.Member, error) {
	there, ok := m[url]
	if !ok {
		return wire.Member{}, wire.ErrNoAnswer
	}
	return there, nil
}

// newLeadership returns a term of master m1 that does nothing by itself. m2 is another voter, and m3 has no vote.
func newLeadership(t *testing.T, others members) (*leadership, *masterstest.Ledger) {
	t.Helper()
	ledger, membership := masterstest.NewLedger(t), masterstest.NewMembership()
	ledger.Leads = true
	membership.List = append(membership.List, wire.Master{ID: "m2", Raft: "m2:1", Voter: true},
		wire.Master{ID: "m3", Raft: "m3:1"})
	l := New(Config{
		Member: wire.Member{ID: "m1", URL: "http://m1"}, Options: Options{Settings: masterfsm.DefaultSettings()},
		Ledger: ledger, Membership: membership, Masters: others, Workers: masterstest.NewWorkers(t, 0),
		Logger: hclog.NewNullLogger(), Clock: time.Now, Changing: new(sync.Mutex),
		Disk: func() wire.Disk { return wire.Disk{} }, OnLead: func() {}, OnMember: func(wire.Member) {},
		Stop: func(err error) { t.Errorf("the master ends: %v", err) },
	})
	if err := l.begin(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for _, m := range others {
		if _, err := l.Propose(t.Context(),
			&masterfsm.AdmitMaster{ID: m.ID, URL: m.URL, Raft: m.Raft, Time: l.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	now := &leadership{Leader: l, order: wire.Order{Epoch: 1, Term: 1}, fences: newFences()}
	now.fences.suspended.Store(false)
	l.current.Store(now)
	return now, ledger
}

// TestLevelIsAskedForAgain checks that an old response of a member does not count: the member may have been restarted
// with an older program.
func TestLevelIsAskedForAgain(t *testing.T) {
	others := members{
		"http://m2": {ID: "m2", URL: "http://m2", Raft: "m2:1"},
		"http://m3": {ID: "m3", URL: "http://m3", Raft: "m3:1"},
	}
	l, ledger := newLeadership(t, others)
	level := func() (level uint64) {
		ledger.Read(func(s *masterfsm.State) { level = s.Level() })
		return level
	}
	for _, url := range []string{"http://m2", "http://m3"} {
		if _, err := l.raiseLevel()(t.Context()); !errors.Is(err, wire.ErrBadRequest) || level() != 0 {
			t.Errorf("raised to %d although the master at %s does not know it: %v", level(), url, err)
		}
		m := others[url]
		m.Level = masterfsm.ProtocolLevel
		others[url] = m
	}
	if _, err := l.raiseLevel()(t.Context()); err != nil || level() != masterstest.Level {
		t.Errorf("all know it: level %d, %v", level(), err)
	}
}

// counting counts the commands that are proposed.
type counting struct {
	Ledger
	proposed int
}

func (c *counting) Propose(ctx context.Context, data []byte) (any, error) {
	c.proposed++
	return c.Ledger.Propose(ctx, data)
}

// TestNewCommandsNeedTheirLevel checks that no command is proposed which a master at the group's level may not know: it
// would stop when it applies it, and at each start after that.
func TestNewCommandsNeedTheirLevel(t *testing.T) {
	l, ledger := newLeadership(t, members{})
	count := &counting{Ledger: ledger}
	l.cfg.Ledger = count
	for _, c := range []masterfsm.Command{
		&masterfsm.SetTime{}, &masterfsm.ChangeSettings{}, &masterfsm.MarkMiners{}, &masterfsm.RemoveMiner{},
		&masterfsm.ReportFailedSync{}, &masterfsm.RemoveStream{},
		&masterfsm.CreateAdmin{}, &masterfsm.RevokeAdmin{}, &masterfsm.ExpireAdmins{}, &masterfsm.OpenStream{},
	} {
		if _, err := l.Propose(t.Context(), c); !errors.Is(err, wire.ErrUnavailable) || count.proposed > 0 {
			t.Errorf("%T at level 0: %d proposed, %v", c, count.proposed, err)
			count.proposed = 0
		}
	}
	if _, err := l.Propose(t.Context(), &masterfsm.Suspect{}); count.proposed != 1 {
		t.Errorf("a command of every version is not proposed: %v", err)
	}
}

// TestAddressesAreRightBeforeKeys checks that the table has the addresses that the members announce before it takes
// their first keys at them: the leader records its own, and the level waits for the others.
func TestAddressesAreRightBeforeKeys(t *testing.T) {
	others := members{
		"http://m2": {ID: "m2", URL: "http://m2", Raft: "m2:1", Level: masterfsm.ProtocolLevel},
		"http://m3": {ID: "m3", URL: "http://m3", Raft: "m3:1", Level: masterfsm.ProtocolLevel},
	}
	l, ledger := newLeadership(t, others)
	ledger.Audited.Store(true)
	var view masterfsm.View
	raise := func() error {
		_, err := l.raiseLevel()(t.Context())
		ledger.Read(func(s *masterfsm.State) { view = s.View() })
		return err
	}
	// The leader was recovered with another raft address, and moved to https.
	if _, err := l.Propose(t.Context(),
		&masterfsm.AdmitMaster{ID: "m1", URL: "http://old", Raft: "old:1", Time: l.Now()}); err != nil {
		t.Fatal(err)
	}
	for name, at := range map[string]wire.Member{
		"raft address": {ID: "m2", URL: "http://m2", Raft: "moved:1", Level: masterfsm.ProtocolLevel},
		"URL":          {ID: "m2", URL: "https://m2", Raft: "m2:1", Level: masterfsm.ProtocolLevel},
	} {
		was := others["http://m2"]
		others["http://m2"] = at
		for range 2 {
			if err := raise(); view.Level != masterfsm.LevelJoining-1 {
				t.Errorf("m2 has another %s than the table: level %d, %v", name, view.Level, err)
			}
		}
		others["http://m2"] = was
	}
	if err := raise(); err != nil || view.Level != masterfsm.ProtocolLevel {
		t.Errorf("level %d, %v", view.Level, err)
	}
	if row := view.Master("m1"); row.URL != "http://m1" || row.Raft != "m1:1" {
		t.Errorf("the leader is recorded as %+v", row)
	}
}
