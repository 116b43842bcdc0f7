package tiles

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// leafOf returns a different hash for each leaf.
func leafOf(i uint64) chain.Hash {
	var h chain.Hash
	binary.BigEndian.PutUint64(h[:], i+1)
	return h
}

func leavesOf(first, count uint64) []chain.Hash {
	list := make([]chain.Hash, count)
	for i := range list {
		list[i] = leafOf(first + uint64(i))
	}
	return list
}

func openStore(t testing.TB, dir string, size uint64) *Store {
	t.Helper()
	s, err := Open(segment.OpenFile, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Reset(size); err != nil {
		t.Fatal(err)
	}
	return s
}

// reference is the same tree in golang.org/x/mod/sumdb/tlog.
type reference struct {
	hashes []tlog.Hash
	size   int64
}

func (r *reference) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		list[i] = r.hashes[x]
	}
	return list, nil
}

func (r *reference) add(t testing.TB, leaves []chain.Hash) {
	for _, leaf := range leaves {
		more, err := tlog.StoredHashesForRecordHash(r.size, tlog.Hash(leaf), r)
		if err != nil {
			t.Fatal(err)
		}
		r.hashes = append(r.hashes, more...)
		r.size++
	}
}

// path returns the inclusion path from tlog.
func (r *reference) path(t testing.TB, index, size uint64) []chain.Hash {
	proof, err := tlog.ProveRecord(int64(size), int64(index), r)
	if err != nil {
		t.Fatal(err)
	}
	list := make([]chain.Hash, len(proof))
	for i, h := range proof {
		list[i] = chain.Hash(h)
	}
	return list
}

func samePath(a, b []chain.Hash) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestPathsOfSmallTrees compares every path of every small tree with that of tlog, while the store has more leaves than
// the tree, and while it has as many.
func TestPathsOfSmallTrees(t *testing.T) {
	const most = 300
	s := openStore(t, t.TempDir(), 0)
	var ref reference
	check := func(size uint64) {
		r := s.Reader()
		defer r.Release()
		for index := range size {
			got, leaf, err := r.Path(nil, index, size)
			if err != nil {
				t.Fatal(err)
			}
			if leaf != leafOf(index) || !samePath(got, ref.path(t, index, size)) {
				t.Fatalf("leaf %d of %d: a wrong path", index, size)
			}
		}
	}
	for size := uint64(1); size <= most; size++ {
		leaf := leavesOf(size-1, 1)
		ref.add(t, leaf)
		if err := s.Append(leaf, nil); err != nil {
			t.Fatal(err)
		}
		if size%7 == 0 || size < 40 {
			check(size)
		}
	}
	for size := uint64(1); size <= most; size += 3 {
		check(size)
	}
}

// TestPathsOfLargeTree appends runs of all lengths and compares random paths and compact ranges.
func TestPathsOfLargeTree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := openStore(t, t.TempDir(), 0)
	var ref reference
	var tree chain.Tree
	for s.Size() < 20_000 {
		run := leavesOf(s.Size(), 1+rng.Uint64N(700))
		ref.add(t, run)
		tree = tree.Append(run...)
		if err := s.Append(run, nil); err != nil {
			t.Fatal(err)
		}
		r := s.Reader()
		for range 50 {
			size := 1 + rng.Uint64N(s.Size())
			index := rng.Uint64N(size)
			got, leaf, err := r.Path(nil, index, size)
			if err != nil {
				t.Fatal(err)
			}
			if leaf != leafOf(index) || !samePath(got, ref.path(t, index, size)) {
				t.Fatalf("leaf %d of %d, of %d: a wrong path", index, size, s.Size())
			}
		}
		r.Release()
		got, err := s.Tree(tree.Size())
		if err != nil || got.Root() != tree.Root() || got.Size() != tree.Size() {
			t.Fatalf("tree of %d: %v", tree.Size(), err)
		}
	}
}

// TestReopenAtAnySize opens the same files again at every size up to their content, appends from there, and must end
// with the same bytes.
func TestReopenAtAnySize(t *testing.T) {
	const most = 600
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	if err := s.Append(leavesOf(0, most), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	want := readFiles(t, dir)
	for size := uint64(0); size <= most; size += 13 {
		s, err := Open(segment.OpenFile, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Reset(size); err != nil {
			t.Fatal(err)
		}
		if err := s.Append(leavesOf(size, most-size), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if got := readFiles(t, dir); got != want {
			t.Fatalf("reopened at %d: other bytes", size)
		}
	}
}

func readFiles(t testing.TB, dir string) (all string) {
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all += filepath.Base(name) + ":" + string(data)
	}
	return all
}

// TestFormat compares the bytes with the drawing in doc.go.
func TestFormat(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	if err := s.Append(leavesOf(0, 40), nil); err != nil {
		t.Fatal(err)
	}
	for name, hashes := range map[string]int64{"00": 40, "04": 2} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(data)) != 512+32*hashes || string(data[:4]) != "CSTL" || data[4] != 1 {
			t.Errorf("%s: %d bytes, header %x", name, len(data), data[:8])
		}
	}
	data, _ := os.ReadFile(filepath.Join(dir, "04"))
	var tree chain.Tree
	if want := tree.Append(leavesOf(0, 16)...).Root(); chain.Hash(data[512:544]) != want || data[5] != 4 {
		t.Error("hash 0 of level 4 is not the root of 16 leaves")
	}
	if _, err := os.Stat(filepath.Join(dir, "08")); err == nil {
		t.Error("level 8 of 40 leaves")
	}
}

func TestMissingHashes(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	if err := s.Append(leavesOf(0, 100), nil); err != nil {
		t.Fatal(err)
	}
	r := s.Reader()
	if _, _, err := r.Path(nil, 5, 101); !errors.Is(err, ErrMissing) {
		t.Errorf("a larger tree than there is: %v", err)
	}
	if _, _, err := r.Path(nil, 100, 100); !errors.Is(err, ErrMissing) {
		t.Errorf("a leaf that is not in the tree: %v", err)
	}
	r.Release()
	if err := os.Truncate(filepath.Join(dir, "00"), 512+32*98); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tree(100); !errors.Is(err, ErrMissing) {
		t.Errorf("tree of a short file: %v", err)
	}
	if err := s.Reset(100); !errors.Is(err, ErrMissing) {
		t.Errorf("Reset on a short file: %v", err)
	}
	if err := s.Reset(98); err != nil {
		t.Error(err)
	}
}

func TestHeaders(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(segment.OpenFile, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Append(leavesOf(0, 20), nil), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := CheckVersion(dir); err != nil {
		t.Error(err)
	}
	name := filepath.Join(dir, "04")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[4] = 2
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckVersion(dir); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("newer version: %v", err)
	}
	data[4], data[0] = 1, 'x'
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := CheckVersion(dir); err != nil {
		t.Error(err)
	}
}

// unreadHeader fails reads of the headers of all files.
type unreadHeader struct {
	segment.File
	errno syscall.Errno
}

func (f *unreadHeader) ReadAt(data []byte, at int64) (int, error) {
	if at < headerSize {
		return 0, &os.PathError{Op: "read", Path: "tiles", Err: f.errno}
	}
	return f.File.ReadAt(data, at)
}

// TestBadHeaderTruncatesNothing checks that no file is truncated because of its header: one with a damaged header is
// copied and kept, and one whose header cannot be read is used as it is.
func TestBadHeaderTruncatesNothing(t *testing.T) {
	full := durable.Unchanged(&os.PathError{Op: "write", Path: "quarantine", Err: syscall.ENOSPC})
	for name, c := range map[string]struct {
		damaged    bool
		read, open syscall.Errno // 0 for none
		aside      error
		want       error
		kept       bool // the file is at another path, whole
	}{
		"damaged":                       {damaged: true, kept: true},
		"damaged, and the disk is full": {damaged: true, aside: full},
		"a bad sector":                  {read: syscall.EIO},
		"no memory":                     {read: syscall.ENOMEM, want: syscall.ENOMEM},
		"no descriptor":                 {open: syscall.EMFILE, want: syscall.EMFILE},
		"no right to open it":           {open: syscall.EACCES, kept: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
			s := openStore(t, dir, 0)
			if err := errors.Join(s.Append(leavesOf(0, 15), nil), s.Close()); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(dir, "00")
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if c.damaged {
				data[0] = 'x'
				if err := os.WriteFile(name, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			open := func(path string, flag int) (segment.File, error) {
				if c.open != 0 {
					return nil, &os.PathError{Op: "open", Path: path, Err: c.open}
				}
				f, err := segment.OpenFile(path, flag)
				if err != nil || c.read == 0 {
					return f, err
				}
				return &unreadHeader{f, c.read}, nil
			}
			s, err = Open(open, dir, func(path string) error {
				if c.aside != nil {
					return c.aside
				}
				return os.Rename(path, kept)
			})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err == nil {
				defer func() { _ = s.Close() }()
			}
			if err == nil && c.open == 0 {
				if err := s.Reset(15); err != nil {
					t.Errorf("the hashes are lost: %v", err)
				}
			}
			if c.kept {
				name = kept
			}
			if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, data) {
				t.Errorf("%d bytes of %d are left, %v", len(now), len(data), err)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*"+newSuffix)); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// FuzzPath compares a path with that of tlog for any run lengths, leaf and size.
func FuzzPath(f *testing.F) {
	f.Add(uint16(1), uint16(300), uint16(5), uint16(290))
	f.Add(uint16(256), uint16(0), uint16(255), uint16(256))
	f.Fuzz(func(t *testing.T, first, second, index, size uint16) {
		total := uint64(first%2048) + uint64(second%2048)
		if total == 0 {
			return
		}
		s := openStore(t, t.TempDir(), 0)
		if err := errors.Join(s.Append(leavesOf(0, uint64(first%2048)), nil), s.Append(leavesOf(uint64(first%2048),
			uint64(second%2048)), nil)); err != nil {
			t.Fatal(err)
		}
		n := uint64(size)%total + 1
		m := uint64(index) % n
		r := s.Reader()
		defer r.Release()
		path, _, err := r.Path(nil, m, n)
		if err != nil {
			t.Fatal(err)
		}
		var tree chain.Tree
		proof := chain.Proof{Index: m, Size: n, Path: path}
		if err := proof.Check(leafOf(m), tree.Append(leavesOf(0, n)...).Root()); err != nil {
			t.Fatal(err)
		}
	})
}

func BenchmarkPath(b *testing.B) {
	const leaves, block = 1 << 21, 16384
	s := openStore(b, b.TempDir(), 0)
	for s.Size() < leaves {
		if err := s.Append(leavesOf(s.Size(), block), nil); err != nil {
			b.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var path []chain.Hash
	b.ReportAllocs()
	for b.Loop() {
		r := s.Reader()
		index := rng.Uint64N(leaves)
		size := (index/block + 1) * block
		size -= (index / block) % 16 // block ends are not aligned
		if index >= size {
			index = size - 1
		}
		var err error
		if path, _, err = r.Path(path[:0], index, size); err != nil {
			b.Fatal(err)
		}
		r.Release()
	}
}

// TestKnownSubtrees checks that hashes passed by the caller, as the verifier knows them, lead to the same files as
// computed ones.
func TestKnownSubtrees(t *testing.T) {
	type emitted struct {
		level int
		first uint64
		run   []chain.Hash
	}
	var computed, known Builder
	size := uint64(0)
	for step := range 400 {
		leaves := leavesOf(size, uint64(step*7%41+step%3))
		var subtrees []chain.Hash
		for tile := size / tileWidth; (tile+1)*tileWidth <= size+uint64(len(leaves)); tile++ {
			subtrees = append(subtrees, chain.Tree{}.Append(leavesOf(tile*tileWidth, tileWidth)...).Root())
		}
		if subtrees == nil {
			subtrees = []chain.Hash{}
		}
		var want, got []emitted
		for b, into := range map[*Builder]*[]emitted{&computed: &want, &known: &got} {
			given := subtrees
			if b == &computed {
				given = nil
			}
			err := b.Append(leaves, given, func(level int, first uint64, run []chain.Hash) error {
				*into = append(*into, emitted{level, first, slices.Clone(run)})
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("step %d, from leaf %d on %d leaves: %v, want %v", step, size, len(leaves), got, want)
		}
		size += uint64(len(leaves))
	}
}
