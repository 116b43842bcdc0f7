package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	handshakeTime    = 3 * time.Second
	metTime          = time.Second // for an address that may be wrong
	maxHandshakes    = 64          // under way at once; more are dropped
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

// stream is raft's stream layer: TCP connections that open with the handshake.
type stream struct {
	listener net.Listener
	self     string
	addr     streamAddr
	key      handshakeKey
	log      hclog.Logger

	ctx    context.Context // ends with the stream
	cancel context.CancelFunc
	ready  chan net.Conn // connections that raft may have
	slots  chan struct{} // one for each handshake under way
	tasks  sync.WaitGroup

	mu          sync.Mutex // guards all below
	group       string     // "" while this master is new: then no connection is taken
	conns       map[*streamConn]struct{}
	unreachable map[string]bool   // members that the last dial did not get through to
	met         map[string]string // member id to raft address, of members that were met elsewhere than raft's configuration says
	warned      time.Time
}

// newStream takes over a listener.
func newStream(listener net.Listener, self, advertise string, key handshakeKey, log hclog.Logger) *stream {
	s := &stream{
		listener: listener, self: self, addr: streamAddr(serverAddress(self, advertise)), key: key, log: log,
		ready: make(chan net.Conn), slots: make(chan struct{}, maxHandshakes),
		conns: map[*streamConn]struct{}{}, unreachable: map[string]bool{}, met: map[string]string{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.tasks.Go(s.acceptAll)
	return s
}

// open lets the members of a group in.
func (s *stream) open(group string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group = group
}

func (s *stream) currentGroup() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.group
}

// streamConn is a connection that its stream knows of, so that it can close it.
type streamConn struct {
	net.Conn
	stream *stream
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
	if s.ctx.Err() != nil {
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
	group := s.currentGroup()
	if err := c.SetDeadline(time.Now().Add(handshakeTime)); err != nil {
		s.drop(c, err)
		return
	}
	if _, err := s.key.answer(c, group, s.self); err != nil {
		s.drop(c, err)
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
		conn, err := s.dialAnywhere(ctx, member, hostPort)
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
func (s *stream) dialAnywhere(ctx context.Context, member, hostPort string) (net.Conn, error) {
	s.mu.Lock()
	met := s.met[member]
	s.mu.Unlock()
	if met == "" || met == hostPort {
		return s.dialOnce(ctx, member, hostPort)
	}
	quick, cancel := context.WithTimeout(ctx, metTime)
	conn, err := s.dialOnce(quick, member, met)
	cancel()
	if err == nil {
		return conn, nil
	}
	conn, other := s.dialOnce(ctx, member, hostPort)
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

func (s *stream) dialOnce(ctx context.Context, member, hostPort string) (net.Conn, error) {
	group := s.currentGroup()
	if group == "" {
		return nil, fmt.Errorf("%w: this master is new", errHandshake)
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
		err = s.key.call(c, hello{group: group, caller: s.self, callee: member})
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
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
