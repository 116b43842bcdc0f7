package noderpc

import (
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

// TestHostileAnswers checks that each call to another node ends in time, and takes a bounded amount of memory, whatever
// that node answers.
func TestHostileAnswers(t *testing.T) {
	const patience, most = 500 * time.Millisecond, 160 << 20
	workers, masters, witnesses := newWorkers(t), newMasters(t), NewWitnesses()
	var order wire.Order
	type worker = wire.Worker
	type ctx = context.Context
	calls := map[string]func(c ctx, url string) error{
		"status": func(c ctx, url string) error {
			return second(workers.StorageStatus(c, worker{URL: url}, order))
		},
		"miner status": func(c ctx, url string) error {
			return second(workers.MinerStatus(c, worker{URL: url}, order))
		},
		"put": func(c ctx, url string) error {
			return second(workers.PutBlock(c, worker{URL: url}, order, 1, make([]byte, 100)))
		},
		"records": func(c ctx, url string) error {
			return second(workers.ReadRecords(c, worker{URL: url}, make([]wire.Place, 3), 0))
		},
		"headers": func(c ctx, url string) error { return second(workers.Headers(c, worker{URL: url}, 0, 64, 9)) },
		"locate":  func(c ctx, url string) error { return second(workers.Locate(c, worker{URL: url}, 3)) },
		"tiles": func(c ctx, url string) error {
			return second(workers.ReadTiles(c, worker{URL: url}, []tlog.Tile{{H: 8, W: 256}}))
		},
		"entries": func(c ctx, url string) error { return second(workers.Entries(c, worker{URL: url}, 0, 256)) },
		"find": func(c ctx, url string) error {
			return second(workers.FindRecords(c, worker{URL: url}, wire.RecordQuery{To: 3, Limit: 3}))
		},
		"find hash": func(c ctx, url string) error {
			return second(workers.FindHash(c, worker{URL: url}, chain.Hash{}))
		},
		"mine": func(c ctx, url string) error {
			return second(workers.Mine(c, worker{URL: url}, order, wire.MineOrder{}))
		},
		"check": func(c ctx, url string) error {
			return second(workers.Check(c, worker{URL: url}, order, wire.CheckOrder{}))
		},
		"receive": func(c ctx, url string) error {
			return second(workers.Receive(c, worker{URL: url}, order, wire.ReceiveOrder{}))
		},
		"send": func(c ctx, url string) error {
			return second(workers.Send(c, worker{URL: url}, order, wire.SendOrder{}))
		},
		"transfer": func(c ctx, url string) error {
			return workers.Transfer(c, url, "ticket", func(w io.Writer) error {
				return second(w.Write(make([]byte, 100)))
			})
		},
		"member":     func(c ctx, url string) error { return second(masters.Member(c, url)) },
		"read index": func(c ctx, url string) error { return second(masters.ReadIndex(c, url)) },
		"cluster":    func(c ctx, url string) error { return second(masters.Cluster(c, url)) },
		"integrity":  func(c ctx, url string) error { return second(masters.Integrity(c, url)) },
		"register": func(c ctx, url string) error {
			return second(masters.Register(c, url, wire.Registration{}, false))
		},
		"submit": func(c ctx, url string) error { return second(masters.Submit(c, url, make([]byte, 100), true)) },
		"witness": func(c ctx, url string) error {
			return second(witnesses.AddCheckpoint(c, url, 0, nil, make([]byte, 100)))
		},
	}
	for name, answer := range fakecluster.Hostile {
		url, stop := fakecluster.ServeHostile(answer)
		t.Cleanup(stop)
		try := func(call string) {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := calls[call](ctx, url)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("%s, answered with %s: it took %v (%v)", call, name, took, err)
			}
		}
		measure := func(what string, most uint64, f func()) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			f()
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > most {
				t.Errorf("%s, answered with %s: %d MiB were allocated", what, name, grown>>20)
			}
		}
		if answer.Slow {
			measure("all calls", 4*most, func() {
				var asking sync.WaitGroup
				for call := range calls {
					asking.Go(func() { try(call) })
				}
				asking.Wait()
			})
			continue
		}
		for call := range calls {
			measure(call, most, func() { try(call) })
		}
	}
}

func second[T any](_ T, err error) error { return err }
