package masternode

import (
	"context"
	"time"

	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
)

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
	// Applied is the index of the newest log entry in the state.
	Applied() uint64
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
	// TransferLeadership hands the leadership to a member, "" for the one that has most of the log.
	TransferLeadership(to string) error
	// Meet sets the address at which a member is reached, whatever raft's configuration has.
	Meet(m wire.Member)
	// Adopt makes this master, which is new and has that id, part of a group.
	Adopt(group string, epoch uint64, id string, founding ...wire.Member) error
	// Refused returns why this master takes part in nothing and must not serve, because its data folder is an older
	// copy, and how to rejoin. It is nil if this master may serve.
	Refused() error
	// Retire records that this master was removed from its group, so that it cannot be started again.
	Retire() error
}

// Masters calls other masters by their URLs. An error wraps [wire.ErrNotLeader] if the other master certainly did
// nothing because it does not lead, and [wire.ErrUnknownOutcome] or [wire.ErrNoAnswer] if it may have done something.
type Masters interface {
	leader.Masters
	// Announce introduces a master to another one: this one, or if it is forwarded to the leader, any. The error wraps
	// wire.ErrRemoved or wire.ErrOtherGroup if the announced master must stop, and may be any other of Node.Announce.
	Announce(ctx context.Context, url string, m wire.Member, forwarded bool) (wire.Announced, error)
	// Submit hands a submission to the leader. The error wraps wire.ErrForgotten if the table does not accept it,
	// whoever leads. fresh asks for a new connection instead of a kept one.
	Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error)
	ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error)
	Cluster(ctx context.Context, url string) (wire.Cluster, error)
	Integrity(ctx context.Context, url string) (wire.Integrity, error)
	// Suspect reports to the leader that a storage node answered wrong.
	Suspect(ctx context.Context, url string, s wire.Suspicion) error
	// Register sends a worker's registration to the leader.
	Register(ctx context.Context, url string, r wire.Registration, forwarded bool) (wire.Registered, error)
}

// Workers calls the workers.
type Workers interface {
	leader.Workers
	prover.Storages
}
