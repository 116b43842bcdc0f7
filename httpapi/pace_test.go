package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// pipes is a listener whose connections are pipes, for tests in a bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// dialServer serves an engine on pipes, in a bubble, and returns a connection to it.
func dialServer(t *testing.T, e *Engine) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	serveOn(t, e, here, unsent)
	t.Cleanup(func() { _ = there.Close() })
	return there
}

// serveOn serves an engine on a connection, in a bubble.
func serveOn(t *testing.T, e *Engine, here net.Conn, unsent func(net.Conn) int64) {
	t.Helper()
	serveWith(t, e, here, unsent, func(l net.Listener) net.Listener { return l })
}

// serveWith is serveOn with a listener around the one of the connection.
func serveWith(
	t *testing.T, e *Engine, here net.Conn, unsent func(net.Conn) int64, around func(net.Listener) net.Listener,
) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	l := Limit(p, ConnectionLimits{Total: 10, PerAddress: 10}, hclog.NewNullLogger())
	l.unsent = unsent
	go func() { served <- Serve(ctx, around(l), e, hclog.NewNullLogger()) }()
	p.conns <- here
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second) // the goroutines of connections that were closed end
	})
}

// everySecond uses a connection every second until it is closed, or until the test ends.
func everySecond(t *testing.T, conn net.Conn, use func() error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for time.Sleep(time.Second); use() == nil; time.Sleep(time.Second) {
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}

// engineOf is an engine with one route for every method, /.
func engineOf(h Handler) *Engine {
	e := New(hclog.NewNullLogger())
	e.Any("/", e.Do(h))
	return e
}

// reads is a handler that reads the body.
func reads(c *gin.Context) error {
	body, err := ReadBody(c.Request, 1<<20)
	if err == nil {
		c.String(http.StatusOK, "%d", len(body))
	}
	return err
}

func refuses(*gin.Context) error { return wire.ErrUnauthorized }

func answers(c *gin.Context) error {
	c.String(http.StatusOK, "x")
	return nil
}

// TestBodyThatDoesNotCome checks what a client gets, and when, that sends a body slowly or not at all.
func TestBodyThatDoesNotCome(t *testing.T) {
	const head = "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n%s\r\n"
	for name, c := range map[string]struct {
		method string
		h      Handler
		fields string
		sends  string        // every second
		status int           // of the answer
		after  time.Duration // at the latest
	}{
		"refused without a body":  {"POST", refuses, "", "", 401, soon},
		"refused, with an Expect": {"POST", refuses, "Expect: 100-continue\r\n", "", 401, 0},
		"a GET that ignores it":   {"GET", answers, "", "", 200, 0},
		"nothing comes":           {"POST", reads, "", "", 408, grace},
		"a byte a second":         {"POST", reads, "", "x", 408, grace + time.Second},
		"20 kB a second":          {"POST", reads, "", strings.Repeat("x", 20_000), 200, 51 * time.Second},
		"not read by the handler": {"POST", answers, "", "", 200, grace},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := dialServer(t, engineOf(c.h))
				began := time.Now()
				if _, err := fmt.Fprintf(conn, head, c.method, c.fields); err != nil {
					t.Fatal(err)
				}
				if c.sends != "" {
					everySecond(t, conn, func() error {
						_, err := io.WriteString(conn, c.sends)
						return err
					})
				}
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); answer.StatusCode != c.status || took > c.after {
					t.Errorf("%d after %v, want %d after %v", answer.StatusCode, took, c.status, c.after)
				}
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(began); c.status != 200 && took > c.after+lingerTime+time.Second {
					t.Errorf("the connection was closed after %v", took)
				}
			})
		})
	}
}

// TestRefusalKeepsConnection checks that a connection is used again after a refusal whose body has arrived.
func TestRefusalKeepsConnection(t *testing.T) {
	server := httptest.NewServer(engineOf(refuses))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for range 3 {
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12345"); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != http.StatusUnauthorized || answer.Close {
			t.Fatalf("%+v, %v", answer, err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
	}
}

// TestRefusedBodyIsDrained checks that a client that sends all of its body before it reads can read the answer. The
// body is over the limit or refused, and pauses on its way. The connection must not be reset.
func TestRefusedBodyIsDrained(t *testing.T) {
	const size = 48 << 20
	for name, c := range map[string]struct {
		h       func(*gin.Context) error
		chunked bool
		status  int
	}{
		"over the limit":      {reads, false, http.StatusRequestEntityTooLarge},
		"refused":             {refuses, false, http.StatusUnauthorized},
		"refused, in chunks":  {refuses, true, http.StatusUnauthorized},
		"too long, in chunks": {reads, true, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := dialServer(t, engineOf(c.h))
				head, end := fmt.Sprintf("Content-Length: %d\r\n\r\n", size), ""
				if c.chunked {
					head, end = fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size), "\r\n0\r\n\r\n"
				}
				if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\n%s", head); err != nil {
					t.Fatal(err)
				}
				answer := make(chan *http.Response, 1)
				go func() {
					a, err := http.ReadResponse(bufio.NewReader(conn), nil)
					if err != nil {
						t.Error(err)
					}
					answer <- a
				}()
				for range 8 {
					time.Sleep(2 * soon)
					if _, err := conn.Write(make([]byte, size/8)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := io.WriteString(conn, end); end != "" && err != nil {
					t.Fatal(err)
				}
				if a := <-answer; a != nil && a.StatusCode != c.status {
					t.Errorf("%+v", a)
				}
			})
		})
	}
}

// TestSlowReader checks when a client is cut off that takes its answer slowly.
func TestSlowReader(t *testing.T) {
	const size = 4 << 20
	for name, c := range map[string]struct {
		endless bool
		rate    int // bytes that the client takes each second
		cut     bool
	}{
		"nothing is taken": {false, 0, true}, "slowly": {false, 10_000, true}, "fast enough": {false, 20_000, false},
		"a stream of which nothing is taken": {true, 0, true}, "a stream, slowly": {true, 1_000, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := make(chan error, 1)
				conn := dialServer(t, engineOf(func(c *gin.Context) error {
					if c.Query("endless") != "" {
						Endless(c.Request)
					}
					_, err := c.Writer.Write(make([]byte, size))
					result <- err
					return nil
				}))
				path := "/"
				if c.endless {
					path = "/?endless=1"
				}
				if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
					t.Fatal(err)
				}
				if c.rate > 0 {
					everySecond(t, conn, func() error {
						_, err := io.CopyN(io.Discard, conn, int64(c.rate))
						return err
					})
				}
				began := time.Now()
				err := <-result
				if cut := errors.Is(err, os.ErrDeadlineExceeded); cut != c.cut {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if c.cut && c.rate == 0 && time.Since(began) != grace {
					t.Errorf("cut off after %v", time.Since(began))
				}
			})
		})
	}
}

// buffered is a connection with a large buffer for what is written, which accepts more only when a third of it is free
// again, as the kernel's does. Its client takes some bytes every second.
type buffered struct {
	net.Conn
	mu       sync.Mutex // guards all below
	queued   int
	closed   bool
	deadline time.Time
}

func (b *buffered) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.Conn.Close()
}

const bufferedSize = 3 << 20

func (b *buffered) SetWriteDeadline(t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.deadline = t
	return nil
}

func (b *buffered) Write(p []byte) (int, error) {
	for {
		b.mu.Lock()
		room, late := b.queued <= bufferedSize*2/3, !b.deadline.IsZero() && !time.Now().Before(b.deadline)
		closed := b.closed
		if room {
			b.queued += len(p)
		}
		b.mu.Unlock()
		switch {
		case closed:
			return 0, net.ErrClosed
		case room:
			return len(p), nil
		case late:
			return 0, os.ErrDeadlineExceeded
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (b *buffered) unsent() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(b.queued)
}

// take takes up to n bytes.
func (b *buffered) take(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queued -= min(n, b.queued)
}

// TestSlowReaderBehindBuffer checks that the size of the kernel's buffer does not matter: neither is a client cut off
// early, because the kernel accepts nothing for minutes, nor late, because the kernel accepted much.
func TestSlowReaderBehindBuffer(t *testing.T) {
	for name, c := range map[string]struct {
		endless bool
		rate    int
		after   time.Duration // the client is cut off; 0 for never
	}{
		"nothing is taken": {false, 0, grace}, "slowly": {false, 10_000, 77 * time.Second},
		"fast enough":                        {false, 20_000, 0},
		"a stream of which nothing is taken": {true, 0, grace}, "a stream, slowly": {true, 1_000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				result := make(chan error, 1)
				here, there := net.Pipe()
				conn := &buffered{Conn: here}
				serveOn(t, engineOf(func(gc *gin.Context) error {
					if c.endless {
						Endless(gc.Request)
					}
					_, err := gc.Writer.Write(make([]byte, 6<<20))
					result <- err
					return nil
				}), conn, func(net.Conn) int64 { return conn.unsent() })
				everySecond(t, there, func() error {
					conn.take(c.rate)
					return t.Context().Err()
				})
				if _, err := io.WriteString(there, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				err := <-result
				took := time.Since(began)
				switch cut := errors.Is(err, os.ErrDeadlineExceeded); {
				case cut != (c.after > 0):
					t.Errorf("after %v: %v", took, err)
				case cut && (took < c.after || took > c.after+2*writeStep):
					t.Errorf("cut off after %v, want %v", took, c.after)
				}
			})
		})
	}
}

// TestPausesBetweenWrites checks that the time in which a handler writes nothing does not count against its client.
func TestPausesBetweenWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := make(chan error, 1)
		conn := dialServer(t, engineOf(func(c *gin.Context) (err error) {
			for range 10 {
				time.Sleep(time.Minute)
				_, werr := c.Writer.Write(make([]byte, 10<<10))
				err = errors.Join(err, werr)
			}
			result <- err
			return nil
		}))
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}
