package roles

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/raftstore"
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

// probeTime is how long a node tries TLS with others, and mostProbes with how many at once.
const (
	probeTime  = 3 * time.Second
	mostProbes = 32
)

// probeAll tries TLS with nodes. check tries the ports of one.
func probeAll(
	ctx context.Context, p wire.TLSProbe, check func(context.Context, wire.TLSTarget) []wire.TLSFailure,
) (wire.TLSProbed, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	failed := make([][]wire.TLSFailure, len(p.Targets))
	var probing errgroup.Group
	probing.SetLimit(mostProbes)
	for i, target := range p.Targets {
		probing.Go(func() error {
			failed[i] = check(ctx, target)
			return nil
		})
	}
	_ = probing.Wait() // it has no error
	return wire.TLSProbed{Failed: slices.Concat(failed...)}, nil
}

// failure is the list of the one port that failed, if it did.
func failure(target wire.TLSTarget, address string, err error) []wire.TLSFailure {
	if err == nil {
		return nil
	}
	return []wire.TLSFailure{{ID: target.ID, Address: address, Reason: err.Error()}}
}

// probeTLS tries TLS with other nodes.
func (w *Worker) probeTLS(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
	return probeAll(ctx, p, func(ctx context.Context, target wire.TLSTarget) []wire.TLSFailure {
		transport := w.toOthers
		if target.Role == wire.TargetMaster {
			transport = w.transport
		}
		return failure(target, target.URL, transport.CheckTLS(ctx, target.URL, target.Role))
	})
}

// tlsCalls are the calls of a master that the move to TLS needs.
type tlsCalls struct {
	masters            *noderpc.Masters
	workers            *noderpc.Workers
	toMasters, toOther *noderpc.Transport
	store              *raftstore.Store
}

var _ masternode.TLSCalls = tlsCalls{}

// Step implements [masternode.TLSCalls].
func (c tlsCalls) Step(ctx context.Context, url string, forwarded bool) (wire.CommittedTLS, error) {
	return c.masters.TLS(ctx, url, forwarded)
}

// ProbeOwn implements [masternode.TLSCalls].
func (c tlsCalls) ProbeOwn(ctx context.Context, p wire.TLSProbe) (wire.TLSProbed, error) {
	return probeAll(ctx, p, func(ctx context.Context, target wire.TLSTarget) []wire.TLSFailure {
		if target.Role != wire.TargetMaster {
			return failure(target, target.URL, c.toOther.CheckTLS(ctx, target.URL, target.Role))
		}
		return slices.Concat(
			failure(target, target.URL, c.toMasters.CheckTLS(ctx, target.URL, target.Role)),
			failure(target, target.Raft, c.store.CheckTLS(ctx, target.ID, target.Raft)))
	})
}

// ProbeMaster implements [masternode.TLSCalls].
func (c tlsCalls) ProbeMaster(ctx context.Context, url string, p wire.TLSProbe) (wire.TLSProbed, error) {
	return c.masters.ProbeTLS(ctx, url, p)
}

// ProbeWorker implements [masternode.TLSCalls].
func (c tlsCalls) ProbeWorker(
	ctx context.Context, w wire.Worker, o wire.Order, p wire.TLSProbe,
) (wire.TLSProbed, error) {
	return c.workers.ProbeTLS(ctx, w, o, p)
}

// raftPort is the mode of a master's raft port, which has no questions for its health.
type raftPort struct{ certs.Port }

// TakesPlain implements [transport.Mode].
func (p raftPort) TakesPlain() bool { return p.Opening() >= certs.ToNodes }

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
