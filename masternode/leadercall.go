package masternode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// leaderWait is how long a request may wait for a leader.
const leaderWait = 5 * time.Second

// retryPause is the time between two tries, unless the leader changes before.
const retryPause = 50 * time.Millisecond

// leaderCall is a call that only the leader can answer. It may be made several times, so it must be safe to repeat.
type leaderCall[T any] struct {
	local  func(ctx context.Context) (T, error)             // on this master
	remote func(ctx context.Context, url string) (T, error) // on another one
	again  func(err error) bool                             // whether another try may succeed
}

// do makes the call on the leader, wherever that is. It tries again when the leader changes, and otherwise after a
// pause, until the call succeeds, fails permanently, or leaderWait has passed. The error wraps wire.ErrNoLeader in the
// last case.
func (c leaderCall[T]) do(ctx context.Context, n *Node) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	var last error // of the last try that had the time to end
	for {
		changed := n.cfg.Ledger.LeaderChanged()
		result, err := c.try(ctx, n)
		if err == nil || !c.again(err) {
			return result, err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if errors.Is(last, wire.ErrUnknownOutcome) {
				return result, last // it may be done: the outermost error must not say that there was no leader
			}
			return result, fmt.Errorf("%w within %v: %w", wire.ErrNoLeader, leaderWait, last)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

// try makes the call once, on the leader that this master believes in.
func (c leaderCall[T]) try(ctx context.Context, n *Node) (none T, err error) {
	id, url := n.knownLeader()
	switch {
	case id == "":
		return none, fmt.Errorf("%w: an election is under way", wire.ErrNotLeader)
	case id == n.cfg.Member.ID:
		return c.local(ctx)
	case url == "":
		return none, fmt.Errorf("%w: the leader's address is not known yet", wire.ErrNotLeader)
	}
	ctx, release := n.underLeader(ctx, id)
	defer release()
	return c.remote(ctx, url)
}

// errTermNotBegun: this master does not lead, or its term has not begun.
var errTermNotBegun = fmt.Errorf("%w: its term has not begun", wire.ErrNotLeader)

// anotherTry reports whether a call on the leader failed in a way that another try, or another leader, may mend. A
// problem that wraps [wire.ErrNoAnswer] is a refusal by the leader: the node that did not answer is a third one.
func anotherTry(err error) bool {
	return errors.Is(err, wire.ErrNotLeader) || errors.Is(err, wire.ErrUnknownOutcome) ||
		errors.Is(err, wire.ErrNoAnswer) && wire.ProblemOf(err) == nil
}

// knownLeader returns the member id and the URL of the leader that this master believes in. They are "" if they are not
// known.
func (n *Node) knownLeader() (id, url string) {
	id = n.cfg.Ledger.Leader()
	if id == n.cfg.Member.ID {
		return id, n.ownURL()
	}
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if t := s.Term(); t.Leader == id {
			url = t.URL
		}
	})
	return id, url
}

// Caller is what this master tells a leader that it calls.
func (n *Node) Caller() wire.Caller {
	m := n.cfg.Membership.Member()
	c := wire.Caller{Group: m.Group, Order: wire.Order{Epoch: m.Epoch}}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { c.Term = s.Term().Term })
	return c
}

// RequiresProofs reports whether all nodes of the group prove their secrets, so that none may send a token.
func (n *Node) RequiresProofs() bool {
	return n.cfg.Ledger.Level() >= masterfsm.LevelProofs
}

// CheckGroup refuses a caller that is not of this master's group, or of an epoch before or after a recovery. Such a
// caller may take this master for the leader of its own group. The error wraps wire.ErrNotLeader.
func (n *Node) CheckGroup(c wire.Caller) error {
	if m := n.cfg.Membership.Member(); c.Group != m.Group || c.Epoch != m.Epoch {
		// Users without a token may see this text.
		return fmt.Errorf("%w of group %q, epoch %d: this master is of another group, or of another epoch of it",
			wire.ErrNotLeader, c.Group, c.Epoch)
	}
	return nil
}

// CheckCaller refuses a call of the leader, of a master that knows a later leader than this one. A caller that is not
// known, of group "", is an older master: it is refused once the group has a level that such a master does not have.
// Errors: wire.ErrNotLeader, wire.ErrBadRequest.
func (n *Node) CheckCaller(c wire.Caller) error {
	var term, level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { term, level = s.Term().Term, s.Level() })
	switch {
	case c.Group == "" && level >= masterfsm.LevelTerms:
		return fmt.Errorf("%w: header %s is missing: a master that calls the leader must name itself",
			wire.ErrBadRequest, wire.HeaderCaller)
	case c.Group == "":
		return nil
	case c.Term > term:
		return fmt.Errorf("%w: the caller knows of term %d, this master only of term %d",
			wire.ErrNotLeader, c.Term, term)
	}
	return n.CheckGroup(c)
}

// errOtherLeader ends a call on a leader that this master no longer believes in.
var errOtherLeader = errors.New("this master no longer believes in that leader")

// underLeader derives a context for a call on a leader. It also ends when this master no longer believes in that
// leader: a leader that hangs would otherwise hold the call long after another was elected. release must be called when
// the call has ended.
func (n *Node) underLeader(ctx context.Context, leader string) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			changed := n.cfg.Ledger.LeaderChanged()
			if n.cfg.Ledger.Leader() != leader {
				cancel(errOtherLeader)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watched
	}
}
