package leader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

const (
	// fenceWait is how long a leader waits for storage nodes that do not answer, before it acknowledges the first
	// append of its term, and each time that it asks them about a later epoch.
	fenceWait = time.Second
	// acceptedFor is how long an accepted order counts as acceptance of this leader. A recovery raises the epoch only
	// on nodes without an order in the last minute, so this must stay well below that.
	acceptedFor = 10 * time.Second
)

// fences is what a leader knows, in its term, about the epochs that the workers obey.
//
// A worker that answers with a later epoch means that the group may have been recovered without this master. Then the
// other group gives the positions of what this master acknowledges to other records. But the worker may be damaged, or
// its folder may be of another cluster, and no single worker may stop the masters. So from the first such answer on,
// the leader acknowledges nothing, asks all storage nodes of the table again, and counts:
//
//   - A majority of the table's storage nodes obeys a later epoch: the master ends.
//   - So many of them accept its orders that the others are no majority: the worker is wrong. The leader goes on, and
//     a notice names the worker.
//   - Neither: it acknowledges nothing, and asks again each second.
//
// This is safe because a recovery raises the epoch on a majority of the table's storage nodes, and on all others that
// it asked, before it changes anything. It raises none that had an order within the last minute. So while half of the
// storage nodes, or more, accepted an order within acceptedFor, no recovery has its majority. The exception is a
// recovery with --storage-majority-lost or --from-storage: its operator states that the nodes it leaves out are
// destroyed. Where that is so, the leader cannot end by this count; it acknowledges nothing, until a master of the
// recovered group answers it.
type fences struct {
	suspended atomic.Bool   // nothing is acknowledged; set until the storage nodes were asked in this term
	look      chan struct{} // holds a value after a worker first answered with a later epoch

	mu       sync.Mutex           // guards all below
	doubted  time.Time            // when the last worker was added to later; earlier acceptances do not count
	accepted map[string]time.Time // by storage node: when the newest order that it accepted was sent
	later    map[string]laterEpoch
	logged   map[string]bool // workers that were logged
}

// laterEpoch is the newest answer of a worker that obeys a later epoch.
type laterEpoch struct {
	epoch uint64
	at    time.Time
}

func newFences() *fences {
	f := &fences{
		look: make(chan struct{}, 1), accepted: map[string]time.Time{}, later: map[string]laterEpoch{},
		logged: map[string]bool{},
	}
	f.suspended.Store(true)
	return f
}

// orderEnded records how an order to a worker, sent at a time, has ended. A later term of the same epoch is left to
// raft. A refusal without an epoch, by a worker of an older version, is not counted.
func (l *leadership) orderEnded(worker string, sent time.Time, err error) {
	var fenced *wire.FencedError
	f := l.fences
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil:
		f.accepted[worker] = sent
	case errors.As(err, &fenced) && fenced.Highest.Epoch > l.order.Epoch:
		now := l.cfg.Clock()
		if _, known := f.later[worker]; !known {
			f.suspended.Store(true)
			f.doubted = now
			l.log.Warn("worker answers with a later epoch; nothing is acknowledged until most storage nodes have "+
				"answered whether they accept this leader", "worker", worker, "epoch", fenced.Highest.Epoch,
				"own epoch", l.order.Epoch)
			select {
			case f.look <- struct{}{}:
			default:
			}
		}
		f.later[worker] = laterEpoch{epoch: fenced.Highest.Epoch, at: now}
	default:
		return
	}
	if len(f.later) > 0 {
		l.countAnswers()
	}
}

// countAnswers counts what the storage nodes of the table have answered. f.mu is held.
func (l *leadership) countAnswers() {
	f, now := l.fences, l.cfg.Clock()
	var nodes []masterfsm.Storage
	var miners []masterfsm.Miner
	l.cfg.Ledger.Read(func(s *masterfsm.State) { nodes, miners = s.Storages(), s.Miners() })
	for id, a := range f.later {
		gone := !slices.ContainsFunc(nodes, func(n masterfsm.Storage) bool { return n.ID == id }) &&
			!slices.ContainsFunc(miners, func(m masterfsm.Miner) bool { return m.ID == id })
		// A worker whose answers alternate stays, so that it does not suspend the leader each time.
		if gone || !f.accepted[id].Before(a.at) && now.Sub(a.at) >= acceptedFor {
			delete(f.later, id)
			delete(f.logged, id)
		}
	}
	accept := 0
	var refuse []string
	for i := range nodes {
		id := nodes[i].ID
		at, accepted := f.accepted[id]
		a, later := f.later[id]
		switch {
		case accepted && (!later || !at.Before(a.at)):
			if !at.Before(f.doubted) && now.Sub(at) < acceptedFor {
				accept++
			}
		case later:
			refuse = append(refuse, fmt.Sprintf("%s at epoch %d", id, a.epoch))
		}
	}
	switch {
	case 2*len(refuse) > len(nodes):
		f.suspended.Store(true)
		if !l.fenced.Swap(true) {
			l.cfg.Stop(fmt.Errorf("%w: storage nodes %s, this master at epoch %d: the group was recovered without "+
				"this master, or a recovery was begun. Where another master was recovered, move this folder away and "+
				"start with --join and a join ticket; where the recovery was cut short, run 'chainstore master "+
				"recover' again; "+
				"docs/masters.md says what to do where it was a mistake", ErrLaterEpoch, strings.Join(refuse,
				", "), l.order.Epoch))
		}
	case l.fenced.Load():
	case 2*accept >= len(nodes):
		f.suspended.Store(false)
		for id, a := range f.later {
			if !f.logged[id] {
				f.logged[id] = true
				l.log.Error("worker answers with a later epoch, but most storage nodes accept this leader's orders; "+
					"its folder is of another cluster or damaged; take it out", "worker", id, "epoch", a.epoch,
					"own epoch", l.order.Epoch)
			}
		}
	default:
		if !f.suspended.Swap(true) {
			l.log.Error("nothing is acknowledged: a worker answers with a later epoch, and too few storage nodes " +
				"accept this leader's orders")
		}
	}
}

// ErrLaterEpoch: the workers obey another epoch of the group, which was recovered without this master.
var ErrLaterEpoch = errors.New("the workers obey a later epoch of this group")

// errSuspended: a worker answers with a later epoch, and it is not known yet whether the group was recovered.
var errSuspended = errors.New("a worker answers with a later epoch of this group, and too few storage nodes have " +
	"answered to tell whether the group was recovered; bring storage nodes back")

// fenceStorages sends the storage nodes the first order of a term, before anything is acknowledged in it: a previous
// leader may have ended because nodes obey a later epoch. It returns when most nodes have accepted the order, all have
// answered, or fenceWait has passed, so nodes that do not answer stop no group. If one obeys a later epoch, the leader
// stays suspended until the count in [fences] is clear.
func (l *leadership) fenceStorages(ctx context.Context) {
	l.askStorages(ctx)
	f := l.fences
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.later) == 0 && ctx.Err() == nil {
		f.suspended.Store(false)
	}
}

// askStorages sends all storage nodes of the table an order. It returns as soon as most have accepted it.
func (l *leadership) askStorages(ctx context.Context) {
	var nodes []masterfsm.Storage
	l.cfg.Ledger.Read(func(s *masterfsm.State) { nodes = s.Storages() })
	var asking sync.WaitGroup
	defer asking.Wait()
	asked, cancel := context.WithTimeout(ctx, fenceWait)
	defer cancel()
	answers := make(chan error, len(nodes))
	for i := range nodes {
		asking.Go(func() {
			sent := l.cfg.Clock()
			_, err := l.cfg.Workers.StorageStatus(asked, worker(nodes[i]), l.order)
			l.orderEnded(nodes[i].ID, sent, err)
			answers <- err
		})
	}
	accepted := 0
	for range nodes {
		if err := <-answers; err == nil {
			accepted++
		}
		if accepted > len(nodes)/2 {
			break
		}
	}
}

// watchFences asks the storage nodes at once when a worker answers with a later epoch, and then each second until no
// worker does.
func (l *leadership) watchFences(ctx context.Context) {
	f := l.fences
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.look:
		}
		for {
			l.askStorages(ctx)
			f.mu.Lock()
			l.countAnswers() // acceptances may have expired
			doubt := len(f.later) > 0
			f.mu.Unlock()
			if !doubt {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-f.look:
			case <-time.After(fenceWait):
			}
		}
	}
}

// laterEpochs returns the workers that obey a later epoch, and whether nothing is acknowledged because of them.
func (f *fences) laterEpochs() (later map[string]uint64, suspended bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	later = map[string]uint64{}
	for id, a := range f.later {
		later[id] = a.epoch
	}
	return later, f.suspended.Load()
}
