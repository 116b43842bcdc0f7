package roles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/raftstore"
)

// RecoverConfig says how the masters are recovered whose majority is lost for good.
type RecoverConfig struct {
	Data         string   // a survivor's data folder; an empty one with FromStorage
	Raft         string   // address of its raft port from now on, host:port
	ClusterToken string   // opens the storage nodes' chains
	FromStorage  []string // URLs of all storage nodes, when no master has survived
	Without      []string // ids or URLs of storage nodes that are gone for good and need not be asked
	// StorageLost says that a majority of the table's storage nodes is gone for good. Those that are not in Without
	// must answer all the same.
	StorageLost bool
	// Dead are the ids, URLs or raft addresses of all other masters of the table: they do not run, and never will.
	Dead []string
	// UndoRecovery has the folder's own records stand against blocks of a later epoch: see [recovery.chooseOwn].
	UndoRecovery bool
	// ResumeRecovery is the epoch of a recovery that was cut short, so that no leader ever led in it; 0 for none. It is
	// asked for where a storage node has stored a later epoch than the folder's and does not know who led last.
	ResumeRecovery uint64
	// Rehearsal makes a group of its own of a copy, under the cluster token that is given, which must not be that of
	// the group that was copied. Nobody of that group is asked anything. FromStorage may name storage nodes of the
	// rehearsal.
	Rehearsal bool
	NewLogKey bool // the log's name and keys are left out, so that the next leader founds another log
	// Confirm is shown what is about to be done, and ends it with an error. Nothing was changed before.
	Confirm  func(Recovery) error
	Progress func(done, total uint64) // blocks that were adopted; may be nil
	// Waiting is called now and then while storage nodes have not been without orders for long enough; may be nil.
	Waiting func(Waiting)
	Logger  hclog.Logger

	quiet time.Duration // without orders of a leader; 0 for wire.RecoveryQuiet
}

// Waiting tells why a recovery waits.
type Waiting struct {
	Node        string // URL of the storage node that must be waited for longest
	Ordered     bool   // it had an order of a leader; else it was started lately
	Since, Need time.Duration
}

// Recovery tells what a recovery is about to do, or has done.
type Recovery struct {
	Group               string
	Epoch               uint64 // the new one
	Member              string // the master that becomes the whole group
	LastTerm, LastEntry uint64 // of its log, 0 where it has none: of several survivors the highest term is best, then the highest entry
	Stale               bool   // the folder was refused as an older copy of itself
	Damaged             []DamagedSnapshot
	Forked              bool   // the storage nodes have another block than the log mines: what the log has from there on is left out
	Fork                uint64 // that block
	Height              uint64 // mined blocks that it knows of
	Buffered            int    // records that it holds and that are in no mined block
	Lost                []string
	Foreign             []string // URLs of storage nodes with another chain than the group committed
	Source              string   // URL of the storage node whose chain is the highest, "" where none is higher than the survivor's
	ChainHeight         uint64   // blocks of the chain that the group goes on from
	Asked               int      // storage nodes
	Others              []string // URLs of the table at which another storage node answers than the table's
	Storages            int      // of the table
	Level               uint64   // the folder's protocol level
	Rehearsal           bool
	Undo                uint64 // the epoch whose recovery is undone, 0 for none
	Replaced            []ReplacedChain
	Replicas            int    // storage nodes that are to have each block
	Replicated          uint64 // blocks that so many are known to have
	Origin              string // name of the log that the survivor knows, "" for none
	NewLogKey           bool   // it ends here: see RecoverConfig
	// Done: what the recovery did.
	Adopted, Dropped int    // blocks that were taken over, records of the survivor that had been committed by nobody
	Keys             int    // idempotency keys that went with these
	Projects         int    // that were found in records alone
	Single           uint64 // blocks that fewer than Replicas storage nodes have and the master does not hold: too many for it
}

// ReplacedChain is what a storage node has of the group whose recovery is undone: it is moved to the node's quarantine.
type ReplacedChain struct {
	URL      string
	From, To uint64 // blocks
}

// DamagedSnapshot is a snapshot of the survivor that cannot be read.
type DamagedSnapshot struct {
	Path, Aside string // where it is, and where it is moved
	Lost        uint64 // the last entry that is gone with it, 0 where an older snapshot and the log have all
	Reason      string
}

// RecoverMaster makes one surviving master the whole group, or founds the group anew from the storage nodes' chain. The master must not run.
//
// It first makes sure that the group does not live: every other master of the table must be named as dead and must
// not answer, and a majority of the storage nodes must have had no order of a leader for a while. Then it takes over
// the highest chain of the storage nodes, every block of it verified, so that no block is ever mined at a height that
// one of them has. The group's epoch goes up: the storage nodes store the new one before anything in the folder is
// changed, and workers follow no leader of the old group any more. After a crash it can be done again.
func RecoverMaster(ctx context.Context, cfg RecoverConfig) (_ Recovery, err error) {
	if err := cfg.validate(); err != nil {
		return Recovery{}, err
	}
	open := raftstore.OpenRecovery
	if cfg.UndoRecovery {
		open = raftstore.OpenUndo
	}
	rescue, err := open(cfg.Data, cfg.Logger)
	if err != nil {
		return Recovery{}, err
	}
	defer func() { err = errors.Join(err, rescue.Close()) }()
	switch fresh := rescue.Fresh(); {
	case fresh && (cfg.UndoRecovery || cfg.Rehearsal):
		return Recovery{}, fmt.Errorf("%s holds no master: name the folder of one, or for a rehearsal a copy of it",
			cfg.Data)
	case fresh && len(cfg.FromStorage) == 0:
		return Recovery{}, fmt.Errorf("%s holds no master: name the folder of one that survived, or found the group anew with --from-storage URL,…", cfg.Data)
	case !fresh && len(cfg.FromStorage) > 0 && !cfg.Rehearsal:
		return Recovery{}, fmt.Errorf("%s holds a master of group %s: recover it without --from-storage, or name an empty folder", cfg.Data, rescue.Member().Group)
	}
	r := &recovery{cfg: cfg, folder: rescue, masters: client.NewMasters(cfg.ClusterToken), fresh: rescue.Fresh()}
	defer r.masters.CloseIdle()
	if cfg.Rehearsal {
		if err := r.isolate(rescue); err != nil {
			return Recovery{}, err
		}
	}
	r.planFrom(rescue)
	r.old = r.othersOf(rescue)
	if err := r.checkMasters(ctx); err != nil {
		return Recovery{}, err
	}
	if err := r.ask(ctx); err != nil {
		return Recovery{}, err
	}
	if err := cfg.Confirm(r.plan); err != nil {
		return Recovery{}, err
	}
	if err := r.adopt(ctx); err != nil {
		return Recovery{}, err
	}
	if err := r.removeOthers(); err != nil {
		return Recovery{}, err
	}
	if err := r.checkMasters(ctx); err != nil { // the person may have taken their time, and the blocks
		return Recovery{}, err
	}
	if !cfg.Rehearsal {
		if err := r.raise(ctx); err != nil {
			return Recovery{}, err
		}
	}
	return r.plan, rescue.Commit(r.plan.Group, r.plan.Epoch, cfg.Raft)
}

func (c *RecoverConfig) validate() error {
	switch {
	case c.ClusterToken == "" && c.Rehearsal:
		return errors.New("the rehearsal needs a cluster token of its own: --cluster-token-file FILE, or " +
			"CHAINSTORE_CLUSTER_TOKEN")
	case c.ClusterToken == "":
		return errors.New("the cluster token is needed: --cluster-token-file FILE, or CHAINSTORE_CLUSTER_TOKEN")
	case c.Rehearsal && (len(c.Dead) > 0 || len(c.Without) > 0 || c.StorageLost || c.UndoRecovery ||
		c.ResumeRecovery > 0):
		return errors.New("a rehearsal asks nobody of the group that was copied: --dead, --without, " +
			"--storage-majority-lost, --undo-recovery and --resume-recovery mean nothing to it")
	}
	return nil
}

// isolate makes the folder that of a master that nobody of the old group knows.
func (r *recovery) isolate(rescue *raftstore.Recovery) error {
	state := r.state()
	keys, _ := masternode.OpenLogKeys(r.cfg.ClusterToken, state.Group().ID, rescue.Log())
	if len(keys) > 0 {
		return errors.New("the cluster token is that of the group that was copied: a rehearsal needs one of its " +
			"own, so that no node of the two can take another's call")
	}
	for _, s := range state.Storages() {
		if slices.Contains(trimmed(r.cfg.FromStorage), s.URL) {
			return fmt.Errorf("storage node %s is one of the group that was copied: a rehearsal may name storage "+
				"nodes of its own alone", s.URL)
		}
	}
	rescue.Rehearse(r.cfg.ClusterToken)
	r.cfg.NewLogKey = true
	return nil
}

// survivor is the folder that is recovered: see [raftstore.Recovery].
type survivor interface {
	State() *masterfsm.State
	Settled() uint64
	ReadBelow(block uint64) error
}

// recovery is a recovery under way.
type recovery struct {
	cfg     RecoverConfig
	folder  survivor
	masters *client.Masters
	chains  []storageChain // the highest first
	old     []oldMaster    // of the table, the survivor among them
	fresh   bool           // there is no survivor
	plan    Recovery
	// doubtful: no storage node and no snapshot shows that the last blocks of the survivor's log were committed.
	doubtful bool
}

// state is the survivor's. Another takes its place where the log is read again.
func (r *recovery) state() *masterfsm.State { return r.folder.State() }

// planFrom puts into the plan what the folder tells.
func (r *recovery) planFrom(rescue *raftstore.Recovery) {
	member := rescue.Member()
	r.plan = Recovery{Group: member.Group, Member: member.ID, Epoch: max(member.Epoch, r.state().Group().Epoch)}
	if r.cfg.Rehearsal {
		r.plan.Group, r.plan.Rehearsal = newGroup(), true
	}
	r.plan.LastTerm, r.plan.LastEntry = rescue.Last()
	r.plan.Stale = rescue.Stale()
	r.plan.Level = r.state().Level()
	for _, d := range rescue.Damaged() {
		damaged := DamagedSnapshot{Path: d.Path, Aside: d.Aside, Reason: d.Err.Error()}
		if d.Index > r.plan.LastEntry {
			damaged.Lost = d.Index
		}
		r.plan.Damaged = append(r.plan.Damaged, damaged)
	}
}

// adopt takes the highest chain over, from one node after the other where one breaks off, until no node brings it any further.
func (r *recovery) adopt(ctx context.Context) error {
	state := r.state()
	adopting := state.Recover(masterfsm.Group{ID: r.plan.Group, Epoch: r.plan.Epoch})
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
		for i := range r.chains {
			c := &r.chains[i]
			from := state.Head().Height
			if c.foreign || c.status.Height <= from {
				continue
			}
			err := r.masters.ChainBlocks(ctx, c.url, from, c.status.Height, take)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			why = errors.Join(why, err)
		}
	}
	if height := state.Head().Height; height < r.plan.ChainHeight {
		return r.brokenOff(height, why)
	}
	var nodes []masterfsm.NodeHeight
	for i := range r.chains {
		if c := &r.chains[i]; c.known() && c.isOn(state) {
			nodes = append(nodes, masterfsm.NodeHeight{ID: c.node.ID, Version: c.node.Version, Height: c.status.Height})
		}
	}
	if r.cfg.NewLogKey {
		adopting.ForgetLog()
	}
	if r.cfg.Rehearsal {
		adopting.Isolate()
	}
	stored := uint64(0)
	if len(r.cfg.FromStorage) > 0 {
		stored = r.replicated()
	}
	done, err := adopting.Finish(stored, nodes)
	if err != nil {
		return err
	}
	r.plan.Adopted, r.plan.Dropped, r.plan.Keys, r.plan.Projects, r.plan.Single = done.Blocks, done.Dropped, done.Keys, done.Projects, done.Single
	return nil
}

// brokenOff tells that no storage node has a good copy of a block below the highest chain's end.
func (r *recovery) brokenOff(height uint64, why error) error {
	what := fmt.Sprintf("%s has %d blocks, of which no storage node that was asked gives a good block %d: nothing was changed; bring back a node or a disk that has it",
		r.plan.Source, r.plan.ChainHeight, height)
	switch {
	case r.doubtful:
		// The node may have another block than this master's last, and that one was committed then: it must not be left out.
	case len(r.cfg.FromStorage) > 0:
		what += ", or do not name " + r.plan.Source + ", which loses what it alone has"
	default:
		what += ", or leave " + r.plan.Source + " out with --without, which loses what it alone has"
	}
	return fmt.Errorf("%s: %w", what, why)
}

// removeOthers marks the lost masters as removed: should one come back, it is told.
func (r *recovery) removeOthers() error {
	view := r.state().View()
	for _, m := range view.Masters {
		if m.ID == r.plan.Member {
			continue
		}
		if _, err := r.state().Apply(masterfsm.Encode(&masterfsm.RemoveMaster{ID: m.ID, Time: view.Now})); err != nil {
			return err
		}
	}
	return nil
}
