package raftstore

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestTmpIdle(t *testing.T) {
	nodes := testGroup(t, 3, func(c *Config) { c.Timeout = 300 * time.Millisecond })
	leaderOf(t, nodes...)
	time.Sleep(time.Second)
	a := cpu()
	time.Sleep(10 * time.Second)
	t.Logf("IDLE three masters: %.2f%% of a core", 100*float64(cpu()-a)/10e9)
}

func BenchmarkPropose(b *testing.B) {
	for _, clients := range []int{1, 4, 16, 64} {
		b.Run(map[int]string{1: "1", 4: "4", 16: "16", 64: "64"}[clients], func(b *testing.B) {
			nodes := testGroup(b, 3, func(c *Config) { c.Timeout = time.Second; c.SnapshotBytes = 1<<40; c.SnapshotEntries = 1<<40 })
			leader := leaderOf(b, nodes...)
			if _, err := leader.Propose(b.Context(), project("p")); err != nil {
				b.Fatal(err)
			}
			var payload [256]byte
			rec := chain.Record{Project: 1, Payload: payload[:]}
			encoded := rec.AppendTo(nil)
			b.ResetTimer()
			start := cpu()
			var tasks sync.WaitGroup
			var mu sync.Mutex
			var seq uint64
			for c := range clients {
				tasks.Go(func() {
					for {
						mu.Lock()
						if seq == uint64(b.N) {
							mu.Unlock()
							return
						}
						seq++
						n := seq
						mu.Unlock()
						s := masterfsm.NewSubmission(nil, fmt.Sprint("m", c), 1, n)
						s.StartRequest(1, masterfsm.Digest{}, masterfsm.Digest{})
						for range 100 {
							s.AddEncoded(rec.Commit(), encoded)
						}
						if _, err := leader.Propose(b.Context(), s.Bytes()); err != nil && n%100 == 0 {
							b.Log(err)
						}
					}
				})
			}
			tasks.Wait()
			b.ReportMetric(float64((cpu()-start).Microseconds())/float64(b.N), "us-cpu/entry")
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func TestTmpRestart(t *testing.T) {
	nodes := testGroup(t, 1, func(c *Config) { c.SnapshotBytes = 1 << 40; c.SnapshotEntries = 1 << 40 })
	n := leaderOf(t, nodes...)
	if _, err := n.Propose(t.Context(), project("p")); err != nil {
		t.Fatal(err)
	}
	var payload [256]byte
	rec := chain.Record{Project: 1, Payload: payload[:]}
	encoded := rec.AppendTo(nil)
	var tasks sync.WaitGroup
	for c := range 16 {
		tasks.Go(func() {
			for i := range 500 {
				s := masterfsm.NewSubmission(nil, fmt.Sprint("m", c), 1, uint64(i))
				s.StartRequest(1, masterfsm.Digest{}, masterfsm.Digest{})
				for range 100 {
					s.AddEncoded(rec.Commit(), encoded)
				}
				if _, err := n.Propose(t.Context(), s.Bytes()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	tasks.Wait()
	at := n.Applied()
	n.stop()
	start := time.Now()
	c0 := cpu()
	n = openNode(t, n.cfg)
	opened := time.Since(start)
	if err := n.WaitApplied(t.Context(), at); err != nil {
		t.Fatal(err)
	}
	t.Logf("RESTART %d entries, %d MB: open %v, applied %v, cpu %v", at, at*35000/1e6, opened, time.Since(start), cpu()-c0)
	n.machine.mu.Lock()
	n.machine.policy.entries = 1
	n.machine.mu.Unlock()
	n.due <- struct{}{}
	c0 = cpu()
	awaitSnapshot(t, n, 1)
	t.Logf("SNAPSHOT cpu %v", cpu()-c0)
}

func TestTmpFailover(t *testing.T) {
	var all []int
	for range 20 {
		nodes := testGroup(t, 3, func(c *Config) { c.Timeout = 300 * time.Millisecond })
		l := leaderOf(t, nodes...)
		create(t, "x", nodes...)
		agree(t, nodes...)
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		l.stream.Close()
		var rest []*node
		for _, n := range nodes {
			if n != l {
				rest = append(rest, n)
			}
		}
		leaderOf(t, rest...)
		all = append(all, int(time.Since(start).Milliseconds()))
		for _, n := range nodes {
			n.stop()
		}
	}
	t.Log("FAILOVER", all)
}
