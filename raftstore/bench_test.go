package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// BenchmarkPropose appends submissions of 100 records of 256 bytes to a group of three in this process.
func BenchmarkPropose(b *testing.B) {
	for _, clients := range []int{1, 4, 16, 64} {
		b.Run(fmt.Sprint("clients=", clients), func(b *testing.B) {
			nodes := testGroup(b, 3, func(c *Config) { c.Timeout = time.Second })
			leader := leaderOf(b, nodes...)
			if _, err := leader.Propose(b.Context(), project("p")); err != nil {
				b.Fatal(err)
			}
			record := chain.Record{Project: 1, Payload: make([]byte, 256)}
			encoded, commit := record.AppendTo(nil), record.Commit()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var tasks sync.WaitGroup
			for c := range clients {
				tasks.Go(func() {
					for seq := uint64(1); left.Add(-1) >= 0; seq++ {
						s := masterfsm.NewSubmission(nil, fmt.Sprint("member", c), 1, seq)
						s.StartRequest(1, masterfsm.Digest{}, masterfsm.Digest{})
						for range 100 {
							s.AddEncoded(commit, encoded)
						}
						if _, err := leader.Propose(b.Context(), s.Bytes()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			tasks.Wait()
			b.ReportMetric(float64(b.N)*100/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// BenchmarkReadIndex confirms the leader of a group of three in this process: by raft's VerifyLeader, as below
// [masterfsm.LevelTerms], and by the terms of the voters.
func BenchmarkReadIndex(b *testing.B) {
	for _, level := range []uint64{masterfsm.LevelTerms - 1, masterfsm.LevelTerms} {
		for _, clients := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("level=%d/clients=%d", level, clients), func(b *testing.B) {
				nodes := testGroup(b, 3, func(c *Config) { c.Timeout = time.Second })
				raiseLevel(b, level, nodes...)
				leader := leaderOf(b, nodes...)
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var tasks sync.WaitGroup
				for range clients {
					tasks.Go(func() {
						for left.Add(-1) >= 0 {
							if _, err := leader.ReadIndex(b.Context()); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				tasks.Wait()
			})
		}
	}
}
