package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// requestConn returns a connection for requests and its other end.
func requestConn(t *testing.T) (*conn, net.Conn) {
	near, far := net.Pipe()
	s := &Stream{conns: map[*conn]struct{}{}}
	c := &conn{Conn: near, plain: near, stream: s}
	s.conns[c] = struct{}{}
	c.takeRequests()
	t.Cleanup(func() { _, _ = c.Close(), far.Close() })
	return c, far
}

// A request that arrives too slowly, or stops, ends the connection. An idle connection stays, and so does one whose
// requests arrive as slowly as raft's caller allows.
func TestSlowRequests(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  int // in each piece
		every  time.Duration
		pieces int
		least  time.Duration // until the connection ends, 0 if it does not
		most   time.Duration
	}{
		"nothing follows": {1, time.Second, 1, requestGrace, requestGrace + 2*time.Second},
		"a byte a second": {1, time.Second, 1000, requestGrace, requestGrace + 2*time.Second},
		"4 KiB a second":  {4 << 10, time.Second, 1000, requestGrace, 2 * requestGrace},
		"32 KiB a second": {32 << 10, time.Second, 1000, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := requestConn(t)
				var tasks sync.WaitGroup
				defer tasks.Wait()
				tasks.Go(func() {
					time.Sleep(time.Hour) // it is idle
					for range c.pieces {
						if _, err := far.Write(make([]byte, c.bytes)); err != nil {
							return
						}
						time.Sleep(c.every)
					}
					if c.least == 0 {
						_ = far.Close()
					}
				})
				began := time.Now()
				n, err := io.Copy(io.Discard, onlyReader{near})
				took := time.Since(began) - time.Hour
				switch {
				case c.least == 0 && (err != nil || n != int64(c.bytes*c.pieces)):
					t.Errorf("it ended after %v and %d bytes: %v", took, n, err)
				case c.least > 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || took < c.least || took > c.most):
					t.Errorf("it ended after %v and %d bytes: %v", took, n, err)
				}
				_ = near.Close()
			})
		})
	}
}

type onlyReader struct{ io.Reader }

// The time between two reads is not the sender's, and an answer ends a request.
func TestRequestsThatWaitForTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := requestConn(t)
		go func() {
			for {
				if _, err := far.Write(make([]byte, 10)); err != nil {
					return
				}
			}
		}()
		var b [10]byte
		for range 5 {
			time.Sleep(time.Minute) // a slow disk
			if _, err := io.ReadFull(near, b[:]); err != nil {
				t.Fatal(err)
			}
		}
		go func() { _, _ = io.ReadFull(far, b[:1]) }()
		if _, err := near.Write([]byte("a")); err != nil {
			t.Fatal(err)
		}
		if got := near.incoming.read; got != 0 {
			t.Errorf("%d bytes of the next request have arrived", got)
		}
		_ = far.Close()
	})
}

// A request has at most so many bytes, unless the state of a snapshot was admitted.
func TestRequestSize(t *testing.T) {
	near, far := requestConn(t)
	near.incoming.limit = 100
	go func() { _, _ = io.Copy(onlyWriter{far}, zeros{}) }()
	var b [60]byte
	if _, err := io.ReadFull(near, b[:]); err != nil {
		t.Fatal(err)
	}
	near.stream.admit(60)
	if _, err := io.ReadFull(near, b[:]); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(near, b[:]); n != 40 || !errors.Is(err, errRequestSize) {
		t.Errorf("%d more bytes, %v", n, err)
	}
}

type onlyWriter struct{ io.Writer }

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
