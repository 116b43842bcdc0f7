package masternode

import (
	"context"
	"errors"
	"fmt"

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
