package leader

import (
	"math"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// actionKind is what the leader may have under way.
type actionKind uint8

const (
	actCut         actionKind = iota + 1 // close the open block, whose oldest record has waited long enough
	actMine                              // have one miner look for the nonce of the block that waits
	actPut                               // give a storage node the next block that it lacks
	actAcknowledge                       // commit the heights that storage nodes have answered with
	actInvalidate                        // commit that a storage node is Invalid
	actInbox                             // give a storage node that is not whole the next block for its inbox
	actBeginCheck                        // commit that a storage node is Validating
	actCheck                             // have it check its chain, or ask how that goes, and commit what it found
	actAbortCheck                        // commit that its check came to no end
	actBeginRepair                       // find out what a storage node lacks and commit that it is Receiving
	actRepair                            // have it repaired, or see how that goes, and commit the end
	actAbortRepair                       // commit that its repair came to no end
	actPingStorage                       // ask a storage node how it is
	actPingMiner
	actPingMaster
	actPromote    // give a master that has caught up a vote
	actDropMaster // take a master out of raft's configuration that the table has as removed
	actFoundLog   // give the log its first key
	actAddLogKey  // give the log the key that this master was given
	actRaiseLevel // raise the group's protocol level
	actCosign     // have a witness cosign the checkpoint that is nominated
)

// action is one thing to do. Actions are compared: two that are equal are the same piece of work.
type action struct {
	kind    actionKind
	node    string // worker or member id
	block   uint64 // of cut, mine and put
	version uint64 // of the node's entry in the table: a node that registers anew is another target
	share   share  // of mine: which part of the nonces
}

// share is part number of of the nonce space.
type share struct{ number, of int }

// start is the first nonce of the share.
func (s share) start() uint64 { return math.MaxUint64 / uint64(s.of) * uint64(s.number) }

// pace are the times that the policy goes by.
type pace struct {
	maxAge    time.Duration // of the oldest record of the open block
	ping      time.Duration // between two signs of life of a worker
	ask       time.Duration // between two questions to a master who it is: raft tells whether it is there
	dead      time.Duration // after the last sign of life a node counts as not live
	ackDelay  time.Duration // for heights that make no block stored
	retry     time.Duration // after a failed action
	retryMine time.Duration // after a miner failed
	check     time.Duration // after a storage node's last check, 0 for no checks on a schedule
	poll      time.Duration // between two questions how a check or a repair goes
	again     time.Duration // after a repair that could not begin, a full inbox, a check that ended early
	againMost time.Duration // checks that end early: the pause doubles up to this
	rekey     time.Duration // after a log key that was refused
	stall     time.Duration // a repair that does not get on for so long ends; one whose sender does not answer, after dead

	witness     time.Duration // between two nominations, and after a submission that failed: then it doubles each time
	witnessMost time.Duration // up to this
	patience    time.Duration // that a nomination has with witnesses that are well
}

func defaultPace() pace {
	return pace{
		maxAge: time.Second, ping: time.Second, ask: 5 * time.Second, dead: 3 * time.Second, ackDelay: 250 * time.Millisecond,
		retry: 250 * time.Millisecond, retryMine: 100 * time.Millisecond,
		poll: 100 * time.Millisecond, again: 2 * time.Second, rekey: time.Minute, stall: time.Minute,
		againMost: 30 * time.Second,
		witness:   time.Second, witnessMost: time.Minute, patience: 5 * time.Second,
	}
}

// memory is what a leader knows beside the replicated state: who answers, and what failed just now. It begins empty with each
// leadership. The goroutine of lead owns it.
type memory struct {
	began     time.Time            // of the leadership
	nodes     map[string]*sighting // by worker or member id
	open      uint64               // the block that was open last
	openedAt  time.Time            // when it was first seen with a record in it; zero where it has none
	paused    map[action]time.Time // do not do again before: it failed, or is a question that was just answered
	inflight  map[action]func()    // what is under way, and how to cancel it
	tasks     map[string]wire.Task // by node: the check or repair that is under way, as it was last heard of
	repairs   map[string]*repair   // by receiver; each belongs to the job of its node while one is in flight
	witnesses witnessing
	givenKey  givenKey
}

// sighting is what a leader has seen of a node.
type sighting struct {
	last     time.Time       // of the last answer; zero before the first
	tried    time.Time       // of the last try
	height   uint64          // storage nodes: blocks on disk, by its last answer
	heightAt time.Time       // when that height was first heard
	version  uint64          // storage nodes: of its entry in the table when it was asked for that answer, 0 before the first
	inbox    uint64          // storage nodes: the block behind the last one in the inbox, 0 where it is empty
	bad      masterfsm.Cause // why it must become Invalid, if it must
	// repairAgain is when a storage node whose repair ended early may be repaired again.
	repairAgain time.Time
	// aborted is the last check of a storage node, where that ended early: nil where it did not. checkAgain is when
	// it may be checked again then.
	aborted    *wire.Aborted
	checkAgain time.Time
	caughtUp   bool   // masters: it had nearly all of the log that this one had when it was asked
	knowsKeys  bool   // masters: it knows the commands of the log's keys
	level      uint64 // masters: the highest protocol level that it knows
}

// speaksOf reports whether the last answer is of the node as the table has it: one that was started again or repaired since may have another
// chain.
func (s *sighting) speaksOf(n *masterfsm.Storage) bool { return s != nil && s.version == n.Version }

func newMemory(now time.Time) *memory {
	return &memory{
		began: now, nodes: map[string]*sighting{},
		paused: map[action]time.Time{}, inflight: map[action]func(){},
		tasks: map[string]wire.Task{}, repairs: map[string]*repair{},
	}
}

func (m *memory) of(id string) *sighting {
	s := m.nodes[id]
	if s == nil {
		s = &sighting{}
		m.nodes[id] = s
	}
	return s
}

// checkEnded remembers how a check of a storage node ended: early is nil where it looked at everything.
func (m *memory) checkEnded(id string, early *wire.Aborted, p pace, now time.Time) {
	s := m.of(id)
	if early == nil {
		s.aborted, s.checkAgain = nil, time.Time{}
		return
	}
	kept := *early
	kept.Time, kept.Count = uint64(now.UnixMilli()), 1
	if s.aborted != nil {
		kept.Count += s.aborted.Count
	}
	pause := p.again
	for i := 1; i < kept.Count && pause < p.againMost; i++ {
		pause *= 2
	}
	s.aborted, s.checkAgain = &kept, now.Add(min(pause, p.againMost))
}

// note remembers since when the open block has had a record.
func (m *memory) note(view masterfsm.View, now time.Time) {
	switch {
	case view.OpenRecords == 0:
		m.openedAt = time.Time{}
	case view.OpenBlock != m.open || m.openedAt.IsZero():
		m.open, m.openedAt = view.OpenBlock, now
	}
}

// live reports whether a node answered lately.
func (m *memory) live(id string, now time.Time, p pace) bool {
	s := m.nodes[id]
	return s != nil && !s.last.IsZero() && now.Sub(s.last) < p.dead
}

// decision is what plan wants: what to start, what to cancel, and when to look again at the latest if nothing changes.
type decision struct {
	start  []action
	cancel []action
	wake   time.Time
	// noLogKeys are voters that the log's first key waits for: see planner.logKeys. older are members that the group's protocol
	// level waits for: see planner.level.
	noLogKeys, older []string
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

// plan is the leader's policy: replicated state, memory and time in, actions out. It is level-triggered: it says what should
// be under way now, whatever happened before, so a new leader goes on from the table alone. It changes nothing.
func plan(view masterfsm.View, m *memory, members []wire.Master, p pace, now time.Time) decision {
	w := &planner{view: view, memory: m, pace: p, members: members, now: now, wanted: map[action]bool{}}
	w.decided.wake = now.Add(p.ping)
	w.cut()
	w.mine()
	w.storages()
	w.checks()
	w.repairs()
	w.pings()
	w.masters()
	w.logKeys()
	w.level()
	w.cosigning()
	for a := range m.inflight {
		if !w.wanted[a] && a.kind == actMine {
			w.decided.cancel = append(w.decided.cancel, a)
		}
	}
	return w.decided
}

// want asks for an action, unless it is under way or was done or failed just now.
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

func (w *planner) wakeAt(t time.Time) {
	if t.Before(w.decided.wake) {
		w.decided.wake = t
	}
}

// cut closes the open block when its oldest record has waited for maxAge. The waiting is timed by this leader's own clock.
func (w *planner) cut() {
	if w.view.OpenRecords == 0 {
		return
	}
	if due := w.memory.openedAt.Add(w.pace.maxAge); w.now.Before(due) {
		w.wakeAt(due)
		return
	}
	w.want(action{kind: actCut, block: w.view.OpenBlock})
}

// mine gives every miner a share of the nonces of the block that waits. All miners are asked, live or not: one that is dead
// costs a refused connection now and then.
func (w *planner) mine() {
	if w.view.Waiting == nil {
		return
	}
	for i := range w.view.Miners {
		w.want(action{
			kind: actMine, node: w.view.Miners[i].ID, block: w.view.Waiting.Block,
			share: share{number: i, of: len(w.view.Miners)},
		})
	}
}

// storages gives each node its next block, into its chain or its inbox, and commits what nodes have answered.
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
		if seen.speaksOf(n) {
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
	if s := w.memory.nodes[n.ID]; s.speaksOf(n) {
		return max(s.height, n.Height)
	}
	return n.Height
}

// pings asks every node for a sign of life that gave none for a while.
func (w *planner) pings() {
	for i := range w.view.Storages {
		n, every := &w.view.Storages[i], w.pace.ping
		if s := w.memory.nodes[n.ID]; s != nil && !s.speaksOf(n) && !s.last.Before(s.tried) {
			every = 0 // it answers, and what it said is of before
		}
		w.ping(action{kind: actPingStorage, node: n.ID}, every)
	}
	for i := range w.view.Miners {
		w.ping(action{kind: actPingMiner, node: w.view.Miners[i].ID}, w.pace.ping)
	}
}

// masters asks the other masters who they are, gives those a vote that have caught up, and finishes what a leader before this one began.
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
		if answered := s.last.Add(every); answered.After(due) {
			due = answered
		}
	}
	if w.now.Before(due) {
		w.wakeAt(due)
		return
	}
	w.want(a)
}
