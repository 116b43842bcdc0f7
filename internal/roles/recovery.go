package roles

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// RecoverConfig configures the recovery of a group whose majority of masters is lost permanently.
type RecoverConfig struct {
	Data       string   // the survivor's data folder; an empty one with FromStorage
	Raft       string   // its new raft address, host:port
	Secret     []string // values of the secret for recoveries, or of the cluster token; the first is tried first
	OlderNodes bool     // send the first to storage nodes of versions that cannot verify a proof of it
	// TLS are the files of the certificate of the master, if the cluster has TLS.
	TLS         certs.Files
	FromStorage []string // URLs of all storage nodes, if no master has survived
	Without     []string // ids or URLs of storage nodes that are lost permanently and are not asked
	// StorageLost states that a majority of the table's storage nodes is lost permanently. Those not in Without must
	// still answer.
	StorageLost bool
	// Dead lists the ids, URLs or raft addresses of all other masters of the table. They are stopped and never start
	// again.
	Dead []string
	// UndoRecovery keeps the folder's own records instead of blocks of a later epoch: see [recovery.chooseOwn].
	UndoRecovery bool
	// ResumeRecovery is the epoch of an interrupted recovery, in which no leader ever led; 0 for none. It is needed if
	// a storage node has stored a later epoch than the folder's and does not know the epoch of the last leader.
	ResumeRecovery uint64
	// Rehearsal makes a separate group from a copy of a folder, under a cluster token that must differ from that of the
	// group that was copied. No node of that group is called. FromStorage may name storage nodes of the rehearsal.
	Rehearsal  bool
	NewLogKey  bool   // drop the log's name and keys, so that the next leader founds another log
	AtRestKeys string // file with the keys of a folder that is encrypted at rest; "" for none
	// AfterFailedSync recovers a folder of which a sync failed since the machine was started.
	AfterFailedSync bool
	// Confirm gets the plan before anything is changed. An error ends the recovery.
	Confirm  func(Recovery) error
	Progress func(done, total uint64) // blocks adopted; may be nil
	// Waiting is called repeatedly while the last order that a storage node had is too recent; may be nil.
	Waiting func(Waiting)
	Logger  hclog.Logger

	quiet time.Duration // required time without orders of a leader; 0 for wire.RecoveryQuiet
}

// Waiting describes why a recovery waits.
type Waiting struct {
	Node        string // URL of the storage node with the longest remaining time
	Ordered     bool   // the node had an order of a leader; otherwise it started recently
	Since, Need time.Duration
}

// Recovery describes what a recovery is about to do, or has done.
type Recovery struct {
	Group  string
	Epoch  uint64 // the new one
	Member string // the master that becomes the whole group
	// LastTerm and LastEntry are the end of its log; 0 without a log. Of several survivors the best has the highest
	// term, and among those the highest entry.
	LastTerm, LastEntry uint64
	Stale               bool // the folder was refused as an older copy of itself
	Damaged             []DamagedSnapshot
	// Forked reports that the storage nodes have a different block Fork than the log. The log is dropped from there on.
	Forked      bool
	Fork        uint64
	Height      uint64 // mined blocks known to the survivor
	Buffered    int    // records of the survivor that are in no mined block
	Lost        []string
	Foreign     []string // URLs of storage nodes whose chain is not the one that the group committed
	Source      string   // URL of the storage node with the highest chain; "" if none is higher than the survivor's
	ChainHeight uint64   // blocks of the chain that the group continues
	Asked       int      // storage nodes
	Others      []string // URLs at which a storage node answers that is not in the table
	Storages    int      // storage nodes of the table
	Level       uint64   // protocol level of the folder
	Rehearsal   bool
	Undo        uint64 // epoch whose recovery is undone; 0 for none
	Replaced    []ReplacedChain
	Replicas    int    // storage nodes that must have each block
	Replicated  uint64 // blocks that Replicas storage nodes are known to have
	Origin      string // name of the survivor's log; "" for none
	NewLogKey   bool   // the log ends here: see RecoverConfig
	// What the recovery did.
	Adopted, Dropped int    // blocks taken over; records of the survivor that were never committed
	Keys             int    // idempotency keys of the dropped records
	Projects         int    // found only in records
	Single           uint64 // blocks that fewer than Replicas storage nodes have and that the master has no room for
}

// ReplacedChain names the blocks that a storage node has from the group whose recovery is undone. They are moved to the
// node's quarantine.
type ReplacedChain struct {
	URL      string
	From, To uint64 // blocks
}

// DamagedSnapshot is a snapshot of the survivor, or a segment of its log, that cannot be read.
type DamagedSnapshot struct {
	Path, Aside string // its path, and the path that it is moved to
	Segment     bool   // of the log: all entries that were needed could be read
	Lost        uint64 // last log entry lost with it; 0 if an older snapshot and the log have all entries
	Reason      string
}

// RecoverMaster makes one surviving master the whole group, or founds the group anew from the storage nodes' chain. The
// master must be stopped.
//
// It first ensures that the group is dead: every other master of the table must be named as dead and must not answer,
// and a majority of the storage nodes must have had no order of a leader for a while. Then it takes over the highest
// chain of the storage nodes and verifies every block of it, so that no block is ever mined at a height that one of
// them has. It raises the group's epoch: the storage nodes store the new epoch before the folder is changed, and from
// then on workers refuse the leaders of the old group. After a crash it can be run again.
func RecoverMaster(ctx context.Context, cfg RecoverConfig) (_ Recovery, err error) {
	if err := cfg.validate(); err != nil {
		return Recovery{}, err
	}
	atRest, err := loadAtRest(cfg.AtRestKeys)
	if err != nil {
		return Recovery{}, err
	}
	folder, err := raftstore.OpenRecovery(cfg.Data, cfg.UndoRecovery, atRest, cfg.Logger)
	if err != nil {
		return Recovery{}, noteFailedSync(cfg.Data, err)
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	switch fresh := folder.Fresh(); {
	case fresh && (cfg.UndoRecovery || cfg.Rehearsal):
		return Recovery{}, fmt.Errorf("%s is not the folder of a master: name one, or for a rehearsal a copy of one",
			cfg.Data)
	case fresh && len(cfg.FromStorage) == 0:
		return Recovery{}, fmt.Errorf("%s is not the folder of a master: name the folder of one that survived, or "+
			"found the group anew with --from-storage URL,…", cfg.Data)
	case !fresh && len(cfg.FromStorage) > 0 && !cfg.Rehearsal:
		return Recovery{}, fmt.Errorf("%s is the folder of a master of group %s: recover it without --from-storage, "+
			"or name an empty folder", cfg.Data, folder.Member().Group)
	}
	mark, err := durable.OpenSyncMark(cfg.Data, cfg.AfterFailedSync)
	if err != nil {
		return Recovery{}, err
	}
	defer func() {
		_, noteErr := mark.Note(err)
		err = errors.Join(err, noteErr, mark.Close())
	}()
	node := NodeConfig{Data: cfg.Data, TLS: cfg.TLS, TLSGrace: certs.DefaultGrace, Logger: cfg.Logger}
	if err := node.openMode(); err != nil {
		return Recovery{}, err
	}
	store, err := node.openCerts(certs.Master)
	if err != nil {
		return Recovery{}, err
	}
	r := &recovery{cfg: cfg, folder: folder, fresh: folder.Fresh(), step: node.mode.Step(), mode: node.mode}
	transport := noderpc.NewSecureTransport(store, node.mode, certs.Master, certs.Storage)
	transport.PreferTLS()
	older := folder.Level() < masterfsm.LevelProofs && (cfg.OlderNodes || !r.fresh)
	transport.Identify(nodeauth.NewProcess(), func() string { return "recovery" }, func() bool { return older })
	credentials := nodeauth.Shared(cfg.Secret...)
	r.masters = noderpc.NewMasters(transport, credentials.For(nodeauth.Recovery))
	defer r.masters.CloseIdle()
	if cfg.Rehearsal {
		if err := r.isolate(folder); err != nil {
			return Recovery{}, err
		}
	}
	r.planFrom(folder)
	r.old = r.othersOf(folder)
	for _, step := range []func(context.Context) error{
		r.checkMasters, r.ask, r.confirm, r.adopt, r.removeOthers,
		r.checkMasters, // again, since confirming and adopting may have taken long
		r.raise, r.keepStep,
	} {
		if err := step(ctx); err != nil {
			return Recovery{}, err
		}
	}
	return r.plan, folder.Commit(r.plan.Group, r.plan.Epoch, cfg.Raft)
}

// confirm shows the plan to the operator.
func (r *recovery) confirm(context.Context) error { return r.cfg.Confirm(r.plan) }

func (c *RecoverConfig) validate() error {
	switch {
	case len(c.Secret) == 0 && c.Rehearsal:
		return errors.New("the rehearsal needs a cluster token of its own: --cluster-token-file FILE, or " +
			"CHAINSTORE_CLUSTER_TOKEN")
	case len(c.Secret) == 0:
		return secrets.ErrNone
	case c.Rehearsal && (len(c.Dead) > 0 || len(c.Without) > 0 || c.StorageLost || c.UndoRecovery ||
		c.ResumeRecovery > 0):
		return errors.New("a rehearsal calls no node of the group that was copied: give it no --dead, --without, " +
			"--storage-majority-lost, --undo-recovery and --resume-recovery")
	}
	return nil
}

// isolate turns the folder into that of a master that is unknown to the old group.
func (r *recovery) isolate(folder *raftstore.Recovery) error {
	state := r.state()
	keys, _ := signing.OpenKeys(r.cfg.Secret, state.Group().ID, folder.Log())
	if len(keys) > 0 {
		return errors.New("the cluster token is that of the group that was copied: a rehearsal needs one of its " +
			"own, so that the nodes of the two groups refuse each other's calls")
	}
	for _, s := range state.Storages() {
		if slices.Contains(trimmed(r.cfg.FromStorage), s.URL) {
			return fmt.Errorf("storage node %s belongs to the group that was copied: a rehearsal may only name "+
				"storage nodes of its own", s.URL)
		}
	}
	folder.Rehearse(r.cfg.Secret[0])
	r.cfg.NewLogKey = true
	return nil
}

// survivor is the folder to recover: see [raftstore.Recovery].
type survivor interface {
	State() *masterfsm.State
	SnapshotHeight() uint64
	ReadBefore(block uint64) error
}

// recovery is a recovery in progress.
type recovery struct {
	cfg     RecoverConfig
	folder  survivor
	masters *noderpc.Masters
	chains  []*storageChain // the highest first
	old     []oldMaster     // of the table, including the survivor
	fresh   bool            // there is no survivor
	step    wire.TLSStep    // the strictest of the file in the survivor's folder and of the storage nodes
	mode    *certs.Mode     // of the folder
	plan    Recovery
	// doubtful reports that no storage node and no snapshot shows that the log's last blocks were committed.
	doubtful bool
}

// state returns the survivor's state, which changes when the log is read again.
func (r *recovery) state() *masterfsm.State { return r.folder.State() }

// planFrom fills the plan from the folder.
func (r *recovery) planFrom(folder *raftstore.Recovery) {
	member := folder.Member()
	r.plan = Recovery{Group: member.Group, Member: member.ID, Epoch: max(member.Epoch, r.state().Group().Epoch)}
	if r.cfg.Rehearsal {
		r.plan.Group, r.plan.Rehearsal = newGroup(), true
	}
	r.plan.LastTerm, r.plan.LastEntry = folder.Last()
	r.plan.Stale = folder.Stale()
	r.plan.Level = r.state().Level()
	for _, d := range folder.Damaged() {
		damaged := DamagedSnapshot{Path: d.Path, Aside: d.Aside, Segment: d.Segment, Reason: d.Err.Error()}
		if d.Index > r.plan.LastEntry {
			damaged.Lost = d.Index
		}
		r.plan.Damaged = append(r.plan.Damaged, damaged)
	}
}

// adopt takes over the highest chain. If a node fails, it continues from the next one, until no node has a further
// block.
func (r *recovery) adopt(ctx context.Context) error {
	state := r.state()
	adopting := state.Recover(masterfsm.Group{ID: r.plan.Group, Epoch: r.plan.Epoch})
	if !r.cfg.Rehearsal {
		r.chooseStep()
		adopting.AtLeastTLS(r.step)
	}
	take := func(b chain.Block) error {
		if err := adopting.Adopt(b); err != nil {
			return err
		}
		if r.cfg.Progress != nil {
			r.cfg.Progress(b.Header.Block+1, r.plan.ChainHeight)
		}
		return nil
	}
	var why error
	for before, more := uint64(0), true; more; more = before < state.Head().Height {
		before, why = state.Head().Height, nil
		for _, c := range r.chains {
			from := state.Head().Height
			if c.foreign || c.status.Height <= from {
				continue
			}
			err := r.masters.ChainBlocks(ctx, c.url, from, c.status.Height, take)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			why = errors.Join(why, err)
			if end := state.Head(); err == nil && end.Hash != c.status.Hash {
				return fmt.Errorf("the blocks that storage node %s gave end at height %d with another hash (%v) than "+
					"it reported (%v): nothing was changed; find out what answers there, or recover without that node",
					c.url, end.Height, end.Hash, c.status.Hash)
			}
		}
	}
	if height := state.Head().Height; height < r.plan.ChainHeight {
		return r.brokenOff(height, why)
	}
	var nodes []masterfsm.NodeHeight
	for _, c := range r.chains {
		if c.known() && c.isOn(state) {
			nodes = append(nodes, masterfsm.NodeHeight{ID: c.node.ID, Version: c.node.Version, Height: c.status.Height})
		}
	}
	adopting.SetTime(uint64(max(0, time.Now().UnixMilli())))
	if r.cfg.NewLogKey {
		adopting.ForgetLog()
	}
	if r.cfg.Rehearsal {
		adopting.Isolate()
	}
	adopting.ForgetKey(r.plan.Member)
	var salt [chain.SaltSize]byte
	rand.Read(salt[:])
	adopting.By(r.plan.Member, salt)
	stored := uint64(0)
	if len(r.cfg.FromStorage) > 0 {
		stored = r.replicated()
	}
	done, err := adopting.Finish(stored, nodes)
	if err != nil {
		return err
	}
	r.plan.Adopted, r.plan.Dropped, r.plan.Keys = done.Blocks, done.Dropped, done.Keys
	r.plan.Projects, r.plan.Single = done.Projects, done.Single
	return nil
}

// chooseStep makes the step at least that of each storage node of the group: the survivor may have missed one.
func (r *recovery) chooseStep() {
	for _, c := range r.chains {
		if !c.foreign {
			r.step = wire.LaterTLS(r.step, c.status.TLS)
		}
	}
}

// keepStep notes the step that requires TLS for a master that is founded from the storage nodes alone. Its table begins
// below the protocol level that has steps, and without the note the master would take plain text if it were started
// without certificates.
func (r *recovery) keepStep(context.Context) error {
	if !r.fresh || r.cfg.Rehearsal || r.step != wire.TLSRequire {
		return nil
	}
	return r.mode.Advance(r.plan.Epoch, wire.TLSState{Step: wire.TLSRequire, Change: 1})
}

// brokenOff is the error if no storage node has a good copy of a block below the highest chain's end.
func (r *recovery) brokenOff(height uint64, why error) error {
	what := fmt.Sprintf("%s has %d blocks, of which no storage node that was asked gives a good block %d: nothing was "+
		"changed; bring back a node or a disk that has it", r.plan.Source, r.plan.ChainHeight, height)
	switch {
	case r.doubtful:
		// The node may have a different block in place of this master's last one. Then its block is the committed one,
		// so the node must not be left out.
	case len(r.cfg.FromStorage) > 0:
		what += ", or do not name " + r.plan.Source + ", which loses the blocks that only it has"
	default:
		what += ", or leave " + r.plan.Source + " out with --without, which loses the blocks that only it has"
	}
	return fmt.Errorf("%s: %w", what, why)
}

// removeOther marks a master as removed. With an audit trail the operator of the recovery is the actor.
func (r *recovery) removeOther(id string, view *masterfsm.View) error {
	var salt [chain.SaltSize]byte
	rand.Read(salt[:])
	by := trail.Origin{
		Actor: trail.Actor{Kind: trail.ByOperator, Name: "recovery"}, Source: trail.Source{Member: r.plan.Member},
	}
	_, err := r.state().Apply(masterfsm.EncodeBy(view.Level, by, salt,
		&masterfsm.RemoveMaster{ID: id, Time: view.Now}))
	return err
}

// removeOthers marks the lost masters as removed. One that comes back learns it from the group.
func (r *recovery) removeOthers(context.Context) error {
	view := r.state().View()
	for _, m := range view.Masters {
		if m.ID == r.plan.Member {
			continue
		}
		if err := r.removeOther(m.ID, &view); err != nil {
			return err
		}
	}
	return nil
}
