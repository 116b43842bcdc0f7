package storagenode

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// TestVerifyBesideRunningNode verifies while blocks are put. The chain must always be good, and at least as high as it
// was at the start. Nothing may change.
func TestVerifyBesideRunningNode(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 200)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 20_000})
	var wg sync.WaitGroup
	wg.Go(func() {
		for number := range c.blocks {
			if _, err := n.Put(t.Context(), uint64(number), c.blocks[number].Bytes()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for n.Status().Height < uint64(len(c.blocks)) && !t.Failed() {
		least := n.Status().Height
		got, err := offline(n.cfg.Dir).Verify(context.Background(), nil)
		if err != nil || got.Height < least || got.Torn != 0 {
			t.Errorf("verified %+v, %v, the node had %d", got, err, least)
		}
	}
	wg.Wait()
	verified(t, n.cfg.Dir, c, len(c.blocks))
}

func TestVerifyProgress(t *testing.T) {
	c, cfg := filled(t, 2, 30)
	before := tree(t, cfg.Dir)
	last, all := int64(0), int64(0)
	_, err := offline(cfg.Dir).Verify(context.Background(), func(done, total int64) {
		if done < last || done > total {
			t.Errorf("%d of %d bytes after %d", done, total, last)
		}
		last, all = done, total
	})
	if err != nil || last != all || all == 0 {
		t.Errorf("%d of %d bytes, %v", last, all, err)
	}
	if tree(t, cfg.Dir) != before {
		t.Error("the folder was changed")
	}
	verified(t, cfg.Dir, c, 30)
}

func TestVerifyEnds(t *testing.T) {
	_, cfg := filled(t, 3, 5)
	ctx, cancel := context.WithCancelCause(context.Background())
	cause := errors.New("stopped by hand")
	cancel(cause)
	if _, err := offline(cfg.Dir).Verify(ctx, nil); !errors.Is(err, cause) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := offline(t.TempDir()).Verify(context.Background(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not a data folder: %v", err)
	}
	empty := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	if got, err := offline(empty.cfg.Dir).Verify(context.Background(), nil); err != nil ||
		!reflect.DeepEqual(got, audit.Summary{}) {
		t.Errorf("an empty chain: %+v, %v", got, err)
	}
}

// TestVerifyOfAnEmptiedFolder removes every combination of the kinds of files of a node with blocks. Without its
// segments, no folder is valid: whatever is left shows that blocks are missing, or nothing shows that a node ever used
// the folder, so that an empty chain would mean that nothing was looked at. With them, verify finds all blocks.
func TestVerifyOfAnEmptiedFolder(t *testing.T) {
	kinds := []string{"segments/*", "index", "tiles/synced", "tiles/[0-9]*", "records/*"}
	source := func() string {
		_, cfg := filled(t, 4, 9)
		return cfg.Dir
	}()
	for removed := range 1 << len(kinds) {
		dir := filepath.Join(memDir(t), "copy")
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		var names []string
		for i, kind := range kinds {
			if removed>>i&1 == 0 {
				continue
			}
			names = append(names, kind)
			paths, err := filepath.Glob(filepath.Join(dir, kind))
			for _, path := range paths {
				err = errors.Join(err, os.Remove(path))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, dir)
		got, err := offline(dir).Verify(context.Background(), nil)
		if removed&1 != 0 && err == nil {
			t.Errorf("without %q: valid, %+v", names, got)
		}
		if removed&1 == 0 && got.Height != 9 {
			t.Errorf("without %q: %+v, %v", names, got, err)
		}
		nothing := removed&7 == 7
		if errors.Is(err, audit.ErrNoFiles) != nothing {
			t.Errorf("without %q: %v", names, err)
		}
		_, err = offline(dir).Read(context.Background(), nil, func(*chain.Block, chain.Head) error { return nil })
		if removed&1 != 0 && err == nil || errors.Is(err, audit.ErrNoFiles) != nothing {
			t.Errorf("read without %q: %v", names, err)
		}
		if tree(t, dir) != before {
			t.Errorf("without %q: the folder was changed", names)
		}
	}
}

// TestVerifyForgery checks complete blocks with correct checksums that do not belong to the chain.
func TestVerifyForgery(t *testing.T) {
	const height, forged = 12, 6
	c := newTestChain(4)
	c.growTo(t, height)
	other := newTestChain(5)
	other.growTo(t, height)
	payload := append([]byte(nil), c.blocks[forged].Bytes()...)
	payload[len(payload)-1] ^= 1
	for name, row := range map[string]struct {
		block []byte
		want  error
	}{
		"a block of another chain": {other.blocks[forged].Bytes(), chain.ErrLink},
		"a changed payload":        {payload, chain.ErrRoot},
		"the block before again":   {c.blocks[forged-1].Bytes(), chain.ErrNumber},
		"no block":                 {make([]byte, 200), chain.ErrFrame},
	} {
		dir := memDir(t)
		segments := filepath.Join(dir, "segments")
		if err := os.Mkdir(segments, 0o700); err != nil {
			t.Fatal(err)
		}
		w, err := segment.Create(segment.OpenFile, nil, segments, 0)
		if err != nil {
			t.Fatal(err)
		}
		for number := range c.blocks {
			data := c.blocks[number].Bytes()
			if number == forged {
				data = row.block
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := offline(dir).Verify(context.Background(), nil)
		var bad *chain.BlockError
		if !errors.As(err, &bad) || bad.Block != forged || !errors.Is(err, row.want) || got.Height != forged {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		// A node that opens the folder does not serve them either.
		n := mustOpen(t, Config{AtRest: testKeys, Dir: dir})
		c.check(t, n, forged)
		mustClose(t, n)
	}
}

// TestVerifyMissesTheEnd checks that segments that end between two blocks are consistent, but that the index shows that
// blocks are missing.
func TestVerifyMissesTheEnd(t *testing.T) {
	_, cfg := filled(t, 9, 30)
	dir := filepath.Join(cfg.Dir, "segments")
	list, err := segment.List(dir)
	if err != nil || len(list) < 2 {
		t.Fatalf("%d segments, %v", len(list), err)
	}
	last := list[len(list)-1]
	if err := os.Remove(filepath.Join(dir, segment.Name(last))); err != nil {
		t.Fatal(err)
	}
	got, err := offline(cfg.Dir).Verify(context.Background(), nil)
	var bad *chain.BlockError
	if !errors.As(err, &bad) || bad.Block != last || got.Height != last {
		t.Errorf("without the segment of block %d: %+v, %v", last, got, err)
	}
	// Without the index too, only the head that the node noted as durable shows it.
	if err := os.Remove(filepath.Join(cfg.Dir, "index")); err != nil {
		t.Fatal(err)
	}
	got, err = offline(cfg.Dir).Verify(context.Background(), nil)
	if want := (chain.Range{From: last, To: 30}); !errors.As(err, &bad) || bad.Block != last || got.Height != last ||
		len(got.Bad) != 1 || got.Bad[0] != want || len(got.Findings) != 1 || got.Findings[0].What != chain.WrongShort {
		t.Errorf("without the index: %+v, %v", got, err)
	}
}
