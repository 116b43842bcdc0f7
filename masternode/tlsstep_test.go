package masternode

import (
	"context"
	"errors"
	"sync"
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

// TestStepOfFolder checks that a master follows the step that its folder has before it runs. Its file of the step may be
// older than that.
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

// setTLS brings the group to the step. All its workers know the steps.
func (r *rig) setTLS(t *testing.T, step wire.TLSStep) {
	t.Helper()
	time.Sleep(time.Minute) // until the group is at the newest level
	for _, c := range []masterfsm.Command{
		&masterfsm.Register{Role: masterfsm.RoleMiner, ID: "miner", URL: "http://miner", MasterToken: "x", Boot: "1",
			Level: masterfsm.ProtocolLevel, Time: r.leader.Now()},
		&masterfsm.SetTLS{To: step, Time: r.leader.Now()},
	} {
		if _, err := r.leader.Propose(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
}
