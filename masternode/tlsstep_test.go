package masternode

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// stepOf is a TLSMode that takes all steps, or fails.
type stepOf struct {
	mu        sync.Mutex // guards step
	step      wire.TLSStep
	err       error
	confirmed atomic.Bool
}

func (m *stepOf) Step() wire.TLSStep {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.step
}

func (m *stepOf) Confirm() { m.confirmed.Store(true) }

func (m *stepOf) Confirmed() bool { return m.confirmed.Load() }

func (m *stepOf) Advance(_ uint64, s wire.TLSState) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step = s.Step
	return m.err
}

// TestMasterURLsOfStep checks that browsers may call a master in both ways while the group moves to TLS, and in one at
// the other steps.
func TestMasterURLsOfStep(t *testing.T) {
	for step, want := range map[wire.TLSStep][]string{
		wire.TLSByFlags: {"http://m1:1"}, wire.TLSAccept: {"http://m1:1", "https://m1:1"},
		wire.TLSRequire: {"https://m1:1"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newJoiningRig(t, 0, func(c *Config, _ *rig) { c.Member.URL, c.TLS = "http://m1:1", &stepOf{} })
			defer r.stop()
			if step != wire.TLSByFlags {
				r.setTLS(t, step)
				time.Sleep(time.Second) // until the master follows it
			}
			if got := r.MasterURLs(); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", step.Name(), got, want)
			}
		})
	}
}

// fakeCalls are the TLSCalls of a group in memory.
type fakeCalls struct {
	mu    sync.Mutex                   // guards all below
	at    map[string]wire.CommittedTLS // by URL: what a master answers; one that is not there does not
	bad   map[string]string            // ports that do not speak TLS with the node that tries, by "from to"
	dead  string                       // the URL of a node that does not try
	tried []string                     // "from to" of each pair that was tried, by URL
}

func (c *fakeCalls) Step(_ context.Context, url string, _ bool) (wire.CommittedTLS, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.at[url]; ok {
		return at, nil
	}
	return wire.CommittedTLS{}, masterstest.ErrNoMaster
}

func (c *fakeCalls) try(from string, p wire.TLSProbe) (answer wire.TLSProbed, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from == c.dead {
		return answer, wire.ErrNoAnswer
	}
	for _, to := range p.Targets {
		pair := from + " " + to.URL
		c.tried = append(c.tried, pair)
		if reason, ok := c.bad[pair]; ok {
			answer.Failed = append(answer.Failed, wire.TLSFailure{ID: to.ID, Address: to.URL, Reason: reason})
		}
	}
	return answer, nil
}

func (c *fakeCalls) ProbeOwn(_ context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
	return c.try("http://m1", p)
}

func (c *fakeCalls) ProbeMaster(_ context.Context, url string, p wire.TLSProbe) (wire.TLSProbed, error) {
	return c.try(url, p)
}

func (c *fakeCalls) ProbeWorker(
	_ context.Context, w wire.Worker, _ wire.Order, p wire.TLSProbe,
) (wire.TLSProbed, error) {
	return c.try(w.URL, p)
}

// TestStepOfFolder checks that a master follows the step that its folder has before it runs. Its file of the step may
// be older than that.
func TestStepOfFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newJoiningRig(t, 0, nil)
		defer r.stop()
		r.setTLS(t, wire.TLSRequire)
		cfg := r.cfg
		mode := &stepOf{step: wire.TLSAccept}
		cfg.TLS = mode
		if _, err := New(cfg); err != nil || mode.Step() != wire.TLSRequire {
			t.Errorf("%v, and the step is %s", err, mode.Step().Name())
		}
		why := errors.New("no certificates")
		cfg.TLS = &stepOf{err: why}
		if _, err := New(cfg); !errors.Is(err, why) {
			t.Errorf("a master without certificates: %v", err)
		}
	})
}

// TestConfirmStep checks that a master confirms a step in which it takes plain text once a leader has answered, and not
// before.
func TestConfirmStep(t *testing.T) {
	for _, answers := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newJoiningRig(t, 0, nil)
			defer r.stop()
			r.setTLS(t, wire.TLSAccept)
			cfg := r.cfg
			cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
			cfg.Ledger = masterstest.Following{Ledger: r.ledger}
			cfg.Masters = masterAt("http://m1", hangingLeader{confirms: answers})
			cfg.Membership = masterstest.NewMembership()
			mode := &stepOf{step: wire.TLSAccept}
			cfg.TLS = mode
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = n.Run(ctx) })
			time.Sleep(time.Minute)
			if confirmed := mode.Confirmed(); confirmed != answers {
				t.Errorf("a leader answers: %v, and the step is confirmed: %v", answers, confirmed)
			}
			stop()
			running.Wait()
		})
	}
}

// leaderless is the ledger of a master that raft reaches from no leader.
type leaderless struct{ masterstest.Following }

func (leaderless) Leader() string { return "" }

// TestConfirmStepThroughOthers checks that a master which no leader reaches, as it takes no plain text, confirms the
// step with a leader through the other masters. It takes the step that the leader has, and only of its own group.
func TestConfirmStepThroughOthers(t *testing.T) {
	accept, require := wire.TLSState{Step: wire.TLSAccept}, wire.TLSState{Step: wire.TLSRequire}
	for name, row := range map[string]struct {
		answer    wire.CommittedTLS
		confirmed bool
	}{
		"the same step":     {wire.CommittedTLS{Group: "cs-test", Epoch: 1, TLS: accept}, true},
		"a later step":      {wire.CommittedTLS{Group: "cs-test", Epoch: 1, TLS: require}, true},
		"another group":     {wire.CommittedTLS{Group: "other", Epoch: 1, TLS: accept}, false},
		"an earlier epoch":  {wire.CommittedTLS{Group: "cs-test", TLS: accept}, false},
		"no master answers": {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newJoiningRig(t, 0, nil)
				defer r.stop()
				r.setTLS(t, wire.TLSAccept)
				cfg := r.cfg
				cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
				cfg.Ledger = leaderless{masterstest.Following{Ledger: r.ledger}}
				cfg.Membership = masterstest.NewMembership()
				mode := &stepOf{step: wire.TLSAccept}
				calls := &fakeCalls{at: map[string]wire.CommittedTLS{}}
				if row.answer.Group != "" {
					calls.at["http://m3"] = row.answer
				}
				cfg.Peers = []string{"http://m4", "http://m3"}
				cfg.TLS, cfg.TLSCalls = mode, calls
				n, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				if err := n.confirmTLS(ctx); err != nil {
					t.Error(err)
				}
				if mode.Confirmed() != row.confirmed || row.confirmed && mode.Step() != row.answer.TLS.Step {
					t.Errorf("confirmed %v, at the step %s", mode.Confirmed(), mode.Step().Name())
				}
			})
		})
	}
}

// TestFailingPairs checks that the steps which lead to TLS are refused while two nodes that call each other do not
// speak TLS, with the names of both, and the way back is not.
func TestFailingPairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &wire.Certificate{NotAfter: uint64(time.Now().Add(time.Hour).UnixMilli())}
		calls := &fakeCalls{}
		r := newJoiningRig(t, 2, func(c *Config, _ *rig) {
			c.Certificate, c.TLSCalls = func() *wire.Certificate { return own }, calls
		})
		defer r.stop()
		r.setTLS(t, wire.TLSAccept)
		var urls []string
		for _, s := range r.Cluster(t.Context()).Storages {
			urls = append(urls, s.URL)
		}
		a, b, miner, master := urls[0], urls[1], "http://miner", "http://m1"
		set := func(bad map[string]string, dead string) error {
			t.Helper()
			calls.mu.Lock()
			calls.bad, calls.dead, calls.tried = bad, dead, nil
			calls.mu.Unlock()
			_, err := r.SetTLS(t.Context(), wire.TLSChange{Step: wire.TLSPrefer})
			return err
		}
		for _, pair := range [][2]string{{master, a}, {master, miner}, {a, master}, {a, b}, {b, a}, {miner, master}} {
			err := set(map[string]string{pair[0] + " " + pair[1]: "unknown authority"}, "")
			if !errors.Is(err, wire.ErrNotOnTLS) {
				t.Errorf("%v: %v", pair, err)
				continue
			}
			for _, part := range []string{
				strings.TrimPrefix(pair[0], "http://"), pair[1], "does not reach", "unknown authority",
			} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: the error does not have %q: %v", pair, part, err)
				}
			}
		}
		if err := set(nil, b); !errors.Is(err, wire.ErrNotOnTLS) || !strings.Contains(err.Error(), b) {
			t.Errorf("a node that does not try: %v", err)
		}
		uncalled := map[string]string{miner + " " + a: "x", a + " " + miner: "x", miner + " " + b: "x"}
		if err := set(uncalled, ""); err != nil {
			t.Errorf("nodes that do not call each other: %v", err)
		}
		calls.mu.Lock()
		slices.Sort(calls.tried)
		want := []string{
			master + " " + a, master + " " + b, master + " " + miner, miner + " " + master,
			a + " " + b, a + " " + master, b + " " + a, b + " " + master,
		}
		slices.Sort(want)
		if !slices.Equal(calls.tried, want) {
			t.Errorf("tried %q, want %q", calls.tried, want)
		}
		calls.bad = map[string]string{master + " " + a: "x"}
		calls.mu.Unlock()
		if _, err := r.SetTLS(t.Context(), wire.TLSChange{Step: wire.TLSAccept}); err != nil {
			t.Errorf("the way back: %v", err)
		}
	})
}

// TestStepWaitsForCertificates checks that the steps which lead to TLS are refused while a certificate is out of its
// time, with the name of the node. The way back is not.
func TestStepWaitsForCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const name = "spiffe://bank/master/x"
		ends := func(in time.Duration, graces ...wire.Grace) *wire.Certificate {
			at := uint64(time.Now().Add(in).UnixMilli())
			return &wire.Certificate{Identity: name, Serial: "1", NotAfter: at, Graces: graces}
		}
		var own atomic.Pointer[wire.Certificate]
		own.Store(ends(90 * 24 * time.Hour))
		r := newJoiningRig(t, 0, func(c *Config, _ *rig) { c.Certificate = own.Load })
		defer r.stop()
		r.setTLS(t, wire.TLSAccept)
		for _, row := range []struct {
			certificate *wire.Certificate
			to          wire.TLSStep
			want        string // of the error, "" for none
		}{
			{ends(time.Hour, wire.Grace{Identity: name, Serial: "1", Left: 7200}), wire.TLSPrefer, "for 2 more hours"},
			{ends(time.Hour, wire.Grace{Identity: name, Serial: "1"}), wire.TLSPrefer, "refuses " + name},
			{ends(-time.Hour), wire.TLSPrefer, "has ended"},
			{ends(time.Hour, wire.Grace{Identity: name, Serial: "0"}), wire.TLSPrefer, ""}, // it was renewed since
			{ends(-time.Hour), wire.TLSRequire, "has ended"},
			{ends(-time.Hour), wire.TLSAccept, ""},
		} {
			own.Store(row.certificate)
			time.Sleep(30 * time.Second)
			_, err := r.SetTLS(t.Context(), wire.TLSChange{Step: row.to})
			if row.want == "" && err != nil ||
				row.want != "" && (!errors.Is(err, wire.ErrNotOnTLS) || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("%s with %+v: %v", row.to, row.certificate, err)
			}
		}
	})
}

// TestRequireIsBoundToTheCheck checks that require is refused for a start of a node that the leader has not asked yet:
// it may have other certificates than the one before.
func TestRequireIsBoundToTheCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		own := &wire.Certificate{NotAfter: uint64(time.Now().Add(time.Hour).UnixMilli())}
		r := newJoiningRig(t, 1, func(c *Config, _ *rig) { c.Certificate = func() *wire.Certificate { return own } })
		defer r.stop()
		if err := r.RemoveMiner(t.Context(), "http://miner", false); err != nil {
			t.Fatal(err)
		}
		node := r.Cluster(t.Context()).Storages[0]
		start := func(boot string) {
			t.Helper()
			if _, err := r.leader.Propose(t.Context(), &masterfsm.Register{
				Role: masterfsm.RoleStorage, ID: node.ID, URL: node.URL, MasterToken: "x", Boot: boot,
				Level: masterfsm.ProtocolLevel, Time: r.leader.Now(),
			}); err != nil {
				t.Fatal(err)
			}
		}
		r.on(node.URL, func(s *masterstest.Storage) {
			s.LieStatus = func(st *wire.StorageStatus) { st.TLS = &wire.TLSUse{Secured: true} }
		})
		start("2")
		time.Sleep(time.Minute)
		start("3")
		require := wire.TLSChange{Step: wire.TLSRequire}
		if _, err := r.SetTLS(t.Context(), require); !errors.Is(err, masterfsm.ErrStale) ||
			!errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("after a start: %v", err)
		}
		time.Sleep(10 * time.Second) // the leader asks the new start
		if _, err := r.SetTLS(t.Context(), require); err != nil {
			t.Errorf("after the leader has asked that: %v", err)
		}
	})
}

// setTLS brings the group to the step. All its workers know the steps.
func (r *rig) setTLS(t *testing.T, step wire.TLSStep) {
	t.Helper()
	time.Sleep(time.Minute) // until the group is at the newest level
	set := &masterfsm.SetTLS{To: step, Time: r.leader.Now(), Checked: []masterfsm.CheckedNode{{ID: "m1"}}}
	var commands []masterfsm.Command
	register := func(role masterfsm.Role, id, url string) {
		commands = append(commands, &masterfsm.Register{Role: role, ID: id, URL: url, MasterToken: "x", Boot: "1",
			Level: masterfsm.ProtocolLevel, Time: r.leader.Now()})
		set.Checked = append(set.Checked, masterfsm.CheckedNode{ID: id, Boot: "1"})
	}
	register(masterfsm.RoleMiner, "miner", "http://miner")
	for _, s := range r.Cluster(t.Context()).Storages {
		register(masterfsm.RoleStorage, s.ID, s.URL)
	}
	for _, c := range append(commands, set) {
		if _, err := r.leader.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}
