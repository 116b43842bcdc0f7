package leader

import (
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// checkWatch follows the check that is in progress. Only one storage node is checked at a time, so a check that never
// ends would keep all others from being checked. It is zero while no node is checked.
type checkWatch struct {
	node          string
	version       uint64    // of the node's entry in the table
	began         time.Time // when this leader first saw the check
	moved         time.Time // when it last made progress
	blocks, bytes uint64    // the most that the node said to have checked, and to have read
}

// note begins to follow the check of a node when the table shows it.
func (c *checkWatch) note(view masterfsm.View, now time.Time) {
	for i := range view.Storages {
		n := &view.Storages[i]
		if n.State != masterfsm.Validating {
			continue
		}
		if c.node != n.ID || c.version != n.Version {
			*c = checkWatch{node: n.ID, version: n.Version, began: now, moved: now}
		}
		return
	}
	*c = checkWatch{}
}

// progress records what a node answered about its check. Only more blocks or bytes than ever before are progress.
func (c *checkWatch) progress(n *masterfsm.Storage, status wire.CheckStatus, now time.Time) {
	if c.node != n.ID || c.version != n.Version {
		return
	}
	blocks := min(status.Blocks, n.Target.Height)
	if blocks > c.blocks || status.Bytes > c.bytes {
		c.blocks, c.bytes, c.moved = max(c.blocks, blocks), max(c.bytes, status.Bytes), now
	}
}

// overdue reports whether the check of a node takes too long: it makes no progress, or takes longer than an hour and
// than four times the last check of any other node. After each check of the node that ended early it may take four
// times as long, so that a large chain on a slow disk is checked eventually.
func (w *planner) overdue(n *masterfsm.Storage) bool {
	c := &w.memory.checking
	if c.node != n.ID || c.version != n.Version {
		return false
	}
	limit := w.pace.checkTime
	for i := range w.view.Storages {
		if other := &w.view.Storages[i]; other.ID != n.ID {
			limit = max(limit, 4*time.Duration(min(other.CheckMillis, maxCheckMillis))*time.Millisecond)
		}
	}
	tries := 0
	if s := w.memory.nodes[n.ID]; s != nil && s.aborted != nil {
		tries = s.aborted.Count
	}
	for _, due := range []time.Time{c.moved.Add(w.pace.checkStall), c.began.Add(longer(limit, tries))} {
		if !w.now.Before(due) {
			return true
		}
		w.wakeAt(due)
	}
	return false
}

// maxCheckMillis bounds what a storage node can claim that its check took: ten days.
const maxCheckMillis = 10 * 24 * 60 * 60 * 1000
