package records

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

// blocks are blocks with consistent numbers and leaves, which is all that the index needs.
type blocks struct {
	list   []chain.Block
	all    []placed // the records
	leaves [][]chain.Hash
	next   uint64
	rng    *rand.Rand
}

type placed struct {
	index, block uint64
	project      uint32
	key          string
}

func newBlocks(seed uint64) *blocks { return &blocks{rng: rand.New(rand.NewPCG(seed, 1))} }

// grow adds a block of count records of a few projects and keys; some have no key.
func (b *blocks) grow(t testing.TB, count, projects, keys int) {
	t.Helper()
	var body []byte
	var ends []uint32
	var leaves []chain.Hash
	for range count {
		r := chain.Record{Project: 1 + uint32(b.rng.IntN(projects)), Payload: []byte("x")}
		if k := b.rng.IntN(keys + 1); k > 0 {
			r.Key = fmt.Sprint("key-", k)
		}
		binary.BigEndian.PutUint64(r.Salt[:], b.rng.Uint64())
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
		b.all = append(b.all, placed{b.next + uint64(len(leaves)), uint64(len(b.list)), r.Project, r.Key})
		leaves = append(leaves, r.Leaf().Hash())
	}
	h := chain.Header{Version: chain.Version, Block: uint64(len(b.list)), First: b.next, Count: uint32(count),
		Nonce: b.rng.Uint64()}
	block, err := chain.NewBlock(h, ends, body)
	if err != nil {
		t.Fatal(err)
	}
	b.next = h.Size()
	b.list, b.leaves = append(b.list, block), append(b.leaves, leaves)
}

// add adds blocks from one number up to another to an index as one batch.
func (b *blocks) add(t testing.TB, x *Index, from, to int) {
	t.Helper()
	batch := NewBatch(uint64(from))
	for i := from; i < to; i++ {
		batch.Add(&b.list[i], b.leaves[i])
	}
	if err := x.Add(batch); err != nil {
		t.Fatal(err)
	}
}

// find returns the expected result of a look-up in the first blocks; "" means all records of the project.
func (b *blocks) find(height int, project uint32, key string, g Range) (hits []uint64) {
	for _, r := range b.all {
		if r.block < uint64(height) && r.project == project && (key == "" || r.key == key) && r.index >= g.From &&
			r.index < g.To && len(hits) < g.Limit {
			hits = append(hits, r.index)
		}
	}
	return hits
}

func mustOpen(t testing.TB, dir string) *Index {
	t.Helper()
	x, err := Open(dir, nil, os.Remove)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() }) // read only
	return x
}

// compare compares random look-ups in an index with the blocks that it has.
func (b *blocks) compare(t *testing.T, x *Index, tries int) {
	t.Helper()
	height, end, last := x.End()
	if height > 0 {
		if h := b.list[height-1].Header; last != h.Hash() || end != h.Size() {
			t.Fatalf("end %d, %v of %d blocks", end, last, height)
		}
	}
	for range tries {
		g := Range{From: b.rng.Uint64N(end + 2), To: b.rng.Uint64N(2 * (end + 2)), Limit: 1 + b.rng.IntN(40)}
		if b.rng.IntN(3) == 0 {
			g = Range{To: ^uint64(0), Limit: 1 << 20}
		}
		project := uint32(b.rng.IntN(5))
		key := fmt.Sprint("key-", b.rng.IntN(8))
		hits, upTo, err := x.ByKey(project, key, g)
		b.hold(t, "key", hits, upTo, err, b.find(int(height), project, key, g), end, g)
		hits, upTo, err = x.ByProject(project, g)
		b.hold(t, "project", hits, upTo, err, b.find(int(height), project, "", g), end, g)
	}
	for i := range int(height) {
		h := &b.list[i].Header
		for o, leaf := range b.leaves[i] {
			if b.rng.IntN(20) > 0 {
				continue
			}
			if hits, _, err := x.ByHash(leaf); err != nil || !slices.Contains(hits, h.First+uint64(o)) {
				t.Fatalf("leaf %d of block %d: %v, %v", o, i, hits, err)
			}
		}
		for _, hash := range []chain.Hash{h.Hash(), h.SealHash()} {
			if hits, _, err := x.ByHash(hash); err != nil || !slices.Contains(hits, h.Seal()) {
				t.Fatalf("block %d: %v, %v", i, hits, err)
			}
		}
	}
	if hits, upTo, err := x.ByHash(chain.Hash{1, 2, 3}); err != nil || len(hits) > 0 || upTo != end {
		t.Fatalf("an unknown hash: %v, %d, %v", hits, upTo, err)
	}
}

func (b *blocks) hold(
	t *testing.T, what string, hits []uint64, upTo uint64, err error, want []uint64, end uint64, g Range,
) {
	t.Helper()
	due := min(end, g.To)
	if len(want) > 0 && len(want) == g.Limit {
		due = want[len(want)-1] + 1
	}
	if err != nil || !slices.Equal(hits, want) || upTo != due {
		t.Fatalf("by %s, %+v: %v up to %d (%v), want %v up to %d", what, g, hits, upTo, err, want, due)
	}
}

func TestLookUps(t *testing.T) {
	b := newBlocks(1)
	x := mustOpen(t, t.TempDir())
	b.compare(t, x, 10)
	for len(b.list) < 60 {
		from := len(b.list)
		for range 1 + b.rng.IntN(5) {
			b.grow(t, 1+b.rng.IntN(700), 4, 6)
		}
		b.add(t, x, from, len(b.list))
		if len(b.list)%7 == 0 {
			b.compare(t, x, 50)
		}
	}
	b.compare(t, x, 300)
	if err := x.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(x.runs); n > 2*fanOut {
		t.Errorf("%d runs: they are not merged", n)
	}
	// The same after a restart. A batch that does not follow is refused.
	y := mustOpen(t, x.dir)
	b.compare(t, y, 100)
	b.grow(t, 5, 4, 6)
	batch := NewBatch(3)
	batch.Add(&b.list[3], b.leaves[3])
	if err := y.Add(batch); err == nil {
		t.Error("blocks were added twice")
	}
	files, _ := filepath.Glob(filepath.Join(x.dir, "*"))
	if len(files) != len(y.runs) {
		t.Errorf("%d files for %d runs: %v", len(files), len(y.runs), files)
	}
}

func TestLostBlocksArePassedOver(t *testing.T) {
	b := newBlocks(2)
	for range 12 {
		b.grow(t, 50, 2, 3)
	}
	x := mustOpen(t, t.TempDir())
	b.add(t, x, 0, 3)
	batch := NewBatch(3) // blocks 3 and 6 are lost
	for _, i := range []int{4, 5, 7} {
		batch.Add(&b.list[i], b.leaves[i])
	}
	if err := x.Add(batch); err != nil {
		t.Fatal(err)
	}
	b.add(t, x, 8, 12)
	hits, end, err := x.ByProject(1, Range{To: ^uint64(0), Limit: 1000})
	var want []uint64
	for _, hit := range b.find(12, 1, "", Range{To: ^uint64(0), Limit: 1000}) {
		if block := int(hit / 51); block != 3 && block != 6 {
			want = append(want, hit)
		}
	}
	if err != nil || !slices.Equal(hits, want) || end != b.next {
		t.Errorf("%d hits up to %d (%v), want %d", len(hits), end, err, len(want))
	}
}

// TestDamage damages every file in many ways. No look-up may return a wrong result, the damage must be reported, and
// the index must be complete again after the dropped blocks are added again.
func TestDamage(t *testing.T) {
	b := newBlocks(3)
	for range 30 {
		b.grow(t, 1+b.rng.IntN(400), 4, 6)
	}
	harms := map[string]func(path string) error{
		"deleted": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"cut":     func(path string) error { return os.Truncate(path, 5000) },
		"grown": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		},
		"a bit of the magic":   func(path string) error { return flip(path, 2) },
		"a bit of the version": func(path string) error { return flip(path, 5) },
		"a bit of the header":  func(path string) error { return flip(path, 50) },
		"a bit of an entry":    func(path string) error { return flip(path, headerSize+40) },
		"a bit at the end":     func(path string) error { return flip(path, -3) },
		"another's place": func(path string) error {
			return os.Rename(path, filepath.Join(filepath.Dir(path), runName(1, 9)))
		},
	}
	for name, harm := range harms {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, running %v", name, running), func(t *testing.T) {
				dir := t.TempDir()
				x := mustOpen(t, dir)
				for i := 0; i < 30; i += 3 {
					b.add(t, x, i, i+3)
				}
				files, err := filepath.Glob(filepath.Join(dir, "*.run"))
				if err != nil || len(files) < 2 {
					t.Fatal(files, err)
				}
				if err := harm(files[1]); err != nil {
					t.Fatal(err)
				}
				if !running {
					x = mustOpen(t, dir)
				}
				err = x.Check(t.Context())
				mended, mendErr := x.Mend()
				if mendErr != nil || mended != errors.Is(err, ErrDamaged) {
					t.Fatal(err, mended, mendErr)
				}
				height, _, _ := x.End()
				if height == 30 {
					t.Fatal("the harm was not found")
				}
				b.compare(t, x, 20)
				b.add(t, x, int(height), 30)
				b.compare(t, x, 20)
				b.compare(t, mustOpen(t, dir), 20)
			})
		}
	}
}

// flip changes a bit of a file; a negative offset counts from its end.
func flip(path string, at int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0x10
	return os.WriteFile(path, data, 0o600)
}

// TestDamageIsNoticedByLookUps checks that a look-up in a damaged index fails, even before a check.
func TestDamageIsNoticedByLookUps(t *testing.T) {
	b := newBlocks(4)
	for range 4 {
		b.grow(t, 2000, 3, 5)
	}
	dir := t.TempDir()
	x := mustOpen(t, dir)
	b.add(t, x, 0, 4)
	if err := flip(x.runs[0].path, headerSize+17); err != nil {
		t.Fatal(err)
	}
	failed := 0
	for key := range 6 {
		g := Range{To: ^uint64(0), Limit: 1 << 20}
		hits, _, err := x.ByKey(1, fmt.Sprint("key-", key), g)
		switch {
		case errors.Is(err, ErrDamaged):
			failed++
		case err != nil || !slices.Equal(hits, b.find(4, 1, fmt.Sprint("key-", key), g)) && key > 0:
			t.Errorf("key %d: %d hits, %v", key, len(hits), err)
		}
	}
	if mended, err := x.Mend(); failed == 0 || !mended || err != nil {
		t.Errorf("%d look-ups failed; mended %v, %v", failed, mended, err)
	}
}

func TestNewerFormatIsLeftAlone(t *testing.T) {
	b := newBlocks(5)
	b.grow(t, 20, 3, 5)
	dir := t.TempDir()
	x := mustOpen(t, dir)
	b.add(t, x, 0, 1)
	path := x.runs[0].path
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[4] = encryptedFormat.Version + 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil, os.Remove); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("opened: %v", err)
	}
	if err := CheckVersion(dir, nil); !errors.Is(err, durable.ErrNewerFormat) || !strings.Contains(err.Error(), path) {
		t.Errorf("CheckVersion: %v", err)
	}
	if left, err := os.ReadFile(path); err != nil || !slices.Equal(left, data) {
		t.Errorf("it was changed: %v", err)
	}
}

// TestCheckVersion checks that CheckVersion only reports files of a newer version. It ignores damage, and files that
// are not runs.
func TestCheckVersion(t *testing.T) {
	b := newBlocks(6)
	b.grow(t, 20, 3, 5)
	dir := t.TempDir()
	x := mustOpen(t, dir)
	b.add(t, x, 0, 1)
	path := x.runs[0].path
	for name, change := range map[string]func() error{
		"a good run":    func() error { return nil },
		"a damaged run": func() error { return flip(path, 9) },
		"a short run":   func() error { return os.Truncate(path, 5) },
		"a folder":      func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"no run":        func() error { return os.Remove(path) },
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, x.runs[0].appendTo(nil), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := CheckVersion(dir, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckVersion(filepath.Join(dir, "none"), nil); err != nil {
		t.Error(err)
	}
}

func TestCut(t *testing.T) {
	b := newBlocks(6)
	for range 9 {
		b.grow(t, 100, 3, 5)
	}
	x := mustOpen(t, t.TempDir())
	b.add(t, x, 0, 6)
	b.add(t, x, 6, 7)
	for _, test := range []struct{ to, left uint64 }{{9, 7}, {7, 7}, {6, 6}, {5, 0}} {
		if err := x.Cut(test.to); err != nil {
			t.Fatal(err)
		}
		if height, _, _ := x.End(); height != test.left {
			t.Errorf("cut to %d: %d blocks are left, not %d", test.to, height, test.left)
		}
	}
	b.add(t, x, 0, 9)
	b.compare(t, x, 20)
}

// TestMergeStopsInTheMiddle checks that a merged run and its parts may both exist after a crash.
func TestMergeStopsInTheMiddle(t *testing.T) {
	b := newBlocks(7)
	for range 8 {
		b.grow(t, 100, 3, 5)
	}
	parts, whole := mustOpen(t, t.TempDir()), mustOpen(t, t.TempDir())
	b.add(t, parts, 0, 6)
	b.add(t, parts, 6, 7)
	b.add(t, whole, 0, 7)
	data, err := os.ReadFile(whole.runs[0].path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{runName(0, 7): data, runName(7, 8) + newSuffix: data[:100]} {
		if err := os.WriteFile(filepath.Join(parts.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x := mustOpen(t, parts.dir)
	b.compare(t, x, 20)
	if files, _ := filepath.Glob(filepath.Join(parts.dir, "*")); len(files) != 1 {
		t.Errorf("files %v", files)
	}
	b.add(t, x, 7, 8)
	b.compare(t, x, 20)
}

func FuzzOpen(f *testing.F) {
	b := newBlocks(8)
	b.grow(f, 30, 2, 3)
	dir := f.TempDir()
	x := mustOpen(f, dir)
	b.add(f, x, 0, 1)
	data, err := os.ReadFile(x.runs[0].path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:headerSize])
	keys := atresttest.Ring(f, 1)
	if x, err = Open(f.TempDir(), keys, os.Remove); err != nil {
		f.Fatal(err)
	}
	b.add(f, x, 0, 1)
	if data, err = os.ReadFile(x.runs[0].path); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:encryptedHead+10])
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, runName(0, 1)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		x, err := Open(dir, keys, os.Remove)
		if err != nil {
			if !errors.Is(err, durable.ErrNewerFormat) && !errors.Is(err, atrest.ErrNoKey) {
				t.Error(err)
			}
			return
		}
		defer x.Close()
		_ = x.Check(t.Context())
		for _, find := range []func() ([]uint64, uint64, error){
			func() ([]uint64, uint64, error) { return x.ByKey(1, "key-1", Range{To: 1 << 40, Limit: 100}) },
			func() ([]uint64, uint64, error) { return x.ByProject(1, Range{To: 1 << 40, Limit: 100}) },
			func() ([]uint64, uint64, error) { return x.ByHash(chain.Hash{1}) },
		} {
			if hits, _, err := find(); len(hits) > 100 || err != nil && !errors.Is(err, ErrDamaged) {
				t.Errorf("%d hits, %v", len(hits), err)
			}
		}
	})
}
