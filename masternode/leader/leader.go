package leader

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// Ledger is the replicated state. Its methods may be called by many goroutines.
type Ledger interface {
	// Propose commits a command and returns the result of the state machine. The error wraps wire.ErrNotLeader if the
	// command was certainly not committed, and wire.ErrUnknownOutcome if it may be committed yet. Any other error is
	// the refusal of the state machine. The caller must not change the command afterwards.
	Propose(ctx context.Context, command []byte) (any, error)
	// Read calls f with the state, which does not change meanwhile. f must be quick and must not keep the state.
	Read(f func(*masterfsm.State))
	// StateChanged returns a channel that is closed at the next change of the state or of the members.
	StateChanged() <-chan struct{}
}

// Membership is the raft configuration. The error of a change wraps wire.ErrNotLeader or wire.ErrUnknownOutcome as that
// of Ledger.Propose does.
type Membership interface {
	// Member describes this master. Its Group is "" while the master is new.
	Member() wire.Member
	// Members lists the members of raft's configuration, without URLs.
	Members() []wire.Master
	// Promote gives a member a vote.
	Promote(ctx context.Context, id string) error
	// TransferLeadership hands the leadership to a member, "" for the one that has most of the log.
	TransferLeadership(to string) error
	// RemoveMember removes a member. It is no error if there is no such member.
	RemoveMember(ctx context.Context, id string) error
	// Reaches reports whether a member answers at a raft address, or at a known one of its own if that is "". It ends
	// with ctx.
	Reaches(ctx context.Context, id, address string) bool
}

// Masters calls other masters by their URLs.
type Masters interface {
	Member(ctx context.Context, url string) (wire.Member, error)
}

// Workers calls the workers. Every order may be repeated. Answers are not trusted.
type Workers interface {
	Storages
	Miners
}

// Storages calls storage nodes.
type Storages interface {
	StorageStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.StorageStatus, error)
	// PutBlock stores a block. The answer has the height up to which the node has everything on disk.
	PutBlock(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error)
	// PutInbox stores a block beyond the end of the node's chain.
	PutInbox(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error)
	// Headers answers with up to limit headers from a block on, with inclusion proofs of their seals in the tree of a
	// size.
	Headers(ctx context.Context, w wire.Worker, from uint64, limit int, size uint64) ([]wire.ProvenHeader, error)
	// Check, Receive and Send start work on the node, or return its progress.
	Check(ctx context.Context, w wire.Worker, o wire.Order, order wire.CheckOrder) (wire.CheckStatus, error)
	Receive(ctx context.Context, w wire.Worker, o wire.Order, order wire.ReceiveOrder) (wire.ReceiveStatus, error)
	Send(ctx context.Context, w wire.Worker, o wire.Order, order wire.SendOrder) (wire.SendStatus, error)
}

// Miners calls miners.
type Miners interface {
	MinerStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.MinerStatus, error)
	// Mine blocks until the miner has found a nonce.
	Mine(ctx context.Context, w wire.Worker, o wire.Order, order wire.MineOrder) (uint64, error)
}

// Prover reads from storage nodes what it can prove.
type Prover interface {
	// Header returns the header of a mined block.
	Header(ctx context.Context, block uint64) (chain.Header, error)
	// Consistency returns the proof that the tree of one size is a prefix of that of another.
	Consistency(ctx context.Context, from, to uint64) ([]chain.Hash, error)
}

// Witnesses calls transparency log witnesses (C2SP tlog-witness).
type Witnesses interface {
	// AddCheckpoint submits a signed checkpoint to the witness at a URL, with the consistency proof from the size old,
	// and returns the signature lines of its answer, which are not verified. The error is a *wire.WitnessConflict if
	// the witness has another size than old, a *wire.WitnessRefusal if it refused for another reason, and wraps
	// wire.ErrNoAnswer if there was no answer.
	AddCheckpoint(ctx context.Context, url string, old uint64, proof []chain.Hash, checkpoint []byte) ([]byte, error)
}

// Options are what the operator of a master chooses for its duties as the leader.
type Options struct {
	// Settings are those of a group that this master founds. SettingsGiven names the flags that were given for them.
	Settings      masterfsm.Settings
	SettingsGiven []string
	Log           signing.LogConfig

	Witnesses    []signing.Witness // asked for cosignatures
	WitnessCalls Witnesses         // required if there are witnesses

	MaxAge        time.Duration // of the oldest record of the open block; 0 for 1 s
	CheckInterval time.Duration // after a storage node's last check; 0 for no checks on a schedule
	CheckRate     int64         // bytes a second that a check reads; 0 for no limit
}

// Config describes a [Leader]. Outside of Options all fields are required.
type Config struct {
	Options
	Member wire.Member // this master; only its id and URL count
	Signer *signing.CheckpointSigner

	Ledger     Ledger
	Membership Membership
	Masters    Masters
	Workers    Workers
	Prover     Prover

	Logger hclog.Logger
	Clock  func() time.Time

	// Changing is held while the members of the group are changed.
	Changing sync.Locker
	// OnLead is called when the term of this master has begun.
	OnLead func()
	// Disk is the space of this master's data folder.
	Disk  func() wire.Disk
	Flags wire.AccessFlags // of this master
	// Certificate is that of this master. It returns nil without TLS.
	Certificate func() *wire.Certificate
	// Secrets are those that this master uses.
	Secrets func() []wire.SecretUse
	// AtRest is the encryption of this master's data folder. It returns nil without at-rest keys.
	AtRest func() *wire.AtRest
	// OnMember is called with what another member says about itself at its URL. Nothing proves it.
	OnMember func(wire.Member)
	// Stop ends this master permanently, for a reason.
	Stop func(error)
}

// Leader does the duties of the leader whenever this master leads, and commits commands for the rest of the master. Its
// methods may be called by many goroutines.
type Leader struct {
	cfg  Config
	pace pace
	log  hclog.Logger

	clock  tableClock
	handed lastHandOver

	current atomic.Pointer[leadership] // nil while this master does not lead
	fenced  atomic.Bool                // most storage nodes obey a later epoch: this master ends
}

// New makes a leader. It does nothing until Run is called.
func New(cfg Config) *Leader {
	l := &Leader{cfg: cfg, pace: defaultPace(), log: cfg.Logger, clock: tableClock{clock: cfg.Clock}}
	if cfg.MaxAge > 0 {
		l.pace.maxAge = cfg.MaxAge
	}
	l.pace.check = cfg.CheckInterval
	if cfg.CheckRate > 0 { // a block may take long to read
		l.pace.checkStall += time.Duration(float64(chain.MaxPayload) / float64(cfg.CheckRate) * float64(time.Second))
	}
	return l
}

// leadership is one term of this master as leader.
type leadership struct {
	*Leader
	order    wire.Order
	outcomes chan outcome
	over     chan struct{}  // closed when the loop has ended and accepts no outcome any more
	running  sync.WaitGroup // the actions
	fences   *fences
	began    time.Time // after BeginTerm was committed; the idempotency keys expire by the time that has passed since
	begunAge uint64    // of the table at BeginTerm

	mu     sync.Mutex // guards status
	status Status     // as of the last decision, without the fences
}

// Run does the duties of the leader for a term until ctx ends, which must end with the leadership.
func (l *Leader) Run(ctx context.Context, term uint64) error {
	if l.fenced.Load() {
		// This master ends. To hand over now would only pass the leadership around among masters that end.
		<-ctx.Done()
		return ctx.Err()
	}
	l.observe()
	if l.checkClock(ctx); ctx.Err() != nil {
		return ctx.Err()
	}
	if err := l.begin(ctx, term); err != nil {
		return err
	}
	var epoch, age uint64
	l.cfg.Ledger.Read(func(s *masterfsm.State) { epoch, age = s.Group().Epoch, s.View().Begun })
	now := &leadership{
		Leader: l, order: wire.Order{Epoch: epoch, Term: term},
		outcomes: make(chan outcome), over: make(chan struct{}), fences: newFences(), begunAge: age,
	}
	now.fenceStorages(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	now.began = l.cfg.Clock()
	l.current.Store(now)
	defer l.current.Store(nil)
	l.log.Info("leading", "term", term, "epoch", epoch)
	l.cfg.OnLead()
	ctx, cancel := context.WithCancel(ctx)
	defer now.running.Wait()
	defer cancel()
	defer close(now.over)
	now.running.Go(func() { now.watchFences(ctx) })
	now.loop(ctx)
	l.log.Info("no longer leading", "term", term)
	return nil
}

// begin commits BeginTerm, which is barrier, fence and address in one.
func (l *Leader) begin(ctx context.Context, term uint64) error {
	l.observe()
	_, err := l.Propose(ctx, &masterfsm.BeginTerm{
		Term: term, Member: l.cfg.Member.ID, URL: l.cfg.Member.URL, Time: l.Now(),
		Group: l.cfg.Membership.Member().Group, Settings: l.cfg.Settings, Age: l.clock.ageNow(),
	})
	l.observe()
	return err
}

// Leads reports whether this master leads and its term has begun.
func (l *Leader) Leads() bool { return l.current.Load() != nil }
