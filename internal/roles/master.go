package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// MasterConfig is what a master is made of.
type MasterConfig struct {
	Data          string   // data folder
	HTTP          string   // address to listen on
	Advertise     string   // URL at which clients, workers and the other masters reach it, "" for the address
	Raft          string   // address of the raft port
	RaftAdvertise string   // host:port at which the other masters reach it, "" for that address
	Peers         []string // the masters' URLs, identical on all of them; the first founds the group. Empty for a group of one
	Join          []string // URLs of masters of a group that this one is to join, in the place of Peers
	ClusterToken  string
	AdminToken    string
	DiskTimeout   time.Duration // a write of the log or a vote that takes longer ends the master; 0 for the default
	Timeout       time.Duration // heartbeat, election and lease of raft; 0 for the default
	MaxAge        time.Duration // of the oldest record of the open block; 0 for the default
	// CheckInterval is how long after a storage node's last check the next begins, 0 for no checks on a schedule; CheckRate how many
	// bytes of its segments it reads a second, 0 for as fast as it goes.
	CheckInterval time.Duration
	CheckRate     int64
	Settings      masterfsm.Settings
	Limits        masternode.Limits
	// Origin is that of masternode.LogConfig, CheckpointKey the file with its Key, "" for none.
	Origin, CheckpointKey string
	// Witnesses are those whom the leader asks for cosignatures, as masternode.ParseWitness reads them.
	Witnesses []string
	// OpenRegistration lets anybody create a project, OriginalAPI opens the routes of the original system.
	OpenRegistration bool
	OriginalAPI      bool
	PrivateLog       bool // who follows the log must show a token
	Insecure         bool // addresses other than loopback are meant
	Logger           hclog.Logger
}

// maxRecordBytes bounds the setting: a record travels and is committed in one piece.
const maxRecordBytes = 16 << 20

func (c *MasterConfig) validate() error {
	switch {
	case c.Data == "":
		return errors.New("a data folder is needed: --data DIR")
	case c.ClusterToken == "":
		return errors.New("the cluster token is needed: --cluster-token-file FILE, or CHAINSTORE_CLUSTER_TOKEN")
	case c.AdminToken == "":
		return errors.New("the admin token is needed: --admin-token-file FILE, or CHAINSTORE_ADMIN_TOKEN")
	case len(c.Peers) > 0 && len(c.Join) > 0:
		return errors.New("--peers founds a group, --join joins one that is there: give one of them")
	case c.AdminToken == c.ClusterToken:
		return errors.New("the admin token and the cluster token must differ")
	}
	if n := c.Limits.RecordBytes; n < 1 || n > maxRecordBytes {
		return fmt.Errorf("--max-record-bytes %d is not within 1 and %d", n, maxRecordBytes)
	}
	if err := c.Settings.Check(); err != nil {
		return err
	}
	return checkLoopback("--raft", c.Raft, c.Insecure)
}

// checkRehearsal refuses, for the folder of a rehearsal, all that would call on nodes or witnesses of the group that
// was copied, or sign in its name.
func (c *MasterConfig) checkRehearsal(rehearsal bool) error {
	if rehearsal && (len(c.Peers) > 0 || len(c.Join) > 0 || len(c.Witnesses) > 0 || c.Origin != "" ||
		c.CheckpointKey != "") {
		return fmt.Errorf("%s was made for a rehearsal: start it without --peers, --join, --witness, --origin and "+
			"--checkpoint-key", c.Data)
	}
	return nil
}

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
	witnesses, err := masternode.ParseWitnesses(cfg.Witnesses, cfg.Settings.WitnessQuorum)
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
	kept := client.NewMasters(cfg.ClusterToken)
	m.masters = masters{Masters: kept, fresh: kept.Fresh(), forwarding: kept.Forwarding()}
	m.node, err = masternode.New(masternode.Config{
		Member: m.store.Member(), Boot: m.store.Boot(),
		Peers: slices.DeleteFunc(slices.Clone(cfg.Peers), func(url string) bool { return url == m.url }), Join: cfg.Join,
		Ledger: m.store, Membership: m.store, Masters: m.masters, Workers: client.NewWorkers(),
		Settings: cfg.Settings, Limits: cfg.Limits, MaxAge: cfg.MaxAge,
		Log:       masternode.LogConfig{Secret: cfg.ClusterToken, Origin: cfg.Origin, Key: key},
		Witnesses: witnesses, WitnessCalls: client.NewWitnesses(),
		CheckInterval: cfg.CheckInterval, CheckRate: cfg.CheckRate, Logger: cfg.Logger,
	})
	if err != nil {
		return nil, errors.Join(err, m.store.Close())
	}
	m.handler = httpapi.NewMaster(httpapi.MasterConfig{
		Node: m.node, Adopt: func(a wire.Adoption) error { return m.store.Adopt(a.Group, a.Epoch, a.Member, a.Founding...) },
		Refused: m.node.Refused, ClusterToken: cfg.ClusterToken, AdminToken: cfg.AdminToken,
		OpenRegistration: cfg.OpenRegistration, OriginalAPI: cfg.OriginalAPI, PrivateLog: cfg.PrivateLog, Logger: cfg.Logger,
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
	*client.Masters
	fresh, forwarding *client.Masters
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
