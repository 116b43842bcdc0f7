package transport

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Config is the configuration of a stream. All fields are needed, unless they say otherwise.
type Config struct {
	Listener  net.Listener
	Self      string // this master's member id
	Advertise string // where the others reach it, host:port
	// Keys returns those that are accepted, the one to prove first: see [NewKey].
	Keys   func() []Key
	Starts *Starts
	Level  func() uint64 // returns the group's protocol level, as far as this master knows
	// AddressOf returns the address that raft's configuration has for a member, host:port, or "".
	AddressOf func(member string) string
	// Addresses returns the addresses of all members that raft's configuration has, host:port.
	Addresses func() []string
	// Term returns raft's current term on this master, or false if this master takes no part in the group.
	Term  func() (uint64, bool)
	Stale func(error) // called when a peer reports that this master's data folder is an older copy
	// Failed is called when a start cannot be written, or when another member knows of a failed sync of this master.
	// The error wraps [ErrStarts] or [ErrFailedSync].
	Failed func(error)
	// FailedSyncOf returns the kernel of the failed sync that the state has of a member.
	FailedSyncOf func(member string) KernelDigest
	// MustStop reports whether this master must stop if a sync of its folder failed under a kernel.
	MustStop func(KernelDigest) bool
	TLS      TLS  // nil for none
	Mode     Mode // nil for a group that is never moved to TLS
	// Dial opens a connection; nil for TCP.
	Dial func(ctx context.Context, network, hostPort string) (net.Conn, error)
	Log  hclog.Logger
}

// Stream is raft's stream layer ([raft.StreamLayer]). Any goroutine may call its methods.
type Stream struct {
	cfg  Config
	addr streamAddr

	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	ready  chan net.Conn // connections that raft may have
	tasks  sync.WaitGroup
	gate   gate

	mu        sync.Mutex // guards all below
	disabled  bool       // no connection is accepted or opened any more
	group     string     // "" while this master is new: then no connection is accepted
	raftOpen  bool       // connections are for raft too, and not only for announcements
	conns     map[*conn]struct{}
	versions  map[string]byte // the highest version of the handshake that a member has used, whatever the level
	contacts  map[string]*contact
	addresses map[string]string // see SetAddress
	questions map[string]*termLink
	proven    map[proofOf]netip.Addr
	refused   map[string]bool // the callers of these names did not accept the key that this side proved
	spoken    map[string]bool // by host:port: it spoke TLS, in the present step
	warned    time.Time
}

var _ raft.StreamLayer = (*Stream)(nil)

// New returns a stream that accepts connections from cfg.Listener and closes the listener in the end. It serves no
// group until [Stream.OpenForAnnouncements] or [Stream.Open] is called.
func New(cfg Config) *Stream {
	if cfg.Mode == nil {
		cfg.Mode = unmoved{plain: cfg.TLS == nil}
	}
	s := &Stream{
		cfg: cfg, addr: streamAddr(ServerAddress(cfg.Self, cfg.Advertise)),
		ready: make(chan net.Conn), proven: map[proofOf]netip.Addr{}, refused: map[string]bool{},
		spoken: map[string]bool{},
		conns:  map[*conn]struct{}{}, versions: map[string]byte{}, contacts: map[string]*contact{},
		addresses: map[string]string{}, questions: map[string]*termLink{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.acceptAll)
	return s
}

// OpenForAnnouncements opens the stream for the announcements of a group's members, in both directions.
func (s *Stream) OpenForAnnouncements(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group = group
}

// Open opens the stream for the members of a group, for announcements and for raft.
func (s *Stream) Open(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group, s.raftOpen = group, true
}

// Disable closes all connections. None is opened or accepted after it, even if Open is called later.
func (s *Stream) Disable() {
	s.mu.Lock()
	s.disabled = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // raft may have closed it in between
	}
}

// Addr returns this master's raft address.
func (s *Stream) Addr() net.Addr { return s.addr }

// Close closes the listener and every connection, and waits for the stream's goroutines. It may be called more than
// once.
func (s *Stream) Close() error {
	s.cancel()
	err := s.cfg.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.Disable()
	s.tasks.Wait()
	return err
}

// current returns the group, and whether connections are for raft too.
func (s *Stream) current() (group string, raftOpen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disabled {
		return "", false
	}
	return s.group, s.raftOpen
}

// report reports an error of a handshake that concerns this master itself.
func (s *Stream) report(err error) {
	switch {
	case errors.Is(err, errStaleFolder):
		s.cfg.Stale(err)
	case errors.Is(err, ErrStarts), errors.Is(err, ErrFailedSync):
		s.cfg.Failed(err)
	}
}

// pause waits; it reports whether the stream is still open.
func (s *Stream) pause(d time.Duration) bool {
	if d <= 0 {
		return s.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
