package masternode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// confirm makes this master's state at least as new as what was committed when it was called: the leader, confirmed by a
// majority in its own term, names its commit index, and this master waits until it has applied that. After it, what is not in
// the state is not there. The error wraps [wire.ErrNoLeader] when no leader answers in time.
func (n *Node) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	for {
		changed := n.cfg.Ledger.Changed()
		index, err := n.askReadIndex(ctx)
		if err == nil {
			err = n.cfg.Ledger.WaitApplied(ctx, index.Index)
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w to confirm it: %w", wire.ErrNoLeader, err)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

// together has many who come at the same time confirm once. Each takes part in a round that begins after it came: what was committed by then is
// in the state when the round ends. So what outsiders ask without a token costs the leader one question at a time from each master.
type together struct {
	mu      sync.Mutex // guards next
	next    *round     // that whoever comes now takes part in, nil where none waits
	running chan struct{}
}

// round is one confirmation.
type round struct {
	done chan struct{} // closed when err is set
	err  error
}

// confirmTogether is confirm for what needs no token. It may take twice as long: a round waits for the one before it.
func (n *Node) confirmTogether(ctx context.Context) error {
	t := &n.together
	t.mu.Lock()
	r := t.next
	if r == nil {
		r = &round{done: make(chan struct{})}
		t.next = r
		go n.confirmRound(context.WithoutCancel(ctx), r) // it does not end with the one who came first: others wait for it too
	}
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("%w to confirm it: %w", wire.ErrNoLeader, context.Cause(ctx))
	}
}

// confirmRound waits for the round before it, and confirms for all who took part until then.
func (n *Node) confirmRound(ctx context.Context, r *round) {
	t := &n.together
	t.running <- struct{}{}
	defer func() { <-t.running }()
	defer close(r.done)
	t.mu.Lock()
	t.next = nil
	t.mu.Unlock()
	r.err = n.confirm(ctx)
}

func (n *Node) askReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	leader, url := n.leader()
	switch {
	case leader == n.cfg.Member.ID:
		return n.cfg.Ledger.ReadIndex(ctx)
	case leader == "" || url == "":
		return wire.ReadIndex{}, fmt.Errorf("%w: no leader is known", wire.ErrNotLeader)
	}
	ctx, release := n.underLeader(ctx, leader)
	defer release()
	return n.cfg.Masters.ReadIndex(ctx, url)
}

// ReadIndex answers another master's question for the commit index.
func (n *Node) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	return n.cfg.Ledger.ReadIndex(ctx)
}

// confirmed runs look, and once more after confirming with the leader when it found nothing: "not found" is the leader's word.
func (n *Node) confirmed(ctx context.Context, look func() error) error {
	return confirmedBy(ctx, n.confirm, look)
}

// confirmedTogether is confirmed for what needs no token.
func (n *Node) confirmedTogether(ctx context.Context, look func() error) error {
	return confirmedBy(ctx, n.confirmTogether, look)
}

func confirmedBy(ctx context.Context, confirm func(context.Context) error, look func() error) error {
	err := look()
	if !errors.Is(err, errNotHere) {
		return err
	}
	if err := confirm(ctx); err != nil {
		return err
	}
	switch err := look(); {
	case errors.Is(err, errNotMinedHere):
		return wire.ErrNotMined
	case errors.Is(err, errNotHere):
		return wire.ErrNotFound
	default:
		return err
	}
}

// errNotHere: this master's state does not have it, which says nothing about newer states.
var errNotHere = errors.New("not in this master's state")

// errNotMinedHere is what errNotHere is for a block that waits: another master may know of its nonce already.
var errNotMinedHere = fmt.Errorf("%w: committed and not yet mined", errNotHere)
