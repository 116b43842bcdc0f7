package leader

import (
	"errors"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
)

// after is how long an action is not to be done again, by its kind and how it ended.
func (p pace) after(kind actionKind, err error) time.Duration {
	switch kind {
	case actCheck, actRepair:
		return p.poll // a question; what it is about goes on meanwhile
	case actMine:
		if err != nil {
			return p.retryMine
		}
	case actBeginRepair, actInbox, actFoundLog, actRaiseLevel:
		if err != nil && !errors.Is(err, masterfsm.ErrStale) {
			return p.again
		}
	case actCosign:
		return 0 // each witness has a pace of its own
	case actAddLogKey:
		if err != nil {
			return p.rekey
		}
	}
	if err != nil {
		return p.retry
	}
	return 0
}

// inbox gives a node that cannot take blocks into its chain the next one for its inbox.
func (w *planner) inbox(n *masterfsm.Storage) {
	seen := w.memory.nodes[n.ID]
	if !seen.speaksOf(n) || !w.memory.live(n.ID, w.now, w.pace) {
		return
	}
	next := max(seen.height, w.view.HeldFrom)
	for _, sent := range n.Missing { // its repair brings these: to give them here too would cost the time in which the next ones are dropped
		if sent.Holds(next) {
			next = sent.To
		}
	}
	if seen.inbox <= w.view.Head.Height { // else there is something in it that no leader can have sent
		next = max(next, seen.inbox)
	}
	if next < w.view.Head.Height {
		w.want(action{kind: actInbox, node: n.ID, block: next, version: n.Version})
	}
}

// checks has one storage node at a time check its chain: first those for which there is a cause, then those whose last check is longest
// ago. The last valid one only for a cause, unless it is alone.
func (w *planner) checks() {
	valid := 0
	for i := range w.view.Storages {
		n := &w.view.Storages[i]
		switch {
		case n.State == masterfsm.Validating:
			w.checking(n)
			return
		case n.State == masterfsm.Valid:
			valid++
		}
	}
	last := valid < 2 && len(w.view.Storages) > 1
	var next *masterfsm.Storage
	for i := range w.view.Storages {
		n := &w.view.Storages[i]
		if n.State != masterfsm.Valid || !w.memory.live(n.ID, w.now, w.pace) || !w.due(n) || last && n.Due.IsZero() {
			continue
		}
		// One whose checks end early stays due. It waits longer each time, so that the others have their turn.
		if again := w.memory.nodes[n.ID].checkAgain; w.now.Before(again) {
			w.wakeAt(again)
			continue
		}
		if w.ending(actCheck, n.ID) {
			continue
		}
		if next == nil || !n.Due.IsZero() && next.Due.IsZero() || n.Due.IsZero() == next.Due.IsZero() && n.Checked < next.Checked {
			next = n
		}
	}
	if next != nil {
		w.want(action{kind: actBeginCheck, node: next.ID, version: next.Version})
	}
}

// ending reports whether the end of a node's check or repair is committed and not in the memory yet, which may say
// that the next one is to wait.
func (w *planner) ending(kind actionKind, id string) bool {
	for a := range w.memory.inflight {
		if a.kind == kind && a.node == id {
			return true
		}
	}
	return false
}

// due reports whether a node is to be checked now, and wakes the loop when it will be.
func (w *planner) due(n *masterfsm.Storage) bool {
	switch {
	case !n.Due.IsZero():
		return true
	case w.pace.check == 0 || n.Height == 0:
		return false
	}
	at := time.UnixMilli(int64(n.Checked)).Add(w.pace.check)
	if w.now.Before(at) {
		w.wakeAt(at)
		return false
	}
	return true
}

// checking follows a check. One of a node that does not answer is given up, so that others can be checked; it is due at once when the node
// is back.
func (w *planner) checking(n *masterfsm.Storage) {
	w.follow(n, action{kind: actCheck, node: n.ID, version: n.Version}, action{kind: actAbortCheck, node: n.ID, version: n.Version})
}

// follow asks a node how its work goes, and gives the work up when the node does not answer, once the leader has led for long enough to know.
func (w *planner) follow(n *masterfsm.Storage, ask, abort action) {
	_, asking := w.memory.inflight[ask]
	if !asking && w.now.Sub(w.memory.began) > w.pace.dead && !w.memory.live(n.ID, w.now, w.pace) {
		w.want(abort)
		return
	}
	w.want(ask)
}

// repairs has one storage node at a time repaired from another. A node that lacks only what is lost everywhere is left alone.
func (w *planner) repairs() {
	for i := range w.view.Storages {
		if n := &w.view.Storages[i]; n.State == masterfsm.Receiving {
			w.follow(n, action{kind: actRepair, node: n.ID, version: n.Version}, action{kind: actAbortRepair, node: n.ID, version: n.Version})
			return
		}
	}
	for i := range w.view.Storages {
		n := &w.view.Storages[i]
		if n.State != masterfsm.Invalid || n.CountsAsCopy || !w.memory.live(n.ID, w.now, w.pace) {
			continue
		}
		if again := w.memory.nodes[n.ID].repairAgain; w.now.Before(again) {
			w.wakeAt(again)
			continue
		}
		if w.ending(actRepair, n.ID) {
			continue
		}
		a := action{kind: actBeginRepair, node: n.ID, version: n.Version}
		w.want(a)
		if _, paused := w.memory.paused[a]; !paused {
			return
		}
	}
}
