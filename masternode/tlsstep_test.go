package masternode

import (
	"context"
	"errors"
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
	step      wire.TLSStep
	err       error
	confirmed chan struct{} // closed by Confirm
}

func (m *stepOf) Step() wire.TLSStep { return m.step }

func (m *stepOf) Confirm() { close(m.confirmed) }

func (m *stepOf) Advance(_ uint64, s wire.TLSState) error {
	m.step = s.Step
	return m.err
}

// TestStepOfFolder checks that a master follows the step that its folder has before it runs. Its file of the step may
// be older than that.
func TestStepOfFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		r.setTLS(t, wire.TLSRequire)
		cfg := r.cfg
		mode := &stepOf{step: wire.TLSAccept}
		cfg.TLS = mode
		if _, err := New(cfg); err != nil || mode.step != wire.TLSRequire {
			t.Errorf("%v, and the step is %s", err, mode.step.Name())
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
			r := newRig(t, 0, nil)
			defer r.stop()
			r.setTLS(t, wire.TLSAccept)
			cfg := r.cfg
			cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
			cfg.Ledger = masterstest.Following{Ledger: r.ledger}
			cfg.Masters = masterAt("http://m1", hangingLeader{confirms: answers})
			cfg.Membership = masterstest.NewMembership()
			mode := &stepOf{step: wire.TLSAccept, confirmed: make(chan struct{})}
			cfg.TLS = mode
			n, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { _ = n.Run(ctx) })
			time.Sleep(time.Minute)
			confirmed := false
			select {
			case <-mode.confirmed:
				confirmed = true
			default:
			}
			if confirmed != answers {
				t.Errorf("a leader answers: %v, and the step is confirmed: %v", answers, confirmed)
			}
			stop()
			running.Wait()
		})
	}
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
		r := newRig(t, 0, func(c *Config, _ *rig) { c.Certificate = own.Load })
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
		r := newRig(t, 1, func(c *Config, _ *rig) { c.Certificate = func() *wire.Certificate { return own } })
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
	for _, c := range []masterfsm.Command{
		&masterfsm.Register{Role: masterfsm.RoleMiner, ID: "miner", URL: "http://miner", MasterToken: "x", Boot: "1",
			Level: masterfsm.ProtocolLevel, Time: r.leader.Now()},
		&masterfsm.SetTLS{To: step, Time: r.leader.Now(),
			Checked: []masterfsm.CheckedNode{{ID: "m1"}, {ID: "miner", Boot: "1"}}},
	} {
		if _, err := r.leader.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}
