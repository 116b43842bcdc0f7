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

// submit makes a submission of a batch of appends, delivers it and completes each append. The appends' batcher calls
// it.
func (n *Node) submit(ctx context.Context, calls []*batch.Call[*appendRequest, masterfsm.Placement]) {
	// Appends whose client has gone are dropped before anything is sent.
	live := calls[:0]
	size := 64
	start := masterfsm.NewSubmission
	for _, c := range calls {
		if err := context.Cause(c.Value.deadline); err != nil {
			c.End(masterfsm.Placement{}, fmt.Errorf("%w: %w", wire.ErrNoLeader, err))
			continue
		}
		live = append(live, c)
		size += c.Value.size()
		if c.Value.part.First != 0 {
			start = masterfsm.NewStreamSubmission
		}
	}
	if len(live) == 0 {
		return
	}
	s := start(make([]byte, 0, size), n.cfg.Member.ID, n.cfg.Boot, n.seq.Add(1))
	for _, c := range live {
		p := c.Value
		if p.part.First != 0 {
			s.StartPart(p.project, p.part)
		} else {
			s.StartRequest(p.project, p.key, p.body)
		}
		for i := range p.commits {
			s.AddEncoded(p.commits[i], p.record(i))
		}
	}
	placements, err := n.deliver(ctx, s.Bytes())
	if err == nil && len(placements) != len(live) {
		err = fmt.Errorf("%w: %d answers for %d appends", wire.ErrUnknownOutcome, len(placements), len(live))
	}
	for i, c := range live {
		if err != nil {
			c.End(masterfsm.Placement{}, err)
			continue
		}
		c.End(placements[i], nil)
	}
}

// deliver brings a submission to the leader, and repeats that while it is of use. A submission that is sent twice is
// appended once.
func (n *Node) deliver(ctx context.Context, submission []byte) ([]masterfsm.Placement, error) {
	var last error // of a try that had the time to end, if there was one
	maybe := false // a try may have been committed
	tries := 0
	placements, err := leaderCall[[]masterfsm.Placement]{
		local: func(ctx context.Context) ([]masterfsm.Placement, error) { return n.commit(ctx, submission) },
		remote: func(ctx context.Context, url string) ([]masterfsm.Placement, error) {
			// A kept connection may be dead: every try but the first makes a new one.
			fresh := tries > 0
			tries++
			began := time.Now()
			answer, err := n.cfg.Masters.Submit(ctx, url, submission, fresh)
			if err != nil {
				return nil, err
			}
			n.cfg.Histograms.Forward.Since(began)
			return masterfsm.ParsePlacements(answer)
		},
		again: func(err error) bool {
			if errors.Is(err, wire.ErrNoSpace) { // the leader has refused it, and nothing was appended in this try
				return false
			}
			if last == nil || !errors.Is(err, context.DeadlineExceeded) {
				last = err
			}
			maybe = maybe || !errors.Is(err, wire.ErrNotLeader)
			return !forgotten(err)
		},
	}.do(ctx, n)
	switch {
	case err == nil:
		return placements, nil
	case forgotten(err):
		n.log.Error("the table does not remember an append's submission: was this data folder copied or restored?",
			"error", err)
		return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, err)
	case maybe:
		return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, cmp.Or(last, err))
	case errors.Is(err, wire.ErrNoSpace):
		return nil, fmt.Errorf("%w: %w", wire.ErrNoSpace, err)
	}
	return nil, err
}

// forgotten reports whether the table refused a submission because it no longer has the outcome of one of that time or
// member, or has another one of that name. An earlier try may have been committed.
func forgotten(err error) bool {
	return errors.Is(err, masterfsm.ErrStale) || errors.Is(err, masterfsm.ErrMasterRemoved) || errors.Is(err,
		wire.ErrForgotten)
}

// commit commits a submission, of this master or another, together with those that arrive meanwhile. One commit is in
// flight at a time, so that the disks of all masters are synced once for all of them.
func (n *Node) commit(ctx context.Context, submission []byte) ([]masterfsm.Placement, error) {
	c := n.commits.Start(submission)
	select {
	case <-c.Done:
		return c.Result, c.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, context.Cause(ctx))
	}
}

// commitBatch commits waiting submissions as one command. The commits' batcher calls it.
func (n *Node) commitBatch(ctx context.Context, calls []*batch.Call[[]byte, []masterfsm.Placement]) {
	submissions := make([][]byte, len(calls))
	for i, c := range calls {
		submissions[i] = c.Value
	}
	began := time.Now()
	outcomes, err := n.leader.Append(ctx, submissions)
	if err == nil {
		n.cfg.Histograms.Commit.Since(began)
		added := uint64(0)
		for i := range outcomes {
			added += outcomes[i].Added
		}
		n.cfg.Histograms.RecordsPerCommit.Observe(float64(added))
	}
	for i, c := range calls {
		if err != nil {
			c.End(nil, err)
			continue
		}
		c.End(outcomes[i].Placements, outcomes[i].Err)
	}
}

// Submit commits a submission of another master, and returns its placements in the form of
// [masterfsm.AppendPlacements]. The error wraps [wire.ErrNotLeader] if this master does not lead: a submission is
// forwarded only once.
func (n *Node) Submit(ctx context.Context, submission []byte) ([]byte, error) {
	if n.cfg.Ledger.Leader() != n.cfg.Member.ID {
		return nil, wire.ErrNotLeader
	}
	if err := masterfsm.CheckSubmission(submission); err != nil {
		return nil, err
	}
	placements, err := n.commit(ctx, submission)
	if forgotten(err) {
		return nil, fmt.Errorf("%w: %w", wire.ErrForgotten, err)
	}
	if err != nil {
		return nil, err
	}
	return masterfsm.AppendPlacements(nil, placements), nil
}
