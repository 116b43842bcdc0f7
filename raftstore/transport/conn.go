package transport

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
)

// conn is a connection that its stream tracks, so that the stream can close it.
type conn struct {
	net.Conn          // with TLS if the stream has it
	plain    net.Conn // the same without
	stream   *Stream
	dialled  string // host:port; "" if the other side opened the connection
	keys     []Key  // that are accepted, the one to prove first; of this connection only if it has TLS
	key      Key    // the one of keys that the handshake uses
	from     []Key  // those of the stream that keys are derived from, in the same order

	// Of the other side; the stream's mu guards them.
	member           string
	previous, opener Start // the start of it that was accepted before, and the one that opened this connection
	proven           Key   // the key of the stream that the handshake uses; nil before
	inPlain          bool  // the handshake of masters is done in plain text

	incoming incoming
}

// track registers a connection with the stream. It closes the connection at once when the stream is closed. secured
// says whether one that this side dialled gets TLS.
func (s *Stream) track(plain net.Conn, dialled string, secured bool) (*conn, error) {
	whole, err := s.withTLS(plain, dialled, secured)
	if err != nil {
		return nil, errors.Join(err, plain.Close())
	}
	c := &conn{Conn: whole, plain: plain, stream: s, dialled: dialled, from: s.cfg.Keys()}
	c.keys = c.from
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

// RemoteAddr is that of the connection without TLS, which never changes.
func (c *conn) RemoteAddr() net.Addr { return c.plain.RemoteAddr() }

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

// use chooses the key of a handshake by its place.
func (c *conn) use(i int) {
	c.key = c.keys[i]
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.proven = c.from[i]
}

// useAny chooses the key with which this side proves itself to a caller that has proven nothing yet: the first, and any
// if a caller of that name did not accept the first once. The name is not proven, so a stranger must not be able to
// choose the key: it could hold back a master that accepts only one of them.
func (c *conn) useAny(caller string) {
	c.stream.mu.Lock()
	refused := c.stream.refused[caller] || len(c.stream.refused) >= maxRefused
	c.stream.mu.Unlock()
	if refused {
		c.use(rand.IntN(len(c.keys)))
		return
	}
	c.use(0)
}

// notAccepted records that a caller did not prove the key that this side has proven, unless it was only slow.
func (s *Stream) notAccepted(caller string, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refused) < maxRefused {
		s.refused[caller] = true
	}
}

// maxRefused bounds the callers that refused has. Above it any caller may be one.
const maxRefused = 64

// accepts reports whether a key is accepted now.
func (s *Stream) accepts(k Key) bool {
	return slices.ContainsFunc(s.cfg.Keys(), func(o Key) bool { return hmac.Equal(o, k) })
}

// checkProven returns an error if the key of a handshake that has just ended is not accepted any more.
func (s *Stream) checkProven(c *conn) error {
	if !s.accepts(c.proven) {
		return fmt.Errorf("%w: the secret was replaced meanwhile", errHandshake)
	}
	return nil
}

// CloseUnaccepted closes the connections whose key is not accepted any more. Raft and the questions for terms open
// others.
func (s *Stream) CloseUnaccepted() {
	s.mu.Lock()
	var closing []*conn
	for c := range s.conns {
		if c.proven != nil && !s.accepts(c.proven) {
			closing = append(closing, c)
		}
	}
	s.mu.Unlock()
	for _, c := range closing {
		_ = c.Close() // raft may have closed it in between
	}
}
