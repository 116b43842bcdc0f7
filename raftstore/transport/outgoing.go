package transport

import (
	"sync"
	"time"
)

// Raft gives a call 5 s, whatever its size, and more only to a snapshot. A call may have 16 entries of several MiB, and
// a slow network does not carry them in that time: the follower would get snapshots only. So a call has more time
// while its bytes move.
const (
	// callRate is the average rate that a call with many bytes needs, in bytes a second.
	callRate = 256 << 10
	// callPiece is what is written at once, in bytes. A call has more time when a piece was written.
	callPiece = 64 << 10
	// sendBuffer is what the kernel may hold of the bytes that were written, while the answer is awaited: the largest
	// send buffer that Linux gives a connection by default.
	sendBuffer = 4 << 20
)

// outgoing is a connection on which raft makes calls, one after the other. For each, raft sets a deadline, writes the
// request, and reads the answer. Each piece of the request, and the answer, may take as long as raft gave the whole
// call. So a peer that takes no more bytes is noticed as fast as without it. The whole request must have an average
// rate, and the answer waits for what the kernel may still hold: a peer that took the whole of a large request and does
// not answer is noticed after up to 21 s.
type outgoing struct {
	*conn
	contact *contact
	mu      sync.Mutex    // of the fields below
	began   time.Time     // of the call
	timeout time.Duration // that raft gave the call, 0 for none
	written uint64        // bytes of the request
}

// SetDeadline begins a call.
func (o *outgoing) SetDeadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began, o.timeout, o.written = time.Now(), 0, 0
	if !t.IsZero() {
		o.timeout = t.Sub(o.began)
	}
	return o.conn.SetDeadline(t)
}

func (o *outgoing) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		if deadline := o.writeDeadline(); !deadline.IsZero() {
			if err := o.conn.SetWriteDeadline(deadline); err != nil {
				return n, err
			}
		}
		var done int
		done, err = o.conn.Write(b[:min(len(b), callPiece)])
		n, b = n+done, b[done:]
		o.mu.Lock()
		o.written += uint64(done)
		o.mu.Unlock()
	}
	return n, err
}

// writeDeadline returns the deadline of the next piece, zero for none.
func (o *outgoing) writeDeadline() (deadline time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timeout <= 0 {
		return deadline
	}
	deadline = time.Now().Add(o.timeout)
	if last := o.began.Add(o.timeout + durationOf(o.written)); last.Before(deadline) {
		deadline = last
	}
	return deadline
}

// Read reads a part of an answer.
func (o *outgoing) Read(b []byte) (int, error) {
	if deadline := o.readDeadline(); !deadline.IsZero() {
		if err := o.conn.SetReadDeadline(deadline); err != nil {
			return 0, err
		}
	}
	n, err := o.conn.Read(b)
	if n > 0 {
		o.contact.answered()
	}
	return n, err
}

// readDeadline returns the deadline of an answer before its first read, zero for later reads or for none.
func (o *outgoing) readDeadline() (deadline time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.timeout > 0 && o.written > 0 {
		deadline = time.Now().Add(o.timeout + durationOf(min(o.written, sendBuffer)))
		o.written = 0 // the next read is of the same answer, which has this deadline
	}
	return deadline
}

// durationOf returns how long so many bytes of a call may take.
func durationOf(bytes uint64) time.Duration {
	return time.Duration(float64(bytes) / callRate * float64(time.Second))
}
