package prover

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestRecordsBehindALostHeader checks that a header that no node has does not make other blocks of its page unreadable,
// and that a node that reports its own loss is not suspect.
func TestRecordsBehindALostHeader(t *testing.T) {
	for _, lost := range []uint64{0, 3, 4, 6} {
		synctest.Test(t, func(t *testing.T) {
			r := newBlocks(t)
			r.withoutHeader(lost)
			p := r.newProver()
			for _, block := range []uint64{5, 1, 19} {
				if _, err := p.Header(t.Context(), block); err != nil {
					t.Errorf("block %d, where block %d is lost: %v", block, lost, err)
				}
			}
			if _, err := p.Header(t.Context(), lost); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("block %d, which is lost: %v", lost, err)
			}
			if len(p.suspects) > 0 || len(p.unwell) > 0 {
				t.Errorf("block %d is lost: %d nodes are suspect, %d passed over", lost, len(p.suspects), len(p.unwell))
			}
			ctx, stop := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { p.Run(ctx) })
			h, err := p.Header(t.Context(), 5)
			if err != nil {
				t.Fatal(err)
			}
			record, err := p.Record(t.Context(), h, 2)
			if err != nil {
				t.Fatalf("a record behind it: %v", err)
			}
			got, err := chain.ParseRecord(record.Encoded)
			if err != nil || !bytes.Equal(got.Payload, r.Payloads[5*16+2]) {
				t.Errorf("a record behind it: %q, %v", got.Payload, err)
			}
			stop()
			running.Wait()
			_, err = r.newProver().Header(t.Context(), lost)
			if err := p.ExplainLost(lost, err); !errors.Is(err, wire.ErrUnavailable) || errors.Is(err, wire.ErrLost) {
				t.Errorf("a header of it: %v", err)
			}
			r.ConfirmLost(lost)
			if err := p.ExplainLost(lost, err); !errors.Is(err, wire.ErrLost) {
				t.Errorf("a header of it, whose loss is confirmed: %v", err)
			}
		})
	}
}

// TestHeadersReadAtOnce checks that a header is found while the one of a lost block in the same page is read.
func TestHeadersReadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		r.withoutHeader(3)
		r.ConfirmLost(3)
		p := r.newProver()
		var reading sync.WaitGroup
		reading.Go(func() {
			_, err := p.Header(t.Context(), 3)
			if !errors.Is(err, ErrNoHeader) || !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("the lost one: %v", err)
			}
		})
		synctest.Wait() // it is in flight
		reading.Go(func() {
			if h, err := p.Header(t.Context(), 5); err != nil || h.Block != 5 {
				t.Errorf("another one: %+v, %v", h, err)
			}
		})
		reading.Wait()
	})
}

// TestHeaderThatOneNodeCannotRead checks that a node that cannot read a header which others have becomes suspect, and
// is asked last.
func TestHeaderThatOneNodeCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		p := r.newProver()
		first := r.candidates()[0]
		r.On(first.URL, func(s *masterstest.Storage) {
			s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader { return list[:min(len(list), 5)] }
		})
		if _, err := p.Header(t.Context(), 4); err != nil || len(p.suspects) != 0 {
			t.Errorf("a header that it has: %v, %d suspects", err, len(p.suspects))
		}
		r.On(first.URL, func(s *masterstest.Storage) {
			s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
				if list[0].Header.Block == 0 {
					return list[:5]
				}
				return nil
			}
		})
		if _, err := p.Header(t.Context(), 5); err != nil || len(p.suspects) != 1 {
			t.Errorf("one that it cannot read: %v, %d suspects", err, len(p.suspects))
		}
	})
}

// TestSystemOfANodeFails checks that a node whose system cannot read now is asked last for a while, and is not suspect.
func TestSystemOfANodeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		h, err := r.newProver().Header(t.Context(), 4)
		if err != nil {
			t.Fatal(err)
		}
		for what, read := range map[string]func(*Prover) error{
			"record": func(p *Prover) error {
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { p.Run(ctx) })
				_, err := p.Record(t.Context(), h, 2)
				stop()
				running.Wait()
				return err
			},
			"tile":    func(p *Prover) error { _, err := p.Tile(t.Context(), 0, 0, 16); return err },
			"entries": func(p *Prover) error { _, err := p.Entries(t.Context(), 0, 16); return err },
		} {
			r.lie(1, func(s *masterstest.Storage) {
				s.Lie = func(a *wire.ProvenRecord) { *a = wire.ProvenRecord{Status: wire.ReadFailed} }
				s.LieTiles = func(d *wire.TileData) { *d = wire.TileData{Status: wire.ReadFailed} }
				s.LieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadFailed} }
			})
			p := r.newProver()
			if err := read(p); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if len(p.suspects) > 0 || len(p.unwell)+len(p.bundles.slow) == 0 {
				t.Errorf("%s: %d suspects, %d nodes are asked last", what, len(p.suspects),
					len(p.unwell)+len(p.bundles.slow))
			}
		}
	})
}

// TestImpatientReadersOfHeaders checks that readers with short timeouts still get a header when one node hangs: the
// call continues without them, and the node is asked last afterwards.
func TestImpatientReadersOfHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		hangs, workers := r.candidates()[0].URL, *r.Workers
		workers.Delay = func(url string) time.Duration {
			if url == hangs {
				return time.Hour
			}
			return 0
		}
		p := r.proverOn(&workers)
		began := time.Now()
		var err error
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			_, err = p.Header(ctx, 4)
			cancel()
			if err == nil {
				break
			}
		}
		if took := time.Since(began); err != nil || took < 500*time.Millisecond {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestTheReadersTimeIsNoFaultOfTheNodes checks that the reader's own deadline has no effect on the order of the nodes,
// and that no node is asked after it.
func TestTheReadersTimeIsNoFaultOfTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		calls, workers := 0, *r.Workers
		workers.Delay = func(string) time.Duration { calls++; return time.Second }
		for name, read := range map[string]func(context.Context, *Prover) error{
			"a proof": func(ctx context.Context, tr *Prover) error { _, err := tr.Inclusion(ctx, 3, 300); return err },
			"entries": func(ctx context.Context, tr *Prover) error {
				_, err := tr.bundles.entries(ctx, 0, make([]byte, 32))
				return err
			},
			"headers": func(ctx context.Context, tr *Prover) error {
				_, err := tr.fetchHeaders(ctx, 0, 3)
				return err
			},
			"a leaf": func(ctx context.Context, tr *Prover) error { _, err := tr.Locate(ctx, 3); return err },
			"a hash": func(ctx context.Context,
				tr *Prover) error {
				tr.FindHash(ctx, chain.Hash{}, 1)
				return ctx.Err()
			},
			"a record": func(ctx context.Context, tr *Prover) error {
				tr.readBatch(ctx, []*RecordRead{{Done: make(chan struct{})}})
				return ctx.Err()
			},
			"consistency": func(ctx context.Context, tr *Prover) error {
				_,
					err := tr.Consistency(ctx, 3, 300)
				return err
			},
		} {
			for _, wait := range []time.Duration{0, time.Millisecond} {
				tr := r.proverOn(&workers)
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				before := calls
				if err := read(ctx, tr); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
				cancel()
				if asked := calls - before; asked != int(min(wait, 1)) {
					t.Errorf("%s: %d nodes were asked in %v", name, asked, wait)
				}
				if n := len(tr.unwell); n > 0 {
					t.Errorf("%s: %d nodes are passed over", name, n)
				}
			}
		}
	})
}

// TestStopEndsReads checks that reads that wait for storage nodes end when Run ends, and that later reads end at once,
// with an error that a client may retry. What is proven and kept is still read.
func TestStopEndsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 600)
		workers := *r.Workers
		var hang atomic.Bool
		workers.Delay = func(string) time.Duration {
			if hang.Load() {
				return time.Hour
			}
			return 0
		}
		p := r.proverOn(&workers)
		kept, err := p.Tile(t.Context(), 0, 0, 256)
		if err != nil {
			t.Fatal(err)
		}
		header := r.whole().Blocks[0].Header
		reads := map[string]func(ctx context.Context) error{
			"a header":     func(ctx context.Context) error { _, err := p.Header(ctx, 1); return err },
			"a record":     func(ctx context.Context) error { _, err := p.Record(ctx, header, 1); return err },
			"another tile": func(ctx context.Context) error { _, err := p.Tile(ctx, 0, 1, 256); return err },
			"entries":      func(ctx context.Context) error { _, err := p.Entries(ctx, 0, 256); return err },
		}
		hang.Store(true)
		ctx, stop := context.WithCancel(t.Context())
		var running, callers sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		check := func(when, name string, read func(context.Context) error) {
			if err := read(t.Context()); wire.ProblemOf(err) != wire.ErrUnavailable {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
		for name, read := range reads {
			callers.Go(func() { check("when it stops", name, read) })
		}
		synctest.Wait()
		began := time.Now()
		stop()
		running.Wait()
		callers.Wait()
		for name, read := range reads {
			check("later", name, read)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the reads ended %v after the stop", took)
		}
		if got, err := p.Tile(t.Context(), 0, 0, 256); err != nil || !bytes.Equal(got, kept) {
			t.Errorf("a tile that is kept: %v", err)
		}
		if len(p.suspects) != 0 || len(p.unwell) != 0 {
			t.Error("the end of the reads counts against the storage nodes")
		}
	})
}
