package masternode

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// treeReads is how often the storage nodes were asked for tiles and for entries.
func (r *rig) treeReads() (tiles, entries int) {
	for url := range r.workers.storages {
		r.on(url, func(s *fakeStorage) { tiles, entries = tiles+s.tileReads, entries+s.entryReads })
	}
	return tiles, entries
}

// A bundle is read once, whatever the widths that are asked for, one after the other or all at a time. So is a tile.
func TestBundleOfManyWidths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 400)
		defer r.stop()
		s, size := r.whole(), r.checkpoint().Size
		for index := range uint64(2) {
			before, _ := r.treeReads()
			var asking sync.WaitGroup
			for width := 1; width <= wire.WidthOfTile(0, index, size); width++ {
				asking.Go(func() {
					got, err := r.Entries(t.Context(), index, width)
					if err != nil || !bytes.Equal(got, wantBundle(s, index*256, uint64(width))) {
						t.Errorf("bundle %d of %d entries: other bytes, %v", index, width, err)
					}
					if tile, err := r.Tile(t.Context(), 0, index, width); err != nil || len(tile) != width*chain.HashSize {
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

// Entries before a lost block are read as far as they go, and what is behind costs the storage nodes nothing.
func TestBundleUpToALostBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		for url := range r.workers.storages {
			r.on(url, func(s *fakeStorage) { s.bad[3] = true })
		}
		time.Sleep(time.Minute)
		if _, err := r.ConfirmLost(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		for width := range wire.TileWidth {
			_, err := r.Entries(t.Context(), 0, width+1)
			if lost := width+1 > 3*17; lost != errors.Is(err, ErrLost) || !lost && err != nil {
				t.Errorf("%d entries: %v", width+1, err)
			}
		}
		if _, err := r.Entries(t.Context(), 1, 20); err != nil {
			t.Errorf("the bundle behind it: %v", err)
		}
		if _, entries := r.treeReads(); entries != 2 {
			t.Errorf("%d reads of two bundles", entries)
		}
		// A node's word for a loss elsewhere is nothing, also where no other can be asked.
		r.lie(3, func(s *fakeStorage) { s.down = true })
		r.lie(1, func(s *fakeStorage) {
			s.lieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBad, Block: 3} }
		})
		for i, n := range r.prover.candidates(func(masterfsm.Storage) bool { return true }) {
			r.on(n.URL, func(s *fakeStorage) { s.down = i > 0 })
		}
		if _, err := r.newTree().bundles.first(t.Context(), 0, 17); errors.Is(err, ErrLost) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("entries of block 0: %v", err)
		}
	})
}

// A bundle that begins within lost blocks, and one that they fill.
func TestBundleWithinLostBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		for url := range r.workers.storages {
			r.on(url, func(s *fakeStorage) {
				for block := uint64(13); block < 17; block++ { // leaves 221 to 288
					s.bad[block] = true
				}
			})
		}
		time.Sleep(time.Minute)
		for block := uint64(13); block < 17; block++ {
			if _, err := r.ConfirmLost(t.Context(), block); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Entries(t.Context(), 0, 221); err != nil {
			t.Errorf("the entries before them: %v", err)
		}
		if _, err := r.Entries(t.Context(), 0, 222); !errors.Is(err, ErrLost) {
			t.Errorf("with the first of them: %v", err)
		}
		if _, err := r.Entries(t.Context(), 1, 1); !errors.Is(err, ErrLost) {
			t.Errorf("a bundle that begins within them: %v", err)
		}
	})
}

// A node that is slow with entries is asked last for those, and first for all else as before.
func TestSlowEntriesAreForBundlesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 300)
		defer r.stop()
		workers, cfg := *r.workers, r.cfg
		cfg.Workers = &workers
		tr := newTree(newProver(cfg))
		all := func(masterfsm.Storage) bool { return true }
		first := tr.prover.candidates(all)[0]
		if _, err := tr.tile(t.Context(), 0, 0, 256); err != nil {
			t.Fatal(err)
		}
		workers.delay = func(url string) time.Duration {
			if url == first.URL {
				return time.Hour
			}
			return time.Millisecond
		}
		for i, most := range []time.Duration{bundleTimeout + time.Second, time.Second} {
			began := time.Now()
			if _, err := tr.bundles.first(t.Context(), 0, 256); err != nil || time.Since(began) > most {
				t.Errorf("bundle %d: %v after %v", i, err, time.Since(began))
			}
			if now := tr.prover.candidates(all)[0]; now.ID != first.ID || len(tr.prover.unwell) > 0 {
				t.Errorf("bundle %d: records are read from %s, no longer from %s", i, now.ID, first.ID)
			}
			tr.bundles.kept.Purge()
		}
		time.Sleep(hungFor)
		if got := tr.bundles.candidates()[0]; got.ID != first.ID {
			t.Errorf("after a while %s is asked first", got.ID)
		}
	})
}

// More bundles than may wait are refused, and those that nobody waits for any more make room at once.
func TestBundlesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 300)
		defer r.stop()
		workers, cfg := *r.workers, r.cfg
		cfg.Workers = &workers
		tr := newTree(newProver(cfg))
		for range tr.bundles.waiting.limit - 1 {
			tr.bundles.waiting.enter()
		}
		if _, err := tr.tile(t.Context(), 0, 0, 256); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.tile(t.Context(), 0, 1, 1); err != nil {
			t.Fatal(err)
		}
		workers.delay = func(string) time.Duration { return time.Hour }
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for range 3 { // one read
			asking.Go(func() {
				if _, err := tr.bundles.first(ctx, 0, 256); !errors.Is(err, context.Canceled) {
					t.Errorf("who goes away: %v", err)
				}
			})
		}
		synctest.Wait()
		if _, err := tr.bundles.first(t.Context(), 1, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("one more: %v", err)
		}
		cancel()
		asking.Wait()
		synctest.Wait()
		workers.delay = func(string) time.Duration { return 0 }
		if _, err := tr.bundles.first(t.Context(), 1, 1); err != nil {
			t.Errorf("after they went away: %v", err)
		}
		if len(tr.bundles.slow) > 0 {
			t.Error("nodes are passed over for who went away")
		}
	})
}
