package suite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/chainstore/chainstore/bench/immudb"
)

const (
	// immudbDatabase is the database that is measured.
	immudbDatabase = "bench"
	// immudbConnections is the number of connections that set the keys that are read, with immudbWriters on each.
	immudbConnections, immudbWriters = 8, 32
	// immudbConcurrency is how many transactions that database makes at the same time. By default they are 30, and
	// the server refuses more.
	immudbConcurrency = immudbConnections * immudbWriters
)

// immudbServer is a running immudb server.
type immudbServer struct {
	addr    string
	trusted *immudb.Header // of a transaction after all keys that are read; nil before they are set
}

// immudb measures one immudb server with its data on the same disk. It has no group with a majority.
func (b *bench) immudb(ctx context.Context, program string, scenarios []scenario) (err error) {
	runtime.LockOSThread() // see child
	defer runtime.UnlockOSThread()
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "immudb")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log := filepath.Join(b.dir, "immudb.log")
	c, err := startChild(log, program, immudbArgs(dir, ports[0])...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	server := &immudbServer{addr: fmt.Sprintf("127.0.0.1:%d", ports[0])}
	if err := c.await(ctx, log, func() bool { return server.answers(ctx) }); err != nil {
		return err
	}
	if err := server.createDatabase(ctx); err != nil {
		return err
	}
	b.note("immudb-*: one server, %s, with fsync (--synced; it waits 5 to 20 ms for further sets before each). Its "+
		"database makes %d transactions of up to %d entries at a time, as by default it refuses more than 30; other "+
		"settings are the default. It has no group with a majority: a set is on one disk, an append of ChainStore on "+
		"two of three. A small gRPC client, one connection and session a client.", program, immudbConcurrency,
		batchSize)
	tested := processes{{group: "immudb", name: "immudb", pid: c.cmd.Process.Pid}}
	for at, s := range scenarios {
		if s.work == workRead {
			if err := b.ensureKeys(ctx, server, s); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		var f fleet
		for i := range s.clients {
			call := setter(uint64(at)<<32|uint64(i), s.batch) // keys are new in each scenario
			if s.work == workRead {
				call = provenGetter(b.cfg.ReadRecords, server.trusted)
			}
			f = append(f, newImmudbClient(server.addr, call))
		}
		if err := b.measure(ctx, s, f, tested); err != nil {
			return err
		}
	}
	return nil
}

// immudbArgs are the arguments of a server that listens on one port of loopback and on no other.
func immudbArgs(dir string, port int) []string {
	return []string{
		"--dir", dir, "--address", "127.0.0.1", "--port", strconv.Itoa(port), "--synced=true",
		"--metrics-server=false", "--web-server=false", "--pgsql-server=false",
	}
}

// answers reports whether the server opens a session.
func (i *immudbServer) answers(ctx context.Context) bool {
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := immudb.Dial(short, i.addr, immudb.DefaultDatabase)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// createDatabase creates the database that is measured.
func (i *immudbServer) createDatabase(ctx context.Context) (err error) {
	conn, err := immudb.Dial(ctx, i.addr, immudb.DefaultDatabase)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return conn.CreateDatabase(ctx, immudbDatabase, immudb.Settings{
		MaxConcurrency: immudbConcurrency, MaxEntries: batchSize,
	})
}

// ensureKeys sets the keys that are read, unless they are there.
func (b *bench) ensureKeys(ctx context.Context, server *immudbServer, s scenario) (err error) {
	if server.trusted != nil {
		return nil
	}
	n := b.cfg.ReadRecords
	server.trusted, err = seedImmudb(ctx, server.addr, n, func(done int) {
		b.progress(s, "setting keys: %s of %s", thousands(float64(done)), thousands(float64(n)))
	})
	if err != nil {
		return err
	}
	b.note("immudb-get-*: any of %s keys, each as likely, each set in its own transaction before. Clients verify that "+
		"the value is in its transaction, and that one in the tree of a later one whose header they trust.",
		thousands(float64(n)))
	return nil
}

// newImmudbClient returns a client with a session of its own.
func newImmudbClient(addr string, call func(context.Context, *immudb.Conn) error) *rpcClient[*immudb.Conn] {
	return &rpcClient[*immudb.Conn]{call: call, dial: func(ctx context.Context) (*immudb.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return immudb.Dial(ctx, addr, immudbDatabase)
	}}
}

// immudbSets makes sets of a client's payload. Each key is new, as a position in the chain is.
type immudbSets struct {
	client uint64
	value  []byte
	count  uint64
}

func newImmudbSets(client uint64) *immudbSets {
	return &immudbSets{client: client, value: payload(client)}
}

// commit sets the next n values in one transaction.
func (p *immudbSets) commit(ctx context.Context, c *immudb.Conn, n int) (*immudb.Header, error) {
	pairs := make([]immudb.Pair, n)
	for i := range pairs {
		pairs[i] = immudb.Pair{Key: newKey(p.client, p.count), Value: p.value}
		p.count++
	}
	return c.Set(ctx, pairs...)
}

// setter returns calls that set n values each, in one transaction.
func setter(client uint64, n int) func(context.Context, *immudb.Conn) error {
	sets := newImmudbSets(client)
	return func(ctx context.Context, c *immudb.Conn) error {
		_, err := sets.commit(ctx, c, n)
		return immudbError(err)
	}
}

// immudbError returns the error of a request, as a *refusal if the connection can be used further. The server's own
// errors have the code Unknown. A new session would take it longer than many requests.
func immudbError(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() == codes.Unknown || errors.Is(err, immudb.ErrProof) {
		return &refusal{err.Error()}
	}
	return err
}

// seedImmudb sets values under the first n keys of the client seedClient, each in its own transaction, and returns the
// header of a later transaction. It calls progress by one goroutine at a time.
func seedImmudb(ctx context.Context, addr string, n int, progress func(done int)) (trusted *immudb.Header, err error) {
	const step = 1000 // keys between two calls of progress
	g, inner := errgroup.WithContext(ctx)
	var next atomic.Int64
	var mu sync.Mutex // held while progress runs
	conns := make([]*immudb.Conn, 0, immudbConnections)
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
	}()
	for range immudbConnections {
		c, err := immudb.Dial(ctx, addr, immudbDatabase)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	for _, c := range conns {
		for range immudbWriters {
			g.Go(func() error {
				sets := newImmudbSets(seedClient)
				for {
					at := int(next.Add(1)) - 1
					if at >= n {
						return nil
					}
					sets.count = uint64(at)
					if _, err := sets.commit(inner, c, 1); err != nil {
						return fmt.Errorf("set the keys that are read: %w", err)
					}
					if at%step == 0 {
						mu.Lock()
						progress(at)
						mu.Unlock()
					}
				}
			})
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	sets := newImmudbSets(seedClient)
	sets.count = uint64(n)
	return sets.commit(ctx, conns[0], 1)
}

// provenGetter returns calls that read random keys of the first n of the client seedClient, each with the same
// probability, and verify the proofs.
func provenGetter(n int, trusted *immudb.Header) func(context.Context, *immudb.Conn) error {
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	return func(ctx context.Context, c *immudb.Conn) error {
		value, err := c.Get(ctx, newKey(seedClient, random.Uint64N(uint64(n))), trusted)
		if err != nil {
			return immudbError(err)
		}
		if err := isPayload(value); err != nil {
			return &refusal{err.Error()}
		}
		return nil
	}
}
