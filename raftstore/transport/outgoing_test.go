package transport

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// callTimeout is the time that raft gives a call in these tests.
const callTimeout = 5 * time.Second

// slowConn is the callee's end of a connection. It reads at a rate, and not at all after stopAt bytes.
type slowConn struct {
	net.Conn
	rate   int // bytes a second
	stopAt int // 0 for never
	read   int
}

func (c *slowConn) Read(b []byte) (int, error) {
	if c.stopAt > 0 && c.read >= c.stopAt {
		time.Sleep(time.Hour)
	}
	n, err := c.Conn.Read(b[:min(len(b), 16<<10)])
	c.read += n
	time.Sleep(time.Duration(n) * time.Second / time.Duration(c.rate))
	return n, err
}

// pipeStream is a stream layer with one connection, in both directions a pipe.
type pipeStream struct {
	near, far net.Conn
	once      sync.Once
	accepted  chan net.Conn
	closed    chan struct{}
}

func newPipeStream(rate, stopAt int) *pipeStream {
	near, far := net.Pipe()
	s := &Stream{conns: map[*conn]struct{}{}}
	p := &pipeStream{
		near:     &outgoing{conn: &conn{Conn: near, plain: near, stream: s}, contact: &contact{}},
		far:      &slowConn{Conn: far, rate: rate, stopAt: stopAt},
		accepted: make(chan net.Conn, 1), closed: make(chan struct{}),
	}
	p.accepted <- p.far
	return p
}

func (p *pipeStream) Dial(raft.ServerAddress, time.Duration) (net.Conn, error) { return p.near, nil }
func (p *pipeStream) Addr() net.Addr                                           { return streamAddr("pipe") }

func (p *pipeStream) Accept() (net.Conn, error) {
	select {
	case c := <-p.accepted:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeStream) Close() error {
	p.once.Do(func() { close(p.closed) })
	return errors.Join(p.near.Close(), p.far.Close())
}

// A call of raft with many large entries needs a rate and no fixed time. A call that does not move any more, and one
// that gets no answer, ends as early as without that.
func TestLargeCallsOnASlowNetwork(t *testing.T) {
	const (
		kib     = 1 << 10
		entries = 16
		request = entries * 256 * kib // bytes
	)
	for name, c := range map[string]struct {
		entries      int
		rate, stopAt int
		answerAfter  time.Duration
		least, most  time.Duration // of the call
		fails        bool
	}{
		"twice the rate": {entries: entries, rate: 512 * kib, least: 7 * time.Second, most: 9 * time.Second},
		"just the rate":  {entries: entries, rate: 300 * kib, least: 12 * time.Second, most: 15 * time.Second},
		"less than the rate": {
			entries: entries, rate: 100 * kib, least: callTimeout, most: 10 * time.Second, fails: true,
		},
		"no byte moves after a half": {
			entries: entries, rate: 512 * kib, stopAt: request / 2, least: 8 * time.Second, most: 10 * time.Second,
			fails: true,
		},
		"no byte moves": {
			entries: entries, rate: 512 * kib, stopAt: 1, least: callTimeout, most: callTimeout + time.Second,
			fails: true,
		},
		"a small call without an answer": {
			rate: 512 * kib, answerAfter: time.Hour, least: callTimeout, most: callTimeout + 100*time.Millisecond,
			fails: true,
		},
		"a large call without an answer": {
			entries: entries, rate: 2048 * kib, answerAfter: time.Hour, least: 8 * time.Second,
			most: 3*time.Second + callTimeout + sendBuffer/callRate*time.Second, fails: true,
		},
		"a slow answer": {
			entries: entries, rate: 512 * kib, answerAfter: 4 * time.Second, least: 11 * time.Second,
			most: 13 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeStream(c.rate, c.stopAt)
				trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
					Stream: p, MaxPool: 1, MaxRPCsInFlight: 1, Timeout: callTimeout, Logger: hclog.NewNullLogger(),
				})
				var tasks sync.WaitGroup
				tasks.Go(func() {
					select {
					case rpc := <-trans.Consumer():
						time.Sleep(c.answerAfter)
						rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
					case <-p.closed:
					}
				})
				call := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1}
				for range c.entries {
					call.Entries = append(call.Entries, &raft.Log{Index: 2, Data: make([]byte, request/entries)})
				}
				var response raft.AppendEntriesResponse
				began := time.Now()
				err := trans.AppendEntries("b", "b@pipe", call, &response)
				took := time.Since(began)
				// Raft's encoder does not wrap the error.
				failed := err != nil && strings.HasSuffix(err.Error(), os.ErrDeadlineExceeded.Error())
				if failed != c.fails || !failed && err != nil {
					t.Errorf("after %v: %v", took, err)
				}
				if took < c.least || took > c.most {
					t.Errorf("it took %v", took)
				}
				if err := errors.Join(p.Close(), trans.Close()); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				tasks.Wait()
				time.Sleep(2 * time.Hour) // until the callee has ended
			})
		})
	}
}

// Raft gets such connections from a stream.
func TestCallsOfRaftAreOutgoing(t *testing.T) {
	a, b := testStream(t, "a", "g", testToken), testStream(t, "b", "g", testToken)
	c, err := a.Dial(b.address(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*outgoing); !ok {
		t.Errorf("raft gets a %T", c)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
