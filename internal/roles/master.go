package roles

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/httpapi/masterapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/diskspace"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// Master is a master that is open and not yet running.
type Master struct {
	cfg       MasterConfig
	listener  *httpapi.Listener
	syncs     failedSyncs
	id        string // member id
	older     bool   // the folder is of a group whose nodes may send the cluster token
	url       string
	space     *diskspace.Watch
	store     *raftstore.Store
	secrets   *secrets.Store
	certs     *certs.Store       // nil without TLS
	transport *noderpc.Transport // to masters
	toWorkers *noderpc.Transport
	masters   *noderpc.Masters
	node      *masternode.Node
	issuer    *oidc.Issuer // nil without --oidc-issuer
	handler   http.Handler
}

// OpenMaster opens the ports and the folder of a master.
func OpenMaster(cfg MasterConfig) (_ *Master, err error) {
	if err := cfg.openMode(); err != nil {
		return nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	own, err := cfg.openSecrets(secrets.Names)
	if err != nil {
		return nil, err
	}
	for _, name := range secrets.Names {
		if own.Get(name).Matches(cfg.AdminToken) {
			return nil, errors.New("the admin token and the secrets of nodes must differ, the cluster token among them")
		}
	}
	key, err := readLogKey(cfg.CheckpointKey)
	if err != nil {
		return nil, err
	}
	witnesses, err := signing.ParseWitnesses(cfg.Witnesses, cfg.Settings.WitnessQuorum)
	if err != nil {
		return nil, err
	}
	cfg.Peers, cfg.Join = trimmed(cfg.Peers), trimmed(cfg.Join)
	m := &Master{cfg: cfg, secrets: own}
	if m.certs, err = cfg.openCerts(certs.Master); err != nil {
		return nil, err
	}
	m.transport = noderpc.NewSecureTransport(m.certs, cfg.mode, certs.Master)
	m.toWorkers = noderpc.NewSecureTransport(m.certs, cfg.mode, certs.Storage, certs.Miner)
	if m.listener, m.url, err = cfg.listen(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(m.syncs.note(err), m.reportFailedSync(), m.Close())
		}
	}()
	if m.certs != nil {
		cfg.RaftAdvertise = cmp.Or(cfg.RaftAdvertise, named(cfg.Raft))
	}
	if err := reachedAt(m.certs, m.url, raftReached(&cfg)...); err != nil {
		return nil, err
	}
	if m.certs != nil && cfg.mode.Step() != wire.TLSByFlags {
		cfg.Peers, cfg.Join = cfg.mode.Step().URLs(cfg.Peers), cfg.mode.Step().URLs(cfg.Join)
	}
	if len(cfg.Peers) > 0 && !slices.Contains(cfg.Peers, m.url) {
		return nil, fmt.Errorf("--peers does not list this master at %s: set --advertise, or correct the list",
			m.url)
	}
	credentials := own.All()
	self := nodeauth.NewProcess()
	for _, t := range []*noderpc.Transport{m.transport, m.toWorkers} {
		t.Identify(self, func() string { return "master " + m.url }, m.mayBeOlder)
		t.WarnBearer(warnBearer(cfg.Logger))
	}
	m.masters = noderpc.NewMasters(m.transport, credentials.For(nodeauth.Masters))
	m.syncs.masters, m.syncs.log = m.masters, cfg.Logger
	if err := checkPort(cfg.Raft); err != nil {
		return nil, err
	}
	if m.syncs.mark, err = durable.OpenSyncMark(cfg.Data, cfg.AfterFailedSync); err != nil {
		return nil, err
	}
	atRest, err := loadAtRest(cfg.AtRestKeys)
	if err != nil {
		return nil, err
	}
	m.space = diskspace.New(cfg.Data, cfg.limits(), cfg.Logger)
	histograms := histogram.NewMaster()
	var raftTLS transport.TLS
	var certificate func() certs.Report
	var reported func() *wire.Certificate
	if m.certs != nil {
		raftTLS, certificate, reported = m.certs, m.certs.Report, m.certs.Certificate
	}
	m.store, err = raftstore.Open(raftstore.Config{
		TLS: raftTLS, Mode: raftPort{cfg.port(cfg.Raft)},
		Dir: cfg.Data, Bind: cfg.Raft, Advertise: cfg.RaftAdvertise, URL: m.url, Secret: credentials.Masters.Tokens,
		Reserved: m.space.Reserved,
		Timeout:  cfg.Timeout, WriteTimeout: cfg.DiskTimeout, Mark: m.syncs.mark, Logger: cfg.Logger,
		Histograms: histograms, AtRest: atRest,
	})
	if err != nil {
		return nil, err
	}
	if err := cfg.checkRehearsal(m.store.Rehearsal()); err != nil {
		return nil, err
	}
	own.OnChange(m.store.SecretChanged)
	var ticket joining.Key
	if ticket, err = readJoinTicket(cfg.JoinTicketFile); err != nil {
		if m.store.Member().Group == "" {
			return nil, err
		}
		cfg.Logger.Warn("the join ticket is not read; a member of a group needs none", "error", err)
	}
	cfg.mode.OnChange(m.store.ChangeTLS)
	cfg.mode.OnChange(logStep(cfg.Logger))
	m.id = m.store.Member().ID
	// The recorded level counts, and not that of the state, which is of the newest snapshot until there is a leader.
	m.older = m.store.Level() < masterfsm.LevelProofs && (cfg.OlderNodes || m.store.Member().Group != "")
	var issuer func() string
	if cfg.OIDC.Issuer != "" {
		if m.issuer, err = oidc.New(cfg.OIDC, cfg.Logger); err != nil {
			return nil, err
		}
		issuer = m.issuer.Failure
	}
	workers := noderpc.NewWorkers(m.toWorkers, credentials)
	workers.From(func() string { return m.store.Member().Group })
	workers.ToOlder(func() bool { return m.store.Level() < masterfsm.LevelProofs })
	m.node, err = masternode.New(masternode.Config{
		Member: m.store.Member(), Boot: m.store.Boot(), Join: cfg.Join,
		Key: m.store.Key(), Ticket: ticket,
		Peers:   slices.DeleteFunc(slices.Clone(cfg.Peers), func(url string) bool { return url == m.url }),
		Founder: founderOf(cfg.Peers),
		Ledger:  m.store, Membership: m.store, Masters: m.masters, Workers: workers,
		Kernel: m.syncs.mark.Kernel(), AfterFailedSync: cfg.AfterFailedSync,
		ReadCache: cfg.ReadCache, TileCache: cfg.TileCache, Limits: cfg.Limits, Logger: cfg.Logger, Disk: m.space.Disk,
		Flags: cfg.Options.Access(), Issuer: issuer, Certificate: reported, Secrets: own.Report, Histograms: histograms,
		TLS: &retriedMode{Mode: cfg.mode, log: cfg.Logger},
		TLSCalls: tlsCalls{
			masters: m.masters, workers: workers, toMasters: m.transport, toOther: m.toWorkers, store: m.store,
		},
		AtRest: m.store.AtRest,
		Options: leader.Options{
			Settings: cfg.Settings, SettingsGiven: cfg.SettingsGiven,
			Log:       signing.LogConfig{Secret: own.Get(wire.SecretSeal).Tokens, Origin: cfg.Origin, Key: key},
			Witnesses: witnesses, WitnessCalls: noderpc.NewWitnesses(),
			MaxAge: cfg.MaxAge, CheckInterval: cfg.CheckInterval, CheckRate: cfg.CheckRate,
		},
	})
	if err != nil {
		return nil, err
	}
	if cfg.AdminToken == "" {
		cfg.Logger.Info("this master has no --admin-token-file: it takes named admin tokens only")
	}
	m.masters.From(m.node.Caller)
	m.masters.Sign(m.node.Sign)
	m.handler = masterapi.New(masterapi.Config{
		Node: m.node, Refused: m.node.Refused,
		Adopt:   m.store.Adopt,
		Secrets: credentials, Reported: own.Report, Process: self, AdminToken: cfg.AdminToken, Issuer: m.issuer,
		Certificate: certificate, TLS: cfg.port(cfg.HTTP),
		Connections: m.listener.Connections, RaftCut: m.store.RaftCut,
		Profile: func(ctx context.Context, node wire.Worker, q wire.ProfileRequest) ([]byte, error) {
			if node.Token == "" {
				return m.masters.Profile(ctx, node.URL, q)
			}
			return workers.Profile(ctx, node, q)
		},
		Forward: m.transport.As(credentials.For(nodeauth.Masters)), Options: cfg.Options, Logger: cfg.Logger,
	})
	return m, nil
}

// mayBeOlder reports whether other masters may be of a version that needs the cluster token itself. A group that was
// founded, or joined, since the start has no such masters.
func (m *Master) mayBeOlder() bool { return m.older && (m.node == nil || !m.node.RequiresProofs()) }

// raftReached is where the other masters reach the raft port, if that is known before it is open.
func raftReached(cfg *MasterConfig) []certs.Reached {
	host, _, err := net.SplitHostPort(cmp.Or(cfg.RaftAdvertise, cfg.Raft))
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && ip.IsUnspecified() {
		return nil // it is refused when it is opened
	}
	return []certs.Reached{{Host: host, Flag: "--raft-advertise"}}
}

// Run serves until ctx ends or the store fails. The HTTP server drains while the duties still run, so that appends in
// progress complete. Then the duties end, and last the store, which hands over its leadership.
func (m *Master) Run(ctx context.Context) error {
	duties, endDuties := context.WithCancelCause(context.WithoutCancel(ctx))
	defer endDuties(nil)
	ctx, stopServing := context.WithCancelCause(ctx)
	defer stopServing(nil)
	serving, ctx := errgroup.WithContext(ctx)
	serving.Go(func() error {
		return userServer.run(ctx, m.listener, m.certs, m.cfg.port(m.cfg.HTTP), m.handler, m.cfg.Logger)
	})
	serving.Go(func() error { return m.bootstrap(ctx) })
	serving.Go(func() error { return m.space.Run(ctx) })
	serving.Go(func() error { return m.secrets.Watch(ctx) })
	if m.issuer != nil {
		serving.Go(func() error { return m.issuer.Run(ctx) })
	}
	serving.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-m.store.Failed():
			// The store closes first: until its connections are closed the others take this master for healthy.
			return errors.Join(storeFailed(err), m.store.Close())
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
	err = errors.Join(err, ended.Wait())
	err = errors.Join(err, m.store.Close())
	err = withLateFailure(err, m.store.Failed())
	err = m.syncs.note(explainFailedSync(m.cfg.Data, err))
	err = errors.Join(err, m.reportFailedSync())
	m.transport.CloseIdle()
	m.toWorkers.CloseIdle()
	return errors.Join(err, m.syncs.mark.Close())
}

// storeFailed returns the error of a master whose store failed.
func storeFailed(err error) error {
	return fmt.Errorf("%w (this master stops; see docs/operations.md for the way back)", err)
}

// withLateFailure adds to err the failure of a store that failed while it was being closed, if it did.
func withLateFailure(err error, failed <-chan error) error {
	select {
	case late := <-failed:
		if !errors.Is(err, late) {
			err = errors.Join(err, storeFailed(late))
		}
	default:
	}
	return err
}

// reportFailedSync reports a failed sync to the other masters if one was noted.
func (m *Master) reportFailedSync() error {
	return m.syncs.report(func() (failed wire.FailedSync, urls []string) {
		if m.node != nil {
			return wire.FailedSync{ID: m.id, Group: m.store.Member().Group}, m.node.OtherURLs()
		}
		own := func(url string) bool { return url == m.url }
		urls = slices.DeleteFunc(slices.Concat(m.cfg.Peers, m.cfg.Join), own)
		return wire.FailedSync{ID: raftstore.ReadMemberID(m.cfg.Data)}, urls
	})
}

// Close releases the ports and the folder of a master that was not run.
func (m *Master) Close() error {
	err := m.listener.Close()
	if m.store != nil {
		err = errors.Join(err, m.store.Close())
	}
	return errors.Join(err, m.syncs.mark.Close())
}
