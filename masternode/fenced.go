package masternode

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// fenceWait is how long a new leader waits for storage nodes that do not answer before it acknowledges the first
// append.
const fenceWait = time.Second

// heardFrom looks at how an order to a worker has ended. A worker that obeys a later epoch of the group shows that
// the group was recovered without this master: whatever it acknowledged from here on would stand at positions that
// the other group gives to other records. So it acknowledges nothing more, and ends. Another leader of the same epoch
// is raft's to tell about; a worker of a version that does not name the epoch in its refusal is taken to speak of
// one.
func (n *Node) heardFrom(node string, order wire.Order, err error) {
	var fenced *wire.FencedError
	if !errors.As(err, &fenced) || fenced.Highest.Epoch <= order.Epoch {
		return
	}
	if n.fenced.Swap(true) {
		return
	}
	n.end(fmt.Errorf("%w: worker %s is at epoch %d, this master at %d: the group was recovered without this "+
		"master, or a recovery was begun. "+
		"Where another master was recovered, move this folder away and start with --join; where the recovery was "+
		"cut short, run "+
		"'chainstore master recover' again; docs/masters.md says what to do where it was a "+
		"mistake", ErrLaterEpoch, node, fenced.Highest.Epoch, order.Epoch))
}

// mayAcknowledge reports why this master, as the leader, must not acknowledge what it commits: it has not asked the
// storage nodes yet in this term, or one of them obeys a later epoch. Nothing was committed.
func (n *Node) mayAcknowledge() error {
	switch {
	case n.fenced.Load():
		return fmt.Errorf("%w: %w", ErrNotLeader, ErrLaterEpoch)
	case n.leadership.Load() == nil:
		return fmt.Errorf("%w: its term has not begun", ErrNotLeader)
	}
	return nil
}

// passFences gives the storage nodes the first order of a term, before anything is acknowledged in it: a leader
// before may have ended because a node obeys a later epoch. It is over when most nodes have let the order in, all
// have answered, or fenceWait has passed; nodes that do not answer stop no group. The error wraps [ErrLaterEpoch].
func (n *Node) passFences(ctx context.Context, order wire.Order) error {
	var nodes []masterfsm.Storage
	n.cfg.Ledger.Read(func(s *masterfsm.State) { nodes = s.Storages() })
	var asking sync.WaitGroup
	defer asking.Wait()
	asked, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	answers := make(chan error, len(nodes))
	for i := range nodes {
		asking.Go(func() {
			_, err := n.cfg.Workers.StorageStatus(asked, worker(nodes[i]), order)
			n.heardFrom(nodes[i].ID, order, err)
			answers <- err
		})
	}
	passed := 0
	for range nodes {
		if err := <-answers; err == nil {
			passed++
		}
		if passed > len(nodes)/2 {
			break
		}
	}
	if n.fenced.Load() {
		return ErrLaterEpoch
	}
	return ctx.Err()
}
