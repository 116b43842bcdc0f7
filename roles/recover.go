package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore"
)

// RecoverConfig says how the masters are recovered whose majority is lost for good.
type RecoverConfig struct {
	Data         string   // a survivor's data folder; an empty one with FromStorage
	Raft         string   // address of its raft port from now on, host:port
	ClusterToken string   // opens the storage nodes' chains
	FromStorage  string   // URL of a storage node, when no master has survived
	Without      []string // ids or URLs of storage nodes that need not be asked
	// Confirm is shown what is about to be done, and ends it with an error. Nothing was changed before.
	Confirm  func(Recovery) error
	Progress func(done, total uint64) // blocks that were adopted; may be nil
	Logger   hclog.Logger
}

// Recovery tells what a recovery is about to do, or has done.
type Recovery struct {
	Group       string
	Epoch       uint64 // the new one
	Member      string // the master that becomes the whole group
	LastEntry   uint64 // of its log, 0 where it has none
	Height      uint64 // mined blocks that it knows of
	Buffered    int    // records that it holds and that are in no mined block
	Lost        []string
	Source      string // URL of the storage node whose chain is the highest, "" where none is higher than the survivor's
	ChainHeight uint64 // that node's
	// Done: what the recovery did.
	Adopted, Dropped int // blocks that were taken over from Source, records of the survivor that did not fit behind them
	Projects         int // that were found in records alone
}

// storageChain is what a storage node said of its chain.
type storageChain struct {
	node   masterfsm.Storage // zero for FromStorage
	url    string
	status wire.ChainStatus
	err    error
}

// RecoverMaster makes one surviving master the whole group, or founds the group anew from a storage node's chain. The master must not run.
// First it takes over the highest chain of the storage nodes, every block of it verified, so that no block is ever mined at a height that
// one of them has. The group's epoch goes up: workers follow no leader of the old group any more.
func RecoverMaster(ctx context.Context, cfg RecoverConfig) (_ Recovery, err error) {
	if cfg.ClusterToken == "" {
		return Recovery{}, errors.New("the cluster token is needed: --cluster-token-file FILE, or CHAINSTORE_CLUSTER_TOKEN")
	}
	rescue, err := raftstore.OpenRescue(cfg.Data, cfg.Logger)
	if err != nil {
		return Recovery{}, err
	}
	defer func() { err = errors.Join(err, rescue.Close()) }()
	switch fresh := rescue.Fresh(); {
	case fresh && cfg.FromStorage == "":
		return Recovery{}, fmt.Errorf("%s holds no master: name the folder of one that survived, or found the group anew with --from-storage URL", cfg.Data)
	case !fresh && cfg.FromStorage != "":
		return Recovery{}, fmt.Errorf("%s holds a master of group %s: recover it without --from-storage, or name an empty folder", cfg.Data, rescue.Member().Group)
	}
	r := &recovery{cfg: cfg, state: rescue.State(), masters: client.NewMasters(cfg.ClusterToken)}
	defer r.masters.CloseIdle()
	member := rescue.Member()
	r.plan = Recovery{Group: member.Group, Member: member.ID, Epoch: max(member.Epoch, r.state.Group().Epoch)}
	_, r.plan.LastEntry = rescue.Last()
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
	return r.plan, rescue.Commit(r.plan.Group, r.plan.Epoch, cfg.Raft)
}

// recovery is a recovery under way.
type recovery struct {
	cfg     RecoverConfig
	state   *masterfsm.State
	masters *client.Masters
	chains  []storageChain // of those that answered, the highest first
	plan    Recovery
}

// ask asks every storage node how far its chain goes, and makes the plan.
func (r *recovery) ask(ctx context.Context) error {
	view := r.state.View()
	var chains []storageChain
	for _, s := range view.Storages {
		if !slices.Contains(r.cfg.Without, s.ID) && !slices.Contains(r.cfg.Without, s.URL) {
			chains = append(chains, storageChain{node: s, url: s.URL})
		}
	}
	if r.cfg.FromStorage != "" {
		chains = []storageChain{{url: strings.TrimRight(r.cfg.FromStorage, "/")}}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var asking sync.WaitGroup
	for i := range chains {
		c := &chains[i]
		asking.Go(func() { c.status, c.err = r.masters.ChainStatus(ctx, c.url) })
	}
	asking.Wait()
	for _, c := range chains {
		if c.err != nil {
			return fmt.Errorf("storage node %s does not tell how far its chain goes: start it, or leave it out with --without %s, which loses the blocks that it alone has: %w",
				c.url, c.url, c.err)
		}
		if r.plan.Group == "" {
			r.plan.Group = c.status.Group
		}
		if c.status.Group != r.plan.Group && c.status.Group != "" {
			return fmt.Errorf("storage node %s is of group %s, not %s", c.url, c.status.Group, r.plan.Group)
		}
		r.plan.Epoch = max(r.plan.Epoch, c.status.Epoch)
	}
	if r.plan.Group == "" {
		return fmt.Errorf("storage node %s was never part of a cluster: there is nothing to recover from it", r.cfg.FromStorage)
	}
	r.plan.Epoch++
	slices.SortStableFunc(chains, func(a, b storageChain) int { return cmp.Compare(b.status.Height, a.status.Height) })
	r.chains = chains
	r.plan.Height = view.Head.Height
	r.plan.Buffered = int(r.state.NextIndex() - view.Head.Size - (view.OpenBlock - view.Head.Height)) // less the seals in between
	for _, m := range view.Masters {
		if m.ID != r.plan.Member {
			r.plan.Lost = append(r.plan.Lost, m.ID+" at "+m.URL)
		}
	}
	if len(chains) > 0 && chains[0].status.Height > view.Head.Height {
		r.plan.Source, r.plan.ChainHeight = chains[0].url, chains[0].status.Height
	}
	return nil
}

// adopt takes the highest chain over, from one node after the other where one breaks off.
func (r *recovery) adopt(ctx context.Context) error {
	adopting := r.state.Recover(masterfsm.Group{ID: r.plan.Group, Epoch: r.plan.Epoch})
	var why error
	for _, c := range r.chains {
		from, to := r.state.Head().Height, c.status.Height
		if to <= from {
			break
		}
		err := r.masters.ChainBlocks(ctx, c.url, from, to, func(b chain.Block) error {
			number := b.Header.Block
			if err := adopting.Adopt(b); err != nil {
				return err
			}
			if r.cfg.Progress != nil {
				r.cfg.Progress(number+1, r.plan.ChainHeight)
			}
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			why = errors.Join(why, err)
		}
	}
	if height := r.state.Head().Height; height < r.plan.ChainHeight {
		return fmt.Errorf("of the %d blocks that %s says it has only %d are good on any storage node: nothing was changed; repair the node, or leave it out with --without %s: %w",
			r.plan.ChainHeight, r.plan.Source, height, r.plan.Source, why)
	}
	var nodes []masterfsm.NodeHeight
	for _, c := range r.chains {
		if b, ok := r.state.BoundaryAt(c.status.Height); ok && b.Hash == c.status.Hash && c.node.ID != "" {
			nodes = append(nodes, masterfsm.NodeHeight{ID: c.node.ID, Version: c.node.Version, Height: c.status.Height})
		}
	}
	stored := uint64(0)
	if r.cfg.FromStorage != "" {
		stored = r.plan.ChainHeight // the other storage nodes are not known yet: they are repaired from this one
	}
	done, err := adopting.Finish(stored, nodes)
	if err != nil {
		return err
	}
	r.plan.Adopted, r.plan.Dropped, r.plan.Projects = done.Blocks, done.Dropped, done.Projects
	return nil
}

// removeOthers marks the lost masters as removed: should one come back, it is told.
func (r *recovery) removeOthers() error {
	view := r.state.View()
	for _, m := range view.Masters {
		if m.ID == r.plan.Member {
			continue
		}
		if _, err := r.state.Apply(masterfsm.Encode(&masterfsm.RemoveMaster{ID: m.ID, Time: view.Now})); err != nil {
			return err
		}
	}
	return nil
}
