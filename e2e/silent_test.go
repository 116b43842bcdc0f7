package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/internal/devcluster"
)

const (
	// silentHTTP and silentRaft are how many silent connections TestSilentConnections keeps open to HTTP of both
	// followers, and to the raft port of each, if the test process may open so many files.
	silentHTTP, silentRaft = 10_000, 500
	// fewSilent is the least number to HTTP for which the test is of use.
	fewSilent = 2_000
	// otherFiles is how many files the test process needs besides.
	otherFiles = 2_000
	// silentHTTPAgain and silentRaftAgain are how often a connection is opened again at most.
	silentHTTPAgain, silentRaftAgain = 5 * time.Second, time.Second
	// masterFiles is how many files a master may open in the test.
	masterFiles = 4096
)

// silentFlood is a number of connections that send nothing.
type silentFlood struct {
	n      int
	opened *atomic.Int64 // all that were ever opened
	end    func()
}

// keepSilent keeps n connections to an address open. One that the other side closes is opened again.
func keepSilent(t *testing.T, n int, address string, every time.Duration) silentFlood {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	opened := &atomic.Int64{}
	for range n {
		running.Go(func() {
			var dialer net.Dialer
			again := time.NewTicker(every)
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
	end := sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(end)
	return silentFlood{n, opened, end}
}

// TestSilentConnections opens thousands of connections without a token to the ports of both followers, more than a
// master may open files. Appends through all masters continue. When the leader is killed, the followers elect another.
func TestSilentConnections(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := min(silentHTTP, int(min(files.Cur, 1<<20))-otherFiles-2*silentRaft)
	if n < fewSilent {
		t.Logf("NO FILES for %d connections: this process may open %d", fewSilent, files.Cur)
		n = max(n, 100)
	}
	c := startWith(t, func(topology *devcluster.Topology) {
		program, err := exec.LookPath("prlimit")
		if err != nil {
			t.Log("NO PRLIMIT: the masters may open as many files as this process")
			return
		}
		topology.Adjust = func(_ int, r *devcluster.Role) {
			if r.Kind == devcluster.KindMaster {
				r.Enter = []string{program, fmt.Sprintf("--nofile=%d:%d", masterFiles, masterFiles)}
			}
		}
		files.Max = masterFiles
	})
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	first := c.leader("")
	var floods []silentFlood
	for _, name := range c.followers(first) {
		victim := roleOf(c.Topology(), name)
		floods = append(floods, keepSilent(t, n/2, victim.HTTP, silentHTTPAgain),
			keepSilent(t, silentRaft, victim.Raft, silentRaftAgain))
	}
	c.await("the connections", func() string {
		for _, f := range floods {
			if opened := f.opened.Load(); opened < int64(f.n) {
				return fmt.Sprintf("%d of %d connections were opened", opened, f.n)
			}
		}
		return ""
	})
	l.more(some)
	c.kill(first)
	began := time.Now()
	c.leader(first)
	t.Logf("a new leader after %v", time.Since(began))
	l.more(some)
	c.launch(first)
	l.more(some)
	for _, name := range c.names(devcluster.KindMaster) {
		if name == first {
			continue
		}
		m, err := c.metrics(roleOf(c.Topology(), name).URL())
		if err != nil {
			t.Fatal(err)
		}
		open, closed := m["chainstore_http_connections"], m["chainstore_http_connections_closed_total"]
		raftClosed := m["chainstore_raft_connections_closed_total"]
		t.Logf("%s: %v connections to HTTP are open, %v were closed for newer ones, and %v to raft", name, open, closed,
			raftClosed)
		all := float64(min(files.Max/2, 10_000))
		perAddress := max(all/2, min(all, 2_000))
		if float64(n/2) > perAddress && closed == 0 || raftClosed == 0 || open > perAddress+100 {
			t.Errorf("a master that may open %d files accepts %v connections from an address", files.Max, perAddress)
		}
	}
	for _, f := range floods {
		f.end()
	}
	c.awaitComplete(3)
	l.end()
	c.verify(o)
}
