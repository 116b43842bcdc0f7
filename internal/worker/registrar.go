package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

var (
	// ErrOtherCluster: the data folder belongs to another cluster than the one of the masters.
	ErrOtherCluster = wire.ErrOtherGroup.Variant("this data folder belongs to another cluster")
	// ErrNotRegistered: no master has accepted the registration of this start of the worker yet.
	ErrNotRegistered = wire.ErrUnavailable.Variant("this node is not registered yet since its start")
	// ErrWaiting: an administrator has not approved the worker yet. It takes part in nothing.
	ErrWaiting = wire.ErrUnavailable.Variant("this node waits for the approval of an administrator")
	// ErrRefused: the data folder was copied, or is an older copy that was put back. The worker takes part in nothing
	// until it registers as a new node.
	ErrRefused = wire.ErrStaleFolder.Variant("this node is refused: its data folder was copied and the copy is in " +
		"use, or it is an older copy that was put back; to let it in as a new node, stop it, make sure that no other " +
		"process uses a copy of the folder, remove identity.json and starts from the folder, and start it again")
)

// RegistrarConfig configures a Registrar.
type RegistrarConfig struct {
	Dir      string // data folder, where the identity is kept
	Identity Identity
	Starts   *Starts
	Role     string   // "storage" or "miner"
	URL      string   // where masters reach the worker
	Masters  []string // URLs; one that answers is enough
	Fence    *Fence
	// Chain returns the end of a storage node's chain, and whether the previous start ended uncleanly; nil for a miner.
	Chain func() (height uint64, hash chain.Hash, unclean bool)
	// Register calls one master. The error wraps wire.ErrRemoved if the cluster has removed the worker, and is a
	// *wire.OtherStartError if the masters have another start of it.
	Register func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error)
	// Refused is called once, when the masters have refused the worker: it must end what the worker does on their
	// orders; nil if there is nothing to end. An error means that the role must stop.
	Refused func() error
	// Kernel is the boot id of the kernel. AfterFailedSync lets the worker take part although a sync of its folder
	// failed under that kernel.
	Kernel          string
	AfterFailedSync bool
	// TLS is called with the step of the move to TLS and the epoch of the leader that said it; nil for none. An error
	// means that the role must stop, unless the step is tried again: see [durable.CanRetry].
	TLS    func(epoch uint64, s wire.TLSState) error
	Logger hclog.Logger
}

// Registrar keeps a worker registered with the masters: at its start with any master that answers, again when a new
// leader gives its first order, and every ten seconds. A registration without news appends nothing to the masters'
// log.
type Registrar struct {
	cfg     RegistrarConfig
	lacks   bool      // the last try lacked room on the disk or a file descriptor; used by Run alone
	unsaved *Identity // assigned by the masters and not on disk yet, nil for none; used by Run alone
	tooLow  int       // consecutive answers whose order the fence refused; used by Run alone
	// reported is why each master did not register the worker, as it was logged; used by Run alone.
	reported map[string]string

	mu         sync.Mutex // guards all below, which Run alone changes
	identity   Identity
	registered bool // since the start
	waiting    bool // for approval, as the masters have answered
	refused    bool // permanently
}

// Times of the registrar.
const (
	registerTimeout = 7 * time.Second // a master itself waits up to 5 s for a leader
	firstPause      = 100 * time.Millisecond
	longestPause    = 2 * time.Second
	renewEvery      = 10 * time.Second
)

// NewRegistrar returns a registrar. It does nothing until Run is called.
func NewRegistrar(cfg RegistrarConfig) *Registrar {
	return &Registrar{cfg: cfg, identity: cfg.Identity, reported: map[string]string{}}
}

// ID returns the worker's id, "" before the first registration.
func (r *Registrar) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity.ID
}

// Group returns the worker's cluster, "" before the first registration.
func (r *Registrar) Group() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity.Group
}

// Proofs reports whether the cluster has the protocol level from which no node sends a secret.
func (r *Registrar) Proofs() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.identity.Proofs
}

// Ready returns why the worker takes part in nothing: [ErrNotRegistered] until a registration of this start was
// accepted, [ErrWaiting] while the worker waits for approval, and [ErrRefused] after a registration was refused. It
// returns nil if the worker takes part.
//
// A storage node accepts no block before it is ready, because the masters judge it by the height that it registers
// with. If it accepted blocks before, from a leader that knew its previous start, they would judge it by a height whose
// next block they may no longer have.
func (r *Registrar) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.refused:
		return ErrRefused
	case r.waiting:
		return ErrWaiting
	case !r.registered:
		return ErrNotRegistered
	}
	return nil
}

// Run keeps the worker registered until ctx ends. Once the masters have refused the worker it does not register any
// more. An error means that the role must stop.
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
		case <-time.After(r.renewal()):
		}
	}
}

// renewal returns the time until the next registration. The level of the group, which the first ones may wait for, is
// asked for more often.
func (r *Registrar) renewal() time.Duration {
	if !r.Proofs() {
		return longestPause
	}
	return renewEvery
}

// endRefused ends what the worker does. The process keeps running, and /readyz says why it is refused.
func (r *Registrar) endRefused(ctx context.Context, why error) error {
	r.mu.Lock()
	r.refused = true
	r.mu.Unlock()
	r.cfg.Logger.Error("refused by the masters; nothing is done or served any more", "id", r.identity.ID, "data",
		r.cfg.Dir, "error", why)
	if r.cfg.Refused != nil {
		if err := r.cfg.Refused(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// register asks the masters in turn until one has registered the worker.
func (r *Registrar) register(ctx context.Context) error {
	pause := firstPause
	for {
		for _, master := range r.cfg.Masters {
			err := r.try(ctx, master)
			if err == nil || ctx.Err() != nil || final(err) {
				return err
			}
			r.warnLacking(err)
			r.report(master, err, pause == longestPause)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// report logs why a master did not register the worker, as a warning when the reason changes. That no master answers,
// or that there is no leader, is normal while a cluster starts: it is a warning once it has lasted for a while.
func (r *Registrar) report(master string, err error, lasts bool) {
	reason := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		reason = strings.ReplaceAll(reason, op.Source.String(), "") // each connection has another one
	}
	usual := errors.Is(err, wire.ErrNoAnswer) || errors.Is(err, wire.ErrNoLeader) ||
		errors.Is(err, wire.ErrUnavailable)
	elsewhere := errors.Is(err, wire.ErrFenced) || durable.CanRetry(err) // warned of by others
	if r.reported[master] == reason || usual && !lasts || elsewhere {
		r.cfg.Logger.Debug("not registered yet", "master", master, "error", err)
		return
	}
	r.reported[master] = reason
	r.cfg.Logger.Warn("not registered", "master", master, "error", err)
}

var errSave = errors.New("a file of the data folder cannot be written")

// final reports whether another master would answer the same. A file that cannot be written because a resource is
// missing is tried again.
func final(err error) bool {
	if durable.CanRetry(err) {
		return false
	}
	return errors.Is(err, ErrOtherCluster) || errors.Is(err, wire.ErrRemoved) || errors.Is(err, ErrRefused) ||
		errors.Is(err, wire.ErrFailedSync) || errors.Is(err, errSave)
}

// warnLacking logs that a resource was missing, unless the try before lacked one too.
func (r *Registrar) warnLacking(err error) {
	lacks := durable.CanRetry(err)
	if lacks && !r.lacks {
		r.cfg.Logger.Warn("not registered: a file of the data folder cannot be written now; it is tried again",
			"data", r.cfg.Dir, "error", err)
	}
	r.lacks = lacks
}

// try registers with one master. If the masters have another start of this worker than the one it named, and the
// folder's list has that start, it names that start and tries again.
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
	id := r.identity
	if r.unsaved != nil {
		id = *r.unsaved
	}
	registration := wire.Registration{
		Role: r.cfg.Role, ID: id.ID, AccessToken: id.AccessToken, URL: r.cfg.URL, MasterToken: id.MasterToken,
		Boot: r.cfg.Starts.Own(), Previous: previous, Lists: true, Level: wire.ProtocolLevel,
		Kernel: r.cfg.Kernel, AfterFailedSync: r.cfg.AfterFailedSync, Group: id.Group,
	}
	highest, _ := r.cfg.Fence.Highest()
	registration.Seen = highest.String()
	if r.cfg.Chain != nil {
		registration.Height, registration.Hash, registration.Unclean = r.cfg.Chain()
	}
	answer, err := r.cfg.Register(ctx, master, registration)
	if fenced, ok := errors.AsType[*wire.FencedError](err); ok {
		r.warnTooLow(master, fenced.Highest)
	}
	if errors.Is(err, wire.ErrOtherGroup) {
		return fmt.Errorf("%w: %s: %w", ErrOtherCluster, r.cfg.Dir, err)
	}
	if err != nil {
		return err
	}
	if id.Group != "" && answer.Group != id.Group {
		return fmt.Errorf("%w: %s is of cluster %s, the masters are of %s; choose another --data folder or other "+
			"--masters", ErrOtherCluster, r.cfg.Dir, id.Group, answer.Group)
	}
	// The id is saved before the fence checks the order: if the fence refuses the order, the next try must not get
	// another id.
	proofs := id.Proofs || answer.Level >= wire.LevelProofs
	same := r.unsaved == nil && answer.ID == id.ID && answer.AccessToken == id.AccessToken &&
		answer.Group == id.Group && proofs == id.Proofs
	id.Proofs = proofs
	id.ID, id.AccessToken, id.Group = answer.ID, answer.AccessToken, answer.Group
	if !same {
		r.unsaved = &id // the next try must not get another id, also if the disk is full now
		if err := id.Save(r.cfg.Dir); err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
		r.mu.Lock()
		r.identity = id
		r.mu.Unlock()
		r.unsaved = nil
	}
	if answer.Waiting {
		r.wait(master, !same)
		return nil
	}
	// The folder may be an older copy, and so may its fence. No order of an earlier leader than the one that
	// registered the worker must pass.
	if answer.Order != "" {
		order, err := wire.ParseOrder(answer.Order)
		if err != nil {
			return fmt.Errorf("the answer of %s: %w", master, err)
		}
		if err := r.cfg.Fence.Pass(order); errors.Is(err, wire.ErrFenced) {
			r.warnTooLow(master, order)
			return fmt.Errorf("the answer of %s is from a deposed leader: %w", master, err)
		} else if err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
	}
	if err := r.followTLS(answer); err != nil {
		return fmt.Errorf("%w: %w", errSave, err)
	}
	if !same || len(r.reported) > 0 || errors.Is(r.Ready(), ErrWaiting) {
		clear(r.reported)
		r.cfg.Logger.Info("registered", "id", id.ID, "master", master)
	}
	if err := r.cfg.Starts.Confirm(); err != nil {
		return fmt.Errorf("%w: %w", errSave, err)
	}
	r.tooLow = 0
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registered, r.waiting = true, false
	return nil
}

// followTLS takes the step of the move to TLS from an answer of a leader whose order the fence has passed.
func (r *Registrar) followTLS(answer wire.Registered) error {
	if answer.Level < wire.LevelTLSSteps || answer.Order == "" || r.cfg.TLS == nil {
		return nil
	}
	order, err := wire.ParseOrder(answer.Order)
	if err != nil {
		return err
	}
	return r.cfg.TLS(order.Epoch, answer.TLS)
}

// wait notes that the worker waits for the approval of an administrator. It is logged at once, and again for another
// id.
func (r *Registrar) wait(master string, another bool) {
	r.mu.Lock()
	before := r.waiting
	r.registered, r.waiting = false, true
	r.mu.Unlock()
	if before && !another {
		return
	}
	clear(r.reported)
	id := r.identity.ID
	r.cfg.Logger.Warn("this node waits for the approval of an administrator, and gets no work until then", "id", id,
		"url", r.cfg.URL, "master", master, "approve with", "chainstore "+r.cfg.Role+" approve "+id)
}

// warnTooLow counts an answer whose order is below the fence. One or two are normal, since a new leader may have been
// elected meanwhile. The third in a row is logged, and none after it.
func (r *Registrar) warnTooLow(master string, order wire.Order) {
	if r.tooLow++; r.tooLow != 3 {
		return
	}
	highest, _ := r.cfg.Fence.Highest()
	r.cfg.Logger.Warn("not registered: the folder has had orders of a later leader than that of the masters; the "+
		"folder is of another cluster, or the masters are of a group that was recovered elsewhere. Give --masters of "+
		"the recovered group, or start with an empty folder. Remove the file fence from the folder only if no master "+
		"of the later epoch runs, and start again",
		"data", r.cfg.Dir, "fence epoch", highest.Epoch, "fence term", highest.Term, "master", master,
		"masters' epoch", order.Epoch, "masters' term", order.Term)
}
