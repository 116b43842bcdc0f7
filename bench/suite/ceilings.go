package suite

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/bench/ginceiling"
	"github.com/chainstore/chainstore/bench/raftceiling"
)

// ServeCeiling serves the bare gin handler on a free port of loopback until the context ends. With a tick, it answers
// only at the ticks of a clock that all requests share; 0 is none. Once it listens, it writes its address, host:port,
// to a file. It runs in a process of its own.
func ServeCeiling(ctx context.Context, addrFile string, tick time.Duration) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(addrFile+".new", []byte(listener.Addr().String()), 0o600); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := os.Rename(addrFile+".new", addrFile); err != nil {
		return errors.Join(err, listener.Close())
	}
	var clock *ginceiling.Clock
	if tick > 0 {
		clock = ginceiling.NewClock()
		var ticking sync.WaitGroup
		defer ticking.Wait()
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		ticking.Go(func() { clock.Run(inner, tick) })
	}
	server := &http.Server{Handler: ginceiling.Handler(clock), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // Serve returns the error
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// gin measures the bare gin handler.
func (b *bench) gin(ctx context.Context, s scenario) (err error) {
	runtime.LockOSThread() // see child
	defer runtime.UnlockOSThread()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, addrFile := filepath.Join(b.dir, s.name+".log"), filepath.Join(b.dir, s.name+".addr")
	c, err := startChild(log, self, "--serve-ceiling", addrFile, "--ceiling-tick", s.tick.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	var addr []byte
	err = c.await(ctx, log, func() bool {
		addr, err = os.ReadFile(addrFile)
		return err == nil
	})
	if err != nil {
		return err
	}
	var f fleet
	for i := range s.clients {
		// The token is ignored. It makes the request as long as ChainStore's.
		request := newAppend(string(addr), strings.Repeat("x", 26), uint64(i))
		f = append(f, &httpClient{addr: string(addr), next: request.next, want: http.StatusCreated})
	}
	what := "the bare handler"
	if s.tick > 0 {
		what = fmt.Sprintf("a handler that answers all waiting requests together every %v", s.tick)
	}
	b.note("%s: a process of its own with %s; the same load generator and requests as for ChainStore's appends.",
		s.name, what)
	return b.measure(ctx, s, f, processes{{group: "gin", name: "gin", pid: c.cmd.Process.Pid}})
}

// raft measures the bare raft group, in this process.
func (b *bench) raft(ctx context.Context, s scenario) error {
	r := s.result()
	m := newMeter(nil)
	var rates []float64
	for i := range b.cfg.Runs {
		b.progress(s, "run %d of %d", i+1, b.cfg.Runs)
		applied, err := raftceiling.Run(ctx, raftceiling.Config{
			Dir: b.dir, Log: s.log, EntryBytes: payloadSize, Batch: s.batch, Clients: s.clients,
			Duration: b.cfg.Duration, Begin: m.begin, End: m.end,
		})
		if err != nil {
			return err
		}
		m.count(applied)
		rates = append(rates, float64(applied)/b.cfg.Duration.Seconds())
		r.Completed += applied / uint64(s.batch)
	}
	r.Rate = newSpread(rates)
	if err := m.report(&r); err != nil {
		return err
	}
	store := [...]string{
		raftceiling.Database: "raft-boltdb", raftceiling.WAL: "raft-wal",
		raftceiling.Segments: "raft-wal with the checks of masters",
	}[s.log]
	b.note("%s: three members in this process (\"load\") with their log in %s, applied on the leader directly by %d "+
		"goroutines: no HTTP, no load generator.", s.name, store, s.clients)
	b.done(s, r)
	return nil
}

// freePorts returns ports of loopback that are free at the moment.
func freePorts(n int) (ports []int, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
