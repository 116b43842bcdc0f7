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
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	l := Limit(p, ConnectionLimits{Total: 10, PerAddress: 10}, hclog.NewNullLogger())
	go func() { served <- Serve(ctx, l, e, hclog.NewNullLogger()) }()
	here, there := net.Pipe()
	p.conns <- here
	t.Cleanup(func() {
		_ = there.Close()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return there
}

// everySecond uses a connection every second until the connection is closed.
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

// TestRefusedBodyIsDrained checks that a client that sends all of a body over the limit before it reads can read the
// answer.
func TestRefusedBodyIsDrained(t *testing.T) {
	server := httptest.NewServer(engineOf(reads))
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 48 << 20
	if _, err := fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%+v, %v", answer, err)
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
