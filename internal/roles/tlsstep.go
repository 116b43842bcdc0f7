package roles

import (
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// logStep returns a function that logs a change of the step of TLS.
func logStep(log hclog.Logger) func(wire.TLSStep) {
	return func(step wire.TLSStep) {
		log.Named("tls").Info("the group has another step of TLS", "step", step.Name())
	}
}

// followLeader returns a function that takes the step from a leader's answer.
func followLeader(m *certs.Mode) func(uint64, wire.TLSState) error {
	return func(epoch uint64, s wire.TLSState) error {
		if err := m.Advance(epoch, s); err != nil {
			return err
		}
		m.Confirm()
		return nil
	}
}

// retriedMode is the mode of a master, which tries again while its disk is full.
type retriedMode struct {
	*certs.Mode
	log    hclog.Logger
	warned atomic.Bool // since a step was last written
}

// Advance implements [masternode.TLSMode].
func (m *retriedMode) Advance(epoch uint64, s wire.TLSState) error {
	err := m.Mode.Advance(epoch, s)
	if !durable.CanRetry(err) {
		m.warned.Store(false)
		return err
	}
	if !m.warned.Swap(true) {
		m.log.Warn("the step of TLS cannot be written now; it is tried again", "error", err)
	}
	return nil
}
