package storagenode

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// TestTornTail truncates the last segment at every byte of its last frame: with the index as it was before that frame,
// as after a power failure, and without an index.
func TestTornTail(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 7)
	c.grow(t, 2, 10)
	cfg := Config{AtRest: testKeys, Dir: memDir(t)}
	n := mustOpen(t, cfg)
	for number := range uint64(7) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	index, err := os.ReadFile(n.dir.Index())
	if err != nil {
		t.Fatal(err)
	}
	c.putAll(t, n)
	path, last := segmentOf(t, n, 7)
	crash(t, n)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := last.Offset; cut <= int64(len(whole)); cut++ {
		if testing.Short() && cut%5 != 0 && cut < int64(len(whole)) {
			continue
		}
		dir := copyDir(t, cfg.Dir)
		if err := os.WriteFile(filepath.Join(dir, "segments", filepath.Base(path)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if cut%2 == 0 {
			err = os.WriteFile(filepath.Join(dir, "index"), index, 0o600)
		} else {
			err = os.Remove(filepath.Join(dir, "index"))
		}
		if err != nil {
			t.Fatal(err)
		}
		height := 7
		if cut == int64(len(whole)) {
			height = 8
		}
		got, err := offline(dir).Verify(context.Background(), nil)
		if err != nil || got.Height != uint64(height) || height == 7 && got.Torn != cut-last.Offset {
			t.Fatalf("cut at %d: verified %+v, %v", cut, got, err)
		}
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir})
		c.check(t, n, height)
		c.putAll(t, n)
		c.check(t, n, 8)
		mustClose(t, n)
		verified(t, dir, c, 8)
	}
}

// TestGarbageTail checks that bytes after the last block are kept in quarantine, whatever they are.
func TestGarbageTail(t *testing.T) {
	for name, garbage := range map[string][]byte{
		"zeros": make([]byte, 5000),
		"ones":  {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		"text":  []byte("this was never a frame, and is longer than the header of one"),
	} {
		c, cfg := filled(t, 2, 9)
		list, err := segment.List(filepath.Join(cfg.Dir, "segments"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(cfg.Dir, "segments", segment.Name(list[len(list)-1]))
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, garbage...), 0o600); err != nil {
			t.Fatal(err)
		}
		n := mustOpen(t, cfg)
		c.check(t, n, 9)
		c.growTo(t, 12)
		c.putAll(t, n)
		c.check(t, n, 12)
		mustClose(t, n)
		verified(t, cfg.Dir, c, 12)
		kept, err := filepath.Glob(filepath.Join(cfg.Dir, "quarantine", "*"))
		if err != nil || len(kept) != 1 {
			t.Fatalf("%s: %d files in quarantine", name, len(kept))
		}
		if got, err := os.ReadFile(kept[0]); err != nil || string(got) != string(garbage) {
			t.Errorf("%s: %d bytes kept, %v", name, len(got), err)
		}
	}
}

// TestUnfinishedSegment checks a segment without a block, or with an incomplete header, as a crash can leave it.
func TestUnfinishedSegment(t *testing.T) {
	for size := range segment.HeaderSize + 1 {
		c, cfg := filled(t, 3, 9)
		// Small segments: whether the last one is full does not matter, the next begins at the height.
		header, err := os.ReadFile(filepath.Join(cfg.Dir, "segments", segment.Name(0)))
		if err != nil {
			t.Fatal(err)
		}
		data := append([]byte(nil), header[:segment.HeaderSize]...)
		if size == segment.HeaderSize {
			n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)}) // a valid header of block 9
			w, err := segment.Create(segment.OpenFile, nil, n.cfg.Dir, 9)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if data, err = os.ReadFile(filepath.Join(n.cfg.Dir, segment.Name(9))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, "segments", segment.Name(9)), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := offline(cfg.Dir).Verify(context.Background(), nil); err != nil || got.Height != 9 {
			t.Fatalf("%d bytes: verified %+v, %v", size, got, err)
		}
		n := mustOpen(t, cfg)
		c.check(t, n, 9)
		c.growTo(t, 15)
		c.putAll(t, n)
		c.check(t, n, 15)
		mustClose(t, n)
		verified(t, cfg.Dir, c, 15)
	}
}

// TestBitFlips flips a bit at every byte of a block in the middle of the chain. The node must open with and without its
// index. The damaged block must read as damaged, all others must be readable, and new blocks must be accepted. The
// verifier must report the block.
func TestBitFlips(t *testing.T) {
	const height, damaged = 16, 7
	c, cfg := filled(t, 4, height)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, damaged)
	mustClose(t, n)
	c.growTo(t, height+3)
	end := p.Offset + segment.FrameHeader + int64(p.Length)
	for at := p.Offset; at < end; at++ {
		length := at < p.Offset+4
		if testing.Short() && !length && at%3 != 0 {
			continue
		}
		if at > p.Offset+130 {
			at += 10 // the records are similar
			if at >= end {
				break
			}
		}
		dir := copyDir(t, cfg.Dir)
		flip(t, filepath.Join(dir, "segments", filepath.Base(path)), at)

		_, err := offline(dir).Verify(context.Background(), nil)
		var bad *chain.BlockError
		if !errors.As(err, &bad) || bad.Block != damaged || !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: Verify says %v", at-p.Offset, err)
		}
		if at%2 == 0 {
			if err := os.Remove(filepath.Join(dir, "index")); err != nil {
				t.Fatal(err)
			}
			if length {
				continue // TestLostBlocks
			}
		}
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000})
		c.check(t, n, height, damaged)
		c.putAll(t, n)
		c.check(t, n, height+3, damaged)
		mustClose(t, n)
		n = mustOpen(t, Config{AtRest: testKeys, Dir: dir, SegmentBytes: 2000})
		c.check(t, n, height+3, damaged)
		mustClose(t, n)
	}
}

// TestHeadersBehindADamagedOne checks that a list of headers ends before one that cannot be read, and that a list that
// begins at the next block has the others.
func TestHeadersBehindADamagedOne(t *testing.T) {
	const height, damaged = 12, 7
	_, cfg := filled(t, 5, height)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, damaged)
	flip(t, path, p.Offset+segment.FrameHeader+60)
	size := n.Status().Size
	for _, c := range []struct {
		from uint64
		want int
	}{{0, damaged}, {damaged - 1, 1}, {damaged, 0}, {damaged + 1, height - damaged - 1}} {
		h, err := n.Headers(c.from, 64, size)
		if err != nil || len(h) != c.want {
			t.Errorf("%d headers from block %d on, want %d: %v", len(h), c.from, c.want, err)
		}
	}
}

// TestLostBlocks checks that the blocks up to the next segment count as lost if a frame's length is damaged, or a
// segment is missing, and there is no index.
func TestLostBlocks(t *testing.T) {
	const height, damaged = 60, 20
	for _, gone := range []bool{false, true} {
		c, cfg := filled(t, 5, height)
		n := mustOpen(t, cfg)
		path, p := segmentOf(t, n, damaged)
		first := uint64(damaged)
		_, seg, _ := n.index.Get(damaged)
		end := uint64(damaged)
		for {
			if _, s, _ := n.index.Get(end); s != seg {
				break
			}
			end++
		}
		mustClose(t, n)
		if gone {
			first = seg
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		} else {
			flip(t, path, p.Offset)
		}
		if err := os.Remove(filepath.Join(cfg.Dir, "index")); err != nil {
			t.Fatal(err)
		}
		var bad []uint64
		for b := first; b < end; b++ {
			bad = append(bad, b)
		}
		var blockErr *chain.BlockError
		if _, err := offline(cfg.Dir).Verify(context.Background(), nil); !errors.As(err, &blockErr) ||
			blockErr.Block != first {
			t.Errorf("Verify says %v, want block %d", err, first)
		}
		c.growTo(t, height+5)
		for range 2 {
			n = mustOpen(t, cfg)
			c.check(t, n, int(n.Status().Height), bad...)
			c.putAll(t, n)
			c.check(t, n, height+5, bad...)
			if _, err := n.Locate(c.blocks[damaged].Header.First); !errors.Is(err, ErrDamaged) {
				t.Errorf("leaf of a lost block: %v", err)
			}
			mustClose(t, n)
		}
	}
}

// TestSegmentGoneIndexThere checks that the index knows which blocks a missing file had.
func TestSegmentGoneIndexThere(t *testing.T) {
	const height = 60
	c, cfg := filled(t, 6, height)
	n := mustOpen(t, cfg)
	_, seg, _ := n.index.Get(20)
	var bad []uint64
	for b := range uint64(height) {
		if _, s, _ := n.index.Get(b); s == seg {
			bad = append(bad, b)
		}
	}
	mustClose(t, n)
	if err := os.Remove(filepath.Join(cfg.Dir, "segments", segment.Name(seg))); err != nil {
		t.Fatal(err)
	}
	n = mustOpen(t, cfg)
	c.check(t, n, height, bad...)
	mustClose(t, n)
}

// TestLastSegmentGone checks that the chain ends earlier without the last segment, and continues from there.
func TestLastSegmentGone(t *testing.T) {
	const height = 60
	for _, index := range []bool{false, true} {
		c, cfg := filled(t, 7, height)
		list, err := segment.List(filepath.Join(cfg.Dir, "segments"))
		if err != nil {
			t.Fatal(err)
		}
		first := list[len(list)-1]
		if err := os.Remove(filepath.Join(cfg.Dir, "segments", segment.Name(first))); err != nil {
			t.Fatal(err)
		}
		if !index {
			if err := os.Remove(filepath.Join(cfg.Dir, "index")); err != nil {
				t.Fatal(err)
			}
		}
		n := mustOpen(t, cfg)
		c.check(t, n, int(first))
		c.putAll(t, n)
		c.check(t, n, height)
		mustClose(t, n)
		verified(t, cfg.Dir, c, height)
	}
}

// TestRebuild removes or damages each derived file, after a clean stop and after a crash.
func TestRebuild(t *testing.T) {
	const height = 70
	for name, damage := range map[string]func(t *testing.T, dir string){
		"nothing":     func(*testing.T, string) {},
		"index gone":  func(t *testing.T, dir string) { remove(t, dir, "index") },
		"tiles gone":  func(t *testing.T, dir string) { remove(t, dir, "tiles") },
		"synced gone": func(t *testing.T, dir string) { remove(t, dir, "tiles/synced") },
		"level gone":  func(t *testing.T, dir string) { remove(t, dir, "tiles/04") },
		"all gone":    func(t *testing.T, dir string) { remove(t, dir, "tiles"); remove(t, dir, "index") },
		"inbox gone":  func(t *testing.T, dir string) { remove(t, dir, "inbox"); remove(t, dir, "quarantine") },
		"index entry": func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "index"),
				indexHeader+30*indexEntry+3)
		},
		"index header":    func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "index"), 0) },
		"index short":     func(t *testing.T, dir string) { short(t, filepath.Join(dir, "index"), 100) },
		"synced damaged":  func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "tiles/synced"), 20) },
		"level header":    func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "tiles/00"), 1) },
		"leaves short":    func(t *testing.T, dir string) { short(t, filepath.Join(dir, "tiles/00"), 600) },
		"last leaf":       func(t *testing.T, dir string) { flipEnd(t, filepath.Join(dir, "tiles/00")) },
		"last of level 4": func(t *testing.T, dir string) { flipEnd(t, filepath.Join(dir, "tiles/04")) },
		"segment header": func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "segments", segment.Name(0)),
				9)
		},
		"all of segment 0": func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "segments", segment.Name(0)),
				19)
		},
	} {
		for _, clean := range []bool{true, false} {
			c := newTestChain(8)
			c.growTo(t, height)
			cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 4000}
			n := mustOpen(t, cfg)
			c.putAll(t, n)
			if clean {
				mustClose(t, n)
			} else {
				crash(t, n)
			}
			damage(t, cfg.Dir)
			n = mustOpen(t, cfg)
			if n.Status() != c.statusAt(height) {
				t.Fatalf("%s (clean %v): %+v, want %+v", name, clean, n.Status(), c.statusAt(height))
			}
			c.check(t, n, height)
			mustClose(t, n)
			verified(t, cfg.Dir, c, height)
		}
	}
}

// TestBadTileIsNoBadBlock damages hashes far from the tree's edge, which Open does not read. The chain must verify, the
// verifier must report the tile, and no block may read as damaged.
func TestBadTileIsNoBadBlock(t *testing.T) {
	const height = 60
	c, cfg := filled(t, 9, height)
	flip(t, filepath.Join(cfg.Dir, "tiles", "00"), 512+32*40+5)
	got, err := offline(cfg.Dir).Verify(context.Background(), nil)
	var bad *chain.BlockError
	if !errors.Is(err, tiles.ErrMismatch) || errors.As(err, &bad) || got.Height != height {
		t.Fatalf("verified %+v, %v", got, err)
	}
	n := mustOpen(t, cfg)
	block, err := n.Locate(40)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Block(block); err != nil {
		t.Fatal(err)
	}
	places := 0
	for offset := range c.blocks[block].Header.Count {
		for _, a := range n.Read([]wire.Place{{Block: block, Offset: offset}}, 0, nil) {
			if a.Status != 0 || string(a.Record) != string(c.blocks[block].Encoded(offset)) {
				t.Errorf("record %d: read status %d", offset, a.Status)
			}
			places++
		}
	}
	mustClose(t, n)
	remove(t, cfg.Dir, "tiles")
	n = mustOpen(t, cfg)
	c.check(t, n, height)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height)
}

// TestDamagedBlockAndNoTiles damages a block and removes the tiles, so that the tree after the block is unknown. The
// node's height must end before the block, and nothing may be deleted. When the block is restored, the node must have
// everything.
func TestDamagedBlockAndNoTiles(t *testing.T) {
	const height, damaged = 40, 17
	c, cfg := filled(t, 10, height)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, damaged)
	mustClose(t, n)
	flip(t, path, p.Offset+100)
	remove(t, cfg.Dir, "tiles")
	for range 2 {
		n = mustOpen(t, cfg)
		c.check(t, n, damaged)
		if _, err := n.Put(t.Context(), damaged, c.blocks[damaged].Bytes()); !errors.Is(err, ErrDamaged) {
			t.Errorf("Put: %v", err)
		}
		if _, err := n.Put(t.Context(), 3, c.blocks[3].Bytes()); err != nil {
			t.Errorf("Put of a block that is here: %v", err)
		}
		for _, block := range []uint64{damaged, damaged + 1, height - 1} {
			if a := n.Read([]wire.Place{{Block: block}}, 0, nil); a[0].Status != 3 {
				t.Errorf("block %d: read status %d", block, a[0].Status)
			}
		}
		if data, err := n.Block(damaged + 1); err != nil || string(data) != string(c.blocks[damaged+1].Bytes()) {
			t.Errorf("block behind the damage: %v", err)
		}
		mustClose(t, n)
	}
	flip(t, path, p.Offset+100)
	n = mustOpen(t, cfg)
	c.check(t, n, height)
	mustClose(t, n)
}

// TestDamagedLastBlock damages the last block, whose loss the rest of the chain does not show. Its bytes must be kept
// in quarantine, and the block can be put again.
func TestDamagedLastBlock(t *testing.T) {
	const height = 20
	c, cfg := filled(t, 11, height)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, height-1)
	mustClose(t, n)
	flip(t, path, p.Offset+60)
	var bad *chain.BlockError
	if _, err := offline(cfg.Dir).Verify(context.Background(), nil); !errors.As(err, &bad) || bad.Block != height-1 {
		t.Errorf("Verify says %v", err)
	}
	n = mustOpen(t, cfg)
	c.check(t, n, height-1)
	c.putAll(t, n)
	c.check(t, n, height)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height)
}

func TestForeignSegmentName(t *testing.T) {
	_, cfg := filled(t, 12, 5)
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "segments", segment.Name(0)))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, "segments", segment.Name(1<<60)), data, 0o600); err != nil {
		t.Fatal(err)
	}
	before := tree(t, cfg.Dir)
	if _, err := Open(cfg); !errors.Is(err, ErrDamaged) {
		t.Errorf("Open: %v", err)
	}
	if tree(t, cfg.Dir) != before {
		t.Error("the folder was changed")
	}
}
