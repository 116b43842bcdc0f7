package prover

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// onAll changes all storage nodes.
func (f *fixture) onAll(change func(s *masterstest.Storage)) {
	for url := range f.Workers.Storages {
		f.On(url, change)
	}
}

// paths returns how many paths of records the storage nodes sent.
func (f *fixture) paths() (paths int) {
	f.onAll(func(s *masterstest.Storage) { paths += s.Paths })
	return paths
}

// readAll reads all records of the chain twice, with proofs, and compares them. What a prover does beside ends before
// each one. It returns how many paths the second pass needed.
func (f *fixture) readAll(p *Prover) (paths int) {
	f.t.Helper()
	for range 2 {
		before := f.paths()
		for _, b := range f.whole().Blocks {
			h, err := p.Header(f.t.Context(), b.Header.Block)
			if err != nil {
				f.t.Fatal(err)
			}
			for offset := range h.Count {
				synctest.Wait()
				got, err := p.Record(f.t.Context(), h, offset)
				if err != nil || !bytes.Equal(got.Encoded, b.Encoded(offset)) {
					f.t.Fatalf("record %d of block %d: %v", offset, h.Block, err)
				}
			}
		}
		paths = f.paths() - before
	}
	return paths
}

// keepLeaves reads the records of the first blocks until the leaf hashes of their tile are kept.
func (f *fixture) keepLeaves(p *Prover) {
	f.t.Helper()
	for offset := range uint32(tileReads) {
		h, err := p.Header(f.t.Context(), 0)
		if err == nil {
			_, err = p.Record(f.t.Context(), h, offset)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	if _, ok := p.leaf(0); !ok {
		f.t.Fatal("the leaf hashes are not kept")
	}
}

// TestKnownLeavesNeedNoPath reads chains of random sizes. Once a tile is full, records are read without a path after a
// few reads. An older storage node sends paths nevertheless. All leaf hashes that are kept, and all proofs from kept
// tiles, must be those of the tree.
func TestKnownLeavesNeedNoPath(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	for range 6 {
		records, older := 1+rng.IntN(800), rng.IntN(2) == 0
		synctest.Test(t, func(t *testing.T) {
			r := newFixture(t, records)
			r.onAll(func(s *masterstest.Storage) { s.OldReads = older })
			p, log := r.cachingProver(0), r.whole()
			size := r.Checkpoint().Size
			// The proof of the first full tile needs the unfinished one at the end of the tree.
			full, want := size >= wire.TileWidth, 0
			if older || !full {
				want = records
			}
			if got := r.readAll(p); got != want {
				t.Errorf("%d records, older node %t: %d paths, want %d", records, older, got, want)
			}
			for index := range size {
				h, ok := p.leaf(index)
				if ok != full || ok && h != leafHashOf(log, index) {
					t.Fatalf("leaf %d of %d: %t, %s", index, size, ok, h)
				}
			}
			for range 50 {
				of := 1 + rng.Uint64N(size)
				index := rng.Uint64N(of)
				path, err := p.Inclusion(t.Context(), index, of)
				if err != nil || !slices.Equal(path, log.Path(of, index)) {
					t.Fatalf("leaf %d of %d: another path, %v", index, of, err)
				}
			}
		})
	}
}

func leafHashOf(s *masterstest.Storage, index uint64) (h chain.Hash) {
	return chain.Hash(leafHash(s, index))
}

// TestAlteredRecordsOfKnownLeaves flips each byte of the answers of all storage nodes, and changes them in other ways,
// after the leaf hashes are kept. No read may succeed, none may be kept, and the nodes must be suspect.
func TestAlteredRecordsOfKnownLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		p := r.cachingProver(1 << 20)
		r.keepLeaves(p)
		const offset = 40
		h, err := p.Header(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		kept := p.RecordCache().Bytes
		good := r.whole().Blocks[1].Encoded(offset)
		refused := func(change func(a *wire.ProvenRecord)) {
			t.Helper()
			r.onAll(func(s *masterstest.Storage) { s.Lie = change })
			for len(p.suspects) > 0 {
				<-p.suspects
			}
			_, err := p.Record(t.Context(), h, offset)
			if !errors.Is(err, wire.ErrUnavailable) || p.RecordCache().Bytes != kept || len(p.suspects) != 3 {
				t.Fatalf("%v, %d bytes are kept, %d nodes are suspect",
					err, p.RecordCache().Bytes-kept, len(p.suspects))
			}
		}
		before := r.paths()
		for i := range good {
			refused(func(a *wire.ProvenRecord) { a.Record[i] ^= 1 << (i % 8) })
		}
		other := r.whole().Blocks[1].Encoded(offset + 1)
		refused(func(a *wire.ProvenRecord) { a.Record = bytes.Clone(other) })
		refused(func(a *wire.ProvenRecord) { // with a proof that is valid for it
			a.Record, a.Path = bytes.Clone(other), r.whole().Path(h.Seal(), h.First+offset+1)
		})
		refused(func(a *wire.ProvenRecord) { a.Record = a.Record[:len(a.Record)-1] })
		refused(func(a *wire.ProvenRecord) { a.Record = nil })
		refused(func(a *wire.ProvenRecord) { *a = wire.ProvenRecord{Status: wire.ReadBad} })
		refused(func(a *wire.ProvenRecord) { *a = wire.ProvenRecord{Status: wire.ReadBeyond} })
		if got := r.paths(); got != before {
			t.Errorf("%d paths were sent", got-before)
		}
		// Damage of a block that no node has is no news.
		r.Lose(1)
		for len(p.suspects) > 0 {
			<-p.suspects
		}
		r.onAll(func(s *masterstest.Storage) { s.Lie = func(a *wire.ProvenRecord) { a.Record[0] ^= 1 } })
		if _, err := p.Record(t.Context(), h, offset); !errors.Is(err, wire.ErrUnavailable) || len(p.suspects) != 0 {
			t.Errorf("a lost block: %v, %d nodes are suspect", err, len(p.suspects))
		}
	})
}

// TestWrongTilesAreNotKept changes each hash of the tiles that storage nodes send. No leaf hash may be kept, the
// records are read by their paths, and the node is suspect.
func TestWrongTilesAreNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 600)
		s := r.whole()
		for hash := range wire.TileWidth {
			p := r.cachingProver(0)
			r.onAll(func(s *masterstest.Storage) {
				s.LieTiles = func(d *wire.TileData) {
					for i := range d.Tiles {
						if at := hash * chain.HashSize; at < len(d.Tiles[i]) {
							d.Tiles[i][at+hash%chain.HashSize] ^= 1
						}
					}
				}
			})
			h, err := p.Header(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			before := r.paths()
			for offset := range uint32(3 * tileReads) {
				got, err := p.Record(t.Context(), h, offset)
				if err != nil || !bytes.Equal(got.Encoded, s.Blocks[0].Encoded(offset)) {
					t.Fatalf("hash %d, record %d: %v", hash, offset, err)
				}
				time.Sleep(time.Second)
			}
			if _, ok := p.leaf(0); ok || r.paths() != before+3*tileReads || len(p.suspects) == 0 {
				t.Fatalf("hash %d: kept %t, %d paths, %d suspects", hash, ok, r.paths()-before, len(p.suspects))
			}
		}
	})
}

// TestScatteredReadsReadNoTiles notes reads of random leaves of a long chain, and of some that are read often. Only
// tiles of the second kind may be read.
func TestScatteredReadsReadNoTiles(t *testing.T) {
	const kept, hot = 100, 10
	tiles := newLeafTiles(kept)
	rng := rand.New(rand.NewPCG(13, 14))
	due := map[uint64]int{}
	for i := range 100_000 {
		leaf := rng.Uint64N(1 << 40)
		if i%20 == 0 {
			leaf = rng.Uint64N(hot * wire.TileWidth)
		}
		tiles.note(leaf)
		for len(tiles.due) > 0 {
			due[<-tiles.due]++
		}
	}
	for tile := range due {
		if tile >= hot {
			t.Errorf("tile %d is due", tile)
		}
	}
	if len(due) != hot {
		t.Errorf("%d tiles are due, want %d", len(due), hot)
	}
}

// TestKeptTiles checks how many tiles fit a number of bytes.
func TestKeptTiles(t *testing.T) {
	for bytes, want := range map[uint64]int{0: 1927, 1: 1, 1 << 20: 120, DefaultTileBytes: 1927} {
		if got := keptTiles(bytes); got != want {
			t.Errorf("%d bytes: %d tiles, want %d", bytes, got, want)
		}
	}
}
