package masternode

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// stepOf is a TLSMode that takes all steps, or fails.
type stepOf struct {
	step wire.TLSStep
	err  error
}

func (m *stepOf) Step() wire.TLSStep { return m.step }

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
		time.Sleep(time.Minute) // until the group is at the newest level
		for _, c := range []masterfsm.Command{
			&masterfsm.Register{Role: masterfsm.RoleMiner, ID: "miner", URL: "http://miner", MasterToken: "x", Boot: "1",
				Level: masterfsm.ProtocolLevel, Time: r.leader.Now()},
			&masterfsm.SetTLS{To: wire.TLSRequire, Time: r.leader.Now()},
		} {
			if _, err := r.leader.Propose(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
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
