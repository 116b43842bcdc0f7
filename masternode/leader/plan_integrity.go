package leader

import (
	"errors"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// after returns the pause after an action, by its kind and how it ended.
func (p pace) after(kind actionKind, err error) time.Duration {
	switch kind {
	case actCheck, actRepair:
		return p.poll // the work itself goes on meanwhile
	case actMine:
		if err != nil {
			return p.retryMine
		}
	case actRaiseLevel:
		switch {
		case errors.Is(err, masterfsm.ErrBadCommand): // the state machine refuses it, and will again
			return p.rekey
		case err != nil && !errors.Is(err, masterfsm.ErrStale):
			return p.again
		}
	case actBeginRepair, actInbox, actFoundLog:
		if err != nil && !errors.Is(err, masterfsm.ErrStale) {
			return p.again
		}
	case actHandOver:
		return p.yield // so that a leadership which nobody takes is not handed over again and again
	case actCosign:
		return 0 // each witness has its own pause
	case actAddLogKey, actSealAgain:
		if err != nil {
			return p.rekey
		}
	}
	if err != nil {
		return p.retry
	}
	return 0
}

// inbox gives a node that cannot append blocks to its chain the next one for its inbox.
func (w *planner) inbox(n *masterfsm.Storage) {
	seen := w.memory.nodes[n.ID]
	if !seen.matches(n) || !w.memory.live(n.ID, w.now, w.pace) {
		return
	}
	next := max(seen.height, w.view.HeldFrom)
	for _, sent := range n.Missing { // its repair sends these
		if sent.Holds(next) {
			next = sent.To
		}
	}
	if seen.inbox <= w.view.Head.Height { // else it holds blocks that no leader sent
		next = max(next, seen.inbox)
	}
	if next < w.view.Head.Height {
		w.want(action{kind: actInbox, node: n.ID, block: next, version: n.Version})
	}
}

// checks has at most one storage node check its chain at a time: first those with a cause, then the one whose last
// check is longest ago. It checks the last valid node only for a cause, unless there is no other node.
func (w *planner) checks() {
	for i := range w.view.Storages {
		if n := &w.view.Storages[i]; n.State == masterfsm.Validating {
			if w.overdue(n) {
				w.want(action{kind: actAbortCheck, node: n.ID, version: n.Version})
			} else {
				w.pollOrAbort(n, actCheck, actAbortCheck)
			}
			return
		}
	}
	last := w.lastValid()
	var next *masterfsm.Storage
	for i := range w.view.Storages {
		n := &w.view.Storages[i]
		if n.State != masterfsm.Valid || !w.memory.live(n.ID, w.now, w.pace) || !w.due(n) || last && n.Due.IsZero() {
			continue
		}
		// A node whose checks end early stays due. It waits longer each time, so that the others have their turn.
		if again := w.memory.nodes[n.ID].checkAgain; w.now.Before(again) {
			w.wakeAt(again)
			continue
		}
		if w.inFlight(actCheck, n.ID) || w.inFlight(actAbortCheck, n.ID) {
			continue // its last check has ended, and the memory does not have that yet
		}
		if next == nil || !n.Due.IsZero() && next.Due.IsZero() ||
			n.Due.IsZero() == next.Due.IsZero() && n.Checked < next.Checked {
			next = n
		}
	}
	if next != nil {
		w.want(action{kind: actBeginCheck, node: next.ID, version: next.Version})
	}
}

// lastValid reports whether at most one node is Valid, of several.
func (w *planner) lastValid() bool {
	valid := 0
	for i := range w.view.Storages {
		if w.view.Storages[i].State == masterfsm.Valid {
			valid++
		}
	}
	return valid < 2 && len(w.view.Storages) > 1
}

// due reports whether a node should be checked now. If not, the loop plans again when it should.
func (w *planner) due(n *masterfsm.Storage) bool {
	switch {
	case !n.Due.IsZero():
		return true
	case w.pace.check == 0 || n.Height == 0:
		return false
	}
	// The table's time does not decide: a leader whose wall clock was wrong may have put it far ahead.
	//mutant:scheduled-check
	at := w.memory.node(n.ID).checkedAt.Add(w.pace.check)
	if w.now.Before(at) {
		w.wakeAt(at)
		return false
	}
	return true
}

// pollOrAbort polls the check or repair of a node. It aborts it if the node does not answer and the leader has led for
// long enough to know, so that others have their turn.
func (w *planner) pollOrAbort(n *masterfsm.Storage, poll, abort actionKind) {
	ask := action{kind: poll, node: n.ID, version: n.Version}
	_, asking := w.memory.inflight[ask]
	if !asking && w.now.Sub(w.memory.began) > w.pace.dead && !w.memory.live(n.ID, w.now, w.pace) {
		w.want(action{kind: abort, node: n.ID, version: n.Version})
		return
	}
	w.want(ask)
}

// needsRepair reports whether a node can be repaired now. A node that lacks only blocks that are lost on all nodes
// cannot.
func (w *planner) needsRepair(n *masterfsm.Storage) bool {
	return n.State == masterfsm.Invalid && !n.CountsAsCopy && w.memory.live(n.ID, w.now, w.pace)
}

// repairs has at most one storage node repaired at a time, first the one whose last repair ended longest ago.
func (w *planner) repairs() {
	for i := range w.view.Storages {
		if n := &w.view.Storages[i]; n.State == masterfsm.Receiving {
			w.pollOrAbort(n, actRepair, actAbortRepair)
			return
		}
	}
	var invalid []*masterfsm.Storage
	for i := range w.view.Storages {
		if n := &w.view.Storages[i]; w.needsRepair(n) {
			invalid = append(invalid, n)
		}
	}
	slices.SortStableFunc(invalid, func(a, b *masterfsm.Storage) int {
		return w.memory.nodes[a.ID].repairEnded.Compare(w.memory.nodes[b.ID].repairEnded)
	})
	for _, n := range invalid {
		if again := w.memory.nodes[n.ID].repairAgain; w.now.Before(again) {
			w.wakeAt(again)
			continue
		}
		if w.inFlight(actRepair, n.ID) {
			continue // as with checks
		}
		a := action{kind: actBeginRepair, node: n.ID, version: n.Version}
		w.want(a)
		if _, paused := w.memory.paused[a]; !paused {
			return
		}
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
	for _, due := range []time.Time{
		c.moved.Add(w.pace.checkStall), c.began.Add(longer(limit, w.memory.tried(n).aborted)),
	} {
		if !w.now.Before(due) {
			return true
		}
		w.wakeAt(due)
	}
	return false
}

// maxCheckMillis bounds what a storage node can claim that its check took: ten days.
const maxCheckMillis = 10 * 24 * 60 * 60 * 1000
