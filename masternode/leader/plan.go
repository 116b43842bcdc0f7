package leader

import (
	"math"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// actionKind is a kind of work of the leader.
type actionKind uint8

const (
	actCut         actionKind = iota + 1 // close the open block
	actMine                              // have one miner search a share of the nonces of the block that waits
	actPut                               // give a storage node the next block that it lacks
	actAcknowledge                       // commit the heights that storage nodes have answered with
	actInvalidate                        // commit that a storage node is Invalid
	actInbox                             // give a storage node that is no copy the next block for its inbox
	actBeginCheck                        // commit that a storage node is Validating
	actCheck                             // have it check its chain, or poll that, and commit the result
	actAbortCheck                        // commit that its check did not end
	actBeginRepair                       // find out what a storage node lacks and commit that it is Receiving
	actRepair                            // have it repaired, or poll that, and commit the result
	actAbortRepair                       // commit that its repair did not end
	actPingStorage                       // ask a storage node for its status
	actPingMiner
	actPingMaster
	actMarkMiners // commit which miners are dead, and which answer again
	actDropMiner  // remove a miner from the table that has been dead for long
	actPromote    // give a vote to a master that has caught up
	actDropMaster // remove a master from raft's configuration that the table has as removed
	actFoundLog   // give the log its first key
	actAddLogKey  // give the log the key that this master was given
	actSealAgain  // seal the keys of the log under the present value of their secret
	actRaiseLevel // raise the group's protocol level
	actApprovals  // require the approval of new workers, as the flag of this master says
	actHandOver   // hand the leadership to a master whose clock is right
	actCosign     // have a witness cosign the checkpoint that is nominated
	actExpire     // commit the time at which a named admin token expires
	actEndIntent  // commit the outcome of an intent of the audit trail
	actReport     // commit what a node has reported of itself
)

// action is one piece of work. Actions are compared: two equal ones are the same piece of work.
type action struct {
	kind  actionKind
	node  string // worker or member id
	block uint64 // of cut, mine and put; the index of an intent; the kind of the node of a report
	// version is that of the node's entry in the table: a node that registers again is another target. Of a report it
	// is the act.
	version uint64
	share   share // of mine: the part of the nonces
}

// share is one of a number of parts of the nonce space.
type share struct{ number, of int }

// start returns the first nonce of the share.
func (s share) start() uint64 { return math.MaxUint64 / uint64(s.of) * uint64(s.number) }

// pace has all intervals and timeouts of the policy.
type pace struct {
	maxAge    time.Duration // of the oldest record of the open block
	ping      time.Duration // between two requests for a worker's status
	ask       time.Duration // between two requests for a master's member
	pingDead  time.Duration // between two requests for the status of a miner that does not answer
	minerDead time.Duration // after its last answer a miner is marked as dead
	dead      time.Duration // after its last answer a node counts as not live
	ackDelay  time.Duration // before heights are committed that make no block stored
	retry     time.Duration // after a failed action
	retryMine time.Duration // after a miner failed
	check     time.Duration // after a storage node's last check, 0 for no checks on a schedule
	poll      time.Duration // between two polls of a check or a repair
	again     time.Duration // after a repair that did not begin, a full inbox, a check that ended early
	againMost time.Duration // bound of the pause after checks that end early, which doubles each time
	yield     time.Duration // between two attempts to hand the leadership over
	rekey     time.Duration // after a log key that was refused
	stall     time.Duration // without progress, after which a repair ends

	checkStall time.Duration // without progress, after which a check is aborted
	checkTime  time.Duration // after which a check is aborted, if those of the other nodes do not take as long
	repairTurn time.Duration // after which a repair ends if other nodes wait for theirs
	sendAgain  time.Duration // in which a node that failed as a sender is chosen last

	witness     time.Duration // between two nominations, and after a failed submission, where it doubles each time
	witnessMost time.Duration // bound of that
	patience    time.Duration // that a nomination waits for witnesses that have not failed
}

func defaultPace() pace {
	return pace{
		maxAge: time.Second, ping: time.Second, ask: 5 * time.Second, dead: 3 * time.Second,
		ackDelay: 250 * time.Millisecond, retry: 250 * time.Millisecond, retryMine: 100 * time.Millisecond,
		poll: 100 * time.Millisecond, again: 2 * time.Second, rekey: time.Minute, stall: time.Minute,
		yield:    10 * time.Second,
		pingDead: 10 * time.Second, minerDead: time.Minute,
		againMost: 30 * time.Second, checkStall: 10 * time.Minute, checkTime: time.Hour, repairTurn: time.Hour,
		sendAgain: 10 * time.Minute,
		witness:   time.Second, witnessMost: time.Minute, patience: 5 * time.Second,
	}
}

// decision is the result of plan: what to start, what to cancel, and when to plan again if nothing changes.
type decision struct {
	start  []action
	cancel []action
	wake   time.Time
	// noLogKeys are voters that the log's first key waits for; see planner.logKeys. older are members that the group's
	// protocol level waits for; see planner.level.
	noLogKeys, older []string
	levels           map[string]uint64 // of older: what those masters have announced that have answered
}

// planner builds a decision.
type planner struct {
	view    masterfsm.View
	memory  *memory
	pace    pace
	members []wire.Master // of the group, as raft's configuration has them
	now     time.Time
	wanted  map[action]bool
	decided decision
}

// plan is the leader's policy: it maps the replicated state, the memory and the time to actions. It is level-triggered:
// it returns what should be in flight now, whatever happened before, so a new leader continues from the table alone. It
// changes nothing.
func plan(view masterfsm.View, m *memory, members []wire.Master, p pace, now time.Time) decision {
	w := &planner{view: view, memory: m, pace: p, members: members, now: now, wanted: map[action]bool{}}
	w.decided.wake = now.Add(p.ping)
	w.cut()
	w.mine()
	w.deadMiners()
	w.storages()
	w.checks()
	w.repairs()
	w.pings()
	w.masters()
	w.logKeys()
	w.level()
	w.approvals()
	w.cosigning()
	w.clockWork()
	w.intents()
	w.reports()
	for a := range m.inflight {
		if !w.wanted[a] && a.kind == actMine {
			w.decided.cancel = append(w.decided.cancel, a)
		}
	}
	return w.decided
}

// want asks for an action, unless it is in flight or paused.
func (w *planner) want(a action) {
	w.wanted[a] = true
	if _, running := w.memory.inflight[a]; running {
		return
	}
	if again, paused := w.memory.paused[a]; paused && w.now.Before(again) {
		w.wakeAt(again)
		return
	}
	w.decided.start = append(w.decided.start, a)
}

// inFlight reports whether an action of a kind is in flight for a node.
func (w *planner) inFlight(kind actionKind, node string) bool {
	for a := range w.memory.inflight {
		if a.kind == kind && a.node == node {
			return true
		}
	}
	return false
}

func (w *planner) wakeAt(t time.Time) {
	if t.Before(w.decided.wake) {
		w.decided.wake = t
	}
}

// cut closes the open block when its oldest record has waited for maxAge, by this leader's own clock.
func (w *planner) cut() {
	if w.view.OpenRecords == 0 {
		return
	}
	if due := w.memory.openedAt.Add(w.pace.maxAge); w.now.Before(due) {
		w.wakeAt(due)
		return
	}
	//mutant:cut-by-age
	w.want(action{kind: actCut, block: w.view.OpenBlock})
}

// mine gives the miners shares of the nonces of the block that waits. A miner that does not answer gets no new order:
// its status is requested instead, less often. One that has an order keeps it.
func (w *planner) mine() {
	if w.view.Waiting == nil {
		return
	}
	for i := range w.view.Miners {
		a := action{
			kind: actMine, node: w.view.Miners[i].ID, block: w.view.Waiting.Block,
			share: share{number: i, of: len(w.view.Miners)},
		}
		if _, running := w.memory.inflight[a]; running || w.memory.mayAnswer(a.node, w.now, w.pace) {
			w.want(a)
		}
	}
}

// deadMiners commits which miners are dead and which answer again, and removes those that have been dead for long. So
// the time that a miner is dead counts under all leaders.
func (w *planner) deadMiners() {
	if w.view.Level < masterfsm.LevelMiners {
		return
	}
	age := w.memory.age(w.view, w.now)
	for i := range w.view.Miners {
		m := &w.view.Miners[i]
		if _, due := w.memory.mark(m, w.now, w.pace); due {
			w.want(action{kind: actMarkMiners})
		} else if m.Dead && age-min(age, m.DeadAge) >= masterfsm.MinerExpiry {
			w.want(action{kind: actDropMiner, node: m.ID})
		}
	}
}

// storages gives each node its next block, for its chain or its inbox, and commits the heights that nodes have answered
// with.
func (w *planner) storages() {
	acknowledge := false
	stored := w.stored()
	for i := range w.view.Storages {
		n := &w.view.Storages[i]
		if !n.CountsAsCopy {
			w.inbox(n)
			continue
		}
		seen := w.memory.nodes[n.ID]
		height := n.Height
		if seen.matches(n) {
			if !seen.bad.IsZero() && n.State.RetainsBlocks() {
				w.want(action{kind: actInvalidate, node: n.ID, version: n.Version})
				continue
			}
			if seen.height > n.Height {
				height = seen.height
				due := seen.heightAt.Add(w.pace.ackDelay)
				if stored > w.view.Stored || !w.now.Before(due) {
					acknowledge = true
				} else {
					w.wakeAt(due)
				}
			}
		}
		if height < w.view.Head.Height && height >= w.view.HeldFrom {
			w.want(action{kind: actPut, node: n.ID, block: height, version: n.Version})
		}
	}
	if acknowledge {
		w.want(action{kind: actAcknowledge})
	}
}

// stored returns the number of blocks that enough nodes have, by what they have answered this leader.
func (w *planner) stored() uint64 {
	var heights []uint64
	for i := range w.view.Storages {
		if n := &w.view.Storages[i]; n.CountsAsCopy {
			heights = append(heights, w.heightOf(n))
		}
	}
	return masterfsm.ReplicatedHeight(heights, int(w.view.Settings.Replicas))
}

func (w *planner) heightOf(n *masterfsm.Storage) uint64 {
	if s := w.memory.nodes[n.ID]; s.matches(n) {
		return max(s.height, n.Height)
	}
	return n.Height
}

// pings asks the nodes that have not answered for a while for their status.
func (w *planner) pings() {
	for i := range w.view.Storages {
		n, every := &w.view.Storages[i], w.pace.ping
		if s := w.memory.nodes[n.ID]; s != nil && !s.matches(n) && !s.answered.Before(s.tried) {
			every = 0 // it answers, but its last answer is about an older entry
		}
		w.ping(action{kind: actPingStorage, node: n.ID}, every)
	}
	for i := range w.view.Miners {
		m, every := &w.view.Miners[i], w.pace.ping
		switch s := w.memory.nodes[m.ID]; {
		case s == nil:
		case s.entry != entryOf(m):
			every = 0 // it has registered anew
		case !w.memory.mayAnswer(m.ID, w.now, w.pace):
			every = w.pace.pingDead
		}
		w.ping(action{kind: actPingMiner, node: m.ID}, every)
	}
}

// masters asks the other masters for their member, promotes those that have caught up, and finishes removals that a
// leader before began.
func (w *planner) masters() {
	for i := range w.members {
		m := &w.members[i]
		seen := w.memory.nodes[m.ID]
		switch {
		case m.ID == w.view.Term.Leader:
			continue
		case slices.Contains(w.view.RemovedMasters, m.ID):
			w.want(action{kind: actDropMaster, node: m.ID})
			continue
		case !m.Voter && seen != nil && seen.caughtUp:
			w.want(action{kind: actPromote, node: m.ID})
		}
		every := w.pace.ask
		if !m.Voter || len(w.view.Log.Keys) == 0 || w.view.Level < masterfsm.ProtocolLevel {
			every = w.pace.ping
		}
		if w.view.Master(m.ID).URL != "" {
			w.ping(action{kind: actPingMaster, node: m.ID}, every)
		}
	}
}

func (w *planner) ping(a action, every time.Duration) {
	due := w.memory.began
	if s := w.memory.nodes[a.node]; s != nil {
		due = s.tried.Add(every)
		answered := s.answered.Add(every)
		if told := s.told.Add(w.pace.ask); a.kind == actPingMiner && told.Before(answered) {
			answered = told // nonces say nothing of its certificate and secrets
		}
		if answered.After(due) {
			due = answered
		}
	}
	if w.now.Before(due) {
		w.wakeAt(due)
		return
	}
	w.want(a)
}
