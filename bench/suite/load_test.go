package suite

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// serve starts a server that counts its connections.
func serve(t *testing.T, h http.HandlerFunc) (addr string, connections *atomic.Int64) {
	t.Helper()
	connections = &atomic.Int64{}
	server := httptest.NewUnstartedServer(h)
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), connections
}

// appenders returns n clients that append to one server.
func appenders(addr string, n int) fleet {
	var f fleet
	for i := range n {
		f = append(f, &httpClient{addr: addr, next: newAppend(addr, "token", uint64(i)).next, want: http.StatusCreated})
	}
	return f
}

// load connects, runs once, and closes.
func load(t *testing.T, f fleet, d time.Duration) tally {
	t.Helper()
	if err := f.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := f.run(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestRunCountsWhatTheServerAnswered(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	bad := ""
	addr, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || isPayload(body) != nil || r.URL.Path != "/v1/records" ||
			r.Header.Get("Authorization") != "Bearer token" {
			bad = r.URL.Path
		}
		if seen[string(body)] {
			bad = "a payload came twice"
		}
		seen[string(body)] = true
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "{}")
	})
	got := load(t, appenders(addr, 5), 100*time.Millisecond)
	if bad != "" {
		t.Error(bad)
	}
	if got.errors != 0 || got.answered != uint64(len(seen)) || got.answered == 0 {
		t.Errorf("%d answered, %d errors (%v); the server saw %d requests", got.answered, got.errors, got.first,
			len(seen))
	}
	if n := uint64(len(got.latencies)); n > got.answered || n+5 < got.answered {
		t.Errorf("%d latencies of %d answers", n, got.answered)
	}
	if connections.Load() != 5 {
		t.Errorf("%d connections for 5 clients: they were not kept", connections.Load())
	}
}

// longEnough runs a test with increasing durations until it reports that its load was sufficient. On a busy machine a
// short run may end after its first request.
func longEnough(t *testing.T, test func(d time.Duration) bool) {
	t.Helper()
	for d := 100 * time.Millisecond; d < time.Minute; d *= 2 {
		if test(d) {
			return
		}
	}
	t.Fatal("too few requests within a minute")
}

// TestRunWithTLS makes requests with TLS, and none to a server whose authority is not trusted.
func TestRunWithTLS(t *testing.T) {
	var secure atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.TLS.Version == tls.VersionTLS13 {
			secure.Add(1)
		}
		w.WriteHeader(http.StatusCreated)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	f := appenders(server.Listener.Addr().String(), 2)
	for _, c := range f {
		c.(*httpClient).trust = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
	}
	got := load(t, f, 50*time.Millisecond)
	if got.errors != 0 || got.answered == 0 || got.answered != uint64(secure.Load()) {
		t.Errorf("%d answers and %d errors (%v), %d requests with TLS", got.answered, got.errors, got.first,
			secure.Load())
	}
	for _, c := range f {
		c.(*httpClient).trust = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
	}
	if err := f.connect(t.Context()); err == nil {
		t.Error("the clients connect to a server that they do not trust")
	}
}

func TestRunMeasuresLatency(t *testing.T) {
	const took = 20 * time.Millisecond
	addr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(took)
		w.WriteHeader(http.StatusCreated)
	})
	longEnough(t, func(d time.Duration) bool {
		begin := time.Now()
		got := load(t, appenders(addr, 2), d)
		all := float64(time.Since(begin).Microseconds()) / 1000
		if len(got.latencies) == 0 {
			return false
		}
		if p50 := quantile(got.latencies, 0.5); p50 < 20 || p50 > all {
			t.Errorf("median of %v ms in a run of %v ms, every answer took %v", p50, all, took)
		}
		if most := 2 * int(d/took); len(got.latencies) > most {
			t.Errorf("%d answers in %v by 2 clients one after the other", len(got.latencies), d)
		}
		return true
	})
}

func TestRunCountsOtherStatusesAsErrorsAndGoesOn(t *testing.T) {
	longEnough(t, func(d time.Duration) bool {
		var n atomic.Int64
		addr, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if n.Add(1)%2 == 0 {
				http.Error(w, "backlog full", http.StatusServiceUnavailable)
				return
			}
			w.WriteHeader(http.StatusCreated)
		})
		got := load(t, appenders(addr, 1), d)
		if n.Load() < 3 {
			return false
		}
		if got.errors == 0 || got.answered == 0 || int64(got.errors)+int64(got.answered) != n.Load() {
			t.Errorf("%d answered and %d errors of %d requests", got.answered, got.errors, n.Load())
		}
		if got.first == nil || !strings.Contains(got.first.Error(), "503") ||
			!strings.Contains(got.first.Error(), "backlog full") {
			t.Errorf("first error: %v", got.first)
		}
		if connections.Load() != 1 {
			t.Errorf("%d connections: an answer with another status broke it", connections.Load())
		}
		return true
	})
}

func TestRunDialsAgainWhenAConnectionBreaks(t *testing.T) {
	longEnough(t, func(d time.Duration) bool {
		var n atomic.Int64
		addr, connections := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusCreated)
		})
		got := load(t, appenders(addr, 1), d)
		if n.Load() < 2 {
			return false
		}
		if got.errors != 1 || got.answered == 0 || connections.Load() != 2 {
			t.Errorf("%d answered, %d errors (%v), %d connections", got.answered, got.errors, got.first,
				connections.Load())
		}
		return true
	})
}

func TestRunOutlivesADeadServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	f := appenders(server.Listener.Addr().String(), 2)
	if err := f.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.CloseClientConnections()
	server.Close()
	got, err := f.run(t.Context(), 50*time.Millisecond)
	if err != nil || got.answered != 0 || got.errors < 2 || got.first == nil {
		t.Errorf("%v; %d answered, %d errors, first %v", err, got.answered, got.errors, got.first)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
	if err := f.connect(t.Context()); err == nil {
		t.Error("connected to a server that is gone")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	asked := make(chan struct{}, 8)
	block := make(chan struct{})
	addr, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-block
	})
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	f := appenders(addr, 1)
	if err := f.connect(ctx); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-asked
		cancel()
	}()
	begin := time.Now()
	got, err := f.run(ctx, time.Hour)
	if !errors.Is(err, context.Canceled) || got.errors != 0 || time.Since(begin) > 10*time.Second {
		t.Errorf("%v after %v, %d errors", err, time.Since(begin), got.errors)
	}
	if err := f.close(); err != nil {
		t.Error(err)
	}
}

func TestMalformedResponses(t *testing.T) {
	cases := []struct {
		name, answer string
		want         error
	}{
		{"chunked", "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", errChunked},
		{"no length", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbody", errNoLength},
		{"another version", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", errMalformed},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2 and so on\r\n", errMalformed},
		{"no status", "HTTP/1.1 abc OK\r\n\r\n", errMalformed},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\n", errMalformed},
		{"no header", "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", errMalformed},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", errMalformed},
		{"too long", "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", errTooLong},
		{"cut in the headers", "HTTP/1.1 200 OK\r\nContent-Le", io.EOF},
		{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody", io.ErrUnexpectedEOF},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if _, err := reading(c.answer).answer(); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// reading returns a client that reads a response without a server.
func reading(answer string) *httpClient {
	return &httpClient{socket: &socket{in: bufio.NewReaderSize(strings.NewReader(answer), 32<<10)}}
}

func TestResponses(t *testing.T) {
	c := reading("HTTP/1.1 201 Created\r\nDate: now\r\nCONTENT-LENGTH:  4\r\n\r\nbodyHTTP/1.1 304 Not " +
		"Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	for _, want := range []struct {
		status int
		body   string
	}{{201, "body"}, {304, ""}, {200, ""}} {
		status, err := c.answer()
		if err != nil || status != want.status || string(c.body) != want.body {
			t.Errorf("%d %q, %v; want %d %q", status, c.body, err, want.status, want.body)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\nbody")
	f.Add("HTTP/1.1 204 No Content\r\n\r\n")
	f.Fuzz(func(t *testing.T, data string) {
		c := reading(data)
		status, err := c.answer()
		if err == nil && (status < 200 || len(c.body) > len(data)) {
			t.Errorf("status %d, body of %d bytes from %d", status, len(c.body), len(data))
		}
	})
}

func TestServeCeiling(t *testing.T) {
	for _, tick := range []time.Duration{0, 2 * time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		addrFile := filepath.Join(t.TempDir(), "addr")
		served := make(chan error, 1)
		go func() { served <- ServeCeiling(ctx, addrFile, tick) }()
		var addr []byte
		for each := time.NewTicker(time.Millisecond); ; <-each.C {
			var err error
			if addr, err = os.ReadFile(addrFile); err == nil {
				each.Stop()
				break
			}
		}
		longEnough(t, func(d time.Duration) bool {
			got := load(t, appenders(string(addr), 4), d)
			if got.errors > 0 {
				t.Errorf("tick %v: %d errors, first %v", tick, got.errors, got.first)
			}
			// Each client gets at most one answer a tick.
			if tick > 0 && len(got.latencies) > 4*int(d/tick+1) {
				t.Errorf("tick %v: %d answers for 4 clients in %v", tick, len(got.latencies), d)
			}
			return got.answered > 0
		})
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

func TestQuantile(t *testing.T) {
	hundred := make([]uint32, 100)
	for i := range hundred {
		hundred[i] = uint32(i+1) * 1000
	}
	cases := []struct {
		latencies []uint32
		share     float64
		want      float64
	}{
		{nil, 0.5, 0}, {[]uint32{1500}, 0.99, 1.5}, {hundred, 0.5, 50}, {hundred, 0.99, 99}, {hundred, 1, 100},
		{hundred, 0, 1},
	}
	for _, c := range cases {
		if got := quantile(c.latencies, c.share); got != c.want {
			t.Errorf("quantile %v of %d latencies is %v, want %v", c.share, len(c.latencies), got, c.want)
		}
	}
}
