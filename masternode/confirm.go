package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// confirm makes this master's state at least as new as what was committed when it was called: the leader, confirmed by
// a majority in its own term, names its commit index, and this master waits until it has applied that. What is not in
// the state then does not exist. Callers share confirmations, and each one takes part in a confirmation that starts
// after its call. So each master has at most one question under way at the leader, however many requests wait. The
// error wraps [wire.ErrNoLeader] if no leader answers in time.
func (n *Node) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	c := n.confirms.Start(struct{}{})
	select {
	case <-c.Done:
		return c.Err
	case <-ctx.Done():
		return fmt.Errorf("%w to confirm it: %w", wire.ErrNoLeader, context.Cause(ctx))
	}
}

// confirmBatch confirms once for a batch of calls.
func (n *Node) confirmBatch(ctx context.Context, calls []*batch.Call[struct{}, struct{}]) {
	err := n.confirmOnce(ctx)
	for _, c := range calls {
		c.End(struct{}{}, err)
	}
}

// confirmOnce is one confirmation.
func (n *Node) confirmOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	index, err := leaderCall[wire.ReadIndex]{
		local: n.cfg.Ledger.ReadIndex, remote: n.cfg.Masters.ReadIndex,
		again: func(error) bool { return true },
	}.do(ctx, n)
	if err != nil {
		return err
	}
	if err := n.cfg.Ledger.WaitApplied(ctx, index.Index); err != nil {
		return fmt.Errorf("%w to confirm it: %w", wire.ErrNoLeader, err)
	}
	return nil
}

// ReadIndex answers another master's request for the commit index.
func (n *Node) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	return n.cfg.Ledger.ReadIndex(ctx)
}

// confirmed runs look, and if it found nothing, confirms that and runs it again.
func (n *Node) confirmed(ctx context.Context, look func() error) error {
	err := look()
	if !errors.Is(err, errNotHere) {
		return err
	}
	//mutant:confirm-not-found
	if err := n.confirm(ctx); err != nil {
		return err
	}
	var none notHere
	switch err := look(); {
	case errors.Is(err, errNotMinedHere):
		return wire.ErrNotMined
	case errors.As(err, &none):
		return fmt.Errorf("%w: %w", wire.ErrNotFound, none)
	case errors.Is(err, errNotHere):
		return wire.ErrNotFound
	default:
		return err
	}
}

// find returns what look finds in the state. That it finds nothing is confirmed with the leader: wire.ErrNotFound.
func find[T any](ctx context.Context, n *Node, look func(*masterfsm.State) (T, bool)) (found T, err error) {
	err = n.confirmed(ctx, func() error {
		ok := false
		n.cfg.Ledger.Read(func(s *masterfsm.State) { found, ok = look(s) })
		if !ok {
			return errNotHere
		}
		return nil
	})
	return found, err
}

// errNotHere: this master's state does not have it. A newer state may.
var errNotHere = errors.New("not in this master's state")

// notHere is errNotHere with what the state has instead.
type notHere string

func (e notHere) Error() string { return string(e) }

// Is makes it an errNotHere.
func (e notHere) Is(target error) bool { return target == errNotHere } //nolint:errorlint // it is the comparison

// errNotMinedHere is errNotHere for a block that is not mined here: another master may know its nonce already.
var errNotMinedHere = fmt.Errorf("%w: committed and not yet mined", errNotHere)

// confirmTLS confirms the step of TLS with a leader once. After an error this master must stop.
func (n *Node) confirmTLS(ctx context.Context) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for !n.cfg.TLS.Confirmed() {
		if n.cfg.Ledger.Level() >= masterfsm.LevelTLSSteps {
			if at, err := n.askTLS(ctx); err == nil {
				if err := n.cfg.TLS.Advance(at.Epoch, at.TLS); err != nil {
					return fmt.Errorf("follow the step of TLS: %w", err)
				}
				n.cfg.TLS.Confirm()
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// askTLS asks the leader that this master believes in for the step of TLS, and if none answers, the other masters. The
// leader may not reach this master before that: it calls in plain text, which this master does not take yet.
func (n *Node) askTLS(ctx context.Context) (at wire.CommittedTLS, err error) {
	own := n.Member()
	if n.cfg.TLSCalls == nil || n.cfg.Ledger.Leader() != "" {
		asking, cancel := context.WithTimeout(ctx, answerTime)
		defer cancel()
		if err = n.confirm(asking); err == nil {
			return n.tableTLS(), nil
		}
	}
	if n.cfg.TLSCalls == nil {
		return at, err
	}
	err = errNothingToAsk
	for _, url := range n.OtherURLs() {
		asking, cancel := context.WithTimeout(ctx, answerTime)
		at, err = n.cfg.TLSCalls.Step(asking, url, false)
		cancel()
		if err == nil && at.Group == own.Group && at.Epoch >= own.Epoch {
			return at, nil
		}
	}
	return at, cmp.Or(err, fmt.Errorf("%w: another group answers", wire.ErrOtherGroup))
}

// tableTLS returns the step of TLS that this master's table has now.
func (n *Node) tableTLS() (at wire.CommittedTLS) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		at = wire.CommittedTLS{Group: s.Group().ID, Epoch: s.Group().Epoch, TLS: s.TLS()}
	})
	return at
}

// CommittedTLS returns the step of TLS that the table of the leader has, after a majority confirmed the leader. Any
// master brings the question to the leader; forwarded means that another master already did. Errors: wire.ErrNoLeader,
// wire.ErrNotLeader.
func (n *Node) CommittedTLS(ctx context.Context, forwarded bool) (wire.CommittedTLS, error) {
	local := func(ctx context.Context) (wire.CommittedTLS, error) {
		index, err := n.cfg.Ledger.ReadIndex(ctx)
		if err == nil {
			err = n.cfg.Ledger.WaitApplied(ctx, index.Index)
		}
		return n.tableTLS(), err
	}
	if forwarded || n.cfg.TLSCalls == nil {
		return local(ctx)
	}
	return leaderCall[wire.CommittedTLS]{
		local: local,
		remote: func(ctx context.Context, url string) (wire.CommittedTLS, error) {
			return n.cfg.TLSCalls.Step(ctx, url, true)
		},
		again: anotherTry,
	}.do(ctx, n)
}
