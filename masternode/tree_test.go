package masternode

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// treeRig is a rig with a chain of a few levels of tiles that is stored.
func treeRig(t *testing.T, records int) *rig {
	t.Helper()
	r := newRig(t, 3, func(c *Config, _ *rig) { c.Settings.MaxRecords = 100 })
	entries := make([]Entry, records)
	for i := range entries {
		entries[i].Payload = []byte{byte(i), byte(i >> 8), 7}
	}
	if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Second) // in the bubble: enough to be cut, mined and put
	return r
}

// whole is a storage node's own tree, which is right.
func (r *rig) whole() *fakeStorage {
	r.on("http://s0", func(s *fakeStorage) { s.hashUpTo(uint64(len(s.leaves))) })
	return r.workers.storages["http://s0"]
}

// newTree is one that has not read anything yet, and whose suspicions nobody takes.
func (r *rig) newTree() *tree { return newTree(newProver(r.cfg)) }

// lie changes so many storage nodes, those that are asked first, and makes the others honest.
func (r *rig) lie(first int, change func(*fakeStorage)) {
	for i, n := range r.prover.candidates(func(masterfsm.Storage) bool { return true }) {
		r.on(n.URL, func(s *fakeStorage) {
			s.lieTiles, s.lieEntries, s.down = nil, nil, false
			if i < first {
				change(s)
			}
		})
	}
}

func (r *rig) checkpoint() (b masterfsm.Boundary) {
	r.ledger.Read(func(s *masterfsm.State) { b = s.Checkpoint() })
	return b
}

func bytesOf(path []chain.Hash) [][]byte {
	list := make([][]byte, len(path))
	for i := range path {
		list[i] = path[i][:]
	}
	return list
}

func TestProofsOfTheTreeHoldForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 600)
		defer r.stop()
		s, end := r.whole(), r.checkpoint()
		if end.Size != uint64(len(s.leaves)) {
			t.Fatalf("the checkpoint has %d leaves of %d", end.Size, len(s.leaves))
		}
		root := func(size uint64) []byte {
			if size == 0 {
				return rfc6962.DefaultHasher.EmptyRoot()
			}
			h, err := tlog.TreeHash(int64(size), s.reader())
			if err != nil {
				t.Fatal(err)
			}
			return h[:]
		}
		for size := uint64(1); size <= end.Size; size += 1 + size%37 {
			for index := uint64(0); index < size; index += 1 + index%41 {
				path, err := r.tree.inclusion(t.Context(), index, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.VerifyInclusion(rfc6962.DefaultHasher, index, size, s.leaves[index][:], bytesOf(path), root(size)); err != nil {
					t.Fatalf("leaf %d of %d: %v", index, size, err)
				}
			}
			for from := uint64(0); from <= size; from += 1 + from%43 {
				path, err := r.consistency(t.Context(), from, size)
				if err != nil {
					t.Fatal(err)
				}
				if err := proof.VerifyConsistency(rfc6962.DefaultHasher, from, size, bytesOf(path), root(from), root(size)); err != nil {
					t.Fatalf("from %d to %d: %v", from, size, err)
				}
			}
		}
		if _, err := r.consistency(t.Context(), 5, 4); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("backwards: %v", err)
		}
		if _, err := r.tree.inclusion(t.Context(), 7, 7); !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("a leaf that is not in the tree: %v", err)
		}
		if _, err := r.tree.inclusion(t.Context(), 7, end.Size+1); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("a tree that is not there: %v", err)
		}
	})
}

// wantBundle is the bundle of a run of leaves, by the blocks.
func wantBundle(s *fakeStorage, first, count uint64) (want []byte) {
	for _, b := range s.blocks {
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
		r := treeRig(t, 600)
		defer r.stop()
		s, size := r.whole(), r.checkpoint().Size
		for _, order := range []string{"ascending", "descending"} { // from nodes, and from wider ones that are kept
			tr := r.newTree()
			for level := range uint64(2) {
				for index := uint64(0); wire.WidthOfTile(level, index, size) > 0; index++ {
					widest := wire.WidthOfTile(level, index, size)
					for i := range widest {
						width := i + 1
						if order == "descending" {
							width = widest - i
						}
						got, err := tr.tile(t.Context(), level, index, width)
						if err != nil {
							t.Fatal(err)
						}
						want, err := tlog.ReadTileData(tlog.Tile{H: 8, L: int(level), N: int64(index), W: width}, s.reader())
						if err != nil || !bytes.Equal(got, want) {
							t.Fatalf("tile %d/%d of %d hashes: other bytes, %v", level, index, width, err)
						}
						if level > 0 {
							continue
						}
						got, err = tr.bundles.first(t.Context(), index, width)
						if err != nil || !bytes.Equal(got, wantBundle(s, index*256, uint64(width))) {
							t.Fatalf("bundle %d of %d entries: other bytes, %v", index, width, err)
						}
					}
				}
			}
		}
		tr := r.newTree()
		for range 10 {
			if _, err := tr.bundles.first(t.Context(), 1, 256); err != nil {
				t.Fatal(err)
			}
		}
		tiles, entries := 0, 0
		for _, s := range r.workers.storages {
			tiles, entries = tiles+s.tileReads, entries+s.entryReads
		}
		for range 10 {
			if _, err := tr.bundles.first(t.Context(), 1, 255); err != nil {
				t.Fatal(err)
			}
			if _, err := tr.tile(t.Context(), 0, 1, 256); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range r.workers.storages {
			tiles, entries = tiles-s.tileReads, entries-s.entryReads
		}
		if tiles != 0 || entries != 0 {
			t.Error("what was proven was read again")
		}
	})
}

// flipTiles makes a node change a byte in its answers of tiles, where they have so many, and tell that it did; flipEntries in entries.
func flipTiles(s *fakeStorage, at int, flipped *bool) {
	s.lieTiles = func(d *wire.TileData) {
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

func flipEntries(s *fakeStorage, at int, flipped *bool) {
	s.lieEntries = func(e *wire.Entries) {
		if at < len(e.Bundle) {
			e.Bundle[at] ^= 1
			*flipped = true
		}
	}
}

// No flip of a byte in what a node answers gets through: the read goes to another node, and fails where there is none.
func TestNoFlippedByteIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 300)
		defer r.stop()
		tile := func(level, index uint64, width int) func(*tree) ([]byte, error) {
			return func(tr *tree) ([]byte, error) { return tr.tile(t.Context(), level, index, width) }
		}
		bundle := func(tr *tree) ([]byte, error) { return tr.bundles.first(t.Context(), 1, 30) }
		for _, c := range []struct {
			name string
			flip func(s *fakeStorage, at int, flipped *bool)
			read func(*tree) ([]byte, error)
			step int
		}{
			{"a full tile", flipTiles, tile(0, 0, 256), 41},
			{"the tile at the edge", flipTiles, tile(0, 1, 5), 1},
			{"the tile above", flipTiles, tile(1, 0, 1), 1},
			{"tiles of a bundle", flipTiles, bundle, 41},
			{"a bundle", flipEntries, bundle, 1},
			{"a consistency proof", flipTiles, func(tr *tree) (raw []byte, err error) {
				list, err := tr.consistency(t.Context(), 77, 301)
				for _, h := range list {
					raw = append(raw, h[:]...)
				}
				return raw, err
			}, 41},
		} {
			want, err := c.read(r.newTree())
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			at := 0
			for ; ; at += c.step {
				flipped := false
				r.lie(2, func(s *fakeStorage) { c.flip(s, at, &flipped) })
				tr := r.newTree()
				got, err := c.read(tr)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%s, byte %d, two nodes of three lie: other bytes, %v", c.name, at, err)
				}
				if !flipped {
					break
				}
				if n := len(tr.prover.suspects); n != 2 {
					t.Fatalf("%s, byte %d: %d nodes are suspect", c.name, at, n)
				}
				r.lie(3, func(s *fakeStorage) { c.flip(s, at, &flipped) })
				if got, err := c.read(r.newTree()); !errors.Is(err, wire.ErrUnavailable) || len(got) > 0 {
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

// What else a node may answer.
func TestTilesOfNodesThatHaveThemNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 300)
		defer r.stop()
		for _, c := range []struct {
			name     string
			change   func(*fakeStorage)
			suspects int
		}{
			{"behind", func(s *fakeStorage) {
				s.lieTiles = func(d *wire.TileData) { *d = wire.TileData{Status: wire.ReadBehind} }
				s.lieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBehind} }
			}, 0},
			{"down", func(s *fakeStorage) { s.down = true }, 0},
			{"unreadable", func(s *fakeStorage) {
				s.lieTiles = func(d *wire.TileData) { *d = wire.TileData{Status: wire.ReadBad} }
			}, 2},
			{"bad entries", func(s *fakeStorage) {
				s.lieEntries = func(e *wire.Entries) { *e = wire.Entries{Status: wire.ReadBad, Block: 1} }
			}, 2},
			{"too few tiles", func(s *fakeStorage) {
				s.lieTiles = func(d *wire.TileData) { d.Tiles = d.Tiles[1:] }
			}, 2},
			{"short tiles", func(s *fakeStorage) {
				s.lieTiles = func(d *wire.TileData) { d.Tiles[0] = d.Tiles[0][1:] }
			}, 2},
			{"no entries", func(s *fakeStorage) {
				s.lieEntries = func(e *wire.Entries) { e.Bundle = nil }
			}, 2},
			{"more entries", func(s *fakeStorage) {
				s.lieEntries = func(e *wire.Entries) { e.Bundle = append(e.Bundle, 0, 0) }
			}, 2},
		} {
			r.lie(2, c.change)
			tr := r.newTree()
			if _, err := tr.bundles.first(t.Context(), 0, 256); err != nil {
				t.Errorf("two nodes of three are %s: %v", c.name, err)
			}
			if n := len(tr.prover.suspects); n != c.suspects {
				t.Errorf("%s: %d nodes are suspect", c.name, n)
			}
			r.lie(3, c.change)
			if _, err := r.newTree().bundles.first(t.Context(), 0, 256); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("all nodes are %s: %v", c.name, err)
			}
		}
	})
}

// A node that is behind the checkpoint is asked for the tree of a boundary that it has, or not at all.
func TestBoundaryOfANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := treeRig(t, 300)
		defer r.stop()
		newest := r.checkpoint()
		var before masterfsm.Boundary
		r.ledger.Read(func(s *masterfsm.State) { before, _ = s.BoundaryAt(newest.Height - 1) })
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
			b, ok := r.tree.boundary(masterfsm.Storage{Height: c.height}, c.size)
			if ok != c.ok || ok && b != c.want {
				t.Errorf("a node of height %d for %d leaves: %+v, %v", c.height, c.size, b, ok)
			}
		}
	})
}
