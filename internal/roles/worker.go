package roles

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/diskspace"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/wire"
)

// Worker is a storage node or a miner that is open and not yet running.
type Worker struct {
	cfg       WorkerConfig
	node      workerNode
	listener  *httpapi.Listener
	syncs     failedSyncs
	url       string
	identity  worker.Identity
	store     *secrets.Store
	secrets   nodeauth.Secrets
	process   nodeauth.Process
	older     bool // nodes of the cluster may send and need tokens
	fence     *worker.Fence
	certs     *certs.Store       // nil without TLS
	transport *noderpc.Transport // to masters
	toOthers  *noderpc.Transport // to storage nodes
	registrar *worker.Registrar
	failed    chan error // an error of a handler that must stop the role
	space     *diskspace.Watch
	answered  atomic.Pointer[time.Time]
	quiet     time.Duration // see workerapi.StorageConfig
}

// workerNode is the part in which storage nodes and miners differ.
type workerNode struct {
	// chain returns the end of the node's chain, and whether its last start ended uncleanly; nil for a miner.
	chain   func() (uint64, chain.Hash, bool)
	abort   func() error // ends the work of a node that the masters have refused
	failed  <-chan error // an error of the node that must stop the role; nil for none
	handler func() http.Handler
	close   func() error // closes the node and unlocks its folder
}

// openWorker opens a worker, and its node with open. It opens the port before the folder, so that a port in
// use leaves the disk unchanged.
func openWorker(cfg WorkerConfig, role string, open func(*Worker) (workerNode, error)) (_ *Worker, err error) {
	if err := cfg.openMode(); err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.mode.OnChange(logStep(cfg.Logger))
	w := &Worker{cfg: cfg, failed: make(chan error, 1)}
	if w.store, err = cfg.openSecrets(workerSecrets(role)); err != nil {
		return nil, err
	}
	if w.certs, err = cfg.openCerts(role); err != nil {
		return nil, err
	}
	w.transport = noderpc.NewSecureTransport(w.certs, cfg.mode, certs.Master)
	w.toOthers = noderpc.NewSecureTransport(w.certs, cfg.mode, certs.Storage)
	if w.listener, w.url, err = cfg.listen(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(w.syncs.note(err), w.reportFailedSync(), w.Close())
		}
	}()
	if err := reachedAt(w.certs, w.url); err != nil {
		return nil, err
	}
	w.secrets, w.process = w.store.All(), nodeauth.NewProcess()
	older := func() bool { return w.older && (w.registrar == nil || !w.registrar.Proofs()) }
	for _, t := range []*noderpc.Transport{w.transport, w.toOthers} {
		t.Identify(w.process, func() string { return role + " " + w.url }, older)
		t.WarnBearer(warnBearer(cfg.Logger))
	}
	masters := noderpc.NewMasters(w.transport, w.secrets.For(role))
	w.syncs.masters, w.syncs.log = masters, cfg.Logger
	if w.syncs.mark, err = durable.OpenSyncMark(cfg.Data, cfg.AfterFailedSync); err != nil {
		return nil, err
	}
	w.space = diskspace.New(cfg.Data, cfg.limits(), cfg.Logger)
	used, err := folder.Dir(cfg.Data).IsUsed()
	used = used || err != nil // the node says why it cannot be read
	missing, err := worker.MissingFiles(cfg.Data, role == "storage", used)
	if err != nil {
		return nil, err
	}
	if w.node, err = open(w); err != nil {
		return nil, err
	}
	if err := durable.RemoveUnfinished(cfg.Data); err != nil {
		cfg.Logger.Warn("temporary files stay in the data folder", "error", err)
	}
	for _, m := range missing {
		cfg.Logger.Warn("a file is missing in the data folder", "data", cfg.Data, "file", m.Name, "meaning", m.Meaning)
	}
	starts, damagedStarts, err := worker.OpenStarts(cfg.Data)
	if err != nil {
		return nil, err
	}
	var damaged error
	if w.identity, damaged, err = worker.LoadIdentity(cfg.Data); err != nil {
		return nil, err
	}
	w.older = !w.identity.Proofs && (cfg.OlderNodes || w.identity.Group != "")
	if damaged = errors.Join(damagedStarts, damaged); damaged != nil {
		cfg.Logger.Error("this node registers as a new one, in place of the one at its address", "because", damaged)
	}
	if w.fence, err = worker.OpenFence(cfg.Data); err != nil {
		return nil, err
	}
	w.registrar = worker.NewRegistrar(worker.RegistrarConfig{
		Dir: cfg.Data, Identity: w.identity, Starts: starts, Role: role, URL: w.url, Masters: cfg.Masters,
		Fence: w.fence, Chain: w.node.chain, Register: w.register(cfg.Data, masters), Refused: w.node.abort,
		Kernel: w.syncs.mark.Kernel(), AfterFailedSync: cfg.AfterFailedSync, TLS: followLeader(cfg.mode),
		Logger: cfg.Logger,
	})
	return w, nil
}

// reportFailedSync reports a failed sync to the masters if one was noted.
func (w *Worker) reportFailedSync() error {
	return w.syncs.report(func() (failed wire.FailedSync, urls []string) {
		identity, err := worker.ReadIdentity(w.cfg.Data)
		if err != nil {
			return failed, nil
		}
		return wire.FailedSync{ID: identity.ID, Group: identity.Group, AccessToken: identity.AccessToken}, w.cfg.Masters
	})
}

// Close releases the port and the folder of a worker that was not run.
func (w *Worker) Close() error {
	err := w.listener.Close()
	if w.node.close != nil {
		err = errors.Join(err, w.node.close())
	}
	return errors.Join(err, w.syncs.mark.Close())
}

// register returns the function that registers with a master. It records when a leader answered, and adds to the error
// of a removed worker how to register it again.
func (w *Worker) register(
	dir string, masters *noderpc.Masters,
) func(context.Context, string, wire.Registration) (wire.Registered, error) {
	return func(ctx context.Context, master string, r wire.Registration) (wire.Registered, error) {
		answer, err := masters.Register(ctx, master, r, false)
		removed := errors.Is(err, wire.ErrRemoved)
		// Only a leader gives these answers. A master that knows no leader answers with no-leader.
		if err == nil || removed || errors.Is(err, wire.ErrOtherStart) {
			now := time.Now()
			w.answered.Store(&now)
		}
		err = explainFailedSync(dir, err)
		if removed {
			err = fmt.Errorf("%w: to register it as a new node, stop it and remove %s",
				err, filepath.Join(dir, "identity.json"))
		}
		return answer, err
	}
}

// takesBearers reports whether masters may be of a version that sends the master token itself. A worker of a new folder
// takes none: its registration has just shown that token to all who listen.
func (w *Worker) takesBearers() bool { return w.older && !w.registrar.Proofs() }

// lastAnswer returns when a leader last answered a registration, zero if none has since the start.
func (w *Worker) lastAnswer() time.Time {
	if at := w.answered.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// fail reports an error that must stop the role. The first one counts.
func (w *Worker) fail(err error) {
	select {
	case w.failed <- err:
	default:
	}
}

// Run serves and keeps the worker registered until ctx ends or something fails, and closes the node.
func (w *Worker) Run(ctx context.Context) error {
	handler := w.node.handler()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return nodeServer.run(ctx, w.listener, w.certs, w.cfg.port(w.cfg.HTTP), handler, w.cfg.Logger)
	})
	g.Go(func() error { return w.registrar.Run(ctx) })
	g.Go(func() error { return w.space.Run(ctx) })
	g.Go(func() error { return w.store.Watch(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.failed:
			return err
		case err := <-w.node.failed:
			return err
		}
	})
	err := g.Wait()
	err = w.syncs.note(errors.Join(err, w.node.close()))
	err = errors.Join(err, w.reportFailedSync())
	w.transport.CloseIdle()
	w.toOthers.CloseIdle()
	return errors.Join(err, w.syncs.mark.Close())
}
