package suite

import (
	"encoding/binary"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chainstore/chainstore/bench/immudb"
	"github.com/chainstore/chainstore/bench/immudb/immudbtest"
)

// serveImmudb serves s with the database that is measured.
func serveImmudb(t *testing.T, s *immudbtest.Server) *immudbServer {
	t.Helper()
	server := &immudbServer{addr: immudbtest.Serve(t, s)}
	if !server.answers(t.Context()) {
		t.Fatal("the server does not answer")
	}
	if err := server.createDatabase(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server
}

// immudbSetters returns n clients that set.
func immudbSetters(addr string, n, batch int) fleet {
	var f fleet
	for i := range n {
		f = append(f, newImmudbClient(addr, setter(uint64(i), batch)))
	}
	return f
}

func TestImmudbRequests(t *testing.T) {
	for _, batch := range []int{1, 100} {
		wrong := 0 // guarded by the server's lock
		server := &immudbtest.Server{Seen: func(method string, fields int) {
			if strings.HasSuffix(method, "/Set") && fields != batch {
				wrong++
			}
		}}
		addr := serveImmudb(t, server).addr
		if entries, concurrency := server.Database(immudbDatabase); entries < uint64(batch) || concurrency < 64 {
			t.Errorf("a database for %d transactions of %d entries", concurrency, entries)
		}
		var got tally
		longEnough(t, func(d time.Duration) bool {
			before := server.Transactions()
			got = load(t, immudbSetters(addr, 2, batch), d)
			if made := server.Transactions() - before; got.errors > 0 || got.answered != uint64(made) {
				t.Errorf("batch %d: %d answered, the server made %d transactions; %d errors, first %v", batch,
					got.answered, made, got.errors, got.first)
			}
			return got.answered > 0
		})
		if wrong > 0 {
			t.Errorf("batch %d: %d transactions of another size", batch, wrong)
		}
		for key := range server.Keys() {
			if client := binary.BigEndian.Uint64([]byte(key)); len(key) != 16 || client > 1 {
				t.Fatalf("batch %d: key %x", batch, key)
			}
		}
	}
}

func TestImmudbKeysDiffer(t *testing.T) {
	server := &immudbtest.Server{}
	conn, err := immudb.Dial(t.Context(), serveImmudb(t, server).addr, immudbDatabase)
	if err != nil {
		t.Fatal(err)
	}
	for client := range uint64(2) {
		set := setter(client, 3)
		for range 2 {
			if err := set(t.Context(), conn); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	keys := server.Keys()
	if len(keys) != 12 {
		t.Errorf("%d keys", len(keys))
	}
	for client := range uint64(2) {
		for count := range uint64(6) {
			if keys[string(newKey(client, count))] != 1 {
				t.Errorf("client %d: key %d was not set once", client, count)
			}
		}
	}
}

func TestImmudbReadsOfKeysThatWereSet(t *testing.T) {
	server := &immudbtest.Server{}
	addr := serveImmudb(t, server).addr
	const n = 250
	told := 0
	trusted, err := seedImmudb(t.Context(), addr, n, func(int) { told++ })
	if err != nil {
		t.Fatal(err)
	}
	keys := server.Keys()
	if server.Transactions() != n+1 || len(keys) != n+1 || trusted.ID != n+1 || told == 0 {
		t.Fatalf("%d transactions, %d keys, the trusted one is %d, told %d times", server.Transactions(), len(keys),
			trusted.ID, told)
	}
	for i := range uint64(n) {
		if keys[string(newKey(seedClient, i))] != 1 {
			t.Fatalf("key %d was set %d times", i, keys[string(newKey(seedClient, i))])
		}
	}
	longEnough(t, func(d time.Duration) bool {
		got := load(t, fleet{newImmudbClient(addr, provenGetter(n, trusted))}, d)
		if got.errors > 0 {
			t.Errorf("%d errors, first %v", got.errors, got.first)
		}
		return got.answered > 0
	})
	// Keys from n+1 on do not exist.
	got := load(t, fleet{newImmudbClient(addr, provenGetter(1<<62, trusted))}, 50*time.Millisecond)
	if got.answered != 0 || got.errors == 0 || !strings.Contains(got.first.Error(), "not found") {
		t.Errorf("%d answered, %d errors, first %v", got.answered, got.errors, got.first)
	}
}

func TestImmudbValuesWithoutProofAreErrors(t *testing.T) {
	for name, c := range map[string]struct {
		change func(a *immudbtest.Answer)
		want   string
	}{
		"another value": {func(a *immudbtest.Answer) { a.Value = payload(7) }, "the proof is not valid"},
		"another tree":  {func(a *immudbtest.Answer) { a.InTree[0] = make([]byte, 32) }, "the proof is not valid"},
	} {
		server := &immudbtest.Server{Change: c.change}
		addr := serveImmudb(t, server).addr
		trusted, err := seedImmudb(t.Context(), addr, 20, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		before := server.Sessions()
		got := load(t, fleet{newImmudbClient(addr, provenGetter(20, trusted))}, 50*time.Millisecond)
		if got.answered != 0 || got.errors == 0 || !strings.Contains(got.first.Error(), c.want) {
			t.Errorf("%s: %d answered, %d errors, first %v", name, got.answered, got.errors, got.first)
		}
		if opened := server.Sessions() - before; opened != 1 {
			t.Errorf("%s: %d sessions for one client", name, opened)
		}
	}
}

// TestImmudbRefusalsKeepTheSession: a server that refuses a set must not get new sessions, which cost it more.
func TestImmudbRefusalsKeepTheSession(t *testing.T) {
	server := &immudbtest.Server{Refuse: status.Error(codes.Unknown, "max concurrency limit exceeded")}
	addr := serveImmudb(t, server).addr
	before := server.Sessions()
	got := load(t, immudbSetters(addr, 1, 1), 50*time.Millisecond)
	if got.answered != 0 || got.errors == 0 || !strings.Contains(got.first.Error(), "max concurrency") {
		t.Errorf("%d answered, %d errors, first %v", got.answered, got.errors, got.first)
	}
	if opened := server.Sessions() - before; opened != 1 {
		t.Errorf("%d sessions for one client", opened)
	}
	if err := immudbError(status.Error(codes.Unavailable, "gone")); status.Code(err) != codes.Unavailable {
		t.Errorf("a broken connection is %v", err)
	}
}

func TestImmudbClientOfAnotherServer(t *testing.T) {
	addr, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	f := immudbSetters(addr, 1, 1)
	if err := f.connect(t.Context()); err == nil {
		t.Errorf("connected to a server that does not speak gRPC: %v", f.close())
	}
}

func TestImmudbListensOnLoopbackOnly(t *testing.T) {
	args := immudbArgs("folder", 1234)
	at := slices.Index(args, "--address")
	if at < 0 || !net.ParseIP(args[at+1]).IsLoopback() {
		t.Errorf("%q", args)
	}
	for _, off := range []string{"--metrics-server=false", "--web-server=false", "--pgsql-server=false"} {
		if !slices.Contains(args, off) {
			t.Errorf("%q has no %s", args, off)
		}
	}
}

func TestImmudbIsLeftOutWhereItIsNotInstalled(t *testing.T) {
	cfg := Config{
		Dir: t.TempDir(), Runs: 1, Duration: time.Second, ReadRecords: 1, ChainMiB: 1, Only: []string{"immudb"},
		Immudb: "immudb-that-is-not-installed",
	}
	report, err := Run(t.Context(), cfg)
	if err != nil || len(report.Results) != 0 || len(report.Notes) != 1 ||
		!strings.Contains(report.Notes[0], "left out") {
		t.Errorf("%+v, %v", report, err)
	}
	cfg.Immudb = filepath.Join(t.TempDir(), "immudb")
	if _, err := Run(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), cfg.Immudb) {
		t.Errorf("a program that does not exist: %v", err)
	}
}
