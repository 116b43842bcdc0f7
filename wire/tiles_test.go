package wire_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestWidthOfTile(t *testing.T) {
	// The tree of size 70,000 is the example in the specification of C2SP tlog-tiles.
	for _, c := range []struct {
		level, index, size uint64
		want               int
	}{
		{0, 0, 0, 0},
		{0, 0, 1, 1},
		{0, 0, 255, 255},
		{0, 0, 256, 256},
		{1, 0, 255, 0},
		{1, 0, 256, 1},
		{0, 1, 256, 0},
		{0, 272, 70_000, 256},
		{0, 273, 70_000, 112},
		{0, 274, 70_000, 0},
		{1, 0, 70_000, 256},
		{1, 1, 70_000, 17},
		{2, 0, 70_000, 1},
		{3, 0, 70_000, 0},
		{7, 0, 1 << 62, 64},
		{0, math.MaxUint64, math.MaxUint64, 0},
		{0, math.MaxUint64 >> 8, math.MaxUint64, 255},
		{8, 0, math.MaxUint64, 0},
		{63, 0, math.MaxUint64, 0},
		{math.MaxUint64, math.MaxUint64, math.MaxUint64, 0},
	} {
		if got := wire.WidthOfTile(c.level, c.index, c.size); got != c.want {
			t.Errorf("tile %d/%d in a tree of %d: %d hashes, want %d", c.level, c.index, c.size, got, c.want)
		}
	}
}

func TestTilesOnTheWire(t *testing.T) {
	tiles := []tlog.Tile{{H: 8, L: 0, N: 1<<55 - 1, W: 256}, {H: 8, L: 6, N: 0x7f, W: 1}}
	back, err := wire.ParseTiles(wire.AppendTiles(nil, tiles))
	if err != nil || !reflect.DeepEqual(back, tiles) {
		t.Errorf("%v, %v", back, err)
	}
	for name, data := range map[string][]byte{
		"none":       nil,
		"a part":     wire.AppendTiles(nil, tiles)[:12],
		"too many":   wire.AppendTiles(nil, make([]tlog.Tile, wire.MaxTiles+1)),
		"no hash":    wire.AppendTiles(nil, []tlog.Tile{{L: 0, N: 0, W: 0}}),
		"too wide":   wire.AppendTiles(nil, []tlog.Tile{{L: 0, N: 0, W: 257}}),
		"too far":    wire.AppendTiles(nil, []tlog.Tile{{L: 0, N: 1 << 55, W: 1}}),
		"too high":   wire.AppendTiles(nil, []tlog.Tile{{L: 7, N: 0, W: 1}, {L: 8, N: 0, W: 1}}),
		"overflow":   wire.AppendTiles(nil, []tlog.Tile{{L: 255, N: -1, W: 1}}),
		"high, wide": wire.AppendTiles(nil, []tlog.Tile{{L: 6, N: 0x80, W: 1}}),
	} {
		if _, err := wire.ParseTiles(data); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}

	answer := wire.TileData{Tiles: [][]byte{bytes.Repeat([]byte{1}, 256*32), bytes.Repeat([]byte{2}, 32)}}
	data := answer.AppendTo(nil)
	if got, err := wire.ParseTileData(data, tiles); err != nil || !reflect.DeepEqual(got, answer) {
		t.Errorf("%v", err)
	}
	behind := wire.TileData{Status: wire.ReadBehind}
	if got, err := wire.ParseTileData(behind.AppendTo(nil), tiles); err != nil || got.Status != wire.ReadBehind ||
		got.Tiles != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, data[:len(data)-1], append(bytes.Clone(data), 0), {byte(wire.ReadBehind), 0}} {
		if _, err := wire.ParseTileData(bad, tiles); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestEntriesOnTheWire(t *testing.T) {
	e := wire.Entries{Status: wire.ReadBad, Block: 1 << 60}
	if got, err := wire.ParseEntries(e.AppendTo(nil)); err != nil || got.Status != e.Status || got.Block != e.Block ||
		len(got.Bundle) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := wire.ParseEntries(e.AppendTo(nil)[:8]); !errors.Is(err, wire.ErrMalformed) {
		t.Error(err)
	}
	bundle := wire.AppendEntry(wire.AppendEntry(nil, []byte("one")), nil)
	first, rest, err := wire.NextEntry(bundle)
	if err != nil || string(first) != "one" {
		t.Errorf("%q, %v", first, err)
	}
	second, rest, err := wire.NextEntry(rest)
	if err != nil || len(second) > 0 || len(rest) > 0 {
		t.Errorf("%q, %q, %v", second, rest, err)
	}
	for n := range 5 {
		if _, _, err := wire.NextEntry(bundle[:n]); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if wire.MaxEntry != chain.HeaderSize {
		t.Errorf("a seal has %d bytes, not %d", chain.HeaderSize, wire.MaxEntry)
	}
}

func FuzzParseTiles(f *testing.F) {
	f.Add(wire.AppendTiles(nil, []tlog.Tile{{H: wire.TileHeight, L: 1, N: 2, W: 3}, {H: wire.TileHeight, W: 256}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		tiles, err := wire.ParseTiles(data)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(wire.AppendTiles(nil, tiles), data) {
			t.Error("other bytes when encoded again")
		}
	})
}

func FuzzParseTileData(f *testing.F) {
	f.Add([]byte{byte(wire.ReadBad)}, uint16(1), uint16(2))
	f.Add(append([]byte{byte(wire.ReadFound)}, make([]byte, 3*tlog.HashSize)...), uint16(1), uint16(2))
	f.Fuzz(func(t *testing.T, data []byte, first, second uint16) {
		d, err := wire.ParseTileData(data, []tlog.Tile{{W: int(first)}, {W: int(second)}})
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(d.AppendTo(nil), data) {
			t.Error("other bytes when encoded again")
		}
	})
}

func FuzzParseEntries(f *testing.F) {
	e := wire.Entries{Status: wire.ReadFound, Block: 7, Bundle: wire.AppendEntry(nil, []byte("entry"))}
	f.Add(e.AppendTo(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := wire.ParseEntries(data)
		if err != nil {
			if !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("an error of another kind: %v", err)
			}
			return
		}
		if !bytes.Equal(e.AppendTo(nil), data) {
			t.Error("other bytes when encoded again")
		}
		var again []byte
		for rest := e.Bundle; len(rest) > 0; {
			entry, after, err := wire.NextEntry(rest)
			if err != nil {
				return
			}
			again, rest = wire.AppendEntry(again, entry), after
		}
		if !bytes.Equal(again, e.Bundle) {
			t.Error("other bytes when the bundle is encoded again")
		}
	})
}
