package masternode

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Ledger is the replicated state as the master sees it. Its methods may be called by many goroutines.
type Ledger interface {
	// Propose commits a command and returns what the state machine answered. The error wraps wire.ErrNotLeader when the command
	// was certainly not taken, wire.ErrUnknownOutcome when it may yet be committed; any other is the state machine's
	// refusal. The command must not be changed afterwards.
	Propose(ctx context.Context, command []byte) (any, error)
	// Read calls f with the state, which stays as it is meanwhile. f must be quick and must not keep the state.
	Read(f func(*masterfsm.State))
	// Applied is the index of the newest log entry in the state.
	Applied() uint64
	// StateChanged returns a channel that is closed at the next change of the state or of the members.
	StateChanged() <-chan struct{}
	// LeaderChanged returns a channel that is closed when this master begins to believe in another leader, or in none, and when
	// a term begins, which puts the leader's URL into the state.
	LeaderChanged() <-chan struct{}
	// ReadIndex is the commit index of this leader's own term, confirmed by a majority. The error wraps wire.ErrNotLeader.
	ReadIndex(ctx context.Context) (wire.ReadIndex, error)
	// WaitApplied blocks until the state has applied the log up to index.
	WaitApplied(ctx context.Context, index uint64) error
	// Leader is the member id of the leader that this master believes in, "" where it knows none.
	Leader() string
	// LastContact is how long ago this master heard from a leader, or on the leader, how long ago it was certain to lead.
	LastContact() time.Duration
	// RunAsLeader calls lead whenever this master becomes leader, with a context that dies with the leadership, until ctx ends.
	RunAsLeader(ctx context.Context, lead func(ctx context.Context, term uint64) error) error
}

// Membership is who is in the master group. Its methods may be called by many goroutines. The error of those that change it wraps
// wire.ErrNotLeader or wire.ErrUnknownOutcome as that of Ledger.Propose does.
type Membership interface {
	// Member is who this master is; its Group is "" while it is new.
	Member() wire.Member
	// Members lists the group as raft's configuration has it, without URLs.
	Members() []wire.Master
	// AddMember adds a member without a vote, or changes the address of one. To do it again does nothing.
	AddMember(ctx context.Context, m wire.Member) error
	// Promote gives a member a vote.
	Promote(ctx context.Context, id string) error
	// RemoveMember takes a member out. One that is not there is no error.
	RemoveMember(ctx context.Context, id string) error
	// TransferLeadership hands the leadership to a member, "" for the one that has most of the log.
	TransferLeadership(to string) error
	// Reaches reports whether raft gets through to a member now, at a raft address, or at those that it knows of where that is "". It ends
	// with ctx.
	Reaches(ctx context.Context, id, address string) bool
	// Meet tells the address at which a member can be reached, whatever raft's configuration says.
	Meet(m wire.Member)
	// Adopt makes this master, which is new and has that id, part of a group.
	Adopt(group string, epoch uint64, id string, founding ...wire.Member) error
	// Refused is why this master takes part in nothing and must not serve, nil where it may: its data folder is an older copy. It says how
	// to rejoin.
	Refused() error
	// Retire writes down that this master was taken out of its group, so that it cannot be started again.
	Retire() error
}

// Masters calls the other masters by their URLs. An error wraps [wire.ErrNotLeader] when the master that was asked certainly did
// nothing because it does not lead, [wire.ErrUnknownOutcome] or [wire.ErrNoAnswer] when it may have done something.
type Masters interface {
	Member(ctx context.Context, url string) (wire.Member, error)
	// Announce tells a master who this one is, or where it is forwarded the leader who another is. The error wraps wire.ErrRemoved or wire.ErrOtherGroup
	// where the announced master must stop, and what else Node.Announce may answer.
	Announce(ctx context.Context, url string, m wire.Member, forwarded bool) (wire.Announced, error)
	// Submit hands a submission to the leader. The error wraps wire.ErrForgotten where the leader's table does not take it, whoever leads. fresh asks for a connection of its own rather than a kept one.
	Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error)
	ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error)
	Cluster(ctx context.Context, url string) (wire.Cluster, error)
	Integrity(ctx context.Context, url string) (wire.Integrity, error)
	// Suspect tells the leader of a storage node that answered wrong.
	Suspect(ctx context.Context, url string, s wire.Suspicion) error
	// Register hands a worker's registration to the leader.
	Register(ctx context.Context, url string, r wire.Registration) (wire.Registered, error)
}

// Workers calls the workers. Every order may be repeated. What a storage node answers is not to be believed before it is proven.
type Workers interface {
	StorageStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.StorageStatus, error)
	MinerStatus(ctx context.Context, w wire.Worker, o wire.Order) (wire.MinerStatus, error)
	// PutBlock stores a block; the answer tells up to where the node has everything on disk.
	PutBlock(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error)
	// ReadRecords answers for each place in its order.
	ReadRecords(ctx context.Context, w wire.Worker, places []wire.Place) ([]wire.ProvenRecord, error)
	// Headers answers with up to limit headers from a block on, their seals proven in the tree of that size.
	Headers(ctx context.Context, w wire.Worker, from uint64, limit int, size uint64) ([]wire.ProvenHeader, error)
	// Locate tells the block of a leaf index.
	Locate(ctx context.Context, w wire.Worker, index uint64) (uint64, error)
	// ReadTiles answers with tiles of the tree's hashes, all or none.
	ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error)
	// Entries answers with the data of count leaves from one on, all or none.
	Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error)
	// FindRecords tells places of records, in order, as the node's index has them, and up to which leaf it told all.
	FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error)
	// FindHash tells the leaves that may have a hash, and up to which leaf the node's index goes.
	FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error)
	// PutInbox keeps a block beyond the end of the node's chain, durably.
	PutInbox(ctx context.Context, w wire.Worker, o wire.Order, number uint64, block []byte) (wire.StorageStatus, error)
	// Check, Receive and Send start work on the node, or ask how it goes.
	Check(ctx context.Context, w wire.Worker, o wire.Order, order wire.CheckOrder) (wire.CheckStatus, error)
	Receive(ctx context.Context, w wire.Worker, o wire.Order, order wire.ReceiveOrder) (wire.ReceiveStatus, error)
	Send(ctx context.Context, w wire.Worker, o wire.Order, order wire.SendOrder) (wire.SendStatus, error)
	// Mine blocks until the miner has found a nonce.
	Mine(ctx context.Context, w wire.Worker, o wire.Order, order wire.MineOrder) (uint64, error)
}

// Record is a record that was read.
type Record struct {
	chain.Record
	Project string // the project's name
	At      masterfsm.Position
	Commit  chain.Hash
	Leaf    chain.Hash
	Sealed  bool // its block is mined: nothing about it changes any more
	Stored  bool // its block is on as many storage nodes as the settings ask
}

// Witnesses calls transparency log witnesses (C2SP tlog-witness).
type Witnesses interface {
	// AddCheckpoint submits a signed checkpoint to the witness at a URL, with the consistency proof from the size old, and returns the signature
	// lines of its answer, of which nothing is verified. The error is a *wire.WitnessConflict where the witness has another size than old, a
	// *wire.WitnessRefusal where it refused for another reason, and wraps wire.ErrNoAnswer where no answer came.
	AddCheckpoint(ctx context.Context, url string, old uint64, proof []chain.Hash, checkpoint []byte) ([]byte, error)
}
