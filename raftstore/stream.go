package raftstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
)

const (
	handshakeTime    = 3 * time.Second
	metTime          = time.Second // for an address that may be wrong
	probeTime        = 500 * time.Millisecond
	maxHandshakes    = 64 // under way at once; more are dropped
	firstRedial      = 10 * time.Millisecond
	slowestRedial    = 100 * time.Millisecond
	warnAboutCallers = 10 * time.Second // between two warnings
)

// serverAddress is a master's address in raft: "memberid@host:port".
func serverAddress(member, hostPort string) raft.ServerAddress {
	return raft.ServerAddress(member + "@" + hostPort)
}

func splitAddress(a raft.ServerAddress) (member, hostPort string, err error) {
	member, hostPort, ok := strings.Cut(string(a), "@")
	if !ok || member == "" || hostPort == "" {
		return "", "", fmt.Errorf("raft address %q is not memberid@host:port", a)
	}
	return member, hostPort, nil
}

// streamAddr is this master's own address, as raft tells it to the others.
type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }

// streamConfig is what a stream is made of.
type streamConfig struct {
	listener  net.Listener
	self      string // member id
	advertise string // where the others reach it, host:port
	key       handshakeKey
	starts    *starts
	level     func() uint64 // the group's protocol level, as far as this master knows
	// addressOf is where raft's configuration has a member, host:port, "" where it has none.
	addressOf func(member string) string
	stale     func(error) // called when this master's data folder turns out to be an older copy
	failed    func(error) // called when a start cannot be written down
	log       hclog.Logger
}

// stream is raft's stream layer: TCP connections that open with the handshake.
type stream struct {
	streamConfig
	addr streamAddr

	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	ready  chan net.Conn // connections that raft may have
	slots  chan struct{} // one for each handshake under way
	tasks  sync.WaitGroup

	mu          sync.Mutex // guards all below
	over        bool       // no connection is taken or opened any more
	group       string     // "" while this master is new: then no connection is taken
	forRaft     bool       // connections are for raft too, and not only for announcements
	conns       map[*streamConn]struct{}
	withStarts  map[string]bool   // members that open connections with version 2 of the handshake, whatever the level
	unreachable map[string]bool   // members that the last dial did not get through to
	met         map[string]string // member id to raft address, of members that were met elsewhere than raft's configuration says
	warned      time.Time
}

// newStream takes over a listener.
func newStream(cfg streamConfig) *stream {
	s := &stream{
		streamConfig: cfg, addr: streamAddr(serverAddress(cfg.self, cfg.advertise)),
		ready: make(chan net.Conn), slots: make(chan struct{}, maxHandshakes),
		conns: map[*streamConn]struct{}{}, withStarts: map[string]bool{}, unreachable: map[string]bool{}, met: map[string]string{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.acceptAll)
	return s
}

// announce lets the members of a group tell this one their starts, and this one tell them its own; connections are for nothing else.
func (s *stream) announce(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group = group
}

// open lets the members of a group in.
func (s *stream) open(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group, s.forRaft = group, true
}

// shut ends all connections. None is opened or taken from now on, whatever follows.
func (s *stream) shut() {
	s.mu.Lock()
	s.over = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // raft may have closed it in between
	}
}

// current is the group, and whether connections are for raft too.
func (s *stream) current() (group string, forRaft bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return "", false
	}
	return s.group, s.forRaft
}

// streamConn is a connection that its stream knows of, so that it can close it.
type streamConn struct {
	net.Conn
	stream *stream

	// Of the other side; the stream's mu guards them.
	member        string
	before, start start // the start of it that was accepted last, and the one that opened this connection
}

// opened notes whose connection it is.
func (c *streamConn) opened(member string, before, now start) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.member, c.before, c.start = member, before, now
}

// replace closes the connections of a member that an earlier start of it has opened, where this one has opened a connection in place of that:
// two processes must not take turns as one member.
func (s *stream) replace(c *streamConn) {
	s.mu.Lock()
	s.withStarts[c.member] = true
	var others []*streamConn
	if c.before.id != (start{}).id && c.before.id != c.start.id {
		for other := range s.conns {
			if other.member == c.member && other.start.id != c.start.id {
				others = append(others, other)
			}
		}
	}
	s.mu.Unlock()
	for _, other := range others {
		_ = other.Close() // raft may have closed it in between
	}
}

func (c *streamConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// track makes the stream know of a connection. It closes it at once when the stream is closed.
func (s *stream) track(conn net.Conn) (*streamConn, error) {
	c := &streamConn{Conn: conn, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || s.over {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// acceptAll takes connections and gives each to a goroutine for its handshake.
func (s *stream) acceptAll() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			if s.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			s.log.Warn("cannot take a raft connection", "error", err)
			if !s.pause(slowestRedial) {
				return
			}
			continue
		}
		c, err := s.track(conn)
		if err != nil {
			return
		}
		select {
		case s.slots <- struct{}{}:
			s.tasks.Go(func() {
				defer func() { <-s.slots }()
				s.welcome(c)
			})
		default:
			s.drop(c, errors.New("too many handshakes under way"))
		}
	}
}

// welcome does the callee's part of a handshake and hands the connection to raft.
func (s *stream) welcome(c *streamConn) {
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		s.drop(c, err)
		return
	}
	switch purpose, err := s.answer(c); {
	case err != nil:
		s.report(err)
		s.drop(c, err)
		return
	case purpose != purposeRaft:
		_ = c.Close() // it has told what it was opened for
		return
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		s.drop(c, err)
		return
	}
	select {
	case s.ready <- c:
	case <-s.ctx.Done():
		s.drop(c, net.ErrClosed)
	}
}

// answer does the callee's part of a handshake, in the version that the caller speaks.
func (s *stream) answer(c *streamConn) (purpose byte, err error) {
	group, forRaft := s.current()
	h, raw, err := readHello(c)
	if err == nil {
		err = h.meant(group, s.self)
	}
	switch {
	case err != nil:
		return 0, err
	case raw[len(helloMagic)] == helloVersionStarts:
		purpose, err = s.key.answerWithStart(c, h, raw, s.acquaintance(c, h.caller, ""))
		if err != nil || purpose == purposeProbe {
			return purpose, err
		}
		s.replace(c)
		if purpose == purposeRaft && !forRaft {
			return 0, errStarting
		}
		return purpose, nil
	case s.level() >= masterfsm.LevelIdentities:
		return 0, fmt.Errorf("%w: master %s runs an older version of ChainStore, the group is at protocol level %d", errHandshake, h.caller, s.level())
	case !forRaft:
		return 0, errStarting
	}
	c.opened(h.caller, start{}, start{})
	return purposeRaft, s.key.answer(c, raw)
}

// acquaintance is what the handshake of a connection goes by; dialled is the address that it was opened to, "" where the other side opened it.
func (s *stream) acquaintance(c *streamConn, member, dialled string) acquaintance {
	return acquaintance{
		starts: s.starts,
		runs:   func(before start) bool { return s.runs(member, before, dialled) },
		opened: func(before, now start) { c.opened(member, before, now) },
	}
}

// runs reports whether a start of a member runs at an address at which it is known, other than the one that was dialled. It is asked when
// another start of the member appears: as a rule that is the same folder, started again at the same address.
func (s *stream) runs(member string, x start, dialled string) bool {
	s.mu.Lock()
	met := s.met[member]
	s.mu.Unlock()
	for _, hostPort := range slices.Compact([]string{s.addressOf(member), met}) {
		if hostPort != "" && hostPort != dialled && s.probe(member, hostPort).id == x.id {
			return true
		}
	}
	return false
}

// probe asks which start of a member runs at an address: the zero start where none answers.
func (s *stream) probe(member, hostPort string) start {
	ctx, cancel := context.WithTimeout(s.ctx, probeTime)
	defer cancel()
	group, _ := s.current()
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", hostPort)
	if err != nil {
		return start{}
	}
	c, err := s.track(plain)
	if err != nil {
		return start{}
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return start{}
	}
	_, _, now, _, err := s.key.ask(c, hello{group: group, caller: s.self, callee: member}, purposeProbe, s.starts)
	if err != nil {
		return start{}
	}
	return now
}

// errStarting: this master has not heard its peers yet.
var errStarting = fmt.Errorf("%w: this master is still starting", errHandshake)

// report passes on what a handshake has told of this master itself.
func (s *stream) report(err error) {
	switch {
	case errors.Is(err, errStaleFolder):
		s.stale(err)
	case errors.Is(err, ErrDisk):
		s.failed(err)
	}
}

// drop closes a connection that does not fit, and warns of it now and then.
func (s *stream) drop(c *streamConn, why error) {
	closeErr := c.Close()
	s.mu.Lock()
	warn := s.group != "" && s.ctx.Err() == nil && time.Since(s.warned) >= warnAboutCallers
	if warn {
		s.warned = time.Now()
	}
	s.mu.Unlock()
	if warn {
		s.log.Warn("raft connection dropped", "from", c.RemoteAddr().String(), "error", errors.Join(why, closeErr))
	}
}

// Accept gives raft the next connection that a member of the group opened to this one.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.ready:
		return c, nil
	case <-s.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Dial opens a connection to the member at an address. While there is time it tries again. When the time ends during an
// attempt, the error also says why the attempt before it failed: a refusal is the reason that an operator needs.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	member, hostPort, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	var before error // of the last attempt that ended before the deadline
	for pause := firstRedial; ; pause = min(2*pause, slowestRedial) {
		conn, err := s.dialAnywhere(ctx, member, hostPort, purposeRaft)
		s.reached(member, err == nil)
		if err == nil {
			return conn, nil
		}
		if time.Now().Before(deadline) {
			before = err
		} else if before != nil {
			err = fmt.Errorf("%w (the attempt before it: %w)", err, before)
		}
		if time.Until(deadline) < pause || !s.pause(pause) {
			return nil, fmt.Errorf("master %s at %s: %w", member, hostPort, err)
		}
	}
}

// dialAnywhere dials the address at which a member was met, and the one that raft has of it.
func (s *stream) dialAnywhere(ctx context.Context, member, hostPort string, purpose byte) (net.Conn, error) {
	s.mu.Lock()
	met := s.met[member]
	s.mu.Unlock()
	if met == "" || met == hostPort {
		return s.dialOnce(ctx, member, hostPort, purpose)
	}
	quick, cancel := context.WithTimeout(ctx, metTime)
	conn, err := s.dialOnce(quick, member, met, purpose)
	cancel()
	if err == nil {
		return conn, nil
	}
	conn, other := s.dialOnce(ctx, member, hostPort, purpose)
	if other != nil {
		return nil, errors.Join(err, other)
	}
	return conn, nil
}

// meet notes where a member was met.
func (s *stream) meet(member, hostPort string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.met[member] = hostPort
}

func (s *stream) dialOnce(ctx context.Context, member, hostPort string, purpose byte) (net.Conn, error) {
	group, forRaft := s.current()
	switch {
	case group == "":
		return nil, fmt.Errorf("%w: this master is new", errHandshake)
	case purpose == purposeRaft && !forRaft:
		return nil, errStarting
	}
	var dialer net.Dialer
	plain, err := dialer.DialContext(ctx, "tcp", hostPort)
	if err != nil {
		return nil, err
	}
	c, err := s.track(plain)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(handshakeTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err = c.SetDeadline(deadline)
	if err == nil {
		err = s.call(c, hello{group: group, caller: s.self, callee: member}, hostPort, purpose)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		s.report(err)
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// call does the caller's part of a handshake: in version 2 where the group is at the level for it, or the callee has used it.
func (s *stream) call(c *streamConn, h hello, hostPort string, purpose byte) error {
	s.mu.Lock()
	withStart := s.withStarts[h.callee]
	s.mu.Unlock()
	if !withStart && s.level() < masterfsm.LevelIdentities {
		c.opened(h.callee, start{}, start{})
		return s.key.call(c, h)
	}
	err := s.key.callWithStart(c, h, purpose, s.acquaintance(c, h.callee, hostPort))
	if err == nil {
		s.replace(c)
	}
	return err
}

// pause waits; it reports whether the stream is still open.
func (s *stream) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

func (s *stream) reached(member string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		delete(s.unreachable, member)
	} else {
		s.unreachable[member] = true
	}
}

func (s *stream) isUnreachable(member string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unreachable[member]
}

// Addr is this master's raft address.
func (s *stream) Addr() net.Addr { return s.addr }

// Close closes the listener and every connection, and waits for the stream's goroutines. It may be called more than once.
func (s *stream) Close() error {
	s.cancel()
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.mu.Lock()
	conns := s.conns
	s.conns = map[*streamConn]struct{}{}
	s.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close() // raft may have closed it in between
	}
	s.tasks.Wait()
	return err
}
