package masternode

import (
	"context"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// statusTimeout is how long a follower asks the leader for the status before it tells what it knows itself.
const statusTimeout = time.Second

// Cluster tells the status table, with who is alive by the leader's word. A master that cannot reach the leader tells its own
// table and says so in the notices.
func (n *Node) Cluster(ctx context.Context) wire.Cluster {
	if l := n.leadership.Load(); l != nil {
		return n.describe(l)
	}
	leader, url := n.leader()
	if leader != "" && leader != n.cfg.Member.ID && url != "" {
		ask, cancel := context.WithTimeout(ctx, statusTimeout)
		defer cancel()
		if c, err := n.cfg.Masters.Cluster(ask, url); err == nil {
			for _, notice := range n.flagNotices() { // which the leader does not know
				c.Notices = append(c.Notices, fmt.Sprintf("master %s: %s", n.cfg.Member.ID, notice))
			}
			return c
		}
	}
	c := n.describe(nil)
	c.Leader = leader
	c.Notices = append(c.Notices, "this master cannot reach the leader: who is live is not known, and the table may be behind")
	return c
}

// LeaderCluster is Cluster for another master: the error wraps [wire.ErrNotLeader] where this one does not lead.
func (n *Node) LeaderCluster() (wire.Cluster, error) {
	l := n.leadership.Load()
	if l == nil {
		return wire.Cluster{}, wire.ErrNotLeader
	}
	return n.describe(l), nil
}

// describe puts the table, and what the leader has seen, into the form of the API.
func (n *Node) describe(l *leadership) wire.Cluster {
	var v masterfsm.View
	var keys wire.Keys
	var next uint64
	var signed wire.Checkpoints
	reign := n.reign()
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v, next = s.View(), s.NextIndex()
		signed = wire.Checkpoints{Height: s.Checkpoint().Height, Size: s.Checkpoint().Size, PublishedSize: s.Published().Boundary.Size}
		remembered, oldest := s.Keys(reign)
		keys.Remembered, keys.Seconds = remembered, float64(oldest)/1000
	})
	c := wire.Cluster{
		Group: v.Group.ID, Epoch: v.Group.Epoch, Level: v.Level, Leader: v.Term.Leader, Term: v.Term.Term,
		Head:    wire.Head{Height: v.Head.Height, Hash: v.Head.Hash, Size: v.Head.Size, Root: v.Head.Root},
		Records: next - v.OpenBlock, // a leaf of each block before the open one is its seal
		Stored:  v.Stored, Replicas: v.Settings.Replicas,
		Storages: []wire.Storage{}, Miners: []wire.Miner{},
		Buffer:  wire.Amount{Records: v.OpenRecords, Bytes: v.OpenBytes},
		Cut:     wire.Amount{Records: int(v.Settings.MaxRecords), Bytes: int(v.Settings.MaxBytes)},
		Pending: wire.Pending{Blocks: v.Pending, Bytes: v.PendingBytes},
		Keys:    keys, Checkpoint: signed, Notices: n.logNotices(l),
	}
	c.Notices = append(c.Notices, l.levelNotices(v.Level)...)
	c.Notices = append(c.Notices, l.fenceNotices()...)
	c.Witnesses = l.cosigners()
	c.Notices = append(c.Notices, witnessNotices(c.Witnesses, int(v.Settings.WitnessQuorum))...)
	live, aborted := l.sightings(), l.abortedChecks()
	c.Masters = n.masters(v, l != nil)
	good, liveMiners := 0, 0
	for i := range v.Storages {
		s := &v.Storages[i]
		c.Storages = append(c.Storages, wire.Storage{
			ID: s.ID, URL: s.URL, State: string(s.State), Height: s.Height, Live: live[s.ID], Cause: s.Cause, Since: s.Since,
		})
		if s.Whole && (l == nil || live[s.ID]) {
			good++
		}
		if s.State == masterfsm.Invalid {
			c.Notices = append(c.Notices, fmt.Sprintf("storage node %s is invalid: %s", s.ID, s.Cause))
		}
		c.Notices = append(c.Notices, abortedNotices(s, aborted)...)
	}
	if lost := chain.CutRanges(v.Lost, v.Confirmed); len(lost) > 0 {
		c.Notices = append(c.Notices, lostNotice(lost))
	}
	for i := range v.Miners {
		m := &v.Miners[i]
		c.Miners = append(c.Miners, wire.Miner{ID: m.ID, URL: m.URL, Live: live[m.ID]})
		if l == nil || live[m.ID] {
			liveMiners++
		}
	}
	if liveMiners == 0 {
		c.Notices = append(c.Notices, "no miner: appends are taken until the backlog is full, blocks wait for their proof of work")
	}
	if good < int(v.Settings.Replicas) {
		c.Notices = append(c.Notices, fmt.Sprintf(
			"%d of %d storage nodes that a block needs are there: the masters keep the records until more are", good, v.Settings.Replicas))
	}
	if v.PendingBytes >= v.Settings.MaxPendingBytes {
		c.Notices = append(c.Notices, "backlog full: appends are refused until blocks are stored")
	}
	return c
}

// sightings copies what the leader has seen; nothing where this master does not lead.
func (l *leadership) sightings() map[string]bool {
	live := map[string]bool{}
	if l == nil {
		return live
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, ok := range l.live {
		live[id] = ok
	}
	return live
}

// masters lists the group. Only a leader can say who is reachable: raft tells it.
func (n *Node) masters(v masterfsm.View, leading bool) []wire.Master {
	masters := n.cfg.Membership.Members()
	for i := range masters {
		m := &masters[i]
		switch m.ID {
		case n.cfg.Member.ID:
			m.URL = n.cfg.Member.URL
		case v.Term.Leader:
			m.URL = v.Term.URL
		default:
			m.URL = urlOf(v, m.ID)
		}
		switch {
		case leading:
		case m.ID == v.Term.Leader:
			m.State = "leader"
		case m.ID == n.cfg.Member.ID:
			m.State = "follower"
		default:
			m.State = "unknown"
		}
	}
	return masters
}

// MasterURLs are the URLs of the group's masters, as this master knows them.
func (n *Node) MasterURLs() []string {
	var v masterfsm.View
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	var urls []string
	for _, m := range n.masters(v, false) {
		if m.URL != "" {
			urls = append(urls, m.URL)
		}
	}
	return urls
}

// Figures are the numbers of this master's state that are watched over time.
type Figures struct {
	Leading       bool
	Term          uint64
	Height        uint64 // mined blocks
	Stored        uint64 // blocks
	NextIndex     uint64 // leaf index that the next record gets
	BufferRecords int
	PendingBlocks int
	PendingBytes  uint64
	Integrity     masterfsm.Totals
	LostBlocks    uint64
	WholeStorages int            // storage nodes that count as a copy
	Checkpoint    uint64         // leaves of the tree that is stored, at a block boundary
	Published     uint64         // leaves of the tree whose checkpoint is shown
	Cosigned      uint64         // leaves of the newest checkpoint that a witness has cosigned
	Witnesses     []wire.Witness // as this leader sees them; none on another master
}

// Figures reads them.
func (n *Node) Figures() Figures {
	l := n.leadership.Load()
	f := Figures{Leading: l != nil, Witnesses: l.cosigners()}
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		f.Term, f.Height, f.Stored, f.NextIndex = v.Term.Term, v.Head.Height, v.Stored, s.NextIndex()
		f.Checkpoint, f.Published = s.Checkpoint().Size, s.Published().Boundary.Size
		if last := len(v.Cosigned) - 1; last >= 0 {
			f.Cosigned = v.Cosigned[last].Boundary.Size
		}
		f.Integrity, f.LostBlocks = s.Story().Totals, chain.CountBlocks(v.Lost)
		for i := range v.Storages {
			if v.Storages[i].Whole {
				f.WholeStorages++
			}
		}
		f.BufferRecords, f.PendingBlocks, f.PendingBytes = v.OpenRecords, v.Pending, v.PendingBytes
	})
	return f
}

// StateHash names this master's state, for comparing masters. It reads all of the state: it is for tests and for doubts.
func (n *Node) StateHash() (wire.StateHash, error) {
	const tries = 100
	for range tries {
		var snapshot *masterfsm.Snapshot
		applied := n.cfg.Ledger.Applied()
		n.cfg.Ledger.Read(func(s *masterfsm.State) { snapshot = s.Snapshot() })
		if n.cfg.Ledger.Applied() != applied {
			continue // an entry came in between: which state was taken is not certain
		}
		hash, err := snapshot.Digest()
		return wire.StateHash{Applied: applied, Hash: hash}, err
	}
	return wire.StateHash{}, fmt.Errorf("%w: the state changes too often to be taken with its index", wire.ErrUnavailable)
}
