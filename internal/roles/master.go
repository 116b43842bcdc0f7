package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// Master is a master that is open and not yet running.
type Master struct {
	cfg      MasterConfig
	listener net.Listener
	url      string
	store    *raftstore.Store
	node     *masternode.Node
	masters  masters
	handler  http.Handler
}

// OpenMaster takes the ports and the folder of a master.
func OpenMaster(cfg MasterConfig) (m *Master, err error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	key, err := readLogKey(cfg.CheckpointKey)
	if err != nil {
		return nil, err
	}
	witnesses, err := signing.ParseWitnesses(cfg.Witnesses, cfg.Settings.WitnessQuorum)
	if err != nil {
		return nil, err
	}
	m = &Master{cfg: cfg}
	if m.listener, m.url, err = listen(cfg.HTTP, cfg.Advertise, cfg.Insecure); err != nil {
		return nil, err
	}
	listener := m.listener // m is nil where an error is returned
	defer func() {
		if err != nil {
			err = errors.Join(err, listener.Close())
		}
	}()
	for _, urls := range [][]string{cfg.Peers, cfg.Join} {
		for i, url := range urls {
			urls[i] = strings.TrimRight(url, "/")
		}
	}
	if len(cfg.Peers) > 0 && !slices.Contains(cfg.Peers, m.url) {
		return nil, fmt.Errorf("--peers does not list this master: it is reached at %s (set --advertise, or correct the list)", m.url)
	}
	m.store, err = raftstore.Open(raftstore.Config{
		Dir: cfg.Data, Bind: cfg.Raft, Advertise: cfg.RaftAdvertise, URL: m.url, ClusterToken: cfg.ClusterToken, Timeout: cfg.Timeout,
		WriteTimeout: cfg.DiskTimeout, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	if err := cfg.checkRehearsal(m.store.Rehearsal()); err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	transport := noderpc.NewTransport()
	kept := noderpc.NewMasters(transport, cfg.ClusterToken)
	m.masters = masters{Masters: kept, fresh: kept.Fresh(), forwarding: kept.Forwarding()}
	m.node, err = masternode.New(masternode.Config{
		Member: m.store.Member(), Boot: m.store.Boot(),
		Peers: slices.DeleteFunc(slices.Clone(cfg.Peers), func(url string) bool { return url == m.url }), Join: cfg.Join,
		Ledger: m.store, Membership: m.store, Masters: m.masters, Workers: noderpc.NewWorkers(transport),
		Settings: cfg.Settings, Limits: cfg.Limits, MaxAge: cfg.MaxAge,
		Log:       signing.LogConfig{Secret: cfg.ClusterToken, Origin: cfg.Origin, Key: key},
		Witnesses: witnesses, WitnessCalls: noderpc.NewWitnesses(),
		CheckInterval: cfg.CheckInterval, CheckRate: cfg.CheckRate, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	m.handler = masterapi.New(masterapi.Config{
		Node: m.node, Adopt: func(a wire.Adoption) error { return m.store.Adopt(a.Group, a.Epoch, a.Member, a.Founding...) },
		Refused: m.node.Refused, ClusterToken: cfg.ClusterToken, AdminToken: cfg.AdminToken,
		Transport: transport, Options: cfg.Options, Logger: cfg.Logger,
	})
	return m, nil
}

// Run serves until ctx ends or the store fails. The HTTP server drains while the duties still run, so that appends that are under
// way end well; then the duties end, and last the store, which hands its leadership over.
func (m *Master) Run(ctx context.Context) error {
	duties, endDuties := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endDuties(nil)
	ctx, stopServing := context.WithCancelCause(ctx)
	defer stopServing(nil)
	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error { return httpapi.Serve(ctx, m.listener, m.handler, m.cfg.Logger) })
	serving.Go(func() error { return m.bootstrap(ctx) })
	serving.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-m.store.Failed():
			// The store first: until its connections are closed the others believe that this master is well.
			return errors.Join(fmt.Errorf("%w (this master stops; see docs/operations.md for the way back)", err), m.store.Close())
		}
	})
	var ended errgroup.Group
	ended.Go(func() error {
		err := m.node.Run(duties)
		stopServing(err)
		return err
	})
	err := serving.Wait()
	endDuties(errors.New("shutdown"))
	return errors.Join(err, ended.Wait(), m.store.Close())
}

// Close gives back what OpenMaster took, for a master that is not run.
func (m *Master) Close() error { return errors.Join(m.listener.Close(), m.store.Close()) }

// masters are the calls on other masters, with fresh connections where one is asked for, and with the mark of what is sent on.
type masters struct {
	*noderpc.Masters
	fresh, forwarding *noderpc.Masters
}

// Announce implements masternode.Masters.
func (m masters) Announce(ctx context.Context, url string, member wire.Member, forwarded bool) (wire.Announced, error) {
	calls := m.Masters
	if forwarded {
		calls = m.forwarding
	}
	return calls.Announce(ctx, url, member)
}

// Register implements masternode.Masters.
func (m masters) Register(ctx context.Context, url string, r wire.Registration) (wire.Registered, error) {
	return m.forwarding.Register(ctx, url, r)
}

// Submit implements masternode.Masters.
func (m masters) Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error) {
	calls := m.Masters
	if fresh {
		calls = m.fresh
	}
	return calls.Submit(ctx, url, submission)
}
