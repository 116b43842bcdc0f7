package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/workerapi"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// base is what every worker has.
type base struct {
	listener  net.Listener
	url       string
	identity  worker.Identity
	fence     *worker.Fence
	registrar *worker.Registrar
	failed    chan error                // a failure under a handler, which the role must stop on
	cluster   string                    // the cluster token
	answered  atomic.Pointer[time.Time] // when a leader last answered a registration, nil where none has
	log       hclog.Logger
}

// openBase takes the port first, so that a port in use changes nothing on disk. The folder must be locked by the caller's
// store already, which is why it comes as a function.
func openBase(
	cfg WorkerConfig, role string, open func() error, at func() (uint64, chain.Hash, bool), refused func() error,
) (b *base, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	b = &base{failed: make(chan error, 1), cluster: cfg.ClusterToken, log: cfg.Logger}
	if b.listener, b.url, err = listen(cfg.HTTP, cfg.Advertise, cfg.Insecure); err != nil {
		return nil, err
	}
	listener := b.listener // b is nil where an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	if err := open(); err != nil {
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
		cfg.Logger.Error("this node registers as a new one, in the place of the one at its address", "because", damaged)
	}
	if b.fence, err = worker.OpenFence(cfg.Data); err != nil {
		return nil, err
	}
	masters := noderpc.NewMasters(noderpc.NewTransport(), cfg.ClusterToken)
	b.registrar = worker.NewRegistrar(worker.RegistrarConfig{
		Dir: cfg.Data, Identity: b.identity, Starts: starts, Role: role, URL: b.url, Masters: cfg.Masters,
		Fence: b.fence, Chain: at, Register: b.register(cfg.Data, masters), Refused: refused, Logger: cfg.Logger,
	})
	return b, nil
}

// register registers with a master. It says what to do where the cluster does not take this worker any more, and which
// start of it the masters have where that is another one. It notes when a leader has answered.
func (b *base) register(
	dir string, masters *noderpc.Masters,
) func(context.Context, string, wire.Registration) (wire.Registered, error) {
	return func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error) {
		answer, err := masters.Register(ctx, master, r)
		var other *wire.OtherStartError
		removed := errors.Is(err, wire.ErrRemoved)
		// Only a leader answers these: a master that knows of none answers with no-leader.
		if err == nil || errors.As(err, &other) || removed {
			now := time.Now()
			b.answered.Store(&now)
		}
		if removed {
			err = fmt.Errorf("%w: to register it as a new node, stop it and remove %s", err, filepath.Join(dir, "identity.json"))
		}
		return answer, err
	}
}

// lastAnswer is when a leader last answered a registration, zero where none has since the start.
func (b *base) lastAnswer() time.Time {
	if at := b.answered.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// fail reports a failure that the role must stop on; the first counts.
func (b *base) fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

// run serves and keeps registered until ctx ends or something fails.
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
	return g.Wait()
}

// Storage is a storage node that is open and not yet running.
type Storage struct {
	*base
	node  *storagenode.Node
	quiet time.Duration // see workerapi.StorageConfig
}

// OpenStorage takes the port and the folder of a storage node.
func OpenStorage(cfg WorkerConfig) (*Storage, error) {
	s := &Storage{}
	var err error
	s.base, err = openBase(cfg, "storage", func() (err error) {
		s.node, err = storagenode.Open(storagenode.Config{
			Dir: cfg.Data, SegmentBytes: cfg.SegmentBytes, Transfer: transfer(noderpc.NewWorkers(noderpc.NewTransport())), Logger: cfg.Logger,
		})
		return err
	}, func() (uint64, chain.Hash, bool) {
		status := s.node.Status()
		return status.Height, status.Hash, s.node.Unclean()
	}, func() error { return s.node.Abort() })
	if err != nil && s.node != nil {
		err = errors.Join(err, s.node.Close())
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// transfer is how a storage node's stream reaches another node.
func transfer(workers *noderpc.Workers) func(ctx context.Context, to, ticket string, write func(io.Writer) error) error {
	return func(ctx context.Context, to, ticket string, write func(io.Writer) error) error {
		err := workers.Transfer(ctx, to, ticket, write)
		if errors.Is(err, wire.ErrBadBlock) {
			return fmt.Errorf("%w: %w", storagenode.ErrRefused, err)
		}
		return err
	}
}

// Run serves until ctx ends or the disk fails, and closes the node.
func (s *Storage) Run(ctx context.Context) error {
	h := workerapi.NewStorage(workerapi.StorageConfig{
		Node: s.node, Fence: s.fence, ID: s.registrar.ID, Ready: s.registrar.Ready,
		Group: s.registrar.Group, MasterToken: s.identity.MasterToken, ClusterToken: s.cluster, Quiet: s.quiet,
		Answered: s.lastAnswer, Fail: s.fail, Logger: s.log,
	})
	return errors.Join(s.run(ctx, h, s.node.Failed()), s.node.Close())
}

// Close gives back what OpenStorage took, for a node that is not run.
func (s *Storage) Close() error { return errors.Join(s.listener.Close(), s.node.Close()) }

// Miner is a miner that is open and not yet running.
type Miner struct {
	*base
	node    *minernode.Node
	lock    *durable.Lock
	threads int
}

// OpenMiner takes the port and the folder of a miner.
func OpenMiner(cfg WorkerConfig) (*Miner, error) {
	if cfg.Threads < 1 {
		return nil, fmt.Errorf("--threads %d: a miner needs at least one", cfg.Threads)
	}
	m := &Miner{threads: cfg.Threads}
	var err error
	m.base, err = openBase(cfg, "miner", func() (err error) {
		if err := durable.MkdirAll(cfg.Data); err != nil {
			return err
		}
		m.lock, err = durable.LockDir(cfg.Data)
		return err
	}, nil, func() error { return m.node.Close() })
	if err != nil && m.lock != nil {
		err = errors.Join(err, m.lock.Close())
	}
	if err != nil {
		return nil, err
	}
	m.node = minernode.New(minernode.Config{Threads: cfg.Threads, Logger: cfg.Logger})
	return m, nil
}

// Run serves until ctx ends, and closes the node.
func (m *Miner) Run(ctx context.Context) error {
	h := workerapi.NewMiner(workerapi.MinerConfig{
		Node: m.node, Fence: m.fence, ID: m.registrar.ID, Ready: m.registrar.Ready, Threads: m.threads,
		MasterToken: m.identity.MasterToken, Fail: m.fail, Logger: m.log,
	})
	err := m.run(ctx, h, nil)
	return errors.Join(err, m.node.Close(), m.lock.Close())
}

// Close gives back what OpenMiner took, for a miner that is not run.
func (m *Miner) Close() error {
	return errors.Join(m.listener.Close(), m.node.Close(), m.lock.Close())
}
