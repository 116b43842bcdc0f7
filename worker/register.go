package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
)

var (
	// ErrOtherCluster: the data folder belongs to another cluster than the one that the masters are of.
	ErrOtherCluster = errors.New("this data folder belongs to another cluster")
	// ErrRemoved: the worker was taken out of the cluster for good.
	ErrRemoved = errors.New("this node was taken out of the cluster for good")
	// ErrNotRegistered: no master has taken the registration of this start of the worker yet.
	ErrNotRegistered = errors.New("this node is not registered yet since its start")
)

// RegistrarConfig is what a Registrar is made of.
type RegistrarConfig struct {
	Dir      string // data folder, where the identity is kept
	Identity Identity
	Role     string   // "storage" or "miner"
	URL      string   // where masters reach the worker
	Masters  []string // URLs; any of them will do
	Fence    *Fence
	// Chain tells up to where a storage node has the chain, and whether the start before this one ended uncleanly; nil for a miner.
	Chain func() (height uint64, hash chain.Hash, unclean bool)
	// Register calls one master. The error wraps ErrRemoved where the cluster does not take the worker any more.
	Register func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error)
	Logger   hclog.Logger
}

// Registrar keeps a worker registered with the masters: at its start through whichever master answers, again when a new leader
// gives its first order, and now and then in between. A registration that says nothing new costs the masters nothing.
type Registrar struct {
	cfg  RegistrarConfig
	boot string

	mu         sync.Mutex // guards all below
	identity   Identity
	registered bool // since the start
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
	return &Registrar{cfg: cfg, boot: rand.Text(), identity: cfg.Identity}
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

// Registered reports whether a registration of this start was answered. Until then a storage node takes no block: the masters judge it
// by the height that it registers with, and one that had gone on meanwhile, on the orders of a leader that knew the node from before,
// would be judged by a height that the masters no longer hold the next block of.
func (r *Registrar) Registered() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registered
}

// Run registers, and again whenever there is cause, until ctx ends. An error means that the role must stop.
func (r *Registrar) Run(ctx context.Context) error {
	for {
		_, newLeader := r.cfg.Fence.Highest()
		if err := r.register(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
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

// register asks one master after the other until one has registered the worker.
func (r *Registrar) register(ctx context.Context) error {
	pause := firstPause
	for {
		for _, master := range r.cfg.Masters {
			err := r.try(ctx, master)
			if err == nil || ctx.Err() != nil || errors.Is(err, ErrOtherCluster) || errors.Is(err, ErrRemoved) || errors.Is(err, errSave) {
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

var errSave = errors.New("the identity cannot be written down")

func (r *Registrar) try(ctx context.Context, master string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	r.mu.Lock()
	id := r.identity
	r.mu.Unlock()
	registration := wire.Registration{
		Role: r.cfg.Role, ID: id.ID, AccessToken: id.AccessToken, URL: r.cfg.URL, MasterToken: id.MasterToken, Boot: r.boot,
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
	same := answer.ID == id.ID && answer.AccessToken == id.AccessToken && answer.Group == id.Group
	id.ID, id.AccessToken, id.Group = answer.ID, answer.AccessToken, answer.Group
	if !same {
		if err := id.Save(r.cfg.Dir); err != nil {
			return fmt.Errorf("%w: %w", errSave, err)
		}
		r.cfg.Logger.Info("registered", "id", id.ID, "master", master)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.identity, r.registered = id, true
	return nil
}
