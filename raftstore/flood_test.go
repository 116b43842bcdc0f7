package raftstore

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// flood keeps n connections to an address open that send nothing, each opened again as soon as it is closed. It
// returns when all have been opened once, and ends with the test.
func flood(t *testing.T, n int, address string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running, opened sync.WaitGroup
	opened.Add(n)
	for range n {
		running.Go(func() {
			first := sync.OnceFunc(opened.Done)
			defer first()
			var dialer net.Dialer
			for ctx.Err() == nil {
				c, err := dialer.DialContext(ctx, "tcp", address)
				if err != nil {
					continue
				}
				first()
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				_, _ = io.Copy(io.Discard, c) // until the other side closes it
				stop()
				_ = c.Close()
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	opened.Wait()
}

// TestSilentConnectionsDoNotKeepMastersOut opens connections without a token to the raft port of one master, more than
// it has handshakes in progress. The others still reach it, and it takes part in the election after the leader is gone.
func TestSilentConnectionsDoNotKeepMastersOut(t *testing.T) {
	nodes := testGroup(t, 3, nil)
	leader := leaderOf(t, nodes...)
	var others []*node
	for _, n := range nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	victim := others[0].Member()
	flood(t, 256, victim.Raft)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if !leader.Reaches(ctx, victim.ID, victim.Raft) {
		t.Error("connections without a token keep the leader out")
	}
	leader.stop()
	began := time.Now()
	leaderOf(t, others...)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the other two elected a leader after %v", took)
	}
}
