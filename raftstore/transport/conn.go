package transport

import (
	"errors"
	"net"
)

// conn is a connection that its stream tracks, so that the stream can close it.
type conn struct {
	net.Conn          // with TLS if the stream has it
	plain    net.Conn // the same without
	stream   *Stream
	dialled  string // host:port; "" if the other side opened the connection
	key      Key    // proves the cluster token, on this connection only if it has TLS

	// Of the other side; the stream's mu guards them.
	member           string
	previous, opener Start // the start of it that was accepted before, and the one that opened this connection

	incoming incoming
}

// track registers a connection with the stream. It closes the connection at once when the stream is closed.
func (s *Stream) track(plain net.Conn, dialled string) (*conn, error) {
	whole, err := s.withTLS(plain, dialled)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	c := &conn{Conn: whole, plain: plain, stream: s, dialled: dialled, key: s.cfg.Key}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil || s.disabled {
		return nil, errors.Join(net.ErrClosed, plain.Close())
	}
	s.conns[c] = struct{}{}
	return c, nil
}

// Close closes the connection at once: with TLS it sends no alert, which could block. Every message of raft says how
// long it is.
func (c *conn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.conns, c)
	c.stream.mu.Unlock()
	return c.plain.Close()
}

// identify records which start of which member is at the other side.
func (c *conn) identify(member string, previous, opener Start) {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.member, c.previous, c.opener = member, previous, opener
}

// closeReplaced closes the connections that earlier starts of c's member have opened, if c's start is a new one: two
// processes must not alternate as one member. version is that of c's handshake.
func (s *Stream) closeReplaced(c *conn, version byte) {
	s.mu.Lock()
	s.versions[c.member] = max(version, s.versions[c.member])
	var others []*conn
	if c.previous.id != (Start{}).id && c.previous.id != c.opener.id {
		for other := range s.conns {
			if other.member == c.member && other.opener.id != c.opener.id {
				others = append(others, other)
			}
		}
	}
	s.mu.Unlock()
	for _, other := range others {
		_ = other.Close() // raft may have closed it in between
	}
}
