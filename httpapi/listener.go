package httpapi

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// ConnectionLimits bound the connections of a server.
type ConnectionLimits struct {
	Total      int
	PerAddress int // from one IPv4 address, or one IPv6 network of 64 bits
}

// Connections counts the connections of a [Listener].
type Connections struct {
	Open    int    // now
	Closed  uint64 // closed for a newer one, without a valid token
	Refused uint64 // closed at once: every other one had a valid token
}

// Listener bounds the connections of a server. A new connection is always admitted if one of the others has never
// carried a valid token: it replaces the oldest such. At most 7/8 of the connections, in total and of an address, are
// kept from replacement by a project's token. The rest is there for newcomers, so a node or the administrator gets in,
// and a connection that has carried such a token is never replaced and does not count for its address.
type Listener struct {
	net.Listener
	limits ConnectionLimits
	log    hclog.Logger
	unsent func(net.Conn) int64 // bytes that the other side has not acknowledged, 0 if that is not known

	mu        sync.Mutex // guards all below, and the fields of connections that say so
	open      int
	strangers list.List // of *connection, the oldest first
	users     int
	addresses map[netip.Prefix]*address
	counts    Connections
	warned    time.Time
}

// address is the connections of one address, without those of nodes.
type address struct {
	strangers list.List // of *connection, the oldest first
	users     int
}

// Standing is what the requests of a connection have proven.
type Standing int32

// The standings, each higher than the one before it.
const (
	Stranger Standing = iota // no valid token
	User                     // a project's token
	Node                     // the token of a node or of the administrator
)

// warningInterval is the least time between two warnings about connections or requests that are refused.
const warningInterval = time.Minute

// Limit returns a listener whose connections are limited.
func Limit(l net.Listener, limits ConnectionLimits, log hclog.Logger) *Listener {
	return &Listener{
		Listener: l, limits: limits, log: log.Named("http"), unsent: unsent,
		addresses: map[netip.Prefix]*address{},
	}
}

// Connections returns the counts.
func (l *Listener) Connections() Connections {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Open = l.open
	return c
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	for {
		plain, err := l.Listener.Accept()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.noDescriptor(err)
		}
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: plain, listener: l, host: addressOf(plain)}
		replaced, ok := l.admit(c)
		if replaced != nil {
			_ = replaced.Close()
		}
		if ok {
			return c, nil
		}
		_ = plain.Close()
	}
}

// admit registers a connection. It returns the connection that must be closed for it, or false if there is no room.
func (l *Listener) admit(c *connection) (replaced *connection, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.addresses[c.host]
	if a == nil {
		a = &address{}
		l.addresses[c.host] = a
	}
	switch {
	case a.strangers.Len()+a.users >= l.limits.PerAddress:
		if replaced = oldestOf(&a.strangers); replaced == nil {
			l.counts.Refused++
			l.warn("connections from an address are refused: all it may have carry valid tokens",
				"address", c.host.Addr().String(), "limit", l.limits.PerAddress)
			return nil, false
		}
	case l.open >= l.limits.Total:
		if replaced = oldestOf(&l.strangers); replaced == nil {
			l.counts.Refused++
			l.warn("connections are refused: all open ones carry valid tokens", "limit", l.limits.Total)
			l.forgetAddress(c.host, a)
			return nil, false
		}
	}
	if replaced != nil {
		l.counts.Closed++
		l.remove(replaced)
		l.warn("too many connections: the oldest ones without a valid token are closed",
			"from", c.host.Addr().String(), "open", l.open, "limit", l.limits.Total,
			"of_address", a.strangers.Len()+a.users, "limit_per_address", l.limits.PerAddress)
		l.addresses[c.host] = a
	}
	l.open++
	c.inAll, c.inAddress = l.strangers.PushBack(c), a.strangers.PushBack(c)
	c.counted = true
	return replaced, true
}

// oldestOf returns the oldest connection of a list, or nil.
func oldestOf(of *list.List) *connection {
	if front := of.Front(); front != nil {
		return front.Value.(*connection)
	}
	return nil
}

// remove takes a connection out of the counts. The caller holds mu.
func (l *Listener) remove(c *connection) {
	if !c.counted {
		return
	}
	c.counted = false
	l.open--
	a := l.addresses[c.host]
	switch Standing(c.standing.Load()) {
	case Stranger:
		l.strangers.Remove(c.inAll)
		a.strangers.Remove(c.inAddress)
	case User:
		l.users--
		a.users--
	case Node:
		return
	}
	l.forgetAddress(c.host, a)
}

// forgetAddress drops an address without connections. The caller holds mu.
func (l *Listener) forgetAddress(host netip.Prefix, a *address) {
	if a.strangers.Len() == 0 && a.users == 0 {
		delete(l.addresses, host)
	}
}

// raise raises the standing of a connection, if there is room.
func (l *Listener) raise(c *connection, to Standing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := Standing(c.standing.Load())
	if !c.counted || was >= to {
		return
	}
	a := l.addresses[c.host]
	if to == User && (l.users >= mayHold(l.limits.Total) || a.users >= mayHold(l.limits.PerAddress)) {
		return
	}
	switch was {
	case Stranger:
		l.strangers.Remove(c.inAll)
		a.strangers.Remove(c.inAddress)
	case User:
		l.users--
		a.users--
	}
	if to == User {
		l.users++
		a.users++
	} else {
		l.forgetAddress(c.host, a)
	}
	c.standing.Store(int32(to))
}

// mayHold returns how many of a number of connections users may keep from replacement.
func mayHold(limit int) int { return limit - max(1, limit/8) }

// noDescriptor closes the oldest connection without a valid token, so that the next one can be accepted.
func (l *Listener) noDescriptor(err error) {
	l.mu.Lock()
	c := oldestOf(&l.strangers)
	if c != nil {
		l.counts.Closed++
		l.remove(c)
	}
	l.warn("connections cannot be accepted: raise the limit of open files, or lower --max-connections",
		"open", l.open, "error", err)
	l.mu.Unlock()
	if c != nil {
		_ = c.Close()
	}
}

// warn logs a warning at most once in warningInterval. The caller holds mu.
func (l *Listener) warn(text string, args ...any) {
	if now := time.Now(); l.warned.IsZero() || now.Sub(l.warned) >= warningInterval {
		l.warned = now
		l.log.Warn(text, args...)
	}
}

// addressOf returns the address that a connection counts for.
func addressOf(c net.Conn) netip.Prefix {
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return counted(tcp.AddrPort().Addr())
}

// counted returns what an address counts as: an IPv4 address itself, and an IPv6 address as its network of 64 bits.
func counted(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // the zero Prefix for the zero Addr
	return prefix
}

// connectionKey is the key of a request's context for its connection.
type connectionKey struct{}

// withConnection is the context of the requests of a connection.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	if p, ok := c.(*peeked); ok {
		c = p.Conn
	}
	if c, ok := c.(*connection); ok {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	return ctx
}

// connectionOf returns the connection of a request, nil if it is not limited.
func connectionOf(r *http.Request) *connection {
	c, _ := r.Context().Value(connectionKey{}).(*connection)
	return c
}

// Proven records what the token of a request has proven about its sender.
func Proven(r *http.Request, s Standing) {
	if c := connectionOf(r); c != nil && Standing(c.standing.Load()) < s {
		c.listener.raise(c, s)
	}
}

// tlsRecord is the first byte of a handshake of TLS (RFC 8446 section 5.1). No method of HTTP begins with it.
const tlsRecord = 0x16

// sniffTime bounds the time until the first byte of a connection, as net/http does for the header of a request.
const sniffTime = 10 * time.Second

// SecureListener is a listener whose connections have TLS. While plain allows it, a connection may also be in plain
// text: its first byte decides. A goroutine of each connection reads it, so that no client delays the others.
type SecureListener struct {
	net.Listener
	config *tls.Config
	plain  func() bool
	ready  chan arrival
	closed chan struct{}
	close  sync.Once
	tasks  sync.WaitGroup

	mu      sync.Mutex // guards all below
	waiting map[net.Conn]struct{}
	inPlain map[*peeked]struct{} // the open connections in plain text
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

func newSecureListener(l net.Listener, config *tls.Config, plain func() bool) *SecureListener {
	if plain == nil {
		plain = func() bool { return false }
	}
	s := &SecureListener{
		Listener: l, config: config, plain: plain, ready: make(chan arrival), closed: make(chan struct{}),
		waiting: map[net.Conn]struct{}{}, inPlain: map[*peeked]struct{}{},
	}
	s.tasks.Go(s.acceptAll)
	return s
}

// acceptAll accepts connections until the listener is closed. After an error the server decides whether it goes on.
func (s *SecureListener) acceptAll() {
	for {
		conn, err := s.Listener.Accept()
		switch {
		case err != nil:
			if !s.deliver(arrival{err: err}) {
				return
			}
		case !s.plain():
			if !s.deliver(arrival{conn: tls.Server(conn, s.config)}) {
				_ = conn.Close()
				return
			}
		default:
			if !s.await(conn) {
				_ = conn.Close()
				return
			}
			s.tasks.Go(func() { s.sniff(conn) })
		}
	}
}

// await notes a connection that has sent nothing. It returns false if the listener is closed.
func (s *SecureListener) await(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return false
	default:
		s.waiting[conn] = struct{}{}
		return true
	}
}

// deliver hands a connection or an error to Accept. It returns false if the listener is closed.
func (s *SecureListener) deliver(a arrival) bool {
	select {
	case s.ready <- a:
		return true
	case <-s.closed:
		return false
	}
}

// sniff reads the first byte of a connection.
func (s *SecureListener) sniff(conn net.Conn) {
	p := &peeked{Conn: conn}
	err := conn.SetReadDeadline(time.Now().Add(sniffTime))
	if err == nil {
		_, err = io.ReadFull(conn, p.first[:])
	}
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	s.mu.Lock()
	delete(s.waiting, conn)
	secured := p.first[0] == tlsRecord || !s.plain() // if it is in plain text, package http says that it speaks TLS
	if err == nil && !secured {
		p.listener = s
		s.inPlain[p] = struct{}{} // from now on ClosePlain closes it
	}
	s.mu.Unlock()
	if err != nil {
		_ = conn.Close() // it sent nothing
		return
	}
	whole := net.Conn(p)
	if secured {
		whole = tls.Server(p, s.config)
	}
	if !s.deliver(arrival{conn: whole}) {
		_ = p.Close()
	}
}

// ClosePlain closes the open connections in plain text, such as those of long answers. It must be called when plain has
// become false. A client asks again, and is refused.
func (s *SecureListener) ClosePlain() {
	s.mu.Lock()
	closing := slices.Collect(maps.Keys(s.inPlain))
	s.mu.Unlock()
	for _, p := range closing {
		_ = p.Close() // the server may have closed it in between
	}
}

// Accept implements [net.Listener].
func (s *SecureListener) Accept() (net.Conn, error) {
	select {
	case a := <-s.ready:
		return a.conn, a.err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. It closes the connections that have sent nothing, and waits for their goroutines.
func (s *SecureListener) Close() (err error) {
	s.close.Do(func() {
		close(s.closed)
		err = s.Listener.Close()
		s.mu.Lock()
		for conn := range s.waiting {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.tasks.Wait()
	})
	return err
}

// peeked is a connection whose first byte was read.
type peeked struct {
	net.Conn
	first    [1]byte
	taken    bool            // first was read from it; used by its reader alone
	listener *SecureListener // that keeps it as one in plain text; nil with TLS
}

// Close implements [net.Conn].
func (p *peeked) Close() error {
	if l := p.listener; l != nil {
		l.mu.Lock()
		delete(l.inPlain, p)
		l.mu.Unlock()
	}
	return p.Conn.Close()
}

// Read implements [net.Conn].
func (p *peeked) Read(b []byte) (int, error) {
	if p.taken || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.taken = true
	return copy(b, p.first[:]), nil
}

// CloseWrite lets net/http end an answer before it closes the connection.
func (p *peeked) CloseWrite() error {
	if c, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}
