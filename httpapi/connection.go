package httpapi

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

const (
	// slowest is the least rate at which a body must arrive, and an answer be taken, in bytes per second.
	slowest = 16 << 10
	// grace is how much longer that may take, and how long no byte at all may move.
	grace = 30 * time.Second
	// writePart is how much is written with one deadline.
	writePart = 16 << 10
	// streamBuffer is the size of the kernel's buffer for the answers without an end. The kernel reports progress only
	// when a third of its buffer is free again, which takes a slow reader minutes with a buffer of megabytes.
	streamBuffer = 64 << 10
)

// connection is a connection of a [Listener]. It cuts off a client that takes an answer too slowly: see [slowest].
type connection struct {
	net.Conn
	listener         *Listener
	host             netip.Prefix
	standing         atomic.Int32 // a Standing; the listener's mu guards its changes
	inAll, inAddress *list.Element
	counted          bool // it is among the listener's; the listener's mu guards it

	// Of the answer that is being written. Only the goroutine that serves the connection uses them.
	endless  bool
	written  int64
	blocked  time.Duration // time that the writes took
	deadline time.Time     // of the writes; zero for none
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

// Write implements [net.Conn].
func (c *connection) Write(p []byte) (n int, err error) {
	for {
		began := time.Now()
		if err := c.extend(began); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+writePart, len(p))])
		n += m
		c.written += int64(m)
		c.blocked += time.Since(began)
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

// extend sets the deadline of the next part. Nodes have none: they end their calls themselves.
func (c *connection) extend(now time.Time) error {
	if Standing(c.standing.Load()) == Node {
		if c.deadline.IsZero() {
			return nil
		}
		c.deadline = time.Time{}
		return c.SetWriteDeadline(c.deadline)
	}
	left := grace
	if budget := grace + time.Duration(c.written)*time.Second/slowest - c.blocked; !c.endless && budget < left {
		left = budget
	}
	if left == grace && c.deadline.Sub(now) > grace-grace/8 {
		return nil // as good, and it saves a call for each answer
	}
	c.deadline = now.Add(left)
	return c.SetWriteDeadline(c.deadline)
}

// beginAnswer begins the account of an answer.
func (c *connection) beginAnswer() { c.endless, c.written, c.blocked = false, 0, 0 }

// Endless declares that the answer to a request has no end: its reader is cut off only if it takes nothing for some
// time, whatever its rate.
func Endless(r *http.Request) {
	c := connectionOf(r)
	if c == nil {
		return
	}
	c.endless = true
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(streamBuffer) // without it a slow reader may be cut off too early
	}
}
