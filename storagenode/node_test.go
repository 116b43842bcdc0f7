package storagenode

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

func TestPutReadReopen(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 60)
	cfg := Config{AtRest: testKeys, Dir: filepath.Join(t.TempDir(), "new", "folder"), SegmentBytes: 2000}
	n := mustOpen(t, cfg)
	if n.Status() != (Status{}) {
		t.Errorf("a new node has %+v", n.Status())
	}
	c.putAll(t, n)
	c.check(t, n, 60)
	mustClose(t, n)
	list, err := segment.List(filepath.Join(cfg.Dir, "segments"))
	if err != nil || len(list) < 5 {
		t.Errorf("%d segments, %v", len(list), err)
	}

	n = mustOpen(t, cfg)
	c.check(t, n, 60)
	c.growTo(t, 90)
	c.putAll(t, n)
	c.check(t, n, 90)
	crash(t, n)

	n = mustOpen(t, cfg)
	c.check(t, n, 90)
	mustClose(t, n)
	mustClose(t, n) // closing it again is allowed
	if _, err := n.Put(t.Context(), 90, c.blocks[0].Bytes()); !errors.Is(err, ErrFailed) {
		t.Errorf("Put after Close: %v", err)
	}
	verified(t, cfg.Dir, c, 90)
}

// verified runs the full verifier on a folder.
func verified(t testing.TB, dir string, c *testChain, height int) {
	t.Helper()
	got, err := offline(dir).Verify(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	at := c.statusAt(height)
	want := audit.Summary{Height: at.Height, Hash: at.Hash, Size: at.Size, Records: at.Size - at.Height}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("verified %+v, want %+v", got, want)
	}
}

func TestPutRefuses(t *testing.T) {
	c := newTestChain(1)
	c.growTo(t, 12)
	other := newTestChain(2)
	other.growTo(t, 12)
	cfg := Config{AtRest: testKeys, Dir: t.TempDir(), SegmentBytes: 2000}
	n := mustOpen(t, cfg)
	for number := range uint64(10) {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	changed := append([]byte(nil), c.blocks[10].Bytes()...)
	changed[len(changed)-1]++
	for name, row := range map[string]struct {
		number uint64
		data   []byte
		want   []error
	}{
		"same again":         {4, c.blocks[4].Bytes(), nil},
		"another of old":     {4, other.blocks[4].Bytes(), []error{wire.ErrNotNext, ErrConflict}},
		"ahead":              {11, c.blocks[11].Bytes(), []error{wire.ErrNotNext}},
		"wrong name":         {10, c.blocks[11].Bytes(), []error{wire.ErrBadBlock}},
		"of another chain":   {10, other.blocks[10].Bytes(), []error{wire.ErrBadBlock, chain.ErrLink}},
		"changed payload":    {10, changed, []error{wire.ErrBadBlock, chain.ErrRoot}},
		"cut short":          {10, changed[:len(changed)-1], []error{wire.ErrBadBlock, chain.ErrFrame}},
		"nothing":            {10, nil, []error{wire.ErrBadBlock, chain.ErrFrame}},
		"not a block at all": {10, []byte("hello"), []error{wire.ErrBadBlock, chain.ErrFrame}},
	} {
		status, err := n.Put(t.Context(), row.number, row.data)
		if status != c.statusAt(10) {
			t.Errorf("%s: status %+v", name, status)
		}
		if row.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range row.want {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	c.putAll(t, n)
	c.check(t, n, 12)
}

func TestReadsBehindAndBeyond(t *testing.T) {
	c, cfg := filled(t, 3, 5)
	n := mustOpen(t, cfg)
	size := n.Status().Size
	if _, err := n.Headers(0, 10, size+1); !errors.Is(err, ErrBehind) {
		t.Errorf("headers in a larger tree: %v", err)
	}
	if h, err := n.Headers(5, 10, size); err != nil || len(h) != 0 {
		t.Errorf("headers behind the last block: %d, %v", len(h), err)
	}
	if h, err := n.Headers(1, 2, size); err != nil || len(h) != 2 || h[0].Header.Block != 1 {
		t.Errorf("two headers: %d, %v", len(h), err)
	}
	if _, err := n.Locate(size); !errors.Is(err, ErrBehind) {
		t.Errorf("leaf %d: %v", size, err)
	}
	if b, err := n.Locate(size - 1); err != nil || b != 4 {
		t.Errorf("the last seal: block %d, %v", b, err)
	}
	if _, err := n.Block(5); !errors.Is(err, ErrBehind) {
		t.Errorf("block 5: %v", err)
	}
	for _, at := range []wire.Place{{Block: 5}, {Block: 1 << 63}} {
		if got := n.Read([]wire.Place{at}, 0, nil); got[0].Status != wire.ReadBehind {
			t.Errorf("%+v: read status %d", at, got[0].Status)
		}
	}
	if got := n.Read([]wire.Place{{Block: 2, Offset: 1<<32 - 1}}, 0, nil); got[0].Status != wire.ReadBeyond {
		t.Errorf("a far offset: read status %d", got[0].Status)
	}
	_ = c
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	_, cfg := filled(t, 4, 3)
	n := mustOpen(t, cfg)
	if _, err := Open(cfg); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("second Open: %v", err)
	}
	if live, err := durable.Locked(cfg.Dir); err != nil || !live {
		t.Errorf("Locked while open: %v, %v", live, err)
	}
	mustClose(t, n)
	if live, err := durable.Locked(cfg.Dir); err != nil || live {
		t.Errorf("Locked after Close: %v, %v", live, err)
	}
}

// TestConcurrentReads reads everything while blocks are put. The tile cache fills meanwhile.
func TestConcurrentReads(t *testing.T) {
	c := newTestChain(5)
	c.growTo(t, 150)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 5000})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rng := newTestChain(uint64(worker)).rng
			for {
				select {
				case <-stop:
					return
				default:
				}
				height := n.Status().Height
				if height == 0 {
					runtime.Gosched()
					continue
				}
				number := height - 1 - rng.Uint64N(min(height, 20))
				b := &c.blocks[number]
				offset := rng.Uint32N(b.Header.Count)
				a := n.Read([]wire.Place{{Block: number, Offset: offset}}, 0, nil)[0]
				proof := chain.Proof{Index: b.Header.First + uint64(offset), Size: b.Header.Seal(), Path: a.Path}
				if a.Status != wire.ReadFound || proof.Check(leafHash(a.Record), b.Header.Root) != nil {
					t.Errorf("record %d of block %d: read status %d", offset, number, a.Status)
					return
				}
				if h, err := n.Headers(number, 1, c.sizes[height-1]); err != nil || len(h) != 1 {
					t.Errorf("header %d: %v", number, err)
					return
				}
			}
		}()
	}
	c.putAll(t, n)
	close(stop)
	wg.Wait()
	c.check(t, n, 150)
}

// TestFewOpenFiles reads from more segments than are kept open, from several goroutines.
func TestFewOpenFiles(t *testing.T) {
	c, cfg := filled(t, 7, 60)
	n := mustOpen(t, cfg)
	n.files.mu.Lock()
	n.files.most = 2
	for first := range n.files.open { // those that the index has already opened
		if err := n.files.forgetLocked(first); err != nil {
			t.Error(err)
		}
	}
	n.files.mu.Unlock()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for number := range uint64(60) {
				if data, err := n.Block(number); err != nil || string(data) != string(c.blocks[number].Bytes()) {
					t.Errorf("block %d: %v", number, err)
				}
			}
		})
	}
	wg.Wait()
	n.files.mu.Lock()
	defer n.files.mu.Unlock()
	if len(n.files.open) > 2 {
		t.Errorf("%d files are open", len(n.files.open))
	}
}

// TestManyPlaces reads a batch that several goroutines process, with all kinds of results, in order.
func TestManyPlaces(t *testing.T) {
	c, cfg := filled(t, 8, 30)
	n := mustOpen(t, cfg)
	var places []wire.Place
	for i := range uint64(wire.MaxPlaces) {
		places = append(places, wire.Place{Block: i % 31, Offset: uint32(i % 5)})
	}
	before := wire.ProvenRecord{Status: 99}
	out := n.Read(places, 0, []wire.ProvenRecord{before})
	if len(out) != 1+len(places) || out[0].Status != 99 {
		t.Fatalf("%d answers for %d places", len(out)-1, len(places))
	}
	for i, a := range out[1:] {
		at, want := places[i], wire.ReadFound
		switch {
		case at.Block >= 30:
			want = wire.ReadBehind
		case at.Offset >= c.blocks[at.Block].Header.Count:
			want = wire.ReadBeyond
		}
		if a.Status != want {
			t.Fatalf("%+v: read status %d, want %d", at, a.Status, want)
		}
		if want != wire.ReadFound {
			continue
		}
		h := c.blocks[at.Block].Header
		proof := chain.Proof{Index: h.First + uint64(at.Offset), Size: h.Seal(), Path: a.Path}
		if err := proof.Check(leafHash(a.Record), h.Root); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewerFormatChangesNothing(t *testing.T) {
	for _, name := range []string{"index", "tiles/synced", "tiles/00", "segments/" + segment.Name(0)} {
		_, cfg := filled(t, 6, 30)
		path := filepath.Join(cfg.Dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[4] = 3 // the version is at this offset in every file
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		// The remains of a crash must stay unchanged, too.
		tail := filepath.Join(cfg.Dir, "segments", segment.Name(0))
		f, err := os.OpenFile(tail, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("torn"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		before := tree(t, cfg.Dir)
		if _, err := Open(cfg); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s: Open: %v", name, err)
		}
		if _, err := offline(cfg.Dir).Verify(context.Background(), nil); !errors.Is(err, ErrNewerFormat) {
			t.Errorf("%s: Verify: %v", name, err)
		}
		if tree(t, cfg.Dir) != before {
			t.Errorf("%s: the folder was changed", name)
		}
	}
}

// tree returns the content of everything below a folder.
func tree(t testing.TB, dir string) (all string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			all += path + "\n"
			return err
		}
		data, err := os.ReadFile(path)
		all += path + ":" + string(data) + "\n"
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
