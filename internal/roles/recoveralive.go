package roles

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// Times of asking whether the group lives.
const (
	memberTimeout = 3 * time.Second        // for a master to say who it is
	lookAgain     = 500 * time.Millisecond // between two looks at whether a leader gives orders
)

// oldMaster is a master of the group as the survivor's folder knows it.
type oldMaster struct{ id, url, raft string }

// is reports whether a person means this master: by id, URL or raft address.
func (m *oldMaster) is(name string) bool {
	name = strings.TrimRight(name, "/")
	return name == m.id || m.raft != "" && name == m.raft ||
		m.url != "" && (name == m.url || "http://"+name == m.url || "https://"+name == m.url)
}

func (m *oldMaster) String() string {
	return fmt.Sprintf("%s at %s", m.id, cmp.Or(m.url, m.raft, "an unknown address"))
}

// othersOf are the masters of the table, and those that the group was founded with and that are not in the table yet.
// The survivor is among them: its folder may be a copy of that of a master that runs. A rehearsal knows none.
func (r *recovery) othersOf(rescue *raftstore.Recovery) (all []oldMaster) {
	if r.cfg.Rehearsal {
		return nil
	}
	state := r.state()
	for _, m := range state.View().Masters {
		all = append(all, oldMaster{m.ID, m.URL, m.Raft})
	}
	for _, m := range rescue.Founding() {
		known := slices.ContainsFunc(all, func(o oldMaster) bool { return o.id == m.ID })
		if !known && !state.MasterRemoved(m.ID) {
			all = append(all, oldMaster{m.ID, strings.TrimRight(m.URL, "/"), m.Raft})
		}
	}
	return all
}

// checkMasters makes sure that no master of the group answers, and that each but the survivor was named as dead: that
// it does not answer here does not tell that it does not run.
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
	lives := make([]error, len(r.old))
	var asking sync.WaitGroup
	for i := range r.old {
		asking.Go(func() { lives[i] = r.lives(ctx, &r.old[i]) })
	}
	asking.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := errors.Join(lives...); err != nil {
		return fmt.Errorf("nothing was changed: the group must not be replaced while one of its masters runs. "+
			"Stop it; where a majority can run, start that, and recover nothing: %w", err)
	}
	var flags []string
	var unnamed []oldMaster
	for i := range r.old {
		m := &r.old[i]
		if m.id != r.plan.Member && !slices.ContainsFunc(r.cfg.Dead, m.is) {
			flags, unnamed = append(flags, "--dead "+m.id), append(unnamed, *m)
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

// lives asks at a master's URL whether a master of the group is there: then it says so as an error. What else answers
// there, a new master, a worker or a proxy, is no sign of life.
func (r *recovery) lives(ctx context.Context, m *oldMaster) error {
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
	var problem *wire.Error
	switch {
	case err == nil && there.ID == m.id:
		return fmt.Errorf("master %s answers%s", m, named)
	case err == nil && there.Group == r.plan.Group:
		return fmt.Errorf("at %s, where master %s was, answers master %s of the same group, at epoch %d", m.url, m.id,
			there.ID, there.Epoch)
	case errors.As(err, &problem) && ofMaster(problem.Problem):
		return fmt.Errorf("at the URL of master %s something answers%s, and does not say who it is: %w", m, named, err)
	}
	return nil
}

// ofMaster reports whether a master may have refused with a problem to say who it is: the token is another one, or it
// serves nothing. A process that is no master answers that there is no such route.
func ofMaster(p wire.Problem) bool {
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable:
		return strings.HasPrefix(p.Type, wire.ProblemBase)
	}
	return false
}

// looked is when a storage node was asked, and what it said of orders.
type looked struct {
	first, last time.Time // the order came, or the node was started, between these
	ordered     bool
}

// awaitQuiet asks the storage nodes until all of them have been without orders of a leader for long enough. It ends
// with an error when an order comes meanwhile: then a leader lives.
func (r *recovery) awaitQuiet(ctx context.Context, chains []storageChain) error {
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
		for i := range chains {
			c := &chains[i]
			quiet := time.Duration(*c.status.QuietMillis) * time.Millisecond
			now := looked{first: began.Add(-quiet - time.Millisecond), last: ended.Add(-quiet),
				ordered: c.status.Ordered}
			if b := before[i]; now.ordered && !b.last.IsZero() && now.first.After(b.last) {
				return fmt.Errorf("nothing was changed: storage node %s had an order of a leader just now: a "+
					"master of the group lives, although none answers here. Stop it first", c.url)
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

// checkMajority makes sure that the storage nodes that are asked are a majority of the table's: then at least one of
// them has orders of whatever leader still has a majority of them, and the leaders of the old group meet at least one
// that refuses them. A node that is another than the table's at its URL, as after its disk was wiped, knows nothing of
// them, and the blocks of the one that was there may be gone: a person must say so.
func (r *recovery) checkMajority(chains []storageChain) error {
	if len(r.cfg.FromStorage) > 0 || r.cfg.Rehearsal {
		return nil
	}
	r.plan.Storages, r.plan.Others = len(r.state().Storages()), nil
	var others, flags []string
	for i := range chains {
		if c := &chains[i]; !c.known() {
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
		return fmt.Errorf("nothing was changed: the storage node at %s, as after its disk was lost. It cannot vouch "+
			"that no leader gives orders. "+
			"Bring back the table's node with its disk. Where that is lost, and with it the blocks that it alone "+
			"had, add %s. Where then no majority of the table's %d storage nodes is left, or where the blocks that "+
			"are there now are to be looked at all the same, add --storage-majority-lost", strings.Join(others, ", at "),
			strings.Join(flags, " "), r.plan.Storages)
	case 2*asked > r.plan.Storages:
		return nil
	}
	if r.plan.Storages == 0 {
		return errors.New("nothing was changed: the table has no storage node that could vouch that no leader " +
			"gives orders. " +
			"Where you are sure that none runs, add --storage-majority-lost")
	}
	return fmt.Errorf("nothing was changed: %d of the table's %d storage nodes would be asked, and a majority "+
		"must vouch that no leader gives orders. "+
		"Bring more of them back. Where their disks are destroyed, and not only out of reach, name each with "+
		"--without and add --storage-majority-lost",
		asked, r.plan.Storages)
}

// raise has all storage nodes that were asked store the new epoch, in which they refuse the old group's leaders; each
// refuses where it had an order meanwhile. Then what is not the group's is moved to quarantine. The survivor's folder
// is not changed before.
func (r *recovery) raise(ctx context.Context) error {
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
			"masters of before: run this command again: %w",
			r.cfg.Data, r.plan.Epoch, err)
	}
	return nil
}

// epochTimeout is for how long a storage node may take to store an epoch, and to move blocks aside.
const epochTimeout = time.Minute

func (r *recovery) newEpoch(ctx context.Context, c *storageChain, order wire.NewEpoch) (wire.ChainStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, epochTimeout)
	defer cancel()
	return r.masters.NewEpoch(ctx, c.url, order)
}

// onAll does something with all storage nodes that were asked, at the same time.
func (r *recovery) onAll(do func(c *storageChain) error) error {
	failed := make([]error, len(r.chains))
	var all sync.WaitGroup
	for i := range r.chains {
		c := &r.chains[i]
		all.Go(func() {
			if err := do(c); err != nil {
				failed[i] = fmt.Errorf("storage node %s: %w", c.url, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}
