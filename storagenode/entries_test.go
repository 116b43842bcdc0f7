package storagenode

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// leaves returns the data of all leaves of the chain.
func (c *testChain) leaves(t testing.TB) (list [][]byte) {
	t.Helper()
	for i := range c.blocks {
		b := &c.blocks[i]
		for offset := range b.Header.Count {
			r, err := b.Record(offset)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, r.Leaf().AppendTo(nil))
		}
		list = append(list, b.Header.AppendTo(nil))
	}
	return list
}

// mustEntries reads a run of entries, which must be available.
func mustEntries(t testing.TB, n *Node, first uint64, count int) []byte {
	t.Helper()
	e, err := n.Entries(t.Context(), first, count)
	if err != nil || e.Status != wire.ReadFound {
		t.Fatalf("leaves from %d on, %d: status %d, block %d, %v", first, count, e.Status, e.Block, err)
	}
	return e.Bundle
}

// TestEntriesOfAnyRun reads runs that begin and end anywhere in blocks, across segments, and one that is larger than a
// single read.
func TestEntriesOfAnyRun(t *testing.T) {
	c := newTestChain(3)
	c.growTo(t, 30)
	c.grow(t, 5, entryBytes) // pieces of one record and of several
	c.grow(t, 300, 20<<10)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 2000})
	c.putAll(t, n)
	leaves := c.leaves(t)
	for first := 0; first < len(leaves); first += 1 + first%7 {
		for _, count := range []int{1, 2, 9, 256} {
			if first+count > len(leaves) {
				continue
			}
			var want []byte
			for _, leaf := range leaves[first : first+count] {
				want = wire.AppendEntry(want, leaf)
			}
			if got := mustEntries(t, n, uint64(first), count); !bytes.Equal(got, want) {
				t.Fatalf("leaves from %d on, %d: other bytes", first, count)
			}
		}
	}
	for _, run := range [][2]uint64{{uint64(len(leaves)), 1}, {uint64(len(leaves)) - 1, 2}, {1<<64 - 1, 256},
		{1 << 63, 1}} {
		if e, err := n.Entries(t.Context(), run[0], int(run[1])); err != nil || e.Status != wire.ReadBehind ||
			e.Bundle != nil {
			t.Errorf("leaves from %d on: %+v, %v", run[0], e, err)
		}
	}
}

// TestTilesAreThoseOfTheTree compares the tiles of all levels with those of tlog.
func TestTilesAreThoseOfTheTree(t *testing.T) {
	c := newTestChain(4)
	for range 40 {
		c.grow(t, 30, 9)
	}
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	c.putAll(t, n)
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, hashes[i])
		}
		return list, nil
	})
	leaves := c.leaves(t)
	for i, leaf := range leaves {
		more, err := tlog.StoredHashes(int64(i), leaf, reader)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, more...)
	}
	tiles := tlog.NewTiles(wire.TileHeight, 0, int64(len(leaves)))
	tiles = append(tiles, tlog.Tile{H: wire.TileHeight, L: 0, N: 2, W: 100})
	answer := n.Tiles(tiles)
	if answer.Status != wire.ReadFound {
		t.Fatalf("status %d", answer.Status)
	}
	for i, tile := range tiles {
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil || !bytes.Equal(answer.Tiles[i], want) {
			t.Errorf("%s: other hashes, %v", tile.Path(), err)
		}
	}
	for _, beyond := range []tlog.Tile{{L: 0, N: 4, W: 256}, {L: 1, N: 0, W: 5}, {L: 2, N: 0, W: 1}, {L: 7, N: 0,
		W: 1}, {L: 0, N: 1 << 54, W: 1}} {
		if answer := n.Tiles([]tlog.Tile{tiles[0], beyond}); answer.Status != wire.ReadBehind || answer.Tiles != nil {
			t.Errorf("%+v: status %d", beyond, answer.Status)
		}
	}
}

// TestEntriesOfDamage checks that an entry that does not match its leaf hash is not returned, and that the response
// names the block. The other entries must be returned.
func TestEntriesOfDamage(t *testing.T) {
	c, cfg := filled(t, 5, 12)
	n := mustOpen(t, cfg)
	const broken = 7
	p, seg, _ := n.index.Get(broken)
	path := filepath.Join(n.dir.Segments(), segment.Name(seg))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := c.blocks[broken].Header.First
	for name, at := range map[string]int64{
		"payload": p.End() - 1, "ends": p.Offset + segment.FrameHeader + chain.HeaderSize + 3,
		"header": p.Offset + segment.FrameHeader + 60, "number": p.Offset + segment.FrameHeader + 9,
	} {
		changed := bytes.Clone(data)
		changed[at] ^= 0x55
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		all, err := n.Entries(t.Context(), first, int(p.Count)+1)
		if err != nil || all.Status != wire.ReadBad || all.Block != broken || all.Bundle != nil {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
		mustEntries(t, n, 0, int(first))
		mustEntries(t, n, p.Next(), 3)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	mustEntries(t, n, first, int(p.Count)+1)
}

// TestEntriesWaitForTheirTurn checks that the number of calls that compute entries concurrently is limited. A waiting
// call must end with its context.
func TestEntriesWaitForTheirTurn(t *testing.T) {
	_, cfg := filled(t, 6, 3)
	n := mustOpen(t, cfg)
	for range bundleWorkers {
		n.bundles <- struct{}{}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the reader went away")
	cancel(gone)
	if _, err := n.Entries(ctx, 0, 1); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	<-n.bundles
	mustEntries(t, n, 0, 1)
}
