package prover

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

func bytesOf(path []chain.Hash) [][]byte {
	list := make([][]byte, len(path))
	for i := range path {
		list[i] = path[i][:]
	}
	return list
}

func TestProofsOfTheTreeHoldForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 600)
		s, end, p := r.whole(), r.Checkpoint(), r.newProver()
		if end.Size != s.Size() {
			t.Fatalf("the checkpoint has %d leaves of %d", end.Size, len(s.Log.Entries))
		}
		root := func(size uint64) []byte {
			if size == 0 {
				return rfc6962.DefaultHasher.EmptyRoot()
			}
			h, err := tlog.TreeHash(int64(size), s.Log)
			if err != nil {
				t.Fatal(err)
			}
			return h[:]
		}
		for size := uint64(1); size <= end.Size; size += 1 + size%37 {
			for index := uint64(0); index < size; index += 1 + index%41 {
				path, err := p.Inclusion(t.Context(), index, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, leafHash(s, index), bytesOf(path),
					root(size)); err != nil {
					t.Fatalf("leaf %d of %d: %v", index, size, err)
				}
			}
			for from := uint64(0); from <= size; from += 1 + from%43 {
				path, err := p.Consistency(t.Context(), from, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, size, bytesOf(path), root(from),
					root(size)); err != nil {
					t.Fatalf("from %d to %d: %v", from, size, err)
				}
			}
		}
		if _, err := p.Consistency(t.Context(), 5, 4); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("backwards: %v", err)
		}
		if _, err := p.Inclusion(t.Context(), 7, 7); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("a leaf that is not in the tree: %v", err)
		}
		if _, err := p.Inclusion(t.Context(), 7, end.Size+1); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("a tree that is not there: %v", err)
		}
	})
}

// wantBundle returns the expected bundle of a range of leaves, computed from the blocks.
func wantBundle(s *masterstest.Storage, first, count uint64) (want []byte) {
	for _, b := range s.Blocks {
		for offset := range b.Header.Count + 1 {
			index := b.Header.First + uint64(offset)
			if index < first || index >= first+count {
				continue
			}
			if offset == b.Header.Count {
				want = wire.AppendEntry(want, b.Header.AppendTo(nil))
				continue
			}
			r, err := b.Record(offset)
			if err != nil {
				panic(err)
			}
			want = wire.AppendEntry(want, r.Leaf().AppendTo(nil))
		}
	}
	return want
}

func TestTilesAndBundlesOfAnyWidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 600)
		s, size := r.whole(), r.Checkpoint().Size
		for _, order := range []string{"ascending", "descending"} { // from nodes, and from wider ones in the cache
			tr := r.newProver()
			for level := range uint64(2) {
				for index := uint64(0); wire.WidthOfTile(level, index, size) > 0; index++ {
					widest := wire.WidthOfTile(level, index, size)
					for i := range widest {
						width := i + 1
						if order == "descending" {
							width = widest - i
						}
						got, err := tr.Tile(t.Context(), level, index, width)
						if err != nil {
							t.Fatal(err)
						}
						want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: int(level), N: int64(index), W: width},
							s.Log)
						if err != nil || !bytes.Equal(got, want) {
							t.Fatalf("tile %d/%d of %d hashes: other bytes, %v", level, index, width, err)
						}
						if level > 0 {
							continue
						}
						got, err = tr.Entries(t.Context(), index, width)
						if err != nil || !bytes.Equal(got, wantBundle(s, index*256, uint64(width))) {
							t.Fatalf("bundle %d of %d entries: other bytes, %v", index, width, err)
						}
					}
				}
			}
		}
		tr := r.newProver()
		for range 10 {
			if _, err := tr.Entries(t.Context(), 1, 256); err != nil {
				t.Fatal(err)
			}
		}
		tiles, entries := 0, 0
		for _, s := range r.Workers.Storages {
			tiles, entries = tiles+s.TileReads, entries+s.EntryReads
		}
		for range 10 {
			if _, err := tr.Entries(t.Context(), 1, 255); err != nil {
				t.Fatal(err)
			}
			if _, err := tr.Tile(t.Context(), 0, 1, 256); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range r.Workers.Storages {
			tiles, entries = tiles-s.TileReads, entries-s.EntryReads
		}
		if tiles != 0 || entries != 0 {
			t.Error("what was proven was read again")
		}
	})
}

// flipTiles makes a node change a byte in its tiles, if they have that many bytes, and set flipped. flipEntries does
// the same with entries.
func flipTiles(s *masterstest.Storage, at int, flipped *bool) {
	s.LieTiles = func(d *wire.TileData) {
		at := at
		for _, tile := range d.Tiles {
			if at < len(tile) {
				tile[at] ^= 1
				*flipped = true
				return
			}
			at -= len(tile)
		}
	}
}

func flipEntries(s *masterstest.Storage, at int, flipped *bool) {
	s.LieEntries = func(e *wire.Entries) {
		if at < len(e.Bundle) {
			e.Bundle[at] ^= 1
			*flipped = true
		}
	}
}

// TestNoFlippedByteIsServed checks that a changed byte in a node's response is always detected: the read goes to
// another node, and fails if there is none.
func TestNoFlippedByteIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		tile := func(level, index uint64, width int) func(*Prover) ([]byte, error) {
			return func(tr *Prover) ([]byte, error) { return tr.Tile(t.Context(), level, index, width) }
		}
		bundle := func(tr *Prover) ([]byte, error) { return tr.Entries(t.Context(), 1, 30) }
		for _, c := range []struct {
			name string
			flip func(s *masterstest.Storage, at int, flipped *bool)
			read func(*Prover) ([]byte, error)
			step int
		}{
			{"a full tile", flipTiles, tile(0, 0, 256), 41},
			{"the tile at the edge", flipTiles, tile(0, 1, 5), 1},
			{"the tile above", flipTiles, tile(1, 0, 1), 1},
			{"tiles of a bundle", flipTiles, bundle, 41},
			{"a bundle", flipEntries, bundle, 1},
			{"a consistency proof", flipTiles, func(tr *Prover) (raw []byte, err error) {
				list, err := tr.Consistency(t.Context(), 77, 301)
				for _, h := range list {
					raw = append(raw, h[:]...)
				}
				return raw, err
			}, 41},
		} {
			want, err := c.read(r.newProver())
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			at := 0
			for ; ; at += c.step {
				flipped := false
				r.lie(2, func(s *masterstest.Storage) { c.flip(s, at, &flipped) })
				tr := r.newProver()
				got, err := c.read(tr)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s, byte %d, two nodes of three lie: other bytes, %v", c.name, at, err)
				}
				if !flipped {
					break
				}
				if n := len(tr.suspects); n != 2 {
					t.Fatalf("%s, byte %d: %d nodes are suspect", c.name, at, n)
				}
				r.lie(3, func(s *masterstest.Storage) { c.flip(s, at, &flipped) })
				if got, err := c.read(r.newProver()); !errors.Is(err, wire.ErrUnavailable) || len(got) > 0 {
					t.Fatalf("%s, byte %d, all lie: %d bytes, %v", c.name, at, len(got), err)
				}
			}
			if at < 20 {
				t.Errorf("%s: flips up to byte %d alone", c.name, at)
			}
			r.lie(0, nil)
		}
	})
}

// TestTilesOfNodesThatHaveThemNot checks other faulty responses of nodes.
func TestTilesOfNodesThatHaveThemNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		for _, c := range []struct {
			name     string
			change   func(*masterstest.Storage)
			suspects int
		}{
			{"behind", func(s *masterstest.Storage) {
				s.LieTiles = func(d *wire.TileData) { *d = wire.TileData{Status: wire.ReadBehind} }
				s.LieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBehind} }
			}, 0},
			{"down", func(s *masterstest.Storage) { s.Down = true }, 0},
			{"unreadable", func(s *masterstest.Storage) {
				s.LieTiles = func(d *wire.TileData) { *d = wire.TileData{Status: wire.ReadBad} }
			}, 2},
			{"bad entries", func(s *masterstest.Storage) {
				s.LieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBad, Block: 1} }
			}, 2},
			{"too few tiles", func(s *masterstest.Storage) {
				s.LieTiles = func(d *wire.TileData) { d.Tiles = d.Tiles[1:] }
			}, 2},
			{"short tiles", func(s *masterstest.Storage) {
				s.LieTiles = func(d *wire.TileData) { d.Tiles[0] = d.Tiles[0][1:] }
			}, 2},
			{"no entries", func(s *masterstest.Storage) {
				s.LieEntries = func(e *wire.Entries) { e.Bundle = nil }
			}, 2},
			{"more entries", func(s *masterstest.Storage) {
				s.LieEntries = func(e *wire.Entries) { e.Bundle = append(e.Bundle, 0, 0) }
			}, 2},
		} {
			r.lie(2, c.change)
			tr := r.newProver()
			if _, err := tr.Entries(t.Context(), 0, 256); err != nil {
				t.Errorf("two nodes of three are %s: %v", c.name, err)
			}
			if n := len(tr.suspects); n != c.suspects {
				t.Errorf("%s: %d nodes are suspect", c.name, n)
			}
			r.lie(3, c.change)
			if _, err := r.newProver().Entries(t.Context(), 0, 256); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("all nodes are %s: %v", c.name, err)
			}
		}
	})
}

// TestBoundaryOfANode checks that a node that is behind the checkpoint is asked for the tree of a boundary that it has,
// or not at all.
func TestBoundaryOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFixture(t, 300)
		newest := r.Checkpoint()
		var before masterfsm.Boundary
		r.Ledger.Read(func(s *masterfsm.State) { before, _ = s.BoundaryAt(newest.Height - 1) })
		for _, c := range []struct {
			height, size uint64
			want         masterfsm.Boundary
			ok           bool
		}{
			{newest.Height, 1, newest, true},
			{newest.Height + 5, newest.Size, newest, true},
			{newest.Height, newest.Size + 1, newest, false},
			{before.Height, 1, before, true},
			{before.Height, before.Size, before, true},
			{before.Height, before.Size + 1, before, false},
			{0, 1, masterfsm.Boundary{}, false},
		} {
			b, ok := r.newProver().boundary(masterfsm.Storage{Height: c.height}, c.size)
			if ok != c.ok || ok && b != c.want {
				t.Errorf("a node of height %d for %d leaves: %+v, %v", c.height, c.size, b, ok)
			}
		}
	})
}

func leafHash(s *masterstest.Storage, index uint64) []byte {
	hash := tlog.RecordHash(s.Log.Entries[index])
	return hash[:]
}
