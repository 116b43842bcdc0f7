package prover

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestBundleOfManyWidths checks that a bundle is read once, whatever widths are requested, in turn or concurrently. It
// checks the same for a tile.
func TestBundleOfManyWidths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 400)
		s, size, p := r.whole(), r.Checkpoint().Size, r.newProver()
		for index := range uint64(2) {
			before, _ := r.treeReads()
			var asking sync.WaitGroup
			for width := 1; width <= wire.WidthOfTile(0, index, size); width++ {
				asking.Go(func() {
					got, err := p.Entries(t.Context(), index, width)
					if err != nil || !bytes.Equal(got, wantBundle(s, index*256, uint64(width))) {
						t.Errorf("bundle %d of %d entries: other bytes, %v", index, width, err)
					}
					if tile, err := p.Tile(t.Context(), 0, index, width); err != nil ||
						len(tile) != width*chain.HashSize {
						t.Errorf("tile %d of %d hashes: %d bytes, %v", index, width, len(tile), err)
					}
				})
				if width == 20 {
					asking.Wait()
				}
			}
			asking.Wait()
			tiles, entries := r.treeReads()
			if tiles-before > 1 || entries != int(index)+1 {
				t.Errorf("bundle %d: %d reads of tiles, %d of bundles", index, tiles-before, entries)
			}
		}
	})
}

// TestBundleUpToALostBlock checks that entries before a lost block are served, and that requests for later ones do not
// reach the storage nodes.
func TestBundleUpToALostBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		r.Lose(3)
		r.ConfirmLost(3)
		p := r.newProver()
		for width := range wire.TileWidth {
			_, err := p.Entries(t.Context(), 0, width+1)
			if lost := width+1 > 3*17; lost != errors.Is(err, wire.ErrLost) || !lost && err != nil {
				t.Errorf("%d entries: %v", width+1, err)
			}
		}
		if _, err := p.Entries(t.Context(), 1, 20); err != nil {
			t.Errorf("the bundle behind it: %v", err)
		}
		if _, entries := r.treeReads(); entries != 2 {
			t.Errorf("%d reads of two bundles", entries)
		}
		// A report of a lost block outside of the requested entries does not make the entries lost.
		r.lie(3, func(s *masterstest.Storage) {
			s.LieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBad, Block: 3} }
		})
		misled := r.newProver()
		if _, err := misled.Entries(t.Context(), 0, 3*17); !errors.Is(err, wire.ErrUnavailable) ||
			errors.Is(err, wire.ErrLost) {
			t.Errorf("entries before it, which the nodes say are lost: %v", err)
		}
		if _, err := misled.Entries(t.Context(), 0, 3*17+1); !errors.Is(err, wire.ErrLost) {
			t.Errorf("its first entry: %v", err)
		}
		// A report of a loss elsewhere has no effect, even if no other node is available.
		r.lie(3, func(s *masterstest.Storage) { s.Down = true })
		r.lie(1, func(s *masterstest.Storage) {
			s.LieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBad, Block: 3} }
		})
		for i, n := range r.candidates() {
			r.On(n.URL, func(s *masterstest.Storage) { s.Down = i > 0 })
		}
		if _, err := r.newProver().Entries(t.Context(), 0, 17); errors.Is(err, wire.ErrLost) ||
			!errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("entries of block 0: %v", err)
		}
	})
}

// TestBundleWithinLostBlocks checks a bundle that begins within lost blocks, and one that consists of them.
func TestBundleWithinLostBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newBlocks(t)
		r.Lose(13, 14, 15, 16) // leaves 221 to 288
		r.ConfirmLost(13, 14, 15, 16)
		p := r.newProver()
		if _, err := p.Entries(t.Context(), 0, 221); err != nil {
			t.Errorf("the entries before them: %v", err)
		}
		if _, err := p.Entries(t.Context(), 0, 222); !errors.Is(err, wire.ErrLost) {
			t.Errorf("with the first of them: %v", err)
		}
		if _, err := p.Entries(t.Context(), 1, 1); !errors.Is(err, wire.ErrLost) {
			t.Errorf("a bundle that begins within them: %v", err)
		}
	})
}

// TestSlowEntriesAreForBundlesAlone checks that a node that is slow with entries is asked last for entries, but keeps
// its place in the order of all other reads.
func TestSlowEntriesAreForBundlesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		workers := *r.Workers
		tr := r.proverOn(&workers)
		first := tr.candidates(0, nil)[0]
		if _, err := tr.Tile(t.Context(), 0, 0, 256); err != nil {
			t.Fatal(err)
		}
		workers.Delay = func(url string) time.Duration {
			if url == first.URL {
				return time.Hour
			}
			return time.Millisecond
		}
		for i, most := range []time.Duration{bundleTimeout + time.Second, time.Second} {
			began := time.Now()
			if _, err := tr.Entries(t.Context(), 0, 256); err != nil || time.Since(began) > most {
				t.Errorf("bundle %d: %v after %v", i, err, time.Since(began))
			}
			if now := tr.candidates(0, nil)[0]; now.ID != first.ID || len(tr.unwell) > 0 {
				t.Errorf("bundle %d: records are read from %s, no longer from %s", i, now.ID, first.ID)
			}
			tr.bundles.kept.kept.Purge()
		}
		time.Sleep(hungFor)
		if got := tr.candidates(1, tr.bundles.slow)[0]; got.ID != first.ID {
			t.Errorf("after a while %s is asked first", got.ID)
		}
	})
}

// TestBundlesThatWait checks that bundles beyond the queue limit are rejected, and that abandoned requests free their
// places at once.
func TestBundlesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		workers := *r.Workers
		tr := r.proverOn(&workers)
		for range cap(tr.bundles.waiting) - 1 {
			tr.bundles.waiting <- struct{}{}
		}
		if _, err := tr.Tile(t.Context(), 0, 0, 256); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Tile(t.Context(), 0, 1, 1); err != nil {
			t.Fatal(err)
		}
		workers.Delay = func(string) time.Duration { return time.Hour }
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 3 { // one read
			asking.Go(func() {
				if _, err := tr.Entries(ctx, 0, 256); !errors.Is(err, context.Canceled) {
					t.Errorf("who goes away: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := tr.Entries(t.Context(), 1, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("one more: %v", err)
		}
		cancel()
		asking.Wait()
		synctest.Wait()
		workers.Delay = func(string) time.Duration { return 0 }
		if _, err := tr.Entries(t.Context(), 1, 1); err != nil {
			t.Errorf("after they went away: %v", err)
		}
		if len(tr.bundles.slow) > 0 {
			t.Error("nodes are passed over for who went away")
		}
	})
}
