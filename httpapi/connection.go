package httpapi

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

const (
	// slowest is the least rate at which a body must arrive, and an answer be taken, in bytes per second.
	slowest = 16 << 10
	// grace is how much longer that may take, and how long no byte at all may move.
	grace = 30 * time.Second
	// writePart is how much is written with one deadline, and writeStep how long that may take before it is checked
	// what the client has taken meanwhile.
	writePart = 16 << 10
	writeStep = 5 * time.Second
)

// connection is a connection of a [Listener]. It cuts off a client that takes an answer too slowly: see [slowest].
type connection struct {
	net.Conn
	listener         *Listener
	host             netip.Prefix
	standing         atomic.Int32 // a Standing; the listener's mu guards its changes
	inAll, inAddress *list.Element
	counted          bool // it is among the listener's; the listener's mu guards it

	shared atomic.Bool // it is of HTTP/2: its answers have accounts of their own, see pacedAnswer

	// Of the answer that is being written, or of all if it is shared. One goroutine at a time uses them.
	endless  bool
	written  int64         // to the kernel
	taken    int64         // by the client
	progress time.Time     // when the client was last seen to take something, or the write began
	blocked  time.Duration // time that the writes took
	deadline time.Time     // of the writes; zero for none

	// Packages http and tls set deadlines of writes too, from any goroutine. outside is theirs in unix nanoseconds, 0
	// for none, and reset says that theirs has replaced ours.
	outside atomic.Int64
	reset   atomic.Bool
}

// SetWriteDeadline implements [net.Conn]. It replaces the connection's own deadline until the next write or, if it is
// not zero, for good: a write that reaches it fails.
func (c *connection) SetWriteDeadline(t time.Time) error {
	c.noteDeadline(t)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements [net.Conn]: see SetWriteDeadline.
func (c *connection) SetDeadline(t time.Time) error {
	c.noteDeadline(t)
	return c.Conn.SetDeadline(t)
}

func (c *connection) noteDeadline(t time.Time) {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	c.outside.Store(at)
	c.reset.Store(true)
}

// Close implements [net.Conn].
func (c *connection) Close() error {
	c.listener.mu.Lock()
	c.listener.remove(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before it closes the connection.
func (c *connection) CloseWrite() error {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// Write implements [net.Conn]. The error wraps [os.ErrDeadlineExceeded] if the client takes the answer too slowly.
func (c *connection) Write(p []byte) (n int, err error) {
	began := time.Now()
	for c.progress = began; ; began = time.Now() {
		if err := c.extend(began); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+writePart, len(p))])
		n += m
		c.written += int64(m)
		c.blocked += time.Since(began)
		timedOut := errors.Is(err, os.ErrDeadlineExceeded)
		switch {
		case err != nil && (!timedOut || c.outside.Load() != 0), n == len(p):
			return n, err
		case (timedOut || c.blocked > grace) && !c.keepsUp():
			return n, fmt.Errorf("the client takes the answer too slowly: %w", os.ErrDeadlineExceeded)
		}
	}
}

// keepsUp reports whether the client takes the answer fast enough. The kernel accepts more only when a large part of
// its buffer is free, which takes a slow client minutes. So what counts is what the client's side has acknowledged.
func (c *connection) keepsUp() bool {
	now := time.Now()
	if taken := c.written - c.listener.unsent(c.Conn); taken > c.taken {
		c.taken, c.progress = taken, now
	}
	return now.Sub(c.progress) < grace &&
		(c.endless || c.shared.Load() || c.blocked < grace+time.Duration(c.taken)*time.Second/slowest)
}

// extend sets the deadline of the next part. Nodes have none: they end their calls themselves.
func (c *connection) extend(now time.Time) error {
	if c.outside.Load() != 0 {
		return nil
	}
	if c.reset.Swap(false) {
		c.deadline = time.Time{}
	}
	switch {
	case Standing(c.standing.Load()) != Node:
		if c.deadline.Sub(now) > writeStep/2 {
			return nil // it saves a call for each answer
		}
		c.deadline = now.Add(writeStep)
	case c.deadline.IsZero():
		return nil
	default:
		c.deadline = time.Time{}
	}
	return c.Conn.SetWriteDeadline(c.deadline)
}

// beginAnswer begins the account of an answer.
func (c *connection) beginAnswer() { c.endless, c.written, c.taken, c.blocked = false, 0, 0, 0 }

// Endless declares that the answer to a request has no end: its reader is cut off only if it takes nothing for some
// time, whatever its rate.
func Endless(r *http.Request) {
	if a, ok := r.Context().Value(answerKey{}).(*pacedAnswer); ok {
		a.endless = true
	} else if c := connectionOf(r); c != nil {
		c.endless = true
	}
}

// answerKey is the key of a request's context for its pacedAnswer.
type answerKey struct{}
