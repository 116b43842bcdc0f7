package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// base is what storage nodes and miners have in common.
type base struct {
	listener  net.Listener
	url       string
	identity  worker.Identity
	fence     *worker.Fence
	transport *noderpc.Transport
	registrar *worker.Registrar
	failed    chan error // an error of a handler that must stop the role
	cluster   string     // the cluster token
	answered  atomic.Pointer[time.Time]
	log       hclog.Logger
}

// kind is the difference between a storage node and a miner for [openBase].
type kind struct {
	role string
	open func() error // locks and opens the data folder
	// chain returns the end of the node's chain, and whether its last start ended uncleanly; nil for a miner.
	chain func() (uint64, chain.Hash, bool)
	abort func() error // ends the work of a node that the masters have refused
}

// openBase opens what workers have in common. It takes the port before it opens the folder, so that a port in use
// leaves the disk unchanged.
func openBase(cfg WorkerConfig, k kind) (b *base, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	b = &base{
		transport: noderpc.NewTransport(), failed: make(chan error, 1), cluster: cfg.ClusterToken, log: cfg.Logger,
	}
	if b.listener, b.url, err = listen(cfg.HTTP, cfg.Advertise, cfg.Insecure); err != nil {
		return nil, err
	}
	listener := b.listener // b is nil once an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	if err := k.open(); err != nil {
		return nil, err
	}
	starts, damagedStarts, err := worker.OpenStarts(cfg.Data)
	if err != nil {
		return nil, err
	}
	var damaged error
	if b.identity, damaged, err = worker.LoadIdentity(cfg.Data); err != nil {
		return nil, err
	}
	if damaged = errors.Join(damagedStarts, damaged); damaged != nil {
		cfg.Logger.Error("this node registers as a new one, in place of the one at its address", "because", damaged)
	}
	if b.fence, err = worker.OpenFence(cfg.Data); err != nil {
		return nil, err
	}
	masters := noderpc.NewMasters(b.transport, cfg.ClusterToken)
	b.registrar = worker.NewRegistrar(worker.RegistrarConfig{
		Dir: cfg.Data, Identity: b.identity, Starts: starts, Role: k.role, URL: b.url, Masters: cfg.Masters,
		Fence: b.fence, Chain: k.chain, Register: b.register(cfg.Data, masters), Refused: k.abort, Logger: cfg.Logger,
	})
	return b, nil
}

// register returns the function that registers with a master. It records when a leader answered, and adds to the error
// of a removed worker how to register it again.
func (b *base) register(
	dir string, masters *noderpc.Masters,
) func(context.Context, string, wire.Registration) (wire.Registered, error) {
	return func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error) {
		answer, err := masters.Register(ctx, master, r, false)
		removed := errors.Is(err, wire.ErrRemoved)
		// Only a leader gives these answers. A master that knows no leader answers with no-leader.
		if err == nil || removed || errors.Is(err, wire.ErrOtherStart) {
			now := time.Now()
			b.answered.Store(&now)
		}
		if removed {
			err = fmt.Errorf("%w: to register it as a new node, stop it and remove %s",
				err, filepath.Join(dir, "identity.json"))
		}
		return answer, err
	}
}

// lastAnswer returns when a leader last answered a registration, zero if none has since the start.
func (b *base) lastAnswer() time.Time {
	if at := b.answered.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// fail reports an error that must stop the role. The first one counts.
func (b *base) fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

// run serves and keeps the worker registered until ctx ends or something fails.
func (b *base) run(ctx context.Context, h http.Handler, broken <-chan error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return httpapi.Serve(ctx, b.listener, h, b.log) })
	g.Go(func() error { return b.registrar.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-b.failed:
			return err
		case err := <-broken:
			return err
		}
	})
	defer b.transport.CloseIdle()
	return g.Wait()
}
