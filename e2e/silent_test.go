package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// silentHTTP and silentRaft are how many silent connections TestSilentConnections keeps open to the ports of a
	// master, if the test process may open so many files.
	silentHTTP, silentRaft = 10_000, 500
	// fewSilent is the least number to HTTP for which the test is of use.
	fewSilent = 2_000
	// otherFiles is how many files the test process needs besides.
	otherFiles = 2_000
	// silentAgain is how often a connection is opened again at most.
	silentAgain = 5 * time.Second
)

// keepSilent keeps n connections to an address open that send nothing. A connection that the other side closes is
// opened again. end ends them. opened counts all that were opened.
func keepSilent(t *testing.T, n int, address string) (opened *atomic.Int64, end func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	opened = &atomic.Int64{}
	for range n {
		running.Go(func() {
			var dialer net.Dialer
			again := time.NewTicker(silentAgain)
			defer again.Stop()
			for ; ctx.Err() == nil; <-again.C {
				conn, err := dialer.DialContext(ctx, "tcp", address)
				if err != nil {
					continue // the kernel refuses it for a moment
				}
				opened.Add(1)
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = io.Copy(io.Discard, conn) // until the other side closes it
				stop()
				_ = conn.Close()
			}
		})
	}
	end = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(end)
	return opened, end
}

// TestSilentConnections opens thousands of connections without a token to the ports of a master. Appends through all
// masters continue. When the leader is killed, the master takes part in the election, without which there is no leader.
func TestSilentConnections(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := min(silentHTTP, int(min(files.Cur, 1<<20))-otherFiles-silentRaft)
	if n < fewSilent {
		t.Logf("NO FILES for %d connections: this process may open %d", fewSilent, files.Cur)
		n = max(n, 100)
	}
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	first := c.leader("")
	victim := roleOf(c.Topology(), c.followers(first)[0])
	opened, end := keepSilent(t, n, victim.HTTP)
	raftOpened, endRaft := keepSilent(t, silentRaft, victim.Raft)
	c.await("the connections", func() string {
		if a, b := opened.Load(), raftOpened.Load(); a < int64(n) || b < silentRaft {
			return fmt.Sprintf("%d and %d are open", a, b)
		}
		return ""
	})
	l.more(some)
	c.kill(first)
	began := time.Now()
	c.leader(first)
	t.Logf("a new leader after %v, with %d connections to HTTP and %d to raft", time.Since(began), opened.Load(),
		raftOpened.Load())
	l.more(some)
	c.launch(first)
	l.more(some)
	m, err := c.metrics(victim.URL())
	if err != nil {
		t.Fatal(err)
	}
	open, closed := m["chainstore_http_connections"], m["chainstore_http_connections_closed_total"]
	raftClosed := m["chainstore_raft_connections_closed_total"]
	t.Logf("%v connections to HTTP are open, %v were closed for newer ones, and %v to raft", open, closed, raftClosed)
	if perAddress := float64(min(files.Max/2, 10_000) / 2); float64(n) > perAddress && closed == 0 || raftClosed == 0 ||
		open > perAddress+100 {
		t.Errorf("with %d files a master accepts %v connections from this address", files.Max, perAddress)
	}
	end()
	endRaft()
	c.awaitComplete(3)
	l.end()
	c.verify(o)
}
