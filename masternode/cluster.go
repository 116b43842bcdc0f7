package masternode

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
)

// statusTimeout is how long a follower waits for the leader's status before it answers from its own state.
const statusTimeout = time.Second

// confirmTimeout is how long a leader waits for the confirmation of a majority before it answers without.
const confirmTimeout = statusTimeout / 2

// Cluster is the status table, with the leader's knowledge of which nodes are live. A master that cannot reach the
// leader answers from its own table, with a notice.
func (n *Node) Cluster(ctx context.Context) wire.Cluster {
	if c, err := n.LeaderCluster(ctx); err == nil {
		return c
	}
	c, err := askStatus(ctx, n, n.cfg.Masters.Cluster)
	if err != nil {
		c = n.describe(leader.Status{})
		c.Leader = n.cfg.Ledger.Leader()
		addNotices(&c.Notices, &c.NoticesCoded, wire.Message{Code: wire.CodeLocalView})
		return c
	}
	c.NoticesCoded = orNone(c.NoticesCoded)  // of a leader before protocol level 2
	for _, notice := range n.flagNotices() { // which the leader does not know
		addNotices(&c.Notices, &c.NoticesCoded, wire.Message{
			Code: wire.CodeMasterNotice, Args: wire.Args{"node": n.cfg.Member.ID, "cause": notice},
		})
	}
	return c
}

// askStatus asks the leader, which is another master, for a status.
func askStatus[T any](
	ctx context.Context, n *Node, ask func(ctx context.Context, url string) (T, error),
) (status T, err error) {
	id, url := n.knownLeader()
	if id == "" || id == n.cfg.Member.ID || url == "" {
		return status, wire.ErrNoLeader
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return ask(ctx, url)
}

// LeaderCluster is the status table by this leader, confirmed if possible. The error wraps [wire.ErrNotLeader] if this
// master does not lead.
func (n *Node) LeaderCluster(ctx context.Context) (wire.Cluster, error) {
	if !n.leader.Leads() {
		return wire.Cluster{}, wire.ErrNotLeader
	}
	confirmed := n.confirmStatus(ctx)
	c := n.describe(n.leader.Status())
	if c.Authoritative = confirmed; !confirmed {
		addNotices(&c.Notices, &c.NoticesCoded, wire.Message{Code: wire.CodeUnconfirmed})
	}
	return c, nil
}

// confirmStatus reports whether this master leads and a majority confirmed it since the call. Status requests that come
// together are confirmed together.
func (n *Node) confirmStatus(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	return n.confirm(ctx) == nil && n.leader.Leads()
}

// describe converts the table, and what the leader knows, to the form of the API.
func (n *Node) describe(leading leader.Status) wire.Cluster {
	var v masterfsm.View
	var keys wire.Keys
	var next uint64
	var signed wire.Checkpoints
	clock := n.leader.TermClock()
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v, next = s.View(), s.NextIndex()
		signed = wire.Checkpoints{
			Height: s.Checkpoint().Height, Size: s.Checkpoint().Size, PublishedSize: s.Published().Boundary.Size,
		}
		remembered, oldest := s.Keys(clock)
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
		Keys:    keys, Checkpoint: signed, Settings: wire.Settings(v.Settings), TLS: v.TLS.Step,
	}
	c.Witnesses = leading.Witnesses
	notices := noticeList{}
	notices.addLog(n, leading)
	notices.addLeader(leading, v.Level)
	notices.addClocks(leading.Clocks)
	notices.addFailedSyncs(v.FailedSyncs)
	notices.addWitnesses(c.Witnesses, int(v.Settings.WitnessQuorum), leading.Leads)
	c.Masters = n.masters(v, leading.Leads)
	for i := range c.Masters {
		m := &c.Masters[i]
		m.Disk, m.Certificate = leading.Disks[m.ID], leading.Certificates[m.ID]
		m.Secrets, m.TLS, m.AtRest = leading.Secrets[m.ID], leading.TLS[m.ID], leading.AtRest[m.ID]
	}
	good, liveMiners := 0, 0
	for i := range v.Storages {
		s := &v.Storages[i]
		c.Storages = append(c.Storages, wire.Storage{
			ID: s.ID, URL: s.URL, State: string(s.State), Height: s.Height, Disk: leading.Disks[s.ID],
			Live: leading.Live[s.ID], Level: s.Level, Since: s.Since,
			Cause: s.Cause.Text(), CauseCoded: wire.Message(s.Cause), Certificate: leading.Certificates[s.ID],
			Secrets: leading.Secrets[s.ID], TLS: leading.TLS[s.ID],
		})
		if s.CountsAsCopy && (!leading.Leads || leading.Live[s.ID]) {
			good++
		}
		if s.State == masterfsm.Invalid {
			notices.add(wire.CodeStorageInvalid, wire.Args{"node": s.ID, "cause": wire.Message(s.Cause)})
		}
		if slices.Contains(leading.Silent, s.ID) {
			notices.add(wire.CodeStorageSilent, wire.Args{"node": s.ID})
		}
		notices.addAborted(s, leading.Aborted)
	}
	for i := range c.Masters {
		if m := &c.Masters[i]; m.State == "unreachable" {
			notices.add(wire.CodeMasterSilent, wire.Args{"node": m.ID})
		}
	}
	notices.addLost(chain.CutRanges(v.Lost, v.Confirmed))
	for i := range v.Miners {
		m := &v.Miners[i]
		c.Miners = append(c.Miners, wire.Miner{
			ID: m.ID, URL: m.URL, Live: leading.Live[m.ID], Level: m.Level, Certificate: leading.Certificates[m.ID],
			Secrets: leading.Secrets[m.ID], TLS: leading.TLS[m.ID],
		})
		if !leading.Leads || leading.Live[m.ID] {
			liveMiners++
		}
	}
	var waiting []string
	for _, w := range v.WaitingWorkers {
		c.Waiting = append(c.Waiting, wireWaiting(w))
		if !w.Approved {
			waiting = append(waiting, w.ID)
		}
	}
	if len(waiting) > 0 {
		notices.add(wire.CodeWorkersWait, wire.Args{"nodes": waiting})
	}
	if liveMiners == 0 {
		notices.add(wire.CodeNoMiner, nil)
	}
	if good < int(v.Settings.Replicas) {
		notices.add(wire.CodeTooFewStorages, wire.Args{"count": uint64(good), "needed": uint64(v.Settings.Replicas)})
	}
	if v.PendingBytes >= v.Settings.MaxPendingBytes {
		notices.add(wire.CodeBacklogFull, nil)
	}
	notices.addRefusals(&c, leading.Refusals)
	notices.addDisks(leading)
	notices.addAtRest(leading.AtRest)
	notices.addCertificates(leading.Certificates, n.cfg.Clock())
	notices.addSecrets(leading.Secrets)
	notices.addTLS(v.TLS.Step, leading)
	if leading.SealOld {
		notices.add(wire.CodeSealOld, nil)
	}
	notices.addFlags(leading.Flags)
	notices = mostSpecific(notices)
	c.Notices, c.NoticesCoded = wire.Texts(notices), notices
	return c
}

// masters lists the group. Only a leader knows from raft which masters are reachable.
func (n *Node) masters(v masterfsm.View, leading bool) []wire.Master {
	masters := n.cfg.Membership.Members()
	for i := range masters {
		m := &masters[i]
		switch m.ID {
		case n.cfg.Member.ID:
			m.URL = n.ownURL()
		case v.Term.Leader:
			m.URL = v.Term.URL
		default:
			m.URL = v.Master(m.ID).URL
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

// MasterURLs are the URLs of the group's masters. While the group moves to TLS, users may call each in two ways.
func (n *Node) MasterURLs() []string {
	var v masterfsm.View
	n.cfg.Ledger.Read(func(s *masterfsm.State) { v = s.View() })
	var urls []string
	for _, m := range n.masters(v, false) {
		if m.URL != "" {
			urls = append(urls, m.URL)
		}
		if m.URL != "" && v.TLS.Step.Mixed() {
			urls = append(urls, wire.TLSRequire.URL(m.URL))
		}
	}
	return urls
}

// ChangeSettings changes settings of the group and returns all of them. This master must lead. Errors:
// wire.ErrNotLeader, wire.ErrUnavailable, wire.ErrBadRequest, masterfsm.ErrBadCommand.
func (n *Node) ChangeSettings(ctx context.Context, change wire.SettingsChange) (wire.Settings, error) {
	if !n.leader.Leads() {
		return wire.Settings{}, wire.ErrNotLeader
	}
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
	quorum, known := change.WitnessQuorum, len(n.cfg.Witnesses)
	switch {
	case change == (wire.SettingsChange{}):
		return wire.Settings{}, fmt.Errorf("%w: no setting is to be changed: give at least one", wire.ErrBadRequest)
	case level < masterfsm.LevelSettings:
		return wire.Settings{}, fmt.Errorf("%w: settings can be changed from protocol level %d on, and the group is "+
			"at level %d: until then those of the leader's flags are in force",
			wire.ErrUnavailable, masterfsm.LevelSettings, level)
	case change.ApproveWorkers != nil && level < masterfsm.LevelApprovals:
		return wire.Settings{}, fmt.Errorf("%w: approve-workers can be changed from protocol level %d on, and the "+
			"group is at level %d: upgrade all masters", wire.ErrUnavailable, masterfsm.LevelApprovals, level)
	case change.ApproveWorkers != nil && !*change.ApproveWorkers && n.cfg.Settings.ApproveWorkers:
		return wire.Settings{}, fmt.Errorf("%w: the leader was started with --approve-workers and would require "+
			"approval again: start all masters without that flag first", wire.ErrBadRequest)
	case quorum != nil && int(*quorum) > known:
		return wire.Settings{}, fmt.Errorf("%w: a witness quorum of %d: the leader was started with %d (--witness)",
			wire.ErrBadRequest, *quorum, known)
	}
	changed, err := leader.ProposeFor[masterfsm.Settings](ctx, n.leader, &masterfsm.ChangeSettings{
		Change: masterfsm.SettingsChange(change), Time: n.leader.Now(),
	})
	if err != nil {
		return wire.Settings{}, err
	}
	n.log.Warn("a person changed settings of the group", "settings", fmt.Sprintf("%+v", changed))
	return wire.Settings(changed), nil
}

// Figures are the metrics of this master's state.
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
	ReadCache     prover.RecordCacheFigures
	WholeStorages int                  // storage nodes that count as a copy
	LiveStorages  int                  // storage nodes that answer this leader; 0 on another master
	LiveMiners    int                  // miners that answer this leader; 0 on another master
	Unchecked     int                  // storage nodes whose last three checks or more ended early; 0 on another master
	WrongClocks   int                  // masters whose clocks are wrong, as this leader sees them; 0 on another master
	StaleFolders  int                  // nodes that are refused because their folder is a copy; 0 on another master
	WrongURLs     int                  // nodes at whose URL another node answers; 0 on another master
	Disagree      bool                 // no majority of the clocks agrees, as this leader sees them
	Ahead, Behind time.Duration        // of the time that records get, from this leader's clock; as in the notices
	Checkpoint    uint64               // leaves of the tree that is stored, at a block boundary
	Published     uint64               // leaves of the tree whose checkpoint is shown
	Cosigned      uint64               // leaves of the newest checkpoint that a witness has cosigned
	Disk          wire.Disk            // of this master
	Disks         map[string]wire.Disk // of storage nodes, by id, as this leader sees them; none on another master
	Witnesses     []wire.Witness       // as this leader sees them; none on another master

	Applied, Committed uint64        // indices in the log
	LastContact        time.Duration // since this master heard from a leader; the longest duration if it never did

	// What waits here: appends of this master's clients for a submission, submissions of all masters for a commit, and
	// requests of this master's clients for a confirmation by the leader.
	Appends, AppendBytes         int
	Submissions, SubmissionBytes int
	Confirmations                int
}

// Figures returns the metrics.
func (n *Node) Figures() Figures {
	leading := n.leader.Status()
	f := Figures{
		Leading: leading.Leads, Witnesses: leading.Witnesses, WrongClocks: len(leading.Clocks.Wrong),
		Disk: n.cfg.Disk(), Disks: map[string]wire.Disk{},
		Disagree: leading.Clocks.Disagree(),
		Applied:  n.cfg.Ledger.Applied(), Committed: n.cfg.Ledger.Committed(), LastContact: n.cfg.Ledger.LastContact(),
	}
	f.Appends, f.AppendBytes = n.appends.Waiting()
	f.Submissions, f.SubmissionBytes = n.commits.Waiting()
	f.Confirmations, _ = n.confirms.Waiting()
	f.ReadCache = n.prover.RecordCache()
	f.Ahead, f.Behind = leading.Clocks.TimeOff()
	for _, code := range leading.Refusals {
		switch code {
		case wire.CodeStaleFolder:
			f.StaleFolders++
		case wire.CodeOtherNodeAtURL:
			f.WrongURLs++
		}
	}
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		v := s.View()
		f.Term, f.Height, f.Stored, f.NextIndex = v.Term.Term, v.Head.Height, v.Stored, s.NextIndex()
		f.Checkpoint, f.Published = s.Checkpoint().Size, s.Published().Boundary.Size
		if last := len(v.Cosigned) - 1; last >= 0 {
			f.Cosigned = v.Cosigned[last].Boundary.Size
		}
		//mutant:counted-checks
		f.Integrity, f.LostBlocks = s.IntegrityLog().Totals, chain.CountBlocks(v.Lost)
		for i := range v.Storages {
			if disk, ok := leading.Disks[v.Storages[i].ID]; ok {
				f.Disks[v.Storages[i].ID] = disk
			}
			if v.Storages[i].CountsAsCopy {
				f.WholeStorages++
			}
			if leading.Live[v.Storages[i].ID] {
				f.LiveStorages++
			}
			if leading.Leads && notChecked(leading.Aborted, &v.Storages[i]) {
				f.Unchecked++
			}
		}
		for i := range v.Miners {
			if leading.Live[v.Miners[i].ID] {
				f.LiveMiners++
			}
		}
		f.BufferRecords, f.PendingBlocks, f.PendingBytes = v.OpenRecords, v.Pending, v.PendingBytes
	})
	return f
}

// StateHash identifies this master's state, to compare masters. It reads the whole state, so it is slow.
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
	return wire.StateHash{}, fmt.Errorf("%w: the state changes too often to be taken with its index",
		wire.ErrUnavailable)
}
