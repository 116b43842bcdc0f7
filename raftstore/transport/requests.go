package transport

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// A member that opened a connection for raft sends a request on it, reads the answer, and then sends the next one. All
// bytes that arrive between two answers are of one request.
const (
	// requestGrace and leastRate bound how long this master waits for the rest of a request, besides the time in which
	// it does not read. The caller gives up earlier: see [outgoing] and, for a snapshot, 50 KB a second.
	requestGrace = 10 * time.Second
	leastRate    = 16 << 10 // bytes a second
	// requestBytes bounds a request without the state of a snapshot: 16 entries, each with a body of the largest kind.
	requestBytes = 1 << 30
)

// errRequestSize: a member sends more than one request may have.
var errRequestSize = errors.New("the request does not end")

// incoming is what has arrived of the request on a connection. The stream's mu guards it.
type incoming struct {
	raft   bool   // the connection is one on which a member sends requests of raft
	read   uint64 // bytes
	limit  uint64 // of read
	waited time.Duration
}

// Read reads the bytes of a request, or of anything else on another connection.
func (c *conn) Read(b []byte) (int, error) {
	c.stream.mu.Lock()
	r := c.incoming
	c.stream.mu.Unlock()
	if !r.raft {
		return c.Conn.Read(b)
	}
	var deadline time.Time // none before a request
	began := time.Now()
	if r.read > 0 {
		deadline = began.Add(requestGrace + time.Duration(float64(r.read)/leastRate*float64(time.Second)) - r.waited)
	}
	if r.read >= r.limit {
		return 0, fmt.Errorf("%w: %d bytes", errRequestSize, r.read)
	}
	if err := c.Conn.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b[:min(uint64(len(b)), r.limit-r.read)])
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	if r.read > 0 {
		c.incoming.waited += time.Since(began)
	}
	c.incoming.read += uint64(n)
	return n, err
}

// Write writes an answer, or anything else on another connection. The next bytes that arrive begin a request.
func (c *conn) Write(b []byte) (int, error) {
	c.stream.mu.Lock()
	if c.incoming.raft {
		c.incoming = incoming{raft: true, limit: requestBytes}
	}
	c.stream.mu.Unlock()
	return c.Conn.Write(b)
}

// takeRequests makes c a connection on which a member sends requests of raft.
func (c *conn) takeRequests() {
	c.stream.mu.Lock()
	defer c.stream.mu.Unlock()
	c.incoming = incoming{raft: true, limit: requestBytes}
}

// admit lets the requests that have begun have so many more bytes. Raft does not say on which connection a request
// came.
func (s *Stream) admit(bytes uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.incoming.read > 0 {
			c.incoming.limit += bytes
		}
	}
}

// CloseRequests closes the connections on which a request has begun and was not answered. It ends a snapshot that is
// not wanted: raft would read it to its end. The other requests are sent again.
func (s *Stream) CloseRequests() {
	s.mu.Lock()
	var begun []net.Conn
	for c := range s.conns {
		if c.incoming.read > 0 {
			begun = append(begun, c)
		}
	}
	s.mu.Unlock()
	for _, c := range begun {
		_ = c.Close() // raft may have closed it in between
	}
}
