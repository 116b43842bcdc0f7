package masternode

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// Config describes a master.
type Config struct {
	leader.Options
	Member  wire.Member // this master; only its id and addresses count
	Boot    uint64      // increases with each start of this master
	Key     joining.Key // of this master; it signs the announcements
	Ticket  joining.Key // of a join ticket; zero for none
	Peers   []string    // URLs of the other masters
	Founder string      // URL of the peer that founds the group, "" if this master does not take part in that
	Join    []string    // URLs of masters of a group to join
	Ledger  Ledger
	Masters Masters
	// Membership is raft's configuration.
	Membership Membership
	Workers    Workers
	// Kernel is the boot id of the kernel. AfterFailedSync lets this master start although a sync of its data folder
	// failed under that kernel.
	Kernel          string
	AfterFailedSync bool
	// ReadCache bounds the cache of proven records, in bytes; 0 for none.
	ReadCache int64
	// TileCache bounds the cache of proven tiles of the tree's hashes, in bytes; 0 for [DefaultTileCache].
	TileCache int64
	Limits    Limits
	Logger    hclog.Logger
	Clock     func() time.Time // nil for time.Now
	Disk      func() wire.Disk // the space of the data folder, nil for unknown
	Flags     wire.AccessFlags // of this master
	// Issuer returns why the keys of the OIDC issuer cannot be fetched, "" where they can; nil without an issuer.
	Issuer func() string
	// AtRest is the encryption of this master's data folder; nil, or it returns nil, without at-rest keys.
	AtRest func() *wire.AtRest
	// Certificate is that of this master; nil, or it returns nil, without TLS.
	Certificate func() *wire.Certificate
	// Secrets are those that this master uses; nil for unknown.
	Secrets func() []wire.SecretUse
	// TLS is the step of the move to TLS as this master follows it; nil where it does not.
	TLS TLSMode
	// TLSCalls are the calls for it; nil for none: then no node tries TLS with another one.
	TLSCalls TLSCalls
	// Histograms get all measurements except Fsync and Apply; nil for none.
	Histograms *histogram.Master
}

// Defaults of checks: one minute between two checks of a node, at 32 MiB a second.
const (
	DefaultCheckInterval = time.Minute
	DefaultCheckRate     = 32 << 20
)

// DefaultReadCache is the default of Config.ReadCache.
const DefaultReadCache = 16 << 20

// DefaultTileCache is the default of Config.TileCache. It has the leaf hashes of half a million records.
const DefaultTileCache = prover.DefaultTileBytes

func (c *Config) validate() error {
	switch {
	case c.Ledger == nil || c.Masters == nil || c.Membership == nil || c.Workers == nil || c.Logger == nil:
		return fmt.Errorf("masternode: Ledger, Masters, Membership, Workers and Logger are needed")
	case c.Member.ID == "" || len(c.Member.ID) > 255 || c.Member.URL == "":
		return fmt.Errorf("masternode: a member needs an id of 1 to 255 bytes and a URL")
	case c.ReadCache < 0 || c.TileCache < 0:
		return fmt.Errorf("masternode: a read cache of %d bytes or a tile cache of %d is negative",
			c.ReadCache, c.TileCache)
	case c.MaxAge < 0 || c.CheckInterval < 0 || c.CheckRate < 0:
		return fmt.Errorf("masternode: max age %v, check interval %v or check rate %d is negative",
			c.MaxAge, c.CheckInterval, c.CheckRate)
	}
	if err := c.Log.Check(); err != nil {
		return err
	}
	if len(c.Witnesses) > 0 && c.WitnessCalls == nil {
		return fmt.Errorf("masternode: WitnessCalls is needed for witnesses")
	}
	if err := signing.CheckWitnesses(c.Witnesses, c.Settings.WitnessQuorum); err != nil {
		return err
	}
	return c.Settings.Check()
}

// Node is one master. Its methods may be called by many goroutines while Run runs.
type Node struct {
	cfg     Config
	log     hclog.Logger
	appends *batch.Batcher[*appendRequest, masterfsm.Placement] // of this master's clients
	commits *batch.Batcher[[]byte, []masterfsm.Placement]       // submissions of all masters, where this one leads
	prover  *prover.Prover
	leader  *leader.Leader
	signer  signing.CheckpointSigner

	confirms *batch.Batcher[struct{}, struct{}]           // see confirm
	cosigned batch.SingleFlight[struct{}, []wire.Witness] // requests to the leader for its witnesses

	seq  atomic.Uint64 // of submissions in this boot
	sent sentRates     // of appends of this master's clients

	streams   chan struct{} // holds a token for each stream that is being served
	appending slots         // of append streams that are being served
	searching chan struct{} // holds a token while the records that the masters hold are searched for a hash

	registers registerLimit // of what this master commits as the leader

	changing sync.Mutex // held while the leader changes the members of the group
	retiring sync.Mutex // held while the leader retires a key of the log
	over     chan error // the reason why this master must stop

	warnedEpoch atomic.Uint64 // the last higher epoch that was not proven, of which the log has a warning
}

// submissionBytes bounds the size of a submission, and of a command in the log, unless one request alone is larger.
const submissionBytes = 512 << 10

// How many batches may be in flight: full ones up to the lanes, others up to the eager number. Each commit costs every
// master two syncs of its disk, so more records should share it: the leader has one batch that is not full in flight. A
// master has two submissions: one in flight, and one that waits at the leader. submissionLanes must stay well below
// masterfsm.SubmissionWindow.
const (
	eagerSubmissions, submissionLanes = 2, 6
	eagerCommits, commitLanes         = 1, 4
)

// gatherTime is how long a submission or a commit waits at most for the clients that were just answered. It waits only
// where they come back in time (see [batch.Config.Gather]), and with fewer clients than enough: more of them share the
// cost of a commit well, and are answered while the next commit is in progress.
const (
	gatherTime        = 2 * time.Millisecond
	enoughSubmissions = 32 // of one master
	enoughCommits     = 96 // of all masters
)

// New makes a master. It does nothing until Run is called, except that it follows the step of TLS that its folder has:
// the master may listen before.
func New(cfg Config) (*Node, error) {
	if cfg.Clock == nil {
		//mutant:wall-clock
		cfg.Clock = time.Now
	}
	if cfg.Disk == nil {
		cfg.Disk = func() wire.Disk { return wire.Disk{} }
	}
	if cfg.AtRest == nil {
		cfg.AtRest = func() *wire.AtRest { return nil }
	}
	if cfg.Certificate == nil {
		cfg.Certificate = func() *wire.Certificate { return nil }
	}
	if cfg.TLS == nil {
		cfg.TLS = unmoved{}
	}
	if cfg.Secrets == nil {
		cfg.Secrets = func() []wire.SecretUse { return nil }
	}
	if cfg.Histograms == nil {
		cfg.Histograms = new(histogram.Master)
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger.Named("master"), over: make(chan error, 1)}
	n.prover = prover.New(prover.Config{
		Self: cfg.Member.ID, Ledger: cfg.Ledger, Storages: cfg.Workers, Logger: cfg.Logger, Clock: cfg.Clock,
		RecordBytes: uint64(cfg.ReadCache), TileBytes: uint64(cfg.TileCache),
	})
	n.leader = leader.New(leader.Config{
		Options: cfg.Options, Member: cfg.Member, Signer: &n.signer,
		Ledger: cfg.Ledger, Membership: cfg.Membership, Masters: cfg.Masters, Workers: cfg.Workers, Prover: n.prover,
		Logger: n.log, Clock: cfg.Clock, Changing: &n.changing,
		Disk: cfg.Disk, Flags: cfg.Flags, Certificate: cfg.Certificate, Secrets: cfg.Secrets,
		AtRest: cfg.AtRest,
		OnLead: n.begun, OnMember: n.checkEpoch, Stop: n.stop,
	})
	n.streams, n.searching = make(chan struct{}, maxStreams), make(chan struct{}, 1)
	stopping := fmt.Errorf("%w: this master is stopping", wire.ErrNoLeader)
	n.appends = batch.New(batch.Config[*appendRequest, masterfsm.Placement]{
		Lanes: submissionLanes, Eager: eagerSubmissions, MaxCount: 4096, MaxSize: submissionBytes,
		Size: (*appendRequest).size, Gather: gatherTime, Enough: enoughSubmissions,
		Handle: n.submit, Closed: stopping,
	})
	n.commits = batch.New(batch.Config[[]byte, []masterfsm.Placement]{
		Lanes: commitLanes, Eager: eagerCommits, MaxCount: 256, MaxSize: submissionBytes,
		Size:   func(submission []byte) int { return len(submission) },
		Gather: gatherTime, Enough: enoughCommits,
		Callers: func(s []byte) int { return int(masterfsm.SubmissionRequests(s)) },
		Handle:  n.commitBatch, Closed: fmt.Errorf("%w: it is stopping", wire.ErrNotLeader),
	})
	n.confirms = batch.New(batch.Config[struct{}, struct{}]{
		Lanes: 1, Eager: 1, MaxCount: math.MaxInt, Handle: n.confirmBatch, Closed: stopping,
	})
	if err := n.advanceTLS(); err != nil {
		return nil, err
	}
	return n, nil
}

// Run serves appends and reads, leads whenever this master is elected, and keeps it known to its group, until ctx ends.
// It waits for everything that it started. The error wraps [wire.ErrRemoved] or [wire.ErrOtherGroup] if this master
// must stop permanently, [leader.ErrLaterEpoch] if its workers obey another epoch of the group.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { n.serve(ctx); return nil })
	g.Go(func() error { n.commits.Run(ctx); return nil })
	g.Go(func() error { return n.reportSuspects(ctx) })
	g.Go(func() error { return n.announce(ctx) })
	g.Go(func() error { return n.waitStopped(ctx) })
	g.Go(func() error { return n.followTLS(ctx) })
	g.Go(func() error { return n.confirmTLS(ctx) })
	g.Go(func() error { n.leader.Observe(ctx); return nil })
	g.Go(func() error { return n.cfg.Ledger.RunAsLeader(ctx, n.leader.Run) })
	return g.Wait()
}

// serve runs what requests of clients need, until ctx ends, and waits for it.
func (n *Node) serve(ctx context.Context) {
	var serving sync.WaitGroup
	serving.Go(func() { n.appends.Run(ctx) })
	serving.Go(func() { n.confirms.Run(ctx) })
	serving.Go(func() { n.prover.Run(ctx) })
	<-ctx.Done()
	n.cosigned.Close(context.Cause(ctx))
	serving.Wait()
}

// begun logs, when the term of this master has begun, which flags have no effect and why no checkpoint can be signed.
func (n *Node) begun() {
	for _, notice := range n.flagNotices() {
		n.log.Error(notice.Text())
	}
	_, _ = n.checkpointHere() // it logs its failure
}

// Member describes this master.
func (n *Node) Member() wire.Member {
	m := n.cfg.Membership.Member()
	m.URL, m.Signs, m.Level = n.ownURL(), true, masterfsm.ProtocolLevel
	m.Disk, m.Flags, m.Certificate = n.cfg.Disk(), n.cfg.Flags, n.cfg.Certificate()
	m.Secrets, m.TLS = n.cfg.Secrets(), &wire.TLSUse{Step: n.TLSStep()}
	m.AtRest = n.cfg.AtRest()
	m.Key = n.cfg.Key.Public()
	m.Time = uint64(max(1, n.cfg.Clock().UnixMilli()))
	if m.Group == "" {
		m.Founder = n.cfg.Founder
	}
	return m
}

// Itself is what this master answers about itself. From protocol level 7 on it is signed, so that other members can
// tell whether it has the key of the member.
func (n *Node) Itself() wire.Member {
	m := n.Member()
	var level uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
	if m.Group != "" && level >= masterfsm.LevelJoining {
		m.Proof = joining.Prove(m.Group, m, n.cfg.Boot, n.cfg.Key, joining.Key{})
	}
	return m
}

// LeaderURL returns the leader's URL, "" if this master knows none. self means that it is this master.
func (n *Node) LeaderURL() (url string, self bool) {
	id, url := n.knownLeader()
	return url, id == n.cfg.Member.ID
}

// Leads reports whether this master leads and has applied all that was acknowledged before its term.
func (n *Node) Leads() bool { return n.leader.Leads() }

// Histograms returns the histograms of this master, for its metrics.
func (n *Node) Histograms() *histogram.Master { return n.cfg.Histograms }

// Limits returns the limits of what clients may send to this master.
func (n *Node) Limits() Limits { return n.cfg.Limits }

// Refused returns why this master must not serve, nil if it may. The error wraps [wire.ErrStaleFolder] and says how to
// rejoin.
func (n *Node) Refused() error {
	if err := n.cfg.Membership.Refused(); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrStaleFolder, err)
	}
	return nil
}

// Ready returns nil if this master can take appends now, because it knows a leader that has begun its term, or else
// what is missing.
func (n *Node) Ready() error {
	if err := n.Refused(); err != nil {
		return err
	}
	if _, url := n.knownLeader(); url == "" {
		return fmt.Errorf("%w: this master knows no leader that has begun its term", wire.ErrNoLeader)
	}
	if err := n.leader.Suspended(); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrNoLeader, err)
	}
	return nil
}

// Ledger is the replicated state as the master sees it. Its methods may be called by many goroutines.
type Ledger interface {
	leader.Ledger
	// LeaderChanged returns a channel that is closed when this master begins to believe in another leader, or in none,
	// and when a term begins, which puts the leader's URL into the state.
	LeaderChanged() <-chan struct{}
	// Leader is the member id of the leader that this master believes in, "" if it knows none.
	Leader() string
	// LastContact is how long ago this master heard from a leader, or if it leads, how long ago it was certain to lead.
	LastContact() time.Duration
	// RunAsLeader calls lead whenever this master becomes the leader, with a context that ends with the leadership,
	// until ctx ends.
	RunAsLeader(ctx context.Context, lead func(ctx context.Context, term uint64) error) error
	// Level is the highest protocol level of the group that this master knows of. It is at least that of the state,
	// which may be older after a start.
	Level() uint64
	// Applied is the index of the newest log entry in the state.
	Applied() uint64
	// Committed is the index of the newest log entry that this master knows to be committed, at least Applied.
	Committed() uint64
	// WaitApplied blocks until the state has applied the log up to an index.
	WaitApplied(ctx context.Context, index uint64) error
	// ReadIndex is the commit index of this leader's own term, confirmed by a majority. The error wraps
	// wire.ErrNotLeader.
	ReadIndex(ctx context.Context) (wire.ReadIndex, error)
}

// Membership is the raft configuration. Its methods may be called by many goroutines. The error of a change wraps
// wire.ErrNotLeader or wire.ErrUnknownOutcome as that of Ledger.Propose does.
type Membership interface {
	leader.Membership
	// AddMember adds a member without a vote, or changes the address of one. It may be repeated.
	AddMember(ctx context.Context, m wire.Member) error
	// UpdateAddress sets the address at which a member is reached, whatever raft's configuration has.
	UpdateAddress(m wire.Member)
	// Adopt makes this master, which is new and has that id, part of a group.
	Adopt(wire.Adoption) error
	// Refused returns why this master takes part in nothing and must not serve, because its data folder is an older
	// copy, and how to rejoin. It is nil if this master may serve.
	Refused() error
	// Retire records that this master was removed from its group, so that it cannot be started again.
	Retire() error
}

// Masters calls other masters by their URLs. An error wraps [wire.ErrNotLeader] if the other master certainly did
// nothing because it does not lead, and [wire.ErrUnknownOutcome] or [wire.ErrNoAnswer] if it may have done something. A
// call that the other master forwards to the leader may have done something in any case, and may be repeated.
type Masters interface {
	leader.Masters
	// Announce introduces a master to another one: this one, or if it is forwarded to the leader, any. The error wraps
	// wire.ErrRemoved or wire.ErrOtherGroup if the announced master must stop, and may be any other of Node.Announce.
	Announce(ctx context.Context, url string, m wire.Member, forwarded bool) (wire.Announced, error)
	// Submit hands a submission to the leader. The error wraps wire.ErrForgotten if the table does not accept it from
	// any leader. fresh asks for a new connection instead of a kept one.
	Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error)
	ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error)
	Cluster(ctx context.Context, url string) (wire.Cluster, error)
	Integrity(ctx context.Context, url string) (wire.Integrity, error)
	// Suspect reports to the leader that a storage node answered wrong.
	Suspect(ctx context.Context, url string, s wire.Suspicion) error
	// Register sends a worker's registration to the leader.
	Register(ctx context.Context, url string, r wire.Registration, forwarded bool) (wire.Registered, error)
	// ReportFailedSync sends a report of a failed sync to the leader.
	ReportFailedSync(ctx context.Context, url string, f wire.FailedSync, forwarded bool) error
}

// Workers calls the workers.
type Workers interface {
	leader.Workers
	prover.Storages
}
