package leader

import (
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// memory is what a leader has observed in its term, beside the replicated state. It begins empty in each term. The loop
// owns it.
type memory struct {
	began     time.Time            // start of the term
	nodes     map[string]*lastSeen // by worker or member id
	open      uint64               // the block that was open last
	openedAt  time.Time            // when it was first seen with a record; zero without one
	paused    map[action]time.Time // not to be started before: it failed, or was just answered
	inflight  map[action]func()    // cancels an action in flight
	tasks     map[string]wire.Task // by node: progress of its check or repair
	repairs   map[string]*repair   // by receiver; owned by the job of its node while one is in flight
	checking  checkWatch           // the check that is in progress
	witnesses witnessMemory
	approve   bool // this master has the flag that workers need approval
	givenKey  givenKey
	seals     seals
	clocks    Clocks // as of the last decision
	time      uint64 // of commands at that moment: see Leader.Now
	// certificate and secrets are those of this master at that moment; nil without TLS, and for unknown.
	certificate *wire.Certificate
	secrets     []wire.SecretUse
}

// lastSeen is what a leader has last seen of a node.
type lastSeen struct {
	answered time.Time    // of the last answer; zero before the first
	tried    time.Time    // of the last try
	notice   string       // the code of the notice about its last answer; "" for a good one, and for none
	height   uint64       // storage nodes: blocks on disk, from its last answer
	heightAt time.Time    // when it first answered with that height
	version  uint64       // storage nodes: of its entry in the table at that answer, 0 before the first
	disk     wire.Disk    // storage nodes and masters, from the last answer; zero if that did not say
	atRest   *wire.AtRest // from the last answer; nil if that did not say
	// certificate is from the last answer; nil if that did not say.
	certificate *wire.Certificate
	secrets     []wire.SecretUse // as certificate
	tls         *wire.TLSUse     // as certificate
	tlsBoot     string           // of a worker: its start in the table when it was asked for tls
	// reported is when a report of the node was committed last, by act.
	reported map[trail.Act]time.Time
	told     time.Time       // miners: when it last answered with its status
	inbox    uint64          // storage nodes: the number after the last block in the inbox, 0 if it is empty
	bad      masterfsm.Cause // why it must become Invalid, if it must
	entry    minerEntry      // miners: what the table had of it at the last try
	entered  time.Time       // miners: when that was first tried
	// repairAgain is when a storage node may be repaired again after a repair that ended early.
	repairAgain time.Time
	// aborted is the last check of a storage node, if that ended early. checkAgain is when it may be checked again
	// then.
	aborted    *wire.Aborted
	checkAgain time.Time
	unread     unreadHistory // of a storage node; empty after a check that looked at everything
	// repairEnded is when the last repair of a storage node ended, repairsCut how many in a row ended because others
	// waited, and sendFailed when the node last failed as a sender.
	repairEnded time.Time
	repairsCut  int
	sendFailed  time.Time
	// checked is when the last check of a storage node ended, as the table had it when checkedAt was set.
	checked   uint64
	checkedAt time.Time
	caughtUp  bool             // masters: it had nearly all of this master's log when it answered
	clock     uint64           // masters: its wall clock at clockAt, unix milliseconds; 0 if it does not say
	clockAt   time.Time        // by this master's clock
	knowsKeys bool             // masters: it knows the commands of log keys
	level     uint64           // masters: the highest protocol level that it knows
	isMember  bool             // masters: the member itself answered, so level is what it says
	flags     wire.AccessFlags // masters
}

// matches reports whether the last answer is about the node as the table has it. A node that was restarted or repaired
// since may have another chain.
func (s *lastSeen) matches(n *masterfsm.Storage) bool { return s != nil && s.version == n.Version }

func newMemory(now time.Time) *memory {
	return &memory{
		began: now, nodes: map[string]*lastSeen{},
		paused: map[action]time.Time{}, inflight: map[action]func(){},
		tasks: map[string]wire.Task{}, repairs: map[string]*repair{},
	}
}

func (m *memory) node(id string) *lastSeen {
	s := m.nodes[id]
	if s == nil {
		s = &lastSeen{}
		m.nodes[id] = s
	}
	return s
}

// tried returns what is known of the last checks of a storage node, under earlier leaders too.
func (m *memory) tried(n *masterfsm.Storage) tries {
	t := tries{aborted: int(min(n.EarlyEnds, maxTries))}
	if s := m.nodes[n.ID]; s != nil {
		t.unread = s.unread
		if s.aborted != nil { // the table does not count checks in repairs, nor any below protocol level 3
			t.aborted = max(t.aborted, s.aborted.Count)
		}
	}
	return t
}

// maxTries bounds what the table may say about the number of checks that ended early.
const maxTries = 1 << 30

// checkEnded records how a check of a storage node ended, after those that were tried before. early is nil if the check
// looked at everything.
func (m *memory) checkEnded(id string, tried tries, early *wire.Aborted, p pace, now time.Time) {
	s := m.node(id)
	if early == nil {
		s.aborted, s.checkAgain = nil, time.Time{}
		return
	}
	kept := *early
	kept.Time, _ = wallMillis(now)
	kept.Count = tried.aborted + 1
	pause := p.again
	for i := 1; i < kept.Count && pause < p.againMost; i++ {
		pause *= 2
	}
	s.aborted, s.checkAgain = &kept, now.Add(min(pause, p.againMost))
}

// noteOpenBlock records since when the open block has had a record.
func (m *memory) noteOpenBlock(view masterfsm.View, now time.Time) {
	switch {
	case view.OpenRecords == 0:
		m.openedAt = time.Time{}
	case view.OpenBlock != m.open || m.openedAt.IsZero():
		m.open, m.openedAt = view.OpenBlock, now
	}
}

// noteChecks records when the last checks of storage nodes ended, by the leader's own clock. Of those that it finds in
// the table, the table's age says how long ago that was. Below protocol level 3 the table's time says it. table is that
// time now.
func (m *memory) noteChecks(view masterfsm.View, table uint64, now time.Time) {
	age := m.age(view, now)
	for i := range view.Storages {
		n := &view.Storages[i]
		switch s := m.node(n.ID); {
		case s.checkedAt.IsZero() && n.CheckedAge > 0:
			s.checked, s.checkedAt = n.Checked, now.Add(-apart(age, min(age, n.CheckedAge)))
		case s.checkedAt.IsZero(): // a time that has not come yet counts as now
			s.checked, s.checkedAt = n.Checked, now.Add(-apart(table, min(table, n.Checked)))
		case s.checked != n.Checked:
			s.checked, s.checkedAt = n.Checked, now
		}
	}
}

// minerEntry is what the table has of a miner, as far as its calls depend on it.
type minerEntry struct{ url, token, boot string }

func entryOf(m *masterfsm.Miner) minerEntry { return minerEntry{m.URL, m.MasterToken, m.Boot} }

// mayAnswer reports whether a node answered recently, or this leader cannot know yet whether it does.
func (m *memory) mayAnswer(id string, now time.Time, p pace) bool {
	if s := m.nodes[id]; s == nil || s.answered.IsZero() {
		return now.Sub(m.began) < p.dead
	}
	return m.live(id, now, p)
}

// mark returns the mark that the table should have of a miner, and whether it is another one than it has.
func (m *memory) mark(miner *masterfsm.Miner, now time.Time, p pace) (mark masterfsm.MinerMark, due bool) {
	mark = masterfsm.MinerMark{ID: miner.ID, Boot: miner.Boot, Dead: miner.Dead}
	s := m.nodes[miner.ID]
	if s == nil || s.entry != entryOf(miner) {
		return mark, false // not tried yet
	}
	heard := m.began
	if s.answered.After(heard) {
		heard = s.answered
	}
	if s.entered.After(heard) {
		heard = s.entered
	}
	switch {
	case m.live(miner.ID, now, p):
		mark.Dead = false
	case now.Sub(heard) >= p.minerDead:
		mark.Dead = true
	}
	return mark, mark.Dead != miner.Dead
}

// age returns the table's age now, as this leader counts it.
func (m *memory) age(view masterfsm.View, now time.Time) uint64 {
	return view.Begun + uint64(max(0, now.Sub(m.began).Milliseconds()))
}

// silent returns the storage nodes that are not live. A new leader gives them time to answer.
func (m *memory) silent(view masterfsm.View, now time.Time, p pace) (list []string) {
	if now.Sub(m.began) < p.dead {
		return nil
	}
	for i := range view.Storages {
		if id := view.Storages[i].ID; !m.live(id, now, p) {
			list = append(list, id)
		}
	}
	return list
}

// refusals returns the codes of the notices about the last answers of nodes in the table, by node id.
func (m *memory) refusals(view masterfsm.View) map[string]string {
	codes := map[string]string{}
	m.eachSeen(view, func(id string, s *lastSeen) {
		if s.notice != "" {
			codes[id] = s.notice
		}
	})
	return codes
}

// eachSeen calls do for each node in the table that this leader has asked.
func (m *memory) eachSeen(view masterfsm.View, do func(id string, s *lastSeen)) {
	seen := func(id string) {
		if s := m.nodes[id]; s != nil {
			do(id, s)
		}
	}
	for i := range view.Masters {
		seen(view.Masters[i].ID)
	}
	for i := range view.Storages {
		seen(view.Storages[i].ID)
	}
	for i := range view.Miners {
		seen(view.Miners[i].ID)
	}
}

// live reports whether a node answered recently.
func (m *memory) live(id string, now time.Time, p pace) bool {
	s := m.nodes[id]
	return s != nil && !s.answered.IsZero() && now.Sub(s.answered) < p.dead
}

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
