package masternode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// RemoveMaster removes a master, named by its id or address, permanently. This master must lead. If it is to remove
// itself, it hands the leadership over, and the next leader does it. Without force the removal is refused if the
// remaining masters could not elect a leader. Errors: wire.ErrNotLeader, wire.ErrNotFound, wire.ErrTooFewMasters,
// wire.ErrNoLeader.
func (n *Node) RemoveMaster(ctx context.Context, idOrURL string, force bool) error {
	if !n.leader.Leads() {
		return wire.ErrNotLeader
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	target, err := n.findMaster(ctx, idOrURL)
	if err != nil {
		return err
	}
	members, _ := n.group()
	return n.remove(ctx, members, target, force)
}

// findMaster returns the master of an id or address, from raft's configuration or from the table alone. A negative
// answer is confirmed. Errors: wire.ErrNotFound, wire.ErrNoLeader.
func (n *Node) findMaster(ctx context.Context, idOrURL string) (found wire.Master, err error) {
	err = n.confirmed(ctx, func() error {
		for _, m := range withTable(n.group()) {
			if isNamed(m.ID, m.URL, idOrURL) || m.Raft == strings.TrimRight(idOrURL, "/") {
				found = m
				return nil
			}
		}
		return errNotHere
	})
	if errors.Is(err, wire.ErrNotFound) {
		return wire.Master{}, fmt.Errorf("%w: no master has the id or address %q", wire.ErrNotFound, idOrURL)
	}
	return found, err
}

// FindNode returns how to reach the node of an id or address, "" for this master. The token is "" for a master. self
// reports whether it is this master. A negative answer is confirmed. Errors: wire.ErrNotFound, wire.ErrNoLeader,
// wire.ErrUnavailable if the URL of the master is not known.
func (n *Node) FindNode(ctx context.Context, idOrURL string) (node wire.Worker, self bool, err error) {
	if idOrURL == "" || isNamed(n.cfg.Member.ID, n.cfg.Member.URL, idOrURL) {
		return wire.Worker{URL: n.cfg.Member.URL}, true, nil
	}
	worker := false
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		for i := range v.Storages {
			if w := &v.Storages[i]; isNamed(w.ID, w.URL, idOrURL) {
				node, worker = w.Worker(), true
			}
		}
		for i := range v.Miners {
			if w := &v.Miners[i]; isNamed(w.ID, w.URL, idOrURL) {
				node, worker = w.Worker(), true
			}
		}
	})
	if worker {
		return node, false, nil
	}
	found, err := n.findMaster(ctx, idOrURL)
	switch {
	case errors.Is(err, wire.ErrNotFound):
		return node, false, fmt.Errorf("%w: no node has the id or address %q", wire.ErrNotFound, idOrURL)
	case err != nil:
		return node, false, err
	case found.URL == "":
		return node, false, fmt.Errorf("%w: the URL of master %s is not known", wire.ErrUnavailable, found.ID)
	}
	return wire.Worker{URL: found.URL}, found.ID == n.cfg.Member.ID, nil
}

// remove removes a master, on the leader. changing is held. The removal is committed to the table first, so that a
// later leader can finish it.
func (n *Node) remove(ctx context.Context, members []wire.Master, target wire.Master, force bool) error {
	if err := n.checkMajorityWithout(ctx, members, target); err != nil && (!force || len(members) == 1) {
		return err
	}
	if target.ID == n.cfg.Member.ID {
		err := n.leader.TransferLeadership(ctx, "")
		if errors.Is(err, wire.ErrUnavailable) { // the next leader removes this one
			return fmt.Errorf("%w: %w", wire.ErrNotLeader, err)
		}
		if err != nil {
			return fmt.Errorf("the leader cannot hand over before it goes: %w", err)
		}
		return fmt.Errorf("%w: it has handed over, since it is the one to be removed", wire.ErrNotLeader)
	}
	c := &masterfsm.RemoveMaster{ID: target.ID, Force: force, Time: n.leader.Now()}
	if _, err := n.leader.Propose(ctx, c); err != nil {
		return err
	}
	n.log.Warn("master removed for good", "id", target.ID, "url", target.URL, "forced", force)
	return n.cfg.Membership.RemoveMember(ctx, target.ID)
}

// checkMajorityWithout checks that a majority of the masters that would remain without one answers.
func (n *Node) checkMajorityWithout(ctx context.Context, members []wire.Master, target wire.Master) error {
	if !target.Voter {
		return nil
	}
	var rest []wire.Master
	for _, m := range members {
		if m.Voter && m.ID != target.ID {
			rest = append(rest, m)
		}
	}
	if len(rest) == 0 {
		return fmt.Errorf("%w: %s is the only one", wire.ErrTooFewMasters, target.ID)
	}
	var there atomic.Int64
	var asking sync.WaitGroup
	for _, m := range rest {
		asking.Go(func() {
			if n.isAlive(ctx, m) {
				there.Add(1)
			}
		})
	}
	asking.Wait()
	if need := len(rest)/2 + 1; int(there.Load()) < need {
		return fmt.Errorf("%w: without %s there are %d masters, of which %d answer and %d are needed to elect a leader",
			wire.ErrTooFewMasters, target.ID, len(rest), there.Load(), need)
	}
	return nil
}

// handOverWait is how long another master may take to begin its term after a transfer. It is shorter than the time that
// a master waits which forwarded the request.
const handOverWait = leaderWait - time.Second

// TransferLeadership hands the leadership to a master that is named by its id or address, or to the one that has most
// of the log. It returns the id of the new leader once this master knows it. Errors: wire.ErrNotLeader,
// wire.ErrNotFound, wire.ErrNotVoter, wire.ErrNoLeader, wire.ErrUnavailable while another transfer is under way.
func (n *Node) TransferLeadership(ctx context.Context, to string) (string, error) {
	if !n.leader.Leads() {
		return "", wire.ErrNotLeader
	}
	if to != "" {
		target, err := n.findMaster(ctx, to)
		if err != nil {
			return "", err
		}
		if to = target.ID; to == n.cfg.Member.ID {
			return to, nil
		}
		if !target.Voter {
			return "", fmt.Errorf("%w: %s is still catching up", wire.ErrNotVoter, to)
		}
	}
	if err := n.leader.TransferLeadership(ctx, to); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, handOverWait)
	defer cancel()
	for {
		changed := n.cfg.Ledger.LeaderChanged()
		if id, url := n.knownLeader(); id != "" && id != n.cfg.Member.ID && url != "" {
			return id, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w within %v after the leadership was handed over: %w",
				wire.ErrNoLeader, handOverWait, context.Cause(ctx))
		case <-changed:
		}
	}
}

// SetTime moves the time of the group forward, unix milliseconds, by more than a day only if force is set. This master
// must lead. Errors: wire.ErrNotLeader, wire.ErrBadRequest, wire.ErrUnavailable.
func (n *Node) SetTime(ctx context.Context, to uint64, force bool) (wire.TimeSet, error) {
	was, err := n.leader.SetTime(ctx, to, force)
	if err != nil {
		return wire.TimeSet{}, err
	}
	n.log.Warn("a person set the time of the group", "from", was, "to", to)
	return wire.TimeSet{Time: to, Was: was}, nil
}

// checkEpoch compares another master's epoch with this one's. A group that was recovered without this master has a
// higher one, and this master's log is obsolete: it stops permanently. From protocol level 7 on it does so only if the
// announcement of the other master is signed with the key that this master's table has for it. Otherwise it logs a
// warning: whoever has the cluster token can say any epoch.
func (n *Node) checkEpoch(m wire.Member) {
	own := n.Member()
	if own.Group == "" || m.Group != own.Group || m.Epoch <= own.Epoch {
		return
	}
	if m.ID == own.ID && n.cfg.Ledger.Level() >= masterfsm.LevelJoining || !n.isProven(m) {
		if n.warnedEpoch.Swap(m.Epoch) != m.Epoch {
			n.log.Warn("a master says that the group was recovered without this one, and does not prove to be a "+
				"member; "+
				"this master goes on", "id", m.ID, "url", m.URL, "epoch", m.Epoch, "own epoch", own.Epoch)
		}
		return
	}
	n.stop(fmt.Errorf("%w: the group was recovered without this master: it is at epoch %d, the group at %d "+
		"according to %s",
		wire.ErrRemoved, own.Epoch, m.Epoch, m.URL))
}

// isProven reports whether what a master says of itself is signed with the key that the table has of it, in no older
// start than the table knows. Below protocol level 7 there are no keys, and it is true.
func (n *Node) isProven(m wire.Member) bool {
	var level uint64
	var row masterfsm.Master
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		level, row = v.Level, v.Master(m.ID)
	})
	return level < masterfsm.LevelJoining || row.Key != "" && joining.Verify(n.Member().Group, m) == nil &&
		m.Proof.Key == row.Key && m.Proof.Start >= row.Start
}

// stop makes Run return an error. Only the first call counts.
func (n *Node) stop(err error) {
	select {
	case n.over <- err:
	default:
	}
}

// waitStopped waits until this master must stop, and returns the reason. It returns nil when ctx ends.
func (n *Node) waitStopped(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.over:
		return n.retire(err)
	}
}

// errNothingToAsk: there is no other master to announce this one to.
var errNothingToAsk = errors.New("no other master is known")
