package tiles

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// TestFilesAreRestored damages a file of an open store, and checks that the store restores it.
func TestFilesAreRestored(t *testing.T) {
	const size = 500
	flip := func(at int64) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }() // the test compares the file
			if _, err := f.WriteAt([]byte{0xff}, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	replace := func(t *testing.T, path string) {
		if err := errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte("other"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t *testing.T, path string) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name     string
		stored   int
		do       func(t *testing.T, path string)
		replaced bool
		restore  func(s *Store) error
	}{
		{"leaves removed", 0, remove, true, func(s *Store) error { return s.Return(0) }},
		{"leaves replaced", 0, replace, true, func(s *Store) error { return s.Return(0) }},
		{"roots of 16 leaves removed", 1, remove, true, func(s *Store) error { return s.Return(1) }},
		{"a header", 0, flip(5), false, func(s *Store) error { return s.FixHeader(0) }},
		{"a header of no file", 9, func(*testing.T, string) {}, false, func(s *Store) error { return s.FixHeader(9) }},
		{"a leaf", 0, flip(OffsetOf(33)), false, func(s *Store) error { return s.Fix(0, 33, leavesOf(33, 1)) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir, 0)
			if err := s.Append(leavesOf(0, size), nil); err != nil {
				t.Fatal(err)
			}
			good := readFiles(t, dir)
			row.do(t, path(dir, row.stored))
			list, err := s.ReplacedOnDisk()
			var want []int
			if row.replaced {
				want = []int{row.stored}
			}
			if err != nil || !slices.Equal(list, want) {
				t.Errorf("replaced %v, %v", list, err)
			}
			if err := row.restore(s); err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(path(dir, row.stored) + ".old") // of one row
			if list, err := s.ReplacedOnDisk(); err != nil || len(list) > 0 {
				t.Errorf("replaced still: %v, %v", list, err)
			}
			if got := readFiles(t, dir); got != good {
				t.Error("the files are other ones")
			}
			// The store continues from there.
			if err := s.Append(leavesOf(size, 20), nil); err != nil {
				t.Fatal(err)
			}
			leaves, err := s.Leaves(nil, 0, size+20)
			if err != nil || !slices.Equal(leaves, leavesOf(0, size+20)) {
				t.Errorf("leaves of %d, %v", len(leaves), err)
			}
		})
	}
}

// TestRow reads rows of hashes, including rows that the store does not have.
func TestRow(t *testing.T) {
	const size = 40
	s := openStore(t, t.TempDir(), 0)
	if err := s.Append(leavesOf(0, size), nil); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		level        int
		first        uint64
		count        int
		missing, own bool
	}{
		{0, 0, size, false, true}, {0, 39, 1, false, true}, {0, 39, 2, true, false}, {0, 40, 1, true, false},
		{1, 0, 2, false, false}, {1, 1, 2, true, false}, {2, 0, 1, true, false}, {0, 5, 0, false, true},
	} {
		got, err := s.Row([]byte("before"), row.level, row.first, row.count)
		if errors.Is(err, ErrMissing) != row.missing || (err != nil) != row.missing {
			t.Errorf("%+v: %v", row, err)
		}
		if !bytes.HasPrefix(got, []byte("before")) || err == nil && len(got) != 6+row.count*chain.HashSize {
			t.Errorf("%+v: %d bytes", row, len(got))
		}
		if row.own {
			leaves, err := s.Leaves(nil, row.first, row.count)
			if err != nil || !slices.Equal(leaves, leavesOf(row.first, uint64(row.count))) {
				t.Errorf("%+v: other leaves, %v", row, err)
			}
		}
	}
}

// TestCheckHeader opens the files as an audit does.
func TestCheckHeader(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, 0)
	if err := s.Append(leavesOf(0, 20), nil); err != nil {
		t.Fatal(err)
	}
	files, unopened := Files(segment.OpenFile, dir)
	if err := errors.Join(unopened...); err != nil {
		t.Fatal(err)
	}
	defer CloseFiles(files)
	for stored, f := range files {
		if there := f != nil; there != (Complete(20, stored) > 0) {
			t.Errorf("level %d: file %v", stored, there)
		} else if there && (!CheckHeader(f, stored) || CheckHeader(f, stored+1)) {
			t.Errorf("level %d: header", stored)
		}
	}
	if err := os.Truncate(path(dir, 0), 100); err != nil {
		t.Fatal(err)
	}
	if CheckHeader(files[0], 0) {
		t.Error("a header that is cut is good")
	}
}
