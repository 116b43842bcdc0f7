package httpapi

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
	"time"
)

// tlsRecord is the first byte of a handshake of TLS (RFC 8446 section 5.1). No method of HTTP begins with it.
const tlsRecord = 0x16

// sniffTime bounds the time until the first byte of a connection, as net/http does for the header of a request.
const sniffTime = 10 * time.Second

// sniffer is a listener whose connections have TLS. While plain allows it, a connection may also be in plain text: its
// first byte decides. A goroutine of each connection reads it, so that no client delays the others.
type sniffer struct {
	net.Listener
	config *tls.Config
	plain  func() bool
	ready  chan arrival
	closed chan struct{}
	close  sync.Once
	tasks  sync.WaitGroup

	mu      sync.Mutex // guards waiting
	waiting map[net.Conn]struct{}
}

// arrival is what Accept returns.
type arrival struct {
	conn net.Conn
	err  error
}

func newSniffer(l net.Listener, config *tls.Config, plain func() bool) *sniffer {
	if plain == nil {
		plain = func() bool { return false }
	}
	s := &sniffer{
		Listener: l, config: config, plain: plain, ready: make(chan arrival), closed: make(chan struct{}),
		waiting: map[net.Conn]struct{}{},
	}
	s.tasks.Go(s.acceptAll)
	return s
}

// acceptAll accepts connections until the listener is closed. After an error the server decides whether it goes on.
func (s *sniffer) acceptAll() {
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
func (s *sniffer) await(conn net.Conn) bool {
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
func (s *sniffer) deliver(a arrival) bool {
	select {
	case s.ready <- a:
		return true
	case <-s.closed:
		return false
	}
}

// sniff reads the first byte of a connection.
func (s *sniffer) sniff(conn net.Conn) {
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
	s.mu.Unlock()
	if err != nil {
		_ = conn.Close() // it sent nothing
		return
	}
	whole := net.Conn(p)
	if p.first[0] == tlsRecord || !s.plain() { // then package http says that it speaks TLS
		whole = tls.Server(p, s.config)
	}
	if !s.deliver(arrival{conn: whole}) {
		_ = conn.Close()
	}
}

// Accept implements [net.Listener].
func (s *sniffer) Accept() (net.Conn, error) {
	select {
	case a := <-s.ready:
		return a.conn, a.err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. It closes the connections that have sent nothing, and waits for their goroutines.
func (s *sniffer) Close() (err error) {
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
	first [1]byte
	taken bool // first was read from it; used by its reader alone
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
