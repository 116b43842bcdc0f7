package masterfsm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// WaitingWorker is a worker that has registered and is not part of the cluster: it waits for an administrator, or it
// was approved and has not registered again yet. It gets no order and no block, and counts as no copy.
type WaitingWorker struct {
	ID         string     `json:"id"`
	Role       Role       `json:"role"`
	URL        string     `json:"url"`
	AccessHash chain.Hash `json:"access_hash"`
	Since      uint64     `json:"since"` // when it registered first, unix milliseconds
	Seen       uint64     `json:"seen"`  // when it last registered, or was approved, unix milliseconds
	Approved   bool       `json:"approved,omitempty"`
}

// Limits of the list of waiting workers.
const (
	// MaxWaiting bounds the list for each role: with the secret of miners none keeps storage nodes out. A full one
	// takes no more, and drops nothing: otherwise a flood of registrations would hide the worker that an administrator
	// waits for.
	MaxWaiting = 64
	// WaitingExpiry is how long after Seen an entry counts, in milliseconds. It is removed with a later command.
	WaitingExpiry = 60 * 60 * 1000
	// WaitingRenewal is how long after Seen a registration renews the entry, in milliseconds.
	WaitingRenewal = 10 * 60 * 1000
	// WaitingMove is how long after Seen an entry takes another URL, in milliseconds.
	WaitingMove = 60 * 1000
)

func (w *WaitingWorker) id() string { return w.ID }

// expired reports whether an entry counts no more at a time.
func (w *WaitingWorker) expired(now uint64) bool { return now > w.Seen && now-w.Seen > WaitingExpiry }

// DecideWorker lets a waiting worker in, or refuses it. A worker that is let in becomes part of the cluster with its
// next registration, which has its height of then. The id of a refused one is not admitted, as long as the list of
// removed workers has room for it. It is refused with [ErrUnknownNode] if no such worker waits. The result is the
// *[WaitingWorker]. Known from protocol level 7 on.
type DecideWorker struct {
	ID      string `json:"id"`
	Approve bool   `json:"approve"`
	Time    uint64 `json:"time"`
}

func (c *DecideWorker) apply(s *State) (any, error) {
	if s.level < LevelApprovals {
		return nil, fmt.Errorf("%w: workers are approved from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelApprovals, s.level)
	}
	list := s.WaitingWorkers(c.Time)
	w, ok := find(list, func(w *WaitingWorker) bool { return w.ID == c.ID })
	if !ok {
		return nil, fmt.Errorf("%w: no worker %s waits for approval: %s", ErrUnknownNode, c.ID, s.whyNotWaiting(c.ID))
	}
	s.tick(c.Time)
	if c.Approve {
		w.Approved, w.Seen = true, s.now
		s.waitingWorkers = put(list, w, (*WaitingWorker).id)
		return &w, nil
	}
	if len(s.integrity.Removed) < maxRemoved/2 { // else it would push out the id of a worker that was removed
		s.integrity.Removed = appendBounded(s.integrity.Removed, c.ID, maxRemoved)
	}
	s.waitingWorkers = slices.DeleteFunc(list, func(w WaitingWorker) bool { return w.ID == c.ID })
	return &w, nil
}

// whyNotWaiting says what the table has of a worker that does not wait.
func (s *State) whyNotWaiting(id string) string {
	if _, known := s.urlOf(id); known {
		return "it is part of the cluster"
	}
	return "it was approved or refused before, or has not registered for an hour"
}

// WaitingWorkers are the workers that wait at a time, by id, and those that were approved and have not registered
// again. An absurd time is ignored.
func (s *State) WaitingWorkers(time uint64) []WaitingWorker {
	now := s.timeOf(time)
	return slices.DeleteFunc(slices.Clone(s.waitingWorkers), func(w WaitingWorker) bool { return w.expired(now) })
}

// MustWait reports whether a registration makes its worker wait: the table does not have the worker, and workers need
// approval, which it does not have.
func (s *State) MustWait(c *Register) bool {
	if s.level < LevelApprovals || !s.settings.ApproveWorkers || s.hasWorker(c.Role, c.ID) {
		return false
	}
	w := s.waitingWorker(c)
	return !w.Approved || w.Role != c.Role || w.AccessHash != c.AccessHash
}

// hasWorker reports whether the table has a worker of a role.
func (s *State) hasWorker(role Role, id string) bool {
	if role == RoleStorage {
		return s.storage(id) != nil
	}
	return slices.ContainsFunc(s.miners, func(m Miner) bool { return m.ID == id })
}

// waitingWorker returns the entry of a worker that registers, zero for none.
func (s *State) waitingWorker(c *Register) WaitingWorker {
	w, _ := find(s.WaitingWorkers(c.Time), func(w *WaitingWorker) bool { return w.ID == c.ID })
	return w
}

// waitingOf is the number of workers of a role that wait at a time.
func (s *State) waitingOf(role Role, time uint64) (n int) {
	for _, w := range s.WaitingWorkers(time) {
		if w.Role == role {
			n++
		}
	}
	return n
}

// CheckWaiting refuses a registration of a worker that must wait: with [wire.ErrTooMany] if too many wait already, or
// the worker changes its URL too often, and with [ErrBadCommand] if another worker waits under the id.
func (s *State) CheckWaiting(c *Register) error {
	switch w := s.waitingWorker(c); {
	case w.ID != "" && (w.Role != c.Role || w.AccessHash != c.AccessHash):
		return fmt.Errorf("%w: another worker waits for approval as %s", ErrBadCommand, c.ID)
	case w.ID != "" && w.URL != c.URL && s.timeOf(c.Time) < w.Seen+WaitingMove:
		return fmt.Errorf("%w: worker %s waits for approval at %s, and has registered there less than %d s ago: it "+
			"may "+
			"change its URL then", wire.ErrTooMany, c.ID, w.URL, WaitingMove/1000)
	case w.ID == "" && s.waitingOf(c.Role, c.Time) >= MaxWaiting:
		return fmt.Errorf("%w: %d workers of this role wait for approval already: approve or refuse some "+
			"(chainstore status lists "+
			"them), or replace the secret of the nodes that do not belong here", wire.ErrTooMany, MaxWaiting)
	}
	return nil
}

// wait enters a worker that must wait, or renews its entry.
func (s *State) wait(c *Register) (any, error) {
	if c.Role != RoleStorage && c.Role != RoleMiner {
		return nil, fmt.Errorf("%w: unknown role %q", ErrBadCommand, c.Role)
	}
	if err := s.CheckWaiting(c); err != nil {
		return nil, err
	}
	w, list := s.waitingWorker(c), s.WaitingWorkers(c.Time)
	s.tick(c.Time)
	if w.ID == "" {
		w = WaitingWorker{ID: c.ID, Role: c.Role, AccessHash: c.AccessHash, Since: s.now}
	}
	w.URL, w.Seen = c.URL, s.now
	s.waitingWorkers = put(list, w, (*WaitingWorker).id)
	return &w, nil
}

// endWaiting removes the entry of a worker that is part of the cluster now.
func (s *State) endWaiting(id string) {
	if _, ok := search(s.waitingWorkers, id, (*WaitingWorker).id); ok {
		s.waitingWorkers = slices.DeleteFunc(slices.Clone(s.waitingWorkers),
			func(w WaitingWorker) bool { return w.ID == id })
	}
}

// restoreWaiting takes the waiting workers of a snapshot.
func (s *State) restoreWaiting(list []WaitingWorker) error {
	for i := range list {
		if list[i].ID == "" || i > 0 && list[i].ID <= list[i-1].ID {
			return errors.New("the waiting workers are not in the order of their ids")
		}
	}
	s.waitingWorkers = list
	return nil
}
