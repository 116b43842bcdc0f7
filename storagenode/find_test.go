package storagenode

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// upToDate waits until a node's index of records has reached the end of the chain.
func upToDate(t testing.TB, n *Node) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for {
		status := n.Status()
		blocks, leaves, last := n.indexer.index.End()
		if blocks == status.Height && leaves == status.Size && last == status.Hash {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the index goes up to block %d, leaf %d; the chain to block %d, leaf %d", blocks, leaves,
				status.Height, status.Size)
		}
		n.indexer.chainGrew()
		time.Sleep(time.Millisecond) // polling interval
	}
}

// indexed checks that a node finds every record of the first height blocks, in order, by project, key and hash.
func (c *testChain) indexed(t *testing.T, n *Node, height int) {
	t.Helper()
	upToDate(t, n)
	var want []wire.Hit
	for i := range height {
		h := &c.blocks[i].Header
		for offset := range h.Count {
			want = append(want, wire.Hit{Index: h.First + uint64(offset), Block: h.Block, Offset: offset})
		}
	}
	size := n.Status().Size
	for _, key := range []string{"", "k"} {
		var got []wire.Hit
		for from := uint64(0); from < size; {
			found, err := mended(t, n, func() (wire.RecordHits, error) {
				return n.Find(t.Context(), wire.RecordQuery{Project: 1, Key: key, From: from, To: size, Limit: 7})
			})
			if err != nil || found.End <= from {
				t.Fatalf("key %q from %d: %+v, %v", key, from, found, err)
			}
			got = append(got, found.Hits...)
			from = found.End
		}
		if !slices.Equal(got, want) {
			t.Fatalf("key %q: %d hits, want %d", key, len(got), len(want))
		}
	}
	for i := range height {
		h := &c.blocks[i].Header
		record, err := c.blocks[i].Record(h.Count - 1)
		if err != nil {
			t.Fatal(err)
		}
		for hash, index := range map[chain.Hash]uint64{h.Hash(): h.Seal(), record.Leaf().Hash(): h.Seal() - 1} {
			found, err := mended(t, n, func() (wire.RecordHits, error) { return n.FindHash(t.Context(), hash) })
			if err != nil || !slices.ContainsFunc(found.Hits, func(hit wire.Hit) bool {
				return hit.Index == index &&
					hit.Block == h.Block
			}) {
				t.Fatalf("block %d: %+v, %v", i, found, err)
			}
		}
	}
}

// mended repeats a query that found a damaged index, until the index is complete again.
func mended(t *testing.T, n *Node, find func() (wire.RecordHits, error)) (found wire.RecordHits, err error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		if found, err = find(); !errors.Is(err, ErrDamaged) || time.Now().After(end) {
			return found, err
		}
		n.indexer.chainGrew()
		time.Sleep(time.Millisecond) // polling interval
	}
}

func TestFind(t *testing.T) {
	c := newTestChain(31)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 2000})
	found, err := n.Find(t.Context(), wire.RecordQuery{Project: 1, To: 100, Limit: 5})
	if err != nil || len(found.Hits) > 0 || found.End != 0 {
		t.Errorf("an empty node: %+v, %v", found, err)
	}
	c.growTo(t, 40)
	c.putAll(t, n)
	c.indexed(t, n, 40)
	size := n.Status().Size
	first := func(block int) uint64 { return c.blocks[block].Header.First }
	at := func(block int) uint64 { return startTime + 1000*uint64(block) } // the time of all records of the block
	last := func(block int) uint64 { return c.blocks[block].Header.Seal() - 1 }
	for _, test := range []struct {
		q           wire.RecordQuery
		begin, over uint64 // the first and the last hit, 0 and 0 for none
		end         uint64
	}{
		{wire.RecordQuery{Project: 1, Since: at(7), To: size}, first(7), last(39), size},
		{wire.RecordQuery{Project: 1, Since: at(7) - 1, Until: at(9), To: size}, first(7), last(8), size},
		{wire.RecordQuery{Project: 1, Since: at(7) + 1, Until: at(8) + 1, To: size + 50}, first(8), last(8), size + 50},
		{wire.RecordQuery{Project: 1, Since: at(30), From: 5, To: first(20)}, 0, 0, first(20)},
		{wire.RecordQuery{Project: 1, Since: at(99), To: size + 50}, 0, 0, size},
		{wire.RecordQuery{Project: 1, Until: at(5), From: first(9), To: size}, 0, 0, size},
		{wire.RecordQuery{Project: 1, Until: at(99), From: first(9), To: size + 50}, first(9), last(39), size},
		{wire.RecordQuery{Project: 2, To: size + 50}, 0, 0, size},
		{wire.RecordQuery{Project: 1, Key: "other", To: size}, 0, 0, size},
		{wire.RecordQuery{Project: 1, From: size + 3, To: size + 50}, 0, 0, size + 3},
	} {
		test.q.Limit = 1000
		found, err := n.Find(t.Context(), test.q)
		if err != nil || found.End != test.end || (len(found.Hits) == 0) != (test.over == 0) {
			t.Errorf("%+v: %d hits up to %d, %v", test.q, len(found.Hits), found.End, err)
			continue
		}
		if len(found.Hits) > 0 && (found.Hits[0].Index != test.begin ||
			found.Hits[len(found.Hits)-1].Index != test.over) {
			t.Errorf("%+v: from %d to %d, want %d to %d", test.q, found.Hits[0].Index,
				found.Hits[len(found.Hits)-1].Index, test.begin, test.over)
		}
	}
}

// TestIndexFollowsTheChain damages the index of records and the chain in many ways. The index must soon be complete
// again.
func TestIndexFollowsTheChain(t *testing.T) {
	const height = 40
	other := newTestChain(99)
	other.growTo(t, height)
	foreign := Config{AtRest: testKeys, Dir: memDir(t)}
	n := mustOpen(t, foreign)
	other.putAll(t, n)
	upToDate(t, n)
	mustClose(t, n)

	for name, harm := range map[string]func(t *testing.T, dir string){
		"deleted": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "records")))
		},
		"a bit": func(t *testing.T, dir string) {
			for _, path := range runs(t, dir) {
				flip(t, path, 100)
			}
		},
		"cut": func(t *testing.T, dir string) {
			for _, path := range runs(t, dir) {
				must(t, os.Truncate(path, 100))
			}
		},
		"of another chain": func(t *testing.T, dir string) {
			must(t, os.RemoveAll(filepath.Join(dir, "records")))
			must(t, os.CopyFS(filepath.Join(dir, "records"), os.DirFS(filepath.Join(foreign.Dir, "records"))))
		},
		"garbage beside it": func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "records", "junk.run"), []byte("junk"), 0o600))
		},
	} {
		t.Run(name+", down", func(t *testing.T) {
			c, cfg := filled(t, 32, height)
			n := mustOpen(t, cfg)
			c.indexed(t, n, height)
			mustClose(t, n)
			harm(t, cfg.Dir)
			n = mustOpen(t, cfg)
			c.check(t, n, height)
			c.clean(t, n, height)
			c.indexed(t, n, height)
		})
		t.Run(name+", running", func(t *testing.T) {
			c, cfg := filled(t, 33, height)
			n := mustOpen(t, cfg)
			c.indexed(t, n, height)
			harm(t, cfg.Dir)
			c.clean(t, n, height)
			c.growTo(t, height+5)
			c.putAll(t, n)
			c.indexed(t, n, height+5)
			mustClose(t, n)
			n = mustOpen(t, cfg)
			c.indexed(t, n, height+5)
		})
	}
}

func runs(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "records", "*.run"))
	if err != nil || len(list) == 0 {
		t.Fatal(list, err)
	}
	return list
}

// TestIndexAfterACrash checks that a start uses the index only as far as it matches the chain, because the index is not
// synced.
func TestIndexAfterACrash(t *testing.T) {
	c, cfg := filled(t, 34, 30)
	n := mustOpen(t, cfg)
	c.indexed(t, n, 30)
	crash(t, n)
	// The index has blocks that the chain has lost.
	list := listSegments(t, cfg.Dir)
	must(t, os.Remove(list[len(list)-1]))
	n = mustOpen(t, cfg)
	height := int(n.Status().Height)
	if height >= 30 {
		t.Fatal("no block was lost")
	}
	c.indexed(t, n, height)
	c.putAll(t, n)
	c.indexed(t, n, 30)
}

func listSegments(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	return list
}

// TestIndexPassesOverLostBlocks checks that the index waits at a damaged block, and skips one that is confirmed as
// lost.
func TestIndexPassesOverLostBlocks(t *testing.T) {
	const height, damaged = 30, 11
	c, cfg := filled(t, 35, height)
	n := mustOpen(t, cfg)
	path, p := segmentOf(t, n, damaged)
	mustClose(t, n)
	must(t, os.RemoveAll(n.dir.Records()))
	flip(t, path, p.Offset+60)
	n = mustOpen(t, cfg)
	found, err := n.Find(t.Context(), wire.RecordQuery{Project: 1, To: n.Status().Size, Limit: 1000})
	if err != nil || found.End > c.blocks[damaged].Header.First {
		t.Fatalf("up to %d, %v", found.End, err)
	}
	n.mu.Lock()
	err = n.keepLost([]chain.Range{{From: damaged, To: damaged + 1}})
	n.mu.Unlock()
	must(t, err)
	upToDate(t, n)
	found, err = n.Find(t.Context(), wire.RecordQuery{Project: 1, To: n.Status().Size, Limit: 1000})
	want := 0
	for i, b := range c.blocks {
		if i != damaged {
			want += int(b.Header.Count)
		}
	}
	if err != nil || len(found.Hits) != want || slices.ContainsFunc(found.Hits,
		func(h wire.Hit) bool { return h.Block == damaged }) {
		t.Errorf("%d hits, want %d; %v", len(found.Hits), want, err)
	}
}

// TestNewerIndexIsLeftAlone checks that nothing in the folder changes if a newer version wrote the index of records.
func TestNewerIndexIsLeftAlone(t *testing.T) {
	c, cfg := filled(t, 36, 10)
	n := mustOpen(t, cfg)
	c.indexed(t, n, 10)
	mustClose(t, n)
	path := runs(t, cfg.Dir)[0]
	data, err := os.ReadFile(path)
	must(t, err)
	data[4] = 9
	must(t, os.WriteFile(path, data, 0o600))
	before := tree(t, cfg.Dir)
	if _, err := Open(cfg); !errors.Is(err, ErrNewerFormat) {
		t.Errorf("Open: %v", err)
	}
	if tree(t, cfg.Dir) != before {
		t.Error("the folder was changed")
	}
}
