package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

var (
	// ErrOtherCluster: the data folder belongs to another cluster than the one of the masters.
	ErrOtherCluster = wire.ErrOtherGroup.Variant("this data folder belongs to another cluster")
	// ErrNotRegistered: no master has taken the registration of this start of the worker yet.
	ErrNotRegistered = wire.ErrUnavailable.Variant("this node is not registered yet since its start")
	// ErrRefused: the data folder was copied, or is an older copy that was put back. The worker takes no part until it
	// registers as a new node.
	ErrRefused = wire.ErrStaleFolder.Variant("this node is refused: its data folder was copied and the copy is in use, or it " +
		"is an older copy that was put back; to let it in as a new node, stop it, make sure that no other process uses a " +
		"copy of the folder, remove identity.json and starts from the folder, and start it again")
)

// RegistrarConfig is what a Registrar is made of.
type RegistrarConfig struct {
	Dir      string // data folder, where the identity is kept
	Identity Identity
	Starts   *Starts
	Role     string   // "storage" or "miner"
	URL      string   // where masters reach the worker
	Masters  []string // URLs; any of them will do
	Fence    *Fence
	// Chain tells up to where a storage node has the chain, and whether the start before this one ended uncleanly; nil for a miner.
	Chain func() (height uint64, hash chain.Hash, unclean bool)
	// Register calls one master. The error wraps wire.ErrRemoved where the cluster does not take the worker any more, and is
	// an *wire.OtherStartError where the masters have another start of it.
	Register func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error)
	// Refused is called once, when the masters have refused the worker: it must end what it does on their orders. From
	// then on Registrar.Ready gives ErrRefused. An error means that the role must stop. nil for nothing to end.
	Refused func() error
	Logger  hclog.Logger
}

// Registrar keeps a worker registered with the masters: at its start through whichever master answers, again when a new leader
// gives its first order, and now and then in between. A registration that says nothing new costs the masters nothing.
type Registrar struct {
	cfg RegistrarConfig

	mu         sync.Mutex // guards all below
	identity   Identity
	registered bool // since the start
	refused    bool // for good
	tooLow     int  // answers in a row whose order the fence refused
}

// Times of the registrar.
const (
	registerTimeout = 7 * time.Second // a master waits up to 5 s for a leader itself
	firstPause      = 100 * time.Millisecond
	longestPause    = 2 * time.Second
	renewEvery      = 10 * time.Second
)

// NewRegistrar makes a registrar. Nothing happens until Run is called.
func NewRegistrar(cfg RegistrarConfig) *Registrar {
	return &Registrar{cfg: cfg, identity: cfg.Identity}
}

// ID is the worker's id, "" before the first registration.
func (r *Registrar) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity.ID
}

// Group is the cluster that the worker is of, "" before the first registration.
func (r *Registrar) Group() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity.Group
}

// Registered reports whether a registration of this start was answered, and none was refused since. Until then a
// storage node takes no block: the masters judge it by the height that it registers with, and one that had gone on
// meanwhile, on the orders of a leader that knew the node from before, would be judged by a height that the masters no
// longer hold the next block of.
func (r *Registrar) Registered() bool { return r.Ready() == nil }

// Ready says why the worker takes no part: [ErrNotRegistered] or [ErrRefused], nil where it does.
func (r *Registrar) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.refused:
		return ErrRefused
	case !r.registered:
		return ErrNotRegistered
	}
	return nil
}

// Run registers, and again whenever there is cause, until ctx ends. Once the masters have refused the worker it
// registers no more. An error means that the role must stop.
func (r *Registrar) Run(ctx context.Context) error {
	for {
		_, newLeader := r.cfg.Fence.Highest()
		if err := r.register(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, ErrRefused) {
				return r.endRefused(ctx, err)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-newLeader:
		case <-time.After(renewEvery):
		}
	}
}

// endRefused ends what the worker does, and leaves it running for /readyz to say why.
func (r *Registrar) endRefused(ctx context.Context, why error) error {
	r.mu.Lock()
	r.refused = true
	id := r.identity.ID
	r.mu.Unlock()
	const text = "refused by the masters; nothing is done or served any more"
	r.cfg.Logger.Error(text, "id", id, "data", r.cfg.Dir, "error", why)
	if r.cfg.Refused != nil {
		if err := r.cfg.Refused(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// register asks one master after the other until one has registered the worker.
func (r *Registrar) register(ctx context.Context) error {
	pause := firstPause
	for {
		for _, master := range r.cfg.Masters {
			err := r.try(ctx, master)
			if err == nil || ctx.Err() != nil || final(err) {
				return err
			}
			r.cfg.Logger.Debug("not registered yet", "master", master, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

var errSave = errors.New("a file of the data folder cannot be written")

// final reports whether it is no use to ask another master.
func final(err error) bool {
	return errors.Is(err, ErrOtherCluster) || errors.Is(err, wire.ErrRemoved) || errors.Is(err, ErrRefused) ||
		errors.Is(err, errSave)
}

// try registers with one master. Where the masters have another start of this worker than it named, and that is one of
// its own folder's, it names that one and asks again.
func (r *Registrar) try(ctx context.Context, master string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	err := r.ask(ctx, master, r.cfg.Starts.Confirmed())
	var other *wire.OtherStartError
	if !errors.As(err, &other) {
		return err
	}
	if r.cfg.Starts.Has(other.Start) {
		err = r.ask(ctx, master, other.Start)
	}
	if errors.As(err, &other) && !r.cfg.Starts.Has(other.Start) {
		return fmt.Errorf("%w (start %q is not in the list of its starts): %w", ErrRefused, other.Start, err)
	}
	return err
}

// ask sends one registration.
func (r *Registrar) ask(ctx context.Context, master, previous string) error {
	r.mu.Lock()
	id := r.identity
	r.mu.Unlock()
	registration := wire.Registration{
		Role: r.cfg.Role, ID: id.ID, AccessToken: id.AccessToken, URL: r.cfg.URL, MasterToken: id.MasterToken,
		Boot: r.cfg.Starts.Own(), Previous: previous, Lists: true,
	}
	if r.cfg.Chain != nil {
		registration.Height, registration.Hash, registration.Unclean = r.cfg.Chain()
	}
	answer, err := r.cfg.Register(ctx, master, registration)
	if err != nil {
		return err
	}
	if id.Group != "" && answer.Group != id.Group {
		return fmt.Errorf("%w: %s is of cluster %s, the masters are of %s; choose another --data folder or other --masters",
			ErrOtherCluster, r.cfg.Dir, id.Group, answer.Group)
	}
	// The id is kept before the fence is asked: where it refuses the order, the next try must not get another id.
	same := answer.ID == id.ID && answer.AccessToken == id.AccessToken && answer.Group == id.Group
	id.ID, id.AccessToken, id.Group = answer.ID, answer.AccessToken, answer.Group
	if !same {
		if err := id.Save(r.cfg.Dir); err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
		r.mu.Lock()
		r.identity = id
		r.mu.Unlock()
	}
	// The folder may be an older copy, and its fence with it: no order of a leader before the one that registered it
	// must pass.
	if answer.Order != "" {
		order, err := wire.ParseOrder(answer.Order)
		if err != nil {
			return fmt.Errorf("the answer of %s: %w", master, err)
		}
		if err := r.cfg.Fence.Pass(order); errors.Is(err, wire.ErrFenced) {
			r.warnTooLow(master, order)
			return fmt.Errorf("the answer of %s is that of a deposed leader: %w", master, err)
		} else if err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
	}
	if !same {
		r.cfg.Logger.Info("registered", "id", id.ID, "master", master)
	}
	if err := r.cfg.Starts.Confirm(); err != nil {
		return fmt.Errorf("%w: %w", errSave, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registered, r.tooLow = true, 0
	return nil
}

// warnTooLow counts an answer whose order is below the fence. A new leader may have come meanwhile, so one or two are
// no fault. The third in a row is logged, and none after it.
func (r *Registrar) warnTooLow(master string, order wire.Order) {
	r.mu.Lock()
	r.tooLow++
	due := r.tooLow == 3
	r.mu.Unlock()
	if !due {
		return
	}
	highest, _ := r.cfg.Fence.Highest()
	r.cfg.Logger.Warn("not registered: the folder has had orders of a later leader than that of the masters; the folder "+
		"is of another cluster, or the masters are those of before a recovery. Give --masters of the recovered group, or "+
		"start with an empty folder. Remove the file fence from the folder only if no master of the later epoch runs, and "+
		"start again", "data", r.cfg.Dir, "fence epoch", highest.Epoch, "fence term", highest.Term, "master", master,
		"masters' epoch", order.Epoch, "masters' term", order.Term)
}
