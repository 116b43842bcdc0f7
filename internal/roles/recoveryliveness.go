package roles

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// Times of the check that the group is dead.
const (
	memberTimeout = 3 * time.Second        // for the answer of a master
	lookAgain     = 500 * time.Millisecond // between two status requests to a storage node
)

// oldMaster is a master in the table of the survivor's folder.
type oldMaster struct{ id, url, raft string }

// is reports whether name is the id, URL or raft address of this master.
func (m oldMaster) is(name string) bool {
	name = strings.TrimRight(name, "/")
	return name == m.id || m.raft != "" && name == m.raft ||
		m.url != "" && (name == m.url || "http://"+name == m.url || "https://"+name == m.url)
}

func (m oldMaster) String() string {
	return fmt.Sprintf("%s at %s", m.id, cmp.Or(m.url, m.raft, "an unknown address"))
}

// othersOf returns the masters of the table, and the founding masters that are not in the table yet. The survivor is
// included, because its folder may be a copy of that of a running master. A rehearsal has none.
func (r *recovery) othersOf(folder *raftstore.Recovery) (all []oldMaster) {
	if r.cfg.Rehearsal {
		return nil
	}
	state := r.state()
	for _, m := range state.View().Masters {
		all = append(all, oldMaster{m.ID, m.URL, m.Raft})
	}
	for _, m := range folder.Founding() {
		known := slices.ContainsFunc(all, func(o oldMaster) bool { return o.id == m.ID })
		if !known && !state.MasterRemoved(m.ID) {
			all = append(all, oldMaster{m.ID, strings.TrimRight(m.URL, "/"), m.Raft})
		}
	}
	return all
}

// checkMasters ensures that no master of the group answers, and that each except the survivor was named as dead: a
// master that does not answer here may still run.
func (r *recovery) checkMasters(ctx context.Context) error {
	for _, name := range r.cfg.Dead {
		at := slices.IndexFunc(r.old, func(m oldMaster) bool { return m.is(name) })
		switch {
		case at < 0:
			return fmt.Errorf("--dead %s: the table has no such master; it has %s", name, mastersText(r.old, ", "))
		case r.old[at].id == r.plan.Member:
			return fmt.Errorf("--dead %s: that is the master to be recovered", name)
		}
	}
	lives := atOnce(r.old, func(m oldMaster) error { return r.lives(ctx, m) })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(lives...); err != nil {
		return fmt.Errorf("nothing was changed: the group must not be replaced while one of its masters runs. "+
			"Stop it; if a majority can run, start that instead of a recovery: %w", err)
	}
	var flags []string
	var unnamed []oldMaster
	for _, m := range r.old {
		if m.id != r.plan.Member && !slices.ContainsFunc(r.cfg.Dead, m.is) {
			flags, unnamed = append(flags, "--dead "+m.id), append(unnamed, m)
		}
	}
	if len(unnamed) > 0 {
		return fmt.Errorf("nothing was changed: no answer from master %s. A master that cannot be reached from "+
			"here may still run and acknowledge records. "+
			"Make sure on its machine that it is stopped and never starts again, then add: %s", mastersText(unnamed,
			", or "), strings.Join(flags, " "))
	}
	return nil
}

func mastersText(list []oldMaster, between string) string {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = list[i].String()
	}
	return cmp.Or(strings.Join(texts, between), "none")
}

// lives returns an error unless there is no answer at the URL of an old master, or that of another process of
// ChainStore: a master with another id and of another group, or a worker. Any other answer may come from the old
// master, through a proxy or in a version that answers differently.
func (r *recovery) lives(ctx context.Context, m oldMaster) error {
	if m.url == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	there, err := r.masters.Member(ctx, m.url)
	named := ""
	if slices.ContainsFunc(r.cfg.Dead, m.is) {
		named = ", although it was named with --dead"
	}
	switch {
	case err == nil && there.ID == m.id:
		return fmt.Errorf("master %s answers%s", m, named)
	case err == nil && there.Group == r.plan.Group:
		return fmt.Errorf("at %s, where master %s was, answers master %s of the same group, at epoch %d", m.url, m.id,
			there.ID, there.Epoch)
	case err == nil && there.ID != "":
		return nil // a new master, or one of another group
	case noderpc.Silent(err), errors.Is(err, wire.ErrNoSuchRoute), errors.Is(err, wire.ErrNotFound):
		return nil // the latter two are the answers of a worker
	}
	if err == nil {
		err = errors.New("it names no master")
	}
	return fmt.Errorf("the URL of master %s answers%s, but not with its id: %w. The master may run behind what "+
		"answers. If it does not, stop what answers there, or block its address on this machine", m, named, err)
}

// looked is what a storage node reported about its last order.
type looked struct {
	first, last time.Time // bounds of the time at which the order came or the node started
	ordered     bool
}

// awaitQuiet asks the storage nodes until none of them has had an order of a leader for long enough. It fails if a node
// gets an order meanwhile: then a leader is alive.
func (r *recovery) awaitQuiet(ctx context.Context, chains []*storageChain) error {
	need := cmp.Or(r.cfg.quiet, wire.RecoveryQuiet)
	before := make([]looked, len(chains))
	for {
		began := time.Now()
		if err := r.askStatus(ctx, chains); err != nil {
			return err
		}
		ended := time.Now()
		if err := r.checkMajority(chains); err != nil {
			return err
		}
		w := Waiting{Since: need, Need: need}
		for i, c := range chains {
			quiet := time.Duration(*c.status.QuietMillis) * time.Millisecond
			now := looked{first: began.Add(-quiet - time.Millisecond), last: ended.Add(-quiet),
				ordered: c.status.Ordered}
			if b := before[i]; now.ordered && !b.last.IsZero() && now.first.After(b.last) {
				return fmt.Errorf("nothing was changed: storage node %s had an order of a leader just now: a "+
					"master of the group is alive, although none answers here. Stop it first", c.url)
			}
			before[i] = now
			if quiet < w.Since {
				w.Node, w.Ordered, w.Since = c.url, now.ordered, quiet
			}
		}
		if w.Since >= need {
			return nil
		}
		if r.cfg.Waiting != nil {
			r.cfg.Waiting(w)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(need-w.Since, lookAgain)):
		}
	}
}

// checkMajority ensures that the storage nodes that are asked are a majority of the table's. Then a leader that still
// reaches a majority has given an order to at least one of them, and later leaders of the old group reach at least one
// that refuses them. A node that has another id than the table, for example after its disk was wiped, does not know
// about earlier orders, and the blocks of the former node may be lost. The operator must confirm that.
func (r *recovery) checkMajority(chains []*storageChain) error {
	if len(r.cfg.FromStorage) > 0 || r.cfg.Rehearsal {
		return nil
	}
	r.plan.Storages, r.plan.Others = len(r.state().Storages()), nil
	var others, flags []string
	for _, c := range chains {
		if !c.known() {
			r.plan.Others = append(r.plan.Others, c.url)
			others = append(others, fmt.Sprintf("%s is %s, not %s", c.url, cmp.Or(c.status.ID, "one without an id"),
				c.node.ID))
			flags = append(flags, "--without "+c.url)
		}
	}
	asked := len(chains) - len(others)
	switch {
	case r.cfg.StorageLost:
		return nil
	case len(others) > 0:
		return fmt.Errorf("nothing was changed: the storage node at %s, as after its disk was lost. It does not know "+
			"whether a leader gives orders. "+
			"Bring back the table's node with its disk. If the disk is lost, and with it the blocks that only it "+
			"had, add %s. If that leaves no majority of the table's %d storage nodes, or to use the blocks that "+
			"these nodes have now, add --storage-majority-lost", strings.Join(others, ", at "),
			strings.Join(flags, " "), r.plan.Storages)
	case 2*asked > r.plan.Storages:
		return nil
	}
	if r.plan.Storages == 0 {
		return errors.New("nothing was changed: the table has no storage node to confirm that no leader gives " +
			"orders. If you are sure that none runs, add --storage-majority-lost")
	}
	return fmt.Errorf("nothing was changed: %d of the table's %d storage nodes would be asked, and a majority "+
		"must confirm that no leader gives orders. Bring more of them back. If their disks are destroyed, and not "+
		"only unreachable, name each with --without and add --storage-majority-lost", asked, r.plan.Storages)
}

// raise makes all storage nodes that were asked store the new epoch, so that they refuse the leaders of the old group.
// A node that had an order meanwhile refuses. Then it moves blocks that are not the group's to quarantine. The
// survivor's folder is changed only after that.
func (r *recovery) raise(ctx context.Context) error {
	if r.cfg.Rehearsal { // it has no storage node of the old group
		return nil
	}
	order := wire.NewEpoch{Group: r.plan.Group, Epoch: r.plan.Epoch, Claim: rand.Text()}
	err := r.onAll(func(c *storageChain) error {
		at, err := r.newEpoch(ctx, c, order)
		if err == nil && (at.Height != c.status.Height || at.Hash != c.status.Hash) {
			err = fmt.Errorf("its chain has changed since it was asked, from %d blocks to %d", c.status.Height,
				at.Height)
		}
		return err
	})
	if err == nil {
		err = r.onAll(func(c *storageChain) error {
			if !c.foreign || !r.cfg.UndoRecovery {
				return nil
			}
			aside := order
			aside.Keep = &c.agreed
			_, err := r.newEpoch(ctx, c, aside)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("%s was not changed. Storage nodes may have stored epoch %d already and then refuse "+
			"the old masters: run this command again: %w", r.cfg.Data, r.plan.Epoch, err)
	}
	return nil
}

// epochTimeout bounds the time that a storage node takes to store an epoch and to move blocks aside.
const epochTimeout = time.Minute

func (r *recovery) newEpoch(ctx context.Context, c *storageChain, order wire.NewEpoch) (wire.ChainStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, epochTimeout)
	defer cancel()
	return r.masters.NewEpoch(ctx, c.url, order)
}

// onAll calls do for all storage nodes that were asked, at the same time.
func (r *recovery) onAll(do func(c *storageChain) error) error {
	return errors.Join(atOnce(r.chains, func(c *storageChain) error {
		if err := do(c); err != nil {
			return fmt.Errorf("storage node %s: %w", c.url, err)
		}
		return nil
	})...)
}

// atOnce calls do for all items at the same time. It returns the error for each item, nil for none.
func atOnce[T any](items []T, do func(T) error) []error {
	errs := make([]error, len(items))
	var calls sync.WaitGroup
	for i, item := range items {
		calls.Go(func() { errs[i] = do(item) })
	}
	calls.Wait()
	return errs
}
