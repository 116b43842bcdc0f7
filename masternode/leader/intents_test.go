package leader

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestOutcomes tests when an intent of the audit trail is over, by rows. A leader judges by raft's configuration and
// the table alone, so any leader comes to the same outcome.
func TestOutcomes(t *testing.T) {
	const since, late = 1_000_000, 1_000_000 + transferTime + 1
	member := func(voter bool) []wire.Master { return []wire.Master{{ID: "m2", Raft: "m2:1", Voter: voter}} }
	table := []masterfsm.Master{{ID: "m2", Raft: "m2:1"}}
	moved := []masterfsm.Master{{ID: "m2", Raft: "m2:9"}}
	for name, c := range map[string]struct {
		act     trail.Act
		target  trail.TargetKind
		members []wire.Master
		table   []masterfsm.Master
		leader  string
		term    uint64
		now     uint64
		again   string        // the address of a newer intent to admit the master
		want    trail.Outcome // trail.Unknown while it is open
		ended   bool          // it ends although that is unknown
	}{
		"admitted":            {act: trail.MasterAdmit, members: member(false), table: table, want: trail.Succeeded},
		"not admitted yet":    {act: trail.MasterAdmit, table: table, want: trail.Unknown},
		"has other addresses": {act: trail.MasterAdmit, table: moved, want: trail.Unknown, ended: true},
		"moved and came back": {act: trail.MasterAdmit, members: member(true), table: table, again: "m2:1",
			want: trail.Unknown, ended: true},
		"removed meanwhile": {act: trail.MasterAdmit, want: trail.Unknown, ended: true},
		"removed":           {act: trail.MasterRemove, want: trail.Succeeded},
		"not removed yet":   {act: trail.MasterRemove, members: member(true), want: trail.Unknown},
		"promoted":          {act: trail.MasterPromote, members: member(true), want: trail.Succeeded},
		"not promoted yet":  {act: trail.MasterPromote, members: member(false), want: trail.Unknown},
		"gone before":       {act: trail.MasterPromote, want: trail.Unknown, ended: true},
		"handed over":       {act: trail.LeadershipTransfer, leader: "m2", term: 8, want: trail.Succeeded},
		"another leads":     {act: trail.LeadershipTransfer, leader: "m3", term: 8, want: trail.NotDone},
		"to any":            {act: trail.LeadershipTransfer, target: trail.OfGroup, leader: "m3", term: 8},
		"another leads, a term later": {act: trail.LeadershipTransfer, leader: "m3", term: 9, want: trail.Unknown,
			ended: true},
		"the same leads, a term later": {act: trail.LeadershipTransfer, leader: "m1", term: 9, want: trail.Unknown,
			ended: true},
		"the same leads again": {act: trail.LeadershipTransfer, leader: "m1", term: 8, want: trail.NotDone},
		"not handed over yet":  {act: trail.LeadershipTransfer, leader: "m1", term: 7, want: trail.Unknown},
		"not handed over":      {act: trail.LeadershipTransfer, leader: "m1", term: 7, now: late, want: trail.NotDone},
		"to any, it came again": {act: trail.LeadershipTransfer, target: trail.OfGroup, leader: "m1", term: 8,
			want: trail.NotDone},
	} {
		t.Run(name, func(t *testing.T) {
			i := masterfsm.Intent{
				Index: 5, Act: c.act, Target: trail.Target{Kind: trail.OfMaster, ID: "m2"}, Raft: "m2:1", Term: 7,
				Leader: "m1", Since: since,
			}
			if c.target == trail.OfGroup {
				i.Target = trail.Target{Kind: trail.OfGroup}
			}
			v := masterfsm.View{
				Masters: c.table, Term: masterfsm.Term{Term: c.term, Leader: c.leader},
				Intents: []masterfsm.Intent{i},
			}
			if c.again != "" {
				newer := i
				newer.Index, newer.Raft = 6, c.again
				v.Intents = append(v.Intents, newer)
			}
			outcome, known := outcomeOf(&i, &v, c.members, max(c.now, since))
			if outcome != c.want || known != (c.ended || c.want != trail.Unknown) {
				t.Errorf("%s, known %v; want %s", outcome, known, c.want)
			}
		})
	}
}

// TestIntentOfAPromotion checks that a promotion has one intent, however often it is tried, and one outcome, and that
// the origin of a request is that of its act.
func TestIntentOfAPromotion(t *testing.T) {
	l, ledger := newLeadership(t, members{"http://m2": {ID: "m2", URL: "http://m2", Raft: "m2:1"}})
	ledger.Audited.Store(true)
	if _, err := l.Propose(t.Context(), &masterfsm.RaiseLevel{Level: masterfsm.LevelAudit, Time: l.Now()}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.promote(t.Context(), "m3"); err != nil {
			t.Fatal(err)
		}
	}
	view := func() (v masterfsm.View) {
		ledger.Read(func(s *masterfsm.State) { v = s.View() })
		return v
	}
	open := view().Intents
	if len(open) != 1 || open[0].Act != trail.MasterPromote || open[0].Target.ID != "m3" {
		t.Fatalf("open intents %+v", open)
	}
	for range 2 { // as by two leaders
		if _, err := l.endIntent(action{kind: actEndIntent, block: open[0].Index})(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := l.end(t.Context(), &open[0], trail.Succeeded); err != nil {
			t.Fatal(err)
		}
	}
	before := ledger.State.NextIndex()
	if len(view().Intents) != 0 {
		t.Errorf("open intents %+v", view().Intents)
	}
	if err := l.end(t.Context(), &open[0], trail.Succeeded); err != nil || ledger.State.NextIndex() != before {
		t.Errorf("the outcome was recorded twice, or %v", err)
	}
	// The origin of a token that was revoked is refused by the state machine.
	by := trail.Origin{Actor: trail.Actor{Kind: trail.ByNamed, ID: 9, Name: "gone"}}
	_, err := l.Propose(origin.With(t.Context(), by), &masterfsm.CreateProject{Name: "x", Time: l.Now()})
	if !errors.Is(err, wire.ErrUnauthorized) {
		t.Error(err)
	}
}

// TestReports checks that what a node reports of its certificate and its secrets is committed once, and again at most
// once a minute, each by itself.
func TestReports(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	m := &memory{nodes: map[string]*lastSeen{"s1": {
		certificate: &wire.Certificate{Identity: "storage/s1", Serial: "ab"},
		secrets:     []wire.SecretUse{{Secret: "storage", Current: "1234abcd", Next: "99999999"}},
	}}}
	view := masterfsm.View{Level: masterfsm.LevelAudit, Storages: []masterfsm.Storage{{ID: "s1"}}}
	due := func(now time.Time) (acts []trail.Act) {
		w := &planner{view: view, memory: m, now: now, wanted: map[action]bool{}}
		w.reports()
		for _, a := range w.decided.start {
			if a.kind != actReport || a.node != "s1" || a.block != uint64(trail.OfStorage) {
				t.Errorf("action %+v", a)
			}
			acts = append(acts, trail.Act(a.version))
		}
		return acts
	}
	want := func(now time.Time, acts ...trail.Act) {
		t.Helper()
		if got := due(now); !slices.Equal(got, acts) {
			t.Errorf("reports of %v, want %v", got, acts)
		}
	}
	want(now, trail.CertificateReload, trail.SecretReload)
	for _, act := range []trail.Act{trail.CertificateReload, trail.SecretReload} {
		note := m.reportOf(act, trail.OfStorage, "s1", "m1")
		view.Reports = append(view.Reports, masterfsm.Reported{Act: act, Target: note.Target, Values: note.After})
	}
	want(now)
	m.nodes["s1"].reported = map[trail.Act]time.Time{trail.SecretReload: now}
	m.nodes["s1"].secrets = []wire.SecretUse{{Secret: "storage", Current: "99999999", Old: "1234abcd"}}
	want(now.Add(reportPause - 1))
	want(now.Add(reportPause), trail.SecretReload)
	m.nodes["s1"].certificate = &wire.Certificate{Identity: "storage/s1", Serial: "cd"}
	want(now, trail.CertificateReload)
	view.Level = masterfsm.LevelAudit - 1
	want(now)
	if got := secretValues(m.nodes["s1"].secrets); len(got) != 1 || got[0].Value != "99999999 old 1234abcd" {
		t.Errorf("values %+v", got)
	}
}
