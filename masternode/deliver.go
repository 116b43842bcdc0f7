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

// submit makes a submission of a batch of appends, delivers it and finishes each append. The appends' batcher calls it.
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
	var last error   // of the last try
	unknown := false // a try may have been committed
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
			placements, err = n.commit(ctx, submission)
		case url == "":
			err = fmt.Errorf("%w: its address is not known yet", ErrNotLeader)
		default:
			// A kept connection may be dead without anybody having noticed: from the second try on a new one is made.
			placements, err = n.forward(ctx, leader, url, submission, tries > 0)
			tries++
		}
		if err == nil {
			return placements, nil
		}
		if forgotten(err) {
			n.log.Error("an append's submission is not one that the table remembers: was this data folder copied or restored?", "error", err)
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

// forgotten reports whether the table refused a submission because it does not remember what became of those of that time, or of that
// member, or remembers another of its name: an earlier try may have been committed.
func forgotten(err error) bool {
	return errors.Is(err, masterfsm.ErrStale) || errors.Is(err, masterfsm.ErrMasterRemoved) || errors.Is(err, ErrForgotten)
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

func (n *Node) forward(ctx context.Context, leader, url string, submission []byte, fresh bool) ([]masterfsm.Placement, error) {
	ctx, release := n.underLeader(ctx, leader)
	defer release()
	answer, err := n.cfg.Masters.Submit(ctx, url, submission, fresh)
	if err != nil {
		return nil, err
	}
	return masterfsm.ParsePlacements(answer)
}

// pendingCommit is a submission that waits for its turn in the log. The lane that takes it fills in the outcome and closes done.
type pendingCommit struct {
	submission []byte
	done       chan struct{}
	outcome    masterfsm.Outcome
}

func (p *pendingCommit) finish(o masterfsm.Outcome) {
	p.outcome = o
	close(p.done)
}

// commit brings a submission, of this master or another, into the log, together with those that arrive meanwhile: one commit is
// under way at a time, so that the disks of all masters are synced once for all that waits.
func (n *Node) commit(ctx context.Context, submission []byte) ([]masterfsm.Placement, error) {
	p := &pendingCommit{submission: submission, done: make(chan struct{})}
	n.commits.Add(p)
	select {
	case <-p.done:
		return p.outcome.Placements, p.outcome.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, context.Cause(ctx))
	}
}

// commitBatch proposes what waits as one command. The commits' batcher calls it.
func (n *Node) commitBatch(ctx context.Context, batch []*pendingCommit) {
	l, err := n.mayAcknowledge()
	if err != nil {
		for _, p := range batch {
			p.finish(masterfsm.Outcome{Err: err})
		}
		return
	}
	submissions := make([][]byte, len(batch))
	for i, p := range batch {
		submissions[i] = p.submission
	}
	result, err := n.cfg.Ledger.Propose(ctx, masterfsm.EncodeAppend(n.now(), n.reign(), submissions...))
	outcomes, ok := result.([]masterfsm.Outcome)
	if err == nil && (!ok || len(outcomes) != len(batch)) {
		err = fmt.Errorf("the state machine answered %d submissions with %T", len(batch), result)
	}
	if l.fences.suspended.Load() { // meanwhile: the group of this log may have been replaced
		err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, errSuspended)
	}
	for i, p := range batch {
		if err != nil {
			p.finish(masterfsm.Outcome{Err: err})
			continue
		}
		p.finish(outcomes[i])
	}
}

// Submit takes a submission that another master gathered, and answers with its placements in the form of
// [masterfsm.AppendPlacements]. The error wraps [ErrNotLeader] when this master does not lead: a submission is forwarded once,
// never on and on.
func (n *Node) Submit(ctx context.Context, submission []byte) ([]byte, error) {
	if n.cfg.Ledger.Leader() != n.cfg.Member.ID {
		return nil, ErrNotLeader
	}
	if err := masterfsm.CheckSubmission(submission); err != nil {
		return nil, err
	}
	placements, err := n.commit(ctx, submission)
	if forgotten(err) {
		return nil, fmt.Errorf("%w: %w", ErrForgotten, err)
	}
	if err != nil {
		return nil, err
	}
	return masterfsm.AppendPlacements(nil, placements), nil
}

// now is the wall clock in unix milliseconds. The state machine lets it run forwards only.
func (n *Node) now() uint64 { return uint64(n.cfg.Clock().UnixMilli()) }

// reign is how long this master has led, by a clock that no one sets: zero before its term has begun. It names the term: while a command is
// on its way another may begin.
func (n *Node) reign() masterfsm.Reign {
	l := n.leadership.Load()
	if l == nil {
		return masterfsm.Reign{}
	}
	return masterfsm.Reign{Term: l.order.Term, Elapsed: uint64(max(0, n.cfg.Clock().Sub(l.began).Milliseconds()))}
}

// propose commits a command where this master leads.
func (n *Node) propose(ctx context.Context, c masterfsm.Command) (any, error) {
	l := n.leadership.Load()
	if l != nil || n.fenced.Load() { // else its term begins
		if _, err := n.mayAcknowledge(); err != nil {
			return nil, err
		}
	}
	result, err := n.cfg.Ledger.Propose(ctx, masterfsm.Encode(c))
	if err == nil && l != nil && l.fences.suspended.Load() {
		return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, errSuspended)
	}
	return result, err
}
