package records

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
)

// TestEncryptedRuns adds blocks to an encrypted index, with merges, and compares every look-up, also after it is opened
// again and under another key. A plain index is converted.
func TestEncryptedRuns(t *testing.T) {
	b := newBlocks(12)
	for range 20 {
		b.grow(t, 1+b.rng.IntN(900), 3, 5)
	}
	keys := atresttest.Ring(t, 1)
	newer := atresttest.Ring(t, 2, 1)
	for _, from := range []*atrest.Ring{keys, nil} {
		dir := t.TempDir()
		x, err := Open(dir, from, os.Remove)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			b.add(t, x, i, i+1)
		}
		b.compare(t, x, 60)
		if err := errors.Join(x.Check(t.Context()), x.Close()); err != nil {
			t.Fatal(err)
		}
		if from != nil {
			if _, err := Open(dir, nil, os.Remove); !errors.Is(err, atrest.ErrNoKey) {
				t.Errorf("without keys: %v", err)
			}
			if err := CheckVersion(dir, nil); !errors.Is(err, atrest.ErrNoKey) {
				t.Errorf("CheckVersion without keys: %v", err)
			}
		}
		if x, err = Open(dir, newer, os.Remove); err != nil {
			t.Fatal(err)
		}
		for more := true; more; {
			if more, err = x.Reencrypt(); err != nil {
				t.Fatal(err)
			}
		}
		b.compare(t, x, 60)
		if err := errors.Join(x.Check(t.Context()), x.Close()); err != nil {
			t.Fatal(err)
		}
		paths, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(paths) == 0 {
			t.Fatal(paths, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if id, encrypted := KeyID(data); !encrypted || id != newer.Current() {
				t.Errorf("%s: key %v, %v", path, id, encrypted)
			}
		}
		if x, err = Open(dir, newer, os.Remove); err != nil {
			t.Fatal(err)
		}
		b.compare(t, x, 60)
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestEveryByteOfAnEncryptedRun changes each byte. An open index and one that is opened must find it.
func TestEveryByteOfAnEncryptedRun(t *testing.T) {
	b := newBlocks(13)
	b.grow(t, 400, 2, 3)
	dir, keys := t.TempDir(), atresttest.Ring(t, 1)
	x, err := Open(dir, keys, os.Remove)
	if err != nil {
		t.Fatal(err)
	}
	b.add(t, x, 0, 1)
	path := x.runs[0].path
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt(data, 0)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		write(bad)
		if err := x.Check(t.Context()); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: %v", at, err)
		}
		x.bad.Store(nothingBad)
		if l, err := parseLayout(bad, keys); errors.Is(err, atrest.ErrNoKey) || at >= nameSize && at < encryptedHead &&
			(err == nil || l.key != nil) {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	write(good)
	if err := errors.Join(x.Check(t.Context()), x.Close()); err != nil {
		t.Fatal(err)
	}
	b.compare(t, mustOpenWith(t, dir, keys), 20)
}

func mustOpenWith(t *testing.T, dir string, keys *atrest.Ring) *Index {
	t.Helper()
	x, err := Open(dir, keys, os.Remove)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() }) // only read
	return x
}
