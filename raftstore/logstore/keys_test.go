package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

func optionsWith(dir string, keys *atrest.Ring) Options {
	o := options(dir)
	o.Keys = keys
	return o
}

const marker = "a text that must not be on the disk"

// filesWith returns the names of files of a folder that have the marker.
func filesWith(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		var data []byte
		if data, err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			break
		}
		if bytes.Contains(data, []byte(marker)) {
			names = append(names, e.Name())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func marked(uint64) []byte { return []byte(marker + strings.Repeat("x", 200)) }

// TestNoPlainText checks that an encrypted log has no data of its entries in clear, that it is read with its keys, and
// that without one it is refused and not changed: that is no damage.
func TestNoPlainText(t *testing.T) {
	l := newTestLog(t, atresttest.Ring(t, 1))
	for range 20 {
		l.appendData(3, 3, marked)
	}
	l.check()
	if names := filesWith(t, l.dir); len(names) > 0 {
		t.Errorf("%v have data in clear", names)
	}
	if found := l.AtRest(); found.Plain != 0 || !slices.Equal(found.Keys, []atrest.ID{l.ring.Current()}) {
		t.Errorf("%+v", found)
	}
	if found, err := CountAtRest(l.dir); err != nil || found.Plain != 0 || len(found.Keys) != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := l.Close(true); err != nil {
		t.Fatal(err)
	}
	before := folderText(t, l.dir)
	for name, ring := range map[string]*atrest.Ring{"none": nil, "another one": atresttest.Ring(t, 2)} {
		_, openErr := Open(l.dir, optionsWith(l.dir, ring))
		_, partErr := OpenPart(l.dir, 1, ring)
		for what, err := range map[string]error{
			"open": openErr, "part": partErr, "check": CheckKeys(l.dir, ring),
		} {
			if !errors.Is(err, atrest.ErrNoKey) || errors.Is(err, durable.ErrDamaged) ||
				!strings.Contains(err.Error(), keysPath(l.dir)) ||
				!strings.Contains(err.Error(), l.ring.Current().String()) {
				t.Errorf("%s with keys %s: %v", what, name, err)
			}
		}
	}
	if folderText(t, l.dir) != before {
		t.Error("the log was changed")
	}
	l.open()
	l.check()
}

// folderText returns all files of a folder.
func folderText(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		var data []byte
		if data, err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			break
		}
		fmt.Fprintf(&all, "%s %q\n", e.Name(), data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestEncryptALog opens a log in clear with keys. Its entries stay readable, new ones are encrypted, and a copy has no
// entry in clear. A copy without keys is in clear again.
func TestEncryptALog(t *testing.T) {
	l := newTestLog(t, nil)
	for range 8 {
		l.appendData(3, 3, marked)
	}
	l.ring = atresttest.Ring(t, 1)
	l.restart(false)
	plain := len(l.segmentStarts())
	for range 8 {
		l.appendData(3, 3, marked)
	}
	l.restart(false)
	l.check()
	if found := l.AtRest(); found.Plain != plain {
		t.Errorf("%+v, %d segments are in clear", found, plain)
	}
	if found, err := CountAtRest(l.dir); err != nil || found.Plain != plain {
		t.Errorf("%+v, %v, %d segments are in clear", found, err, plain)
	}
	for name, ring := range map[string]*atrest.Ring{"encrypted": atresttest.Ring(t, 1), "in clear": nil} {
		dir := filepath.Join(t.TempDir(), "log")
		if err := Copy(dir, l.Log, l.first, l.end()-1, optionsWith(dir, ring)); err != nil {
			t.Fatal(name, err)
		}
		found, err := CountAtRest(dir)
		names := filesWith(t, dir)
		if err != nil || (found.Plain > 0) != (ring == nil) || (len(names) > 0) != (ring == nil) {
			t.Errorf("%s: %+v, %v, text in %v", name, found, err, names)
		}
		got, err := read(dir, ring)
		want, err2 := content(l.Log)
		if err := errors.Join(err, err2); err != nil || got != want {
			t.Errorf("%s: %.200s, %v", name, got, err)
		}
	}
	// What is trimmed takes its entries in clear with it.
	l.remove(l.first, l.end()-2)
	if found := l.AtRest(); found.Plain != 0 {
		t.Errorf("after a trim %+v", found)
	}
}

// TestMovedEntries puts entries in the places of others, in a log whose checksums are right. None decrypts.
func TestMovedEntries(t *testing.T) {
	l := newTestLog(t, atresttest.Ring(t, 1))
	l.appendData(3, 3, marked)
	stored := func(index uint64) raft.Log {
		var e raft.Log
		if err := l.wal.GetLog(index, &e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	good := stored(1)
	if err := l.keys.open(&good); err != nil || !bytes.Equal(good.Data, marked(1)) || CheckEntry(&good) != nil {
		t.Fatalf("%+v, %v", good, err)
	}
	number := func(e *raft.Log, n byte) { e.Data[3] = n }
	for name, change := range map[string]func(e *raft.Log){
		"another index": func(e *raft.Log) { e.Index++ },
		"another term":  func(e *raft.Log) { e.Term++ },
		"another type":  func(e *raft.Log) { e.Type |= raft.LogConfiguration },
		"other data":    func(e *raft.Log) { e.Data = bytes.Clone(stored(2).Data) },
		"a cut":         func(e *raft.Log) { e.Data = e.Data[:len(e.Data)-1] },
		"a long cut":    func(e *raft.Log) { e.Data = e.Data[:10] },
		"nothing":       func(e *raft.Log) { e.Data = nil },
		"another key":   func(e *raft.Log) { number(e, 2) },
	} {
		e := stored(1)
		change(&e)
		sum := Checksum(&e)
		e.Extensions = sum[:]
		if err := l.keys.open(&e); !errors.Is(err, durable.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The keys of another log have the same numbers.
	other := newTestLog(t, l.ring)
	other.append(3, 1)
	e := stored(1)
	if err := other.keys.open(&e); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("with the keys of another log: %v", err)
	}
}

// TestKeysChange gives a log another key of the operator, and begins data keys often. The former key of the operator is
// needed no more, the data keys of trimmed entries are forgotten, and no number is used twice.
func TestKeysChange(t *testing.T) {
	defer func(n int) { maxSealed = n }(maxSealed)
	maxSealed = 5
	path := filepath.Join(t.TempDir(), "at-rest.keys")
	atresttest.Write(t, path, 1)
	ring, err := atrest.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLog(t, ring)
	last := uint32(0)
	begun := func() {
		t.Helper()
		list, torn, err := readKeys(keysPath(l.dir))
		if err != nil || torn {
			t.Fatal(torn, err)
		}
		if n := list[len(list)-1].number; n < last {
			t.Fatalf("the last key is %d, it was %d", n, last)
		} else {
			last = n
		}
	}
	for round := range byte(6) {
		for range 8 {
			l.append(3, 2)
			begun()
		}
		l.remove(l.end()-2, l.end()-1)
		l.append(4, 1)
		begun()
		atresttest.Write(t, path, round+2, round+1)
		if changed, err := ring.Reload(); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if changed, err := l.Renew(); !changed || err != nil {
			t.Fatal(changed, err)
		}
		if changed, err := l.Renew(); changed || err != nil {
			t.Fatal(changed, err)
		}
		if ids := l.AtRest().Keys; !slices.Equal(ids, []atrest.ID{ring.Current()}) {
			t.Fatalf("it needs the keys %v", ids)
		}
		l.ring = atresttest.Ring(t, round+2) // the former key is not needed
		l.restart(round%2 == 0)
		l.ring = ring
		l.restart(round%2 == 0)
		l.append(4, 1)
		begun()
	}
	l.remove(l.first, l.end()-2)
	before := len(l.keys.list)
	for range 12 {
		l.append(5, 1)
	}
	if now := len(l.keys.list); before < 10 || now > 6 {
		t.Errorf("%d keys after a trim, %d before", now, before)
	}
	l.restart(true)
	begun()
}

// TestTornKeys damages one copy of the data keys: the log opens, and both copies are good again.
func TestTornKeys(t *testing.T) {
	l := newTestLog(t, atresttest.Ring(t, 1))
	l.append(3, 3)
	if err := l.Close(true); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(keysPath(l.dir))
	if err != nil || len(whole) != 2*keysPage {
		t.Fatal(len(whole), err)
	}
	for _, at := range []int{0, 4, 9, 20, keysPage - 1, keysPage, keysPage + 4, keysPage + 50, 2*keysPage - 1} {
		alterByte(t, keysPath(l.dir), at)
		l.open()
		l.check()
		if err := l.Close(true); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(keysPath(l.dir)); err != nil || !bytes.Equal(now, whole) {
			t.Fatalf("byte %d: the file is not as it was, %v", at, err)
		}
	}
	alterByte(t, keysPath(l.dir), 9)
	alterByte(t, keysPath(l.dir), keysPage+9)
	if _, err := Open(l.dir, optionsWith(l.dir, l.ring)); !errors.Is(err, durable.ErrDamaged) ||
		!strings.Contains(err.Error(), keysPath(l.dir)) {
		t.Errorf("both copies damaged: %v", err)
	}
}

// TestKeysAside checks that the data keys of segments that were moved aside are beside them, and follow the operator's.
func TestKeysAside(t *testing.T) {
	l := newTestLog(t, atresttest.Ring(t, 1))
	for range 12 {
		l.append(3, 3)
	}
	if err := errors.Join(l.Close(true), Clear(l.dir)); err != nil {
		t.Fatal(err)
	}
	l.first, l.want = 100, nil
	l.open()
	aside := options(l.dir).Aside
	path := filepath.Join(aside, "keys")
	list, err := filepath.Glob(filepath.Join(aside, "*.wal"))
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	for _, segment := range list {
		if plain, err := HasPlain(segment); plain || err != nil {
			t.Errorf("%s: %v, %v", segment, plain, err)
		}
	}
	k, err := openKeys(path, l.ring, nil)
	if err != nil || len(k.list) == 0 {
		t.Fatal(err)
	}
	second := atresttest.Ring(t, 2, 1)
	if err := RewrapKeys(path, second); err != nil {
		t.Fatal(err)
	}
	if ids, err := KeyIDs(path); err != nil || !slices.Equal(ids, []atrest.ID{second.Current()}) {
		t.Errorf("%v, %v", ids, err)
	}
	again, err := openKeys(path, atresttest.Ring(t, 2), nil)
	if err != nil || !again.list[0].key.Equal(k.list[0].key) {
		t.Errorf("it has another data key, %v", err)
	}
}

// FuzzLogKeys reads files of data keys. What is read is written the same.
func FuzzLogKeys(f *testing.F) {
	ring := atresttest.Ring(f, 1)
	_, header := ring.NewKey(keyName(7))
	list := []logKey{{number: 7, header: header}}
	f.Add(encodeKeys(list)[:keysPage])
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseKeys(data)
		if err != nil {
			return
		}
		for _, key := range list {
			if _, err := ring.Unwrap(key.header, keyName(key.number)); err == nil && key.number != 7 {
				t.Fatalf("key %d decrypts", key.number)
			}
		}
		again, err := parseKeys(encodeKeys(list)[:len(encodeKeys(list))/2])
		if err != nil || len(again) != len(list) {
			t.Fatalf("%d keys became %d, %v", len(list), len(again), err)
		}
	})
}

// BenchmarkEntry encrypts and decrypts entries of two sizes.
func BenchmarkEntry(b *testing.B) {
	k := &keyring{path: filepath.Join(b.TempDir(), "keys"), ring: atresttest.Ring(b, 1)}
	if err := k.begin(0); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1 << 10, 64 << 10} {
		entry := entryOf(1, 1, size)
		var buf []byte
		b.Run(fmt.Sprint("seal/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				_, buf = k.seal([]*raft.Log{entry}, buf)
			}
		})
		stored, _ := k.seal([]*raft.Log{entry}, nil)
		data := make([]byte, len(stored[0].Data))
		b.Run(fmt.Sprint("open/", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				e := *stored[0]
				copy(data, e.Data) // as the library does
				e.Data = data
				if err := k.open(&e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
