package raftstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/boottime"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// Config says how a master's store is opened. Dir, Bind and Secret are required.
type Config struct {
	Dir       string // data folder, created if it is missing
	Bind      string // address where raft listens, host:port
	Advertise string // address at which the other masters reach it, host:port; "" for that of the listener
	URL       string // this master's HTTP address, only returned by [Store.Member]
	// Secret returns the accepted values of the masters' secret, the one to prove first. At least one is needed.
	// [Store.SecretChanged] is called after they have changed.
	Secret func() []string

	// Timeout is raft's timeout for heartbeats, for elections and for the lease: 300 ms by default.
	Timeout time.Duration
	// AtRest has the keys that encrypt the log and the snapshots. nil for none: then an encrypted folder is refused.
	AtRest *atrest.Ring
	// WriteTimeout is how long a write of the log, a vote or a snapshot may take before the store fails: 2 s by
	// default.
	WriteTimeout time.Duration

	// Reserved returns why so many bytes are not to be written, besides votes and small files: an error while too
	// little of the disk would be free then, else nil. nil for no limit. The log takes no entries then, and no snapshot
	// is begun; both are tried again.
	Reserved func(bytes uint64) error

	SnapshotBytes   uint64 // of log between two snapshots: 64 MiB by default
	SnapshotEntries uint64 // in the log between two snapshots: 8192 by default
	TrailingBytes   uint64 // of log kept behind a snapshot: twice SnapshotBytes by default

	// RenewEvery is how often the start of this master is renewed while its state changes: 10 s by default. An older
	// copy of the folder is recognised if it was made before a renewal.
	RenewEvery time.Duration

	TLS        transport.TLS     // of the raft port; nil for none
	Mode       transport.Mode    // the step of the move to TLS; nil for a group that is never moved
	Mark       *durable.SyncMark // remembers failed syncs of the folder; nil for none
	Histograms *histogram.Master // gets Fsync and Apply; nil for none
	Logger     hclog.Logger      // nil for none

	// Of a simulated network in tests; nil for TCP.
	listen func(bind, advertise string) (net.Listener, string, error)
	dial   func(ctx context.Context, network, hostPort string) (net.Conn, error)

	suspended func() time.Duration // how long the machine was suspended; nil for boottime.Suspended

	keysPause time.Duration // between two looks at the file of keys: 10 s by default
}

func (c *Config) prepare() error {
	switch {
	case c.Dir == "":
		return errors.New("a master needs a data folder")
	case c.Bind == "":
		return errors.New("a master needs an address for raft, host:port")
	case c.Secret == nil || len(c.Secret()) == 0:
		return errors.New("a master needs the secret of masters")
	}
	c.Timeout = cmp.Or(c.Timeout, 300*time.Millisecond)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 2*time.Second)
	c.SnapshotBytes = cmp.Or(c.SnapshotBytes, 64<<20)
	//mutant:snapshot-entries
	c.SnapshotEntries = cmp.Or(c.SnapshotEntries, 8192)
	c.TrailingBytes = cmp.Or(c.TrailingBytes, 2*c.SnapshotBytes)
	c.RenewEvery = cmp.Or(c.RenewEvery, 10*time.Second)
	c.keysPause = cmp.Or(c.keysPause, 10*time.Second)
	if c.Reserved == nil {
		c.Reserved = noLimit
	}
	if c.suspended == nil {
		c.suspended = boottime.Suspended
	}
	if c.Histograms == nil {
		c.Histograms = new(histogram.Master)
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if least := 20 * time.Millisecond; c.Timeout < least {
		return fmt.Errorf("a raft timeout of %v is too short, at least %v is needed", c.Timeout, least)
	}
	if least := 10 * time.Millisecond; c.WriteTimeout < least {
		return fmt.Errorf("a write time-out of %v is too short, at least %v is needed", c.WriteTimeout, least)
	}
	return nil
}

// Store is this master's copy of the replicated state, and its membership in the group. Any goroutine may call its
// methods.
type Store struct {
	*dataFolder
	cfg  Config
	id   string // member id
	boot uint64
	key  joining.Key

	stream  *transport.Stream
	machine *machine
	starts  *transport.Starts
	refused atomic.Pointer[error] // why this master takes no part in the group

	changed       broadcast // of the state and of the members
	leaderChanged broadcast
	due           chan struct{} // receives when a snapshot may be due
	atRest        atomic.Pointer[wire.AtRest]
	leadership    leadership

	reads  chan struct{} // receives when queued is not empty
	readMu sync.Mutex
	queued []chan<- readAnswer // ReadIndex calls that wait for the next confirmation

	mu   sync.Mutex                // guards identity, and the start of raft
	raft atomic.Pointer[raft.Raft] // nil while the master is new

	reloadMu sync.Mutex // held while raft's configuration is changed

	callsMu sync.Mutex
	closing bool           // guarded by callsMu
	calls   sync.WaitGroup // calls of raft in progress

	closed chan struct{}  // closed when Close begins
	stop   chan struct{}  // closed when raft is down: the store's goroutines end
	tasks  sync.WaitGroup // the store's goroutines
	once   sync.Once
	err    error // of Close
}

// Open opens a master's data folder and starts raft if the master belongs to a group. The error names the folder
// or the port. It wraps [durable.ErrLocked], [durable.ErrNewerFormat], [atrest.ErrNoKey], [ErrDisk] or the system's
// error.
func Open(cfg Config) (_ *Store, err error) {
	if err := cfg.prepare(); err != nil {
		return nil, err
	}
	listen := cfg.listen
	if listen == nil {
		listen = transport.Listen
	}
	listener, advertise, err := listen(cfg.Bind, cfg.Advertise)
	if err != nil {
		return nil, err
	}
	undo := listener.Close
	defer func() {
		if err != nil {
			err = errors.Join(err, undo())
		}
	}()
	cfg.Advertise = advertise
	folder, err := lockFolder(cfg.Dir, cfg.AtRest, cfg.Logger)
	if err != nil {
		return nil, err
	}
	folder.fail.mark = cfg.Mark
	undo = func() error { return errors.Join(folder.Close(), listener.Close()) }
	id := folder.identity
	if err := id.checkOpen(cfg.Dir, cfg.Secret()); err != nil {
		return nil, err
	}
	folder.watchdog = newWatchdog(cfg.WriteTimeout, folder.fail)
	folder.reserved, folder.fsync = cfg.Reserved, cfg.Histograms.Fsync
	folder.segmentBytes = segmentBytes(cfg.SnapshotBytes)
	if id.isNew { // before the log, which is not opened without it
		if err := folder.saveIdentity(id); err != nil {
			return nil, err
		}
	}
	if err := folder.open(); err != nil {
		return nil, err
	}
	if err := folder.fail.guard(func() error { return folder.moveIfDue() }); err != nil {
		return nil, err
	}
	id = folder.identity
	s := &Store{
		dataFolder: folder, cfg: cfg, id: id.ID, boot: id.Boot + 1,
		due: make(chan struct{}, 1), reads: make(chan struct{}, 1),
		closed: make(chan struct{}), stop: make(chan struct{}),
	}
	s.machine = &machine{
		log: s.log, fail: s.fail, histogram: cfg.Histograms.Apply,
		changed: &s.changed, termBegan: &s.leaderChanged, due: s.due, state: masterfsm.New(),
		policy: snapshotPolicy{entries: cfg.SnapshotEntries, bytes: cfg.SnapshotBytes},
	}
	s.machine.level.Store(id.Level)
	if err := s.openStarts(id); err != nil {
		return nil, err
	}
	if err := s.fail.guard(s.votes.addChecksums); err != nil {
		return nil, err
	}
	id.Boot, id.VoteSums = s.boot, true
	if len(id.Key) == 0 {
		id.Key = joining.NewKey().Seed()
	}
	if s.key, err = joining.KeyOf(id.Key); err != nil {
		return nil, fmt.Errorf("%w: %s has a key that cannot be used: %w", ErrDisk, cfg.Dir, err)
	}
	if err := s.saveIdentity(id); err != nil {
		return nil, err
	}
	s.stream = transport.New(transport.Config{
		Listener: listener, Self: id.ID, Advertise: advertise, Keys: transport.KeysOf(cfg.Secret),
		Starts: s.starts, Level: s.machine.level.Load,
		AddressOf: s.addressOf, Addresses: s.addresses, Term: s.currentTerm, Stale: s.refuse, Log: s.log,
		Failed:       s.streamFailed,
		FailedSyncOf: s.failedSyncOf, MustStop: s.mustStop, Dial: cfg.dial, TLS: cfg.TLS, Mode: cfg.Mode,
	})
	undo = s.Close
	switch {
	case id.Stale:
		s.refuse(errors.New("it was refused before"))
	case id.Group != "":
		if err := s.startRaft(); err != nil {
			return nil, err
		}
	default:
		if err := s.fail.guard(s.checkUnused); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// SecretChanged closes the connections of raft that were opened under a value which is not accepted any more. Raft
// opens others at once.
func (s *Store) SecretChanged() { s.stream.CloseUnaccepted() }

// ChangeTLS follows a change of the step of TLS: see [transport.Stream.ChangeTLS].
func (s *Store) ChangeTLS(step wire.TLSStep) { s.stream.ChangeTLS(step) }

// CheckTLS checks that the raft port of a member speaks TLS: see [transport.Stream.CheckTLS].
func (s *Store) CheckTLS(ctx context.Context, member, hostPort string) error {
	return s.stream.CheckTLS(ctx, member, hostPort)
}

// openStarts opens the file of starts, which must exist once the group is at the level that needs it.
func (s *Store) openStarts(id identity) (err error) {
	s.starts, err = transport.OpenStarts(startsPath(s.cfg.Dir), id.Level >= masterfsm.LevelIdentities)
	switch {
	case err == nil:
		s.starts.Watch = s.watchdog.watch
		return nil
	case errors.Is(err, durable.ErrNewerFormat):
		return err
	}
	return startsError(err)
}

// streamFailed reports a failure of the stream.
func (s *Store) streamFailed(err error) {
	if errors.Is(err, transport.ErrFailedSync) {
		s.fail.report(durable.SyncFailedError(s.cfg.Dir, err.Error()))
		return
	}
	_ = s.reportStarts(err) // if it can be tried again, only this handshake failed
}

// failedSyncOf returns the kernel of the failed sync that the state has of a member.
func (s *Store) failedSyncOf(member string) (kernel transport.KernelDigest) {
	s.machine.read(func(state *masterfsm.State) {
		if f := state.FailedSyncOf(member); f.ID != "" {
			kernel = transport.DigestKernel(f.Kernel)
		}
	})
	return kernel
}

// mustStop reports whether this master must stop if a sync of its folder failed under a kernel. See
// [masterfsm.FailedSync.Forbids].
func (s *Store) mustStop(kernel transport.KernelDigest) bool {
	if kernel == (transport.KernelDigest{}) || s.cfg.Mark.Overridden() {
		return false
	}
	own := s.cfg.Mark.Kernel()
	return own == "" || kernel == transport.DigestKernel(own) || kernel == transport.DigestKernel("")
}

// Member describes this master. Its Group is "" while it is new.
func (s *Store) Member() wire.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	return wire.Member{
		ID: s.identity.ID, URL: s.cfg.URL, Raft: s.cfg.Advertise, Group: s.identity.Group, Epoch: s.identity.Epoch,
		Applied: s.Applied(),
	}
}

// Level is the highest protocol level of the group that this master has recorded in its folder or has in its state.
// After a start the state may be that of an older snapshot until raft has a leader.
func (s *Store) Level() uint64 { return s.machine.level.Load() }

// Boot returns how many times the data folder was opened.
func (s *Store) Boot() uint64 { return s.boot }

// Key returns the key of this master, which signs its announcements.
func (s *Store) Key() joining.Key { return s.key }

// Failed returns a channel that receives the error after which the master must stop, once. The error wraps [ErrDisk] or
// [masterfsm.ErrCommand]. The store does nothing after it.
func (s *Store) Failed() <-chan error { return s.fail.failed }

// closeAfterFailure is how long Close waits for operations in progress after a failure: a write that hangs never ends.
const closeAfterFailure = time.Second

// Close transfers the leadership, stops raft, and releases the port and the folder. It may be called more than once.
// After a failure it closes the connections at once, so that the other masters need not wait, and soon gives up on
// operations that hang: then the process must end.
func (s *Store) Close() error {
	s.once.Do(func() { s.err = s.close() })
	return s.err
}

func (s *Store) close() error {
	ended := make(chan error, 1)
	go func() { ended <- s.shutDown() }()
	select {
	case err := <-ended:
		return err
	case <-s.fail.dead:
	}
	err := s.stream.Close()
	select {
	case other := <-ended:
		return other
	case <-time.After(closeAfterFailure):
		return errors.Join(err,
			fmt.Errorf("%s is not released before the process ends: a read or write of it does not end", s.cfg.Dir))
	}
}

func (s *Store) shutDown() error {
	s.callsMu.Lock()
	s.closing = true
	s.callsMu.Unlock()
	close(s.closed)
	// After this, no start of raft is in progress, and none begins.
	s.mu.Lock()
	r := s.raft.Load()
	s.mu.Unlock()

	if r != nil {
		if s.fail.get() == nil && r.State() == raft.Leader {
			if err := r.LeadershipTransfer().Error(); err != nil {
				s.log.Debug("leadership not transferred", "error", err)
			}
		}
		s.awaitCalls()
		s.renewLast(r)
	}
	down := s.shutDownRaft()
	err := s.stream.Close()
	err = errors.Join(err, down())
	close(s.stop)
	s.tasks.Wait()
	return errors.Join(err, s.dataFolder.Close())
}

// awaitCalls waits until raft has answered the calls in progress: after its shutdown it would never answer some of
// them. A leader that has lost its followers answers when its lease has ended.
func (s *Store) awaitCalls() {
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-s.fail.dead:
	case <-time.After(4*s.cfg.Timeout + time.Second):
		s.log.Warn("calls of raft still wait for an answer at shutdown")
	}
}

// enter registers a call of raft. The caller ends it with s.calls.Done.
func (s *Store) enter() (*raft.Raft, error) {
	s.callsMu.Lock()
	defer s.callsMu.Unlock()
	if s.closing || s.fail.get() != nil {
		return nil, ErrClosed
	}
	if err := s.Refused(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	r := s.raft.Load()
	if r == nil {
		return nil, fmt.Errorf("%w: it belongs to no group yet", ErrNotLeader)
	}
	s.calls.Add(1)
	return r, nil
}

// pause waits; it reports whether the store still runs.
func (s *Store) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-s.stop:
		return false
	}
}

// wake sends to a channel that has room for one value, unless it is full.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
