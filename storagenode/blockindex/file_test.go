package blockindex

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

func placeOfBlock(i uint64) Place {
	return Place{First: 3 * i, Offset: int64(20 + 100*i), Length: 92, Count: 2}
}

// TestIndex looks up blocks, leaves and segments, before and after a cut.
func TestIndex(t *testing.T) {
	x := new(Index)
	if _, _, ok := x.Last(); ok {
		t.Error("an empty index has a last block")
	}
	for i := range uint64(10) {
		x.Add(placeOfBlock(i))
	}
	for _, first := range []uint64{4, 0, 8, 4} {
		x.AddSegment(first)
	}
	for block, want := range []uint64{0, 0, 0, 0, 4, 4, 4, 4, 8, 8} {
		if p, seg, ok := x.Get(uint64(block)); !ok || seg != want || p != placeOfBlock(uint64(block)) {
			t.Errorf("block %d: %+v in segment %d, %v", block, p, seg, ok)
		}
	}
	for leaf, want := range map[uint64]uint64{0: 0, 2: 0, 3: 1, 29: 9, 99: 9} {
		if block, _, ok := x.Find(leaf); !ok || block != want {
			t.Errorf("leaf %d is of block %d, %v", leaf, block, ok)
		}
	}
	for seg, want := range map[uint64]uint64{0: 4, 4: 8, 8: 10} {
		if got := x.SegmentEnd(seg); got != want {
			t.Errorf("segment %d ends at block %d", seg, got)
		}
	}
	x.DropSegment(4)
	x.DropSegment(5)
	if _, seg, _ := x.Get(5); seg != 0 || x.SegmentEnd(0) != 8 {
		t.Errorf("block 5 in segment %d, which ends at %d", seg, x.SegmentEnd(0))
	}
	x.Cut(7)
	x.Set(6, []Place{{First: 18}})
	p, seg, ok := x.Last()
	if !ok || !p.Lost() || seg != 0 || x.Len() != 7 || x.SegmentEnd(0) != 7 || x.BytesBelow(99) != 6*100+8 {
		t.Errorf("%+v, %d, %v, %d bytes", p, seg, ok, x.BytesBelow(99))
	}
	if _, _, ok := x.Get(7); ok {
		t.Error("block 7 is there")
	}
}

// TestFile changes the index file in different ways, and reads it as a start does.
func TestFile(t *testing.T) {
	const height = 10
	for name, row := range map[string]struct {
		do     func(w *File, path string) error
		places int
	}{
		"as it was written": {func(*File, string) error { return nil }, height},
		"spoilt":            {func(w *File, _ string) error { return w.Spoil(4) }, 4},
		"spoilt and put": {func(w *File, _ string) error {
			return errors.Join(w.Spoil(4), w.Put(4))
		}, height},
		"cut":     {func(w *File, _ string) error { return w.Cut(6) }, 6},
		"cut off": {func(_ *File, path string) error { return os.Truncate(path, entryOffset(7)-1) }, 6},
		"a bad header": {func(w *File, path string) error {
			err := flip(path, 2)
			if w.HeaderGood() {
				err = errors.Join(err, errors.New("the header is good"))
			}
			return err
		}, 0},
		"a header that was restored": {func(w *File, path string) error {
			return errors.Join(flip(path, 2), w.RestoreHeader())
		}, height},
		"removed": {func(_ *File, path string) error { return os.Remove(path) }, 0},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "index")
		x := new(Index)
		w, err := OpenFile(segment.OpenFile, path, x, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(height) {
			x.Add(placeOfBlock(i))
			if err := w.Put(i); err != nil {
				t.Fatal(err)
			}
		}
		if err := row.do(w, path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var places []Place
		if err := readFile(path, func(p Place) bool { places = append(places, p); return true }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(places) != row.places || row.places > 0 && places[row.places-1] != placeOfBlock(uint64(row.places-1)) {
			t.Errorf("%s: %d places are good, want %d", name, len(places), row.places)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDiffering lists the entries on disk that differ from those in memory.
func TestDiffering(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "index")
	x := new(Index)
	w, err := OpenFile(segment.OpenFile, path, x, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }() // read only from here on
	for i := range uint64(10) {
		x.Add(placeOfBlock(i))
		if i < 8 { // the last two are missing
			if err := w.Put(i); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := flip(path, entryOffset(3)+5); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		from, to uint64
		want     []uint64
	}{{0, 3, nil}, {0, 10, []uint64{3, 8, 9}}, {3, 4, []uint64{3}}, {8, 10, []uint64{8, 9}}, {4, 4, nil}} {
		if got, err := w.Differing(row.from, row.to); err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%d to %d: %v, %v; want %v", row.from, row.to, got, err, row.want)
		}
	}
}

func TestNewerIndexFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index")
	if err := os.WriteFile(path, []byte("CSIX\x02\x00\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := readFile(path, func(Place) bool { return true }); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("%v", err)
	}
}

// flip changes a byte of a file.
func flip(path string, at int64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[at] ^= 1
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data[at:at+1], at)
	return errors.Join(err, f.Close())
}
