package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// askTimeout bounds the time that a storage node takes to report the height of its chain, or to give one block.
const askTimeout = 10 * time.Second

// storageChain is a storage node's report of its chain, and the result of comparing that with the survivor's.
type storageChain struct {
	node   masterfsm.Storage // zero with FromStorage
	url    string
	status wire.ChainStatus
	err    error // of the last request that failed

	agreed  uint64 // number of blocks from block 0 on that equal the survivor's; an upper bound with forked and err
	forked  bool   // block agreed differs from the survivor's
	foreign bool   // the chain is not the one that the group committed
	on      bool   // its last block is known to be on the chain that is adopted
}

// known reports whether the node is the one in the table.
func (c *storageChain) known() bool { return c.node.ID != "" && c.node.ID == c.status.ID }

// isOn reports whether the chain's last block is on the chain of the state.
func (c *storageChain) isOn(s *masterfsm.State) bool {
	b, found := s.BoundaryAt(c.status.Height)
	return found && b.Hash == c.status.Hash || c.status.Height == 0
}

// ask asks every storage node for the height of its chain, finds out which chains are the group's, and makes the plan.
func (r *recovery) ask(ctx context.Context) error {
	if err := r.askAll(ctx); err != nil {
		return err
	}
	r.compareOwn(ctx)
	choose := r.choose
	if r.cfg.UndoRecovery {
		choose = func() error { return r.chooseOwn(ctx) }
	}
	if err := choose(); err != nil {
		return err
	}
	if err := r.compareOthers(ctx); err != nil {
		return err
	}
	view := r.state().View()
	r.plan.Height, r.plan.ChainHeight = view.Head.Height, view.Head.Height
	seals := view.OpenBlock - view.Head.Height // of the blocks in between
	r.plan.Buffered = int(r.state().NextIndex() - view.Head.Size - seals)
	for _, m := range r.old {
		if m.id != r.plan.Member {
			r.plan.Lost = append(r.plan.Lost, m.String())
		}
	}
	for _, c := range r.chains {
		if c.foreign && r.cfg.UndoRecovery {
			r.plan.Replaced = append(r.plan.Replaced, ReplacedChain{URL: c.url, From: c.agreed, To: c.status.Height})
		} else if c.foreign {
			r.plan.Foreign = append(r.plan.Foreign, c.url)
		} else if c.status.Height > r.plan.ChainHeight {
			r.plan.Source, r.plan.ChainHeight = c.url, c.status.Height
		}
	}
	r.plan.Origin, r.plan.NewLogKey = view.Log.Origin, r.cfg.NewLogKey
	r.plan.Asked = len(r.chains)
	r.plan.Replicas, r.plan.Replicated = int(r.state().Settings().Replicas), r.replicated()
	return nil
}

// nodes returns the storage nodes to ask.
func (r *recovery) nodes() []*storageChain {
	var chains []*storageChain
	for _, url := range trimmed(r.cfg.FromStorage) {
		if !slices.ContainsFunc(chains, func(c *storageChain) bool { return c.url == url }) {
			chains = append(chains, &storageChain{url: url})
		}
	}
	if len(chains) > 0 || r.cfg.Rehearsal {
		return chains
	}
	for _, s := range r.state().Storages() {
		if !slices.Contains(r.cfg.Without, s.ID) && !slices.Contains(r.cfg.Without, s.URL) {
			chains = append(chains, &storageChain{node: s, url: s.URL})
		}
	}
	return chains
}

// trimmed returns URLs without a slash at the end.
func trimmed(urls []string) []string {
	var list []string
	for _, url := range urls {
		list = append(list, strings.TrimRight(url, "/"))
	}
	return list
}

// askAll asks the storage nodes for the heights of their chains and their highest epochs, once none of them has had an
// order for long enough.
func (r *recovery) askAll(ctx context.Context) error {
	chains := r.nodes()
	look := r.awaitQuiet
	if r.cfg.Rehearsal {
		look = r.askStatus // they belong to no group, so no leader gives them orders
	}
	if err := look(ctx, chains); err != nil {
		return err
	}
	known := r.plan.Epoch
	for _, c := range chains {
		if r.plan.Group == "" {
			r.plan.Group = c.status.Group
		}
		switch {
		case c.status.Group == r.plan.Group || c.status.Group == "":
		case r.cfg.Rehearsal:
			return fmt.Errorf("storage node %s belongs to group %s: a rehearsal needs nodes without a group, "+
				"as 'chainstore import --rehearsal' makes them", c.url, c.status.Group)
		default:
			return fmt.Errorf("storage node %s belongs to group %s, not %s", c.url, c.status.Group, r.plan.Group)
		}
		if c.status.Epoch >= masterfsm.MaxEpoch {
			return tooHigh("storage node "+c.url, c.status.Epoch, "Stop that node and make sure that no old master "+
				"still runs. Then remove the files fence and led from its folder, start it, and run this "+
				"command again")
		}
		if err := r.compareEpoch(c, known); err != nil {
			return err
		}
		r.plan.Epoch = max(r.plan.Epoch, c.status.Epoch)
	}
	if r.plan.Group == "" {
		return fmt.Errorf("storage node %s was never part of a cluster: there is nothing to recover from it",
			strings.Join(r.cfg.FromStorage, ", "))
	}
	if r.plan.Epoch >= masterfsm.MaxEpoch {
		return tooHigh(r.cfg.Data, r.plan.Epoch, "Recover the folder of another master")
	}
	r.plan.Epoch++
	slices.SortStableFunc(chains, func(a, b *storageChain) int { return cmp.Compare(b.status.Height, a.status.Height) })
	r.chains = chains
	return nil
}

// compareEpoch checks whether a leader of a later epoch than the folder's has given a node orders. Then the group was
// recovered from another folder, and the operator must decide which of the two groups counts.
func (r *recovery) compareEpoch(c *storageChain, known uint64) error {
	led := c.status.Epoch // at most
	if c.status.LedEpoch != nil {
		led = *c.status.LedEpoch
	}
	const choices = "If that group counts, recover a master of it, or found it anew with --from-storage. If that " +
		"recovery was a mistake, --undo-recovery keeps the records of this folder " +
		"and drops what the other group acknowledged"
	switch {
	case r.fresh || led <= known:
		return nil
	case r.cfg.UndoRecovery:
		r.plan.Undo = max(r.plan.Undo, led)
		return nil
	case c.status.LedEpoch != nil:
		return fmt.Errorf("nothing was changed: storage node %s has had orders of a leader of epoch %d, and %s has "+
			"epoch %d: the group was recovered from another folder since. "+
			choices, c.url, led, r.cfg.Data, known)
	case led <= r.cfg.ResumeRecovery:
		return nil
	}
	return fmt.Errorf("nothing was changed: storage node %s has stored epoch %d and does not know whether a leader "+
		"led in it, and %s has epoch %d: the group may have been recovered from another folder since. "+
		choices+". If that recovery was interrupted, so that no master was ever started after it, add "+
		"--resume-recovery %d", c.url, led, r.cfg.Data, known, led)
}

// tooHigh returns the error for an epoch that has no successor.
func tooHigh(where string, epoch uint64, do string) error {
	return fmt.Errorf("nothing was changed: %s has stored epoch %d, and the highest that a group can have is %d. "+
		"No recovery made that number: it was sent with the cluster token, or the file is damaged. %s", where,
		epoch, masterfsm.MaxEpoch, do)
}

// askStatus asks every storage node once.
func (r *recovery) askStatus(ctx context.Context, chains []*storageChain) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	errs := atOnce(chains, func(c *storageChain) (err error) {
		c.status, err = r.masters.ChainStatus(ctx, c.url)
		return err
	})
	for i, c := range chains {
		out := "leave it out with --without " + c.url
		if len(r.cfg.FromStorage) > 0 {
			out = "do not name it"
		}
		switch {
		case errs[i] != nil:
			return fmt.Errorf("storage node %s does not report its chain: start it, or %s, which loses "+
				"the blocks that only it has: %w", c.url, out, errs[i])
		case c.status.QuietMillis == nil:
			return fmt.Errorf("storage node %s runs a version that does not report when a leader last gave it an "+
				"order, so it cannot confirm that none is alive: start it with this version, or %s, which loses the "+
				"blocks that only it has", c.url, out)
		}
	}
	return nil
}

// hashAt returns the hash of the last of a chain's first height blocks, as the node reports it. It comes from the next
// block, or from the block itself if the node does not give the next one.
func (r *recovery) hashAt(ctx context.Context, c *storageChain, height uint64) (hash chain.Hash, err error) {
	if height == c.status.Height {
		return c.status.Hash, nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = r.masters.ChainBlocks(ctx, c.url, height, height+1, func(b chain.Block) error {
		hash = b.Header.Prev
		return nil
	})
	if err == nil || height == 0 {
		return hash, err
	}
	return hash, r.masters.ChainBlocks(ctx, c.url, height-1, height, func(b chain.Block) error {
		hash = b.Header.Hash()
		return nil
	})
}

// compareOwn finds out how many blocks each chain shares with the survivor's.
func (r *recovery) compareOwn(ctx context.Context) {
	state := r.state()
	for _, c := range r.chains {
		for height := min(c.status.Height, state.Head().Height); height > 0; height-- {
			mine, remembered := state.BoundaryAt(height)
			theirs, err := r.hashAt(ctx, c, height)
			if !remembered {
				err = fmt.Errorf("block %d is older than this master remembers", height-1)
			}
			if c.err = err; err != nil || mine.Hash == theirs {
				c.agreed = height
				break
			}
			c.forked = true
		}
	}
}

// choose decides between the survivor's chain and chains that differ from it. A storage node only gets committed
// blocks, but the end of a survivor's log may never have been committed. So the blocks that a node shares with the
// survivor are the group's, and so are the node's blocks after the fork. The log is then read again up to the fork.
func (r *recovery) choose() error {
	committed, highest := max(r.folder.SnapshotHeight(), r.state().OnStorage()), r.state().Head().Height
	for _, c := range r.chains {
		if c.err == nil {
			committed = max(committed, c.agreed)
		}
	}
	for _, c := range r.chains {
		switch {
		case !c.forked:
			highest = max(highest, c.status.Height)
		case c.agreed < committed:
			c.foreign = true
		case c.err != nil:
			return fmt.Errorf("storage node %s has another chain than this master, nothing shows which of them is the "+
				"group's, and the node does not show where they fork: nothing was changed; bring back another storage "+
				"node that has block %d: %w", c.url, c.agreed, c.err)
		default:
			r.plan.Forked, r.plan.Fork = true, committed
			highest = max(highest, c.status.Height)
		}
	}
	for _, c := range r.chains {
		if c.foreign && c.status.Height > highest {
			return fmt.Errorf("storage node %s has %d blocks of a chain that is not this group's: its block %d is not "+
				"the one that was committed: nothing was changed; find out where its blocks come from first",
				c.url, c.status.Height, c.agreed)
		}
	}
	r.doubtful = committed < r.state().Head().Height
	if !r.plan.Forked {
		return nil
	}
	if err := r.folder.ReadBefore(r.plan.Fork); err != nil {
		return err
	}
	nodes := r.state().Storages()
	for _, c := range r.chains {
		at := slices.IndexFunc(nodes, func(n masterfsm.Storage) bool { return n.ID == c.node.ID })
		if c.node = (masterfsm.Storage{}); at >= 0 {
			c.node = nodes[at]
		}
	}
	return nil
}

// chooseOwn replaces choose if a recovery is undone: everything in the folder counts, including its last records, which
// may never have been committed. A node whose blocks contradict the log goes back to the last block that agrees. Its
// later blocks are moved to its quarantine. Blocks that do not contradict the log are adopted as usual.
func (r *recovery) chooseOwn(ctx context.Context) error {
	height, state := r.state().Head().Height, r.state()
	for _, c := range r.chains {
		if c.err != nil {
			return fmt.Errorf("nothing was changed: storage node %s does not show where its chain forks from that of "+
				"this master: leave it out with --without and remove its folder later, or repair it: %w", c.url, c.err)
		}
		if c.foreign = c.forked; c.forked || c.status.Height <= height {
			continue
		}
		errContradicts := errors.New("contradicts")
		err := r.masters.ChainBlocks(ctx, c.url, height, min(c.status.Height, state.Height()+1),
			func(b chain.Block) error {
				if !state.Contradicts(&b) {
					return nil
				}
				c.foreign, c.agreed = true, b.Header.Block
				return errContradicts
			})
		if err != nil && !errors.Is(err, errContradicts) {
			return fmt.Errorf("nothing was changed: storage node %s does not give the blocks that follow those of "+
				"this master: %w", c.url, err)
		}
	}
	return nil
}

// compareOthers compares the chains that are higher than the survivor's with each other.
func (r *recovery) compareOthers(ctx context.Context) error {
	state := r.state()
	for i, c := range r.chains {
		c.err = nil
		switch {
		case c.foreign:
			continue
		case c.status.Height <= state.Head().Height:
			c.on = c.isOn(state)
			continue
		}
		highest := true
		for _, other := range r.chains[:i] { // these chains are at least as high
			if other.foreign {
				continue
			}
			highest = false
			hash, err := r.hashAt(ctx, other, c.status.Height)
			if err != nil {
				c.err = errors.Join(c.err, err)
				continue
			}
			if hash != c.status.Hash {
				return fmt.Errorf("storage nodes %s and %s have different blocks below height %d, and nothing here "+
					"shows which are the group's: nothing was changed; find out, and recover without the other",
					other.url, c.url, c.status.Height)
			}
			c.on = true
			break
		}
		c.on = c.on || highest
	}
	return nil
}

// replicated returns the height up to which as many storage nodes as the settings require are known to have the chain:
// nodes that count as copies and whose chain was seen to be this one. With FromStorage no node is in the table yet. If
// fewer than required are named, the others are unknown and will be repaired from these.
func (r *recovery) replicated() uint64 {
	fromStorage, replicas := len(r.cfg.FromStorage) > 0, int(r.state().Settings().Replicas)
	if fromStorage {
		replicas = min(replicas, len(r.chains))
	}
	var heights []uint64
	for _, c := range r.chains {
		if c.on && (fromStorage || c.known() && c.node.CountsAsCopy) {
			heights = append(heights, c.status.Height)
		}
	}
	return masterfsm.ReplicatedHeight(heights, replicas)
}
