package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// http2Client serves an engine to a client of HTTP/2, in a bubble. window is how many bytes of an answer the client
// takes before it reads them.
func http2Client(t *testing.T, e *Engine, limits ConnectionLimits, window int) (*http.Client, *Listener) {
	t.Helper()
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	l := Limit(p, limits, hclog.NewNullLogger())
	go func() { served <- ServeUsers(ctx, l, e, hclog.NewNullLogger()) }()
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{MaxReceiveBufferPerStream: window},
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			p.conns <- here
			return there, nil
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		time.Sleep(2 * grace) // the goroutines of connections that were closed end
	})
	return &http.Client{Transport: transport}, l
}

// TestHTTP2FullDuplex checks that answers of several requests are read while their bodies are sent, on one connection.
func TestHTTP2FullDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, l := http2Client(t, engineOf(func(c *gin.Context) error {
			Endless(c.Request)
			SlowBody(c.Request)
			lines := bufio.NewScanner(c.Request.Body)
			for lines.Scan() {
				if _, err := fmt.Fprintf(c.Writer, "got %s\n", lines.Text()); err != nil {
					return err
				}
				c.Writer.Flush()
			}
			return lines.Err()
		}), ConnectionLimits{Total: 10, PerAddress: 10}, 64<<10)
		for range 3 {
			reader, writer := io.Pipe()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", reader)
			if err != nil {
				t.Fatal(err)
			}
			began := make(chan *http.Response, 1)
			go func() {
				answer, err := client.Do(r)
				if err != nil {
					t.Error(err)
				}
				began <- answer
			}()
			var answer *http.Response
			var lines *bufio.Scanner
			for i := range 5 {
				time.Sleep(grace - time.Second) // longer than the rate of other bodies permits
				_, _ = fmt.Fprintf(writer, "line %d\n", i)
				if answer == nil {
					if answer = <-began; answer == nil {
						t.FailNow()
					}
					lines = bufio.NewScanner(answer.Body)
				}
				if !lines.Scan() || lines.Text() != fmt.Sprint("got line ", i) {
					t.Fatalf("line %d: %q, %v", i, lines.Text(), lines.Err())
				}
			}
			if answer.ProtoMajor != 2 {
				t.Errorf("the answer is of %s", answer.Proto)
			}
			_ = writer.Close()
			if lines.Scan() || lines.Err() != nil {
				t.Errorf("%q, %v after the end", lines.Text(), lines.Err())
			}
			_ = answer.Body.Close()
		}
		if open := l.Connections().Open; open != 1 {
			t.Errorf("%d connections", open)
		}
	})
}

// TestHTTP2SlowReader is TestSlowReader for HTTP/2: each answer has an account of its own, and a client that does not
// take one still gets the others.
func TestHTTP2SlowReader(t *testing.T) {
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
				client, _ := http2Client(t, engineOf(func(c *gin.Context) error {
					switch c.Query("answer") {
					case "short":
						c.String(http.StatusOK, "short")
						return nil
					case "endless":
						Endless(c.Request)
					}
					_, err := c.Writer.Write(make([]byte, size))
					result <- err
					return nil
				}), ConnectionLimits{Total: 10, PerAddress: 10}, 64<<10)
				path := "http://x/"
				if c.endless {
					path += "?answer=endless"
				}
				answer, err := client.Get(path)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				stopped := make(chan struct{})
				go func() {
					defer close(stopped)
					for c.rate > 0 {
						time.Sleep(time.Second)
						if _, err := io.CopyN(io.Discard, answer.Body, int64(c.rate)); err != nil {
							return
						}
					}
				}()
				began := time.Now()
				time.Sleep(grace / 2)
				short, err := client.Get("http://x/?answer=short")
				if err != nil {
					t.Fatalf("another answer meanwhile: %v", err)
				}
				_ = short.Body.Close()
				if err := <-result; (err != nil) != c.cut {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				if c.cut && c.rate == 0 && time.Since(began) != grace {
					t.Errorf("cut off after %v", time.Since(began))
				}
				_ = answer.Body.Close()
				<-stopped
			})
		})
	}
}

// TestHTTP2SlowBody checks that a body that does not come is refused, and that the connection stays.
func TestHTTP2SlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, l := http2Client(t, engineOf(func(c *gin.Context) error {
			if c.Request.Method == http.MethodGet {
				return nil
			}
			_, err := ReadBody(c.Request, 1<<20)
			return err
		}), ConnectionLimits{Total: 10, PerAddress: 10}, 64<<10)
		reader, writer := io.Pipe()
		go func() { _, _ = writer.Write([]byte("x")) }()
		began := time.Now()
		answer, err := client.Post("http://x/", "text/plain", reader)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		passed := time.Since(began)
		if answer.StatusCode != wire.ErrSlowBody.Status || passed < grace || passed > 2*grace {
			t.Errorf("status %d after %v", answer.StatusCode, passed)
		}
		_ = writer.Close()
		if answer, err = client.Get("http://x/"); err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if c := l.Connections(); c.Open != 1 {
			t.Errorf("%d connections", c.Open)
		}
	})
}

// TestHTTP2Limits checks the limits of the requests of a connection, and of connections.
func TestHTTP2Limits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, release := make(chan struct{}, streamsEach+1), make(chan struct{})
		e := engineOf(func(c *gin.Context) error {
			if c.Request.URL.RawQuery == "waits" {
				running <- struct{}{}
				<-release
			}
			if c.Request.URL.RawQuery == "proven" {
				Proven(c.Request, User)
			}
			return nil
		})
		client, l := http2Client(t, e, ConnectionLimits{Total: 2, PerAddress: 2}, 64<<10)
		get := func(path string) error {
			answer, err := client.Get("http://x" + path)
			if err == nil {
				err = answer.Body.Close()
			}
			return err
		}
		if err := get("/"); err != nil {
			t.Fatal(err)
		}
		results := make(chan error, streamsEach+1)
		for i := range streamsEach + 1 {
			go func() { results <- get("/?waits") }()
			synctest.Wait()
			if open := l.Connections().Open; len(running) != i+1 || open != 1+i/streamsEach {
				t.Fatalf("%d of %d requests run on %d connections", len(running), i+1, open)
			}
		}
		close(release)
		for range streamsEach + 1 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		for range 3 {
			client.Transport = client.Transport.(*http.Transport).Clone() // it makes a connection of its own
			if err := get("/"); err != nil {
				t.Error(err)
			}
		}
		if err := get("/?proven"); err != nil || l.users != 1 {
			t.Errorf("%d connections with a token: %v", l.users, err)
		}
		if c := l.Connections(); c.Open != 2 || c.Closed != 3 {
			t.Errorf("%d connections are open, %d were closed for others", c.Open, c.Closed)
		}
	})
}

// stalled is a connection of a client that stops reading when it is told so.
type stalled struct {
	net.Conn
	stop, closed chan struct{}
}

func (c *stalled) Read(p []byte) (int, error) {
	select {
	case <-c.stop:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return c.Conn.Read(p)
	}
}

// TestHTTP2StalledConnection checks that a connection is closed whose client takes nothing of it.
func TestHTTP2StalledConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		result := make(chan error, 1)
		client, l := http2Client(t, engineOf(func(c *gin.Context) error {
			Endless(c.Request)
			if _, err := c.Writer.Write(make([]byte, 100)); err != nil {
				return err
			}
			c.Writer.Flush()
			time.Sleep(time.Second)
			_, err := c.Writer.Write(make([]byte, 4<<20))
			result <- err
			return nil
		}), ConnectionLimits{Total: 10, PerAddress: 10}, 16<<20)
		c := &stalled{stop: make(chan struct{}), closed: make(chan struct{})}
		transport := client.Transport.(*http.Transport)
		dial := transport.DialContext
		transport.DialContext = func(ctx context.Context, network, address string) (_ net.Conn, err error) {
			c.Conn, err = dial(ctx, network, address)
			return c, err
		}
		answer, err := client.Get("http://x/")
		if err != nil {
			t.Fatal(err)
		}
		close(c.stop)
		began := time.Now()
		err = <-result
		time.Sleep(time.Second)
		if passed := time.Since(began); err == nil || passed > 2*grace || l.Connections().Open != 0 {
			t.Errorf("%v after %v, %d connections", err, passed, l.Connections().Open)
		}
		close(c.closed)
		_ = answer.Body.Close()
	})
}

// TestHTTP2Idle checks that a connection is closed on which no request comes.
func TestHTTP2Idle(t *testing.T) {
	const preface, settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for name, c := range map[string]struct {
		sent string
		most time.Duration
	}{
		"nothing": {"", 15 * time.Second}, "half of the preface": {preface[:20], 15 * time.Second},
		"the preface": {preface, 15 * time.Second}, "no request": {preface + settings, 3 * time.Minute},
		"half of a request": {preface + settings + "\x00\x01\x00\x01\x05\x00\x00\x00\x01half", 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				l := Limit(p, ConnectionLimits{Total: 10, PerAddress: 10}, hclog.NewNullLogger())
				e := engineOf(func(*gin.Context) error { return nil })
				go func() { served <- ServeUsers(ctx, l, e, hclog.NewNullLogger()) }()
				here, there := net.Pipe()
				p.conns <- here
				began := time.Now()
				go func() { _, _ = io.WriteString(there, c.sent) }()
				_, _ = io.Copy(io.Discard, there)
				if passed := time.Since(began); passed > c.most || passed < time.Second {
					t.Errorf("closed after %v", passed)
				}
				_ = there.Close()
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute) // the goroutines of the connection end
			})
		})
	}
}

// TestHTTP2LongHead checks that the heads of requests are limited as those of HTTP/1.1 are.
func TestHTTP2LongHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := 0
		client, _ := http2Client(t, engineOf(func(*gin.Context) error { served++; return nil }),
			ConnectionLimits{Total: 10, PerAddress: 10}, 64<<10)
		for _, size := range []int{maxHead / 2, 2 * maxHead, 10 * maxHead} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://x/", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Long", strings.Repeat("x", size))
			answer, err := client.Do(r)
			if err == nil {
				_ = answer.Body.Close()
			}
			if errors.Is(err, context.DeadlineExceeded) || (err == nil) != (size < maxHead) && (err != nil ||
				answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge) {
				t.Errorf("a head of %d bytes: %v, %v", size, answer, err)
			}
		}
		if served != 1 {
			t.Errorf("%d requests were served", served)
		}
	})
}
