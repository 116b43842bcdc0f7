package masternode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// leaderWait is how long a request may wait for a leader.
const leaderWait = 5 * time.Second

// retryPause is the time between two tries when nothing else tells that trying again is of use.
const retryPause = 50 * time.Millisecond

// submit makes a submission of a batch of appends, delivers it and finishes each append. It is the gatherer's handle.
func (n *Node) submit(ctx context.Context, batch []*pendingAppend) {
	// Those whose client has gone are let go before anything is sent: nothing was done for them.
	live := batch[:0]
	size := 64
	for _, p := range batch {
		if err := context.Cause(p.deadline); err != nil {
			p.finish(fmt.Errorf("%w: %w", ErrNoLeader, err))
			continue
		}
		live = append(live, p)
		size += p.size()
	}
	if len(live) == 0 {
		return
	}
	s := masterfsm.NewSubmission(make([]byte, 0, size), n.cfg.Member.ID, n.cfg.Boot, n.seq.Add(1))
	for _, p := range live {
		s.StartRequest(p.project, p.key, p.body)
		for i := range p.commits {
			s.AddEncoded(p.commits[i], p.record(i))
		}
	}
	placements, err := n.deliver(ctx, s.Bytes())
	if err == nil && len(placements) != len(live) {
		err = fmt.Errorf("%w: %d answers for %d appends", ErrUnknownOutcome, len(placements), len(live))
	}
	for i, p := range live {
		if err == nil {
			p.placement = placements[i]
		}
		p.finish(err)
	}
}

// deliver brings a submission to the leader, whoever that is, and tries again while that is of use. A submission that was
// sent twice is appended once.
func (n *Node) deliver(ctx context.Context, submission []byte) ([]masterfsm.Placement, error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	var last error    // of the last try
	unknown := false  // a try may have been committed
	proposed := false // the bytes may still be in use by the log
	tries := 0
	for {
		changed := n.cfg.Ledger.Changed()
		leader, url := n.leader()
		var placements []masterfsm.Placement
		var err error
		switch {
		case leader == "":
			err = fmt.Errorf("%w: an election is under way", ErrNotLeader)
		case leader == n.cfg.Member.ID:
			if proposed {
				submission = append([]byte(nil), submission...)
			}
			proposed = true
			placements, err = n.proposeSubmission(ctx, submission)
		case url == "":
			err = fmt.Errorf("%w: its address is not known yet", ErrNotLeader)
		default:
			// A kept connection may be dead without anybody having noticed: from the second try on a new one is made.
			placements, err = n.forward(ctx, url, submission, tries > 0)
			tries++
		}
		if err == nil {
			return placements, nil
		}
		if errors.Is(err, masterfsm.ErrStale) {
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
		}
		unknown = unknown || !errors.Is(err, ErrNotLeader)
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if unknown {
				return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, last)
			}
			return nil, fmt.Errorf("%w within %v: %w", ErrNoLeader, leaderWait, last)
		case <-changed:
		case <-time.After(retryPause):
		}
	}
}

// leader is the member id and the URL of the leader that this master believes in.
func (n *Node) leader() (id, url string) {
	id = n.cfg.Ledger.Leader()
	if id == n.cfg.Member.ID {
		return id, n.cfg.Member.URL
	}
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if t := s.Term(); t.Leader == id {
			url = t.URL
		}
	})
	return id, url
}

func (n *Node) forward(ctx context.Context, url string, submission []byte, fresh bool) ([]masterfsm.Placement, error) {
	answer, err := n.cfg.Masters.Submit(ctx, url, submission, fresh)
	if err != nil {
		return nil, err
	}
	return masterfsm.ParsePlacements(answer)
}

// proposeSubmission stamps a submission with the time and commits it.
func (n *Node) proposeSubmission(ctx context.Context, submission []byte) ([]masterfsm.Placement, error) {
	if err := masterfsm.StampSubmission(submission, n.now()); err != nil {
		return nil, err
	}
	result, err := n.cfg.Ledger.Propose(ctx, submission)
	if err != nil {
		return nil, err
	}
	placements, ok := result.([]masterfsm.Placement)
	if !ok {
		return nil, fmt.Errorf("the state machine answered an append with %T", result)
	}
	return placements, nil
}

// Submit takes a submission that another master gathered, and answers with its placements in the form of
// [masterfsm.AppendPlacements]. The bytes are kept and written into. The error wraps [ErrNotLeader] when this master does not
// lead: a submission is forwarded once, never on and on.
func (n *Node) Submit(ctx context.Context, submission []byte) ([]byte, error) {
	if n.cfg.Ledger.Leader() != n.cfg.Member.ID {
		return nil, ErrNotLeader
	}
	if err := masterfsm.CheckSubmission(submission); err != nil {
		return nil, err
	}
	placements, err := n.proposeSubmission(ctx, submission)
	if err != nil {
		return nil, err
	}
	return masterfsm.AppendPlacements(nil, placements), nil
}

// now is the wall clock in unix milliseconds. The state machine lets it run forwards only.
func (n *Node) now() uint64 { return uint64(n.cfg.Clock().UnixMilli()) }

// propose commits a command of the leader, and waits a while for this master to lead.
func (n *Node) propose(ctx context.Context, c masterfsm.Command) (any, error) {
	return n.cfg.Ledger.Propose(ctx, masterfsm.Encode(c))
}
