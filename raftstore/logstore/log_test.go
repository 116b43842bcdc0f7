package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

// testLog is a log with small segments, and what it should contain.
type testLog struct {
	*Log
	t     *testing.T
	dir   string
	first uint64
	want  []*raft.Log
	rng   *rand.Rand

	segmentBytes int
	ring         *atrest.Ring // nil for a log in clear
}

const testSegment = 2048

func options(dir string) Options {
	return Options{Aside: filepath.Join(filepath.Dir(dir), "damaged"), SegmentBytes: testSegment}
}

func newTestLog(t *testing.T, keys *atrest.Ring) *testLog {
	t.Helper()
	return newTestLogOf(t, keys, testSegment)
}

func newTestLogOf(t *testing.T, keys *atrest.Ring, segmentBytes int) *testLog {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "log")
	if err := Create(dir); err != nil {
		t.Fatal(err)
	}
	l := &testLog{
		t: t, dir: dir, first: 1, rng: rand.New(rand.NewPCG(1, 2)), segmentBytes: segmentBytes, ring: keys,
	}
	l.open()
	t.Cleanup(func() { _ = l.Close(false) })
	return l
}

func (l *testLog) open() {
	l.t.Helper()
	o := optionsWith(l.dir, l.ring)
	o.SegmentBytes = l.segmentBytes
	var err error
	if l.Log, err = Open(l.dir, o); err != nil {
		l.t.Fatal(err)
	}
}

// restart ends the log and opens it again: as a clean stop does, or as a kill.
func (l *testLog) restart(clean bool) {
	l.t.Helper()
	if err := l.Close(clean); err != nil {
		l.t.Fatal(err)
	}
	l.open()
	l.check()
}

func (l *testLog) end() uint64 { return l.first + uint64(len(l.want)) }

func entryOf(index, term uint64, size int) *raft.Log {
	return entryWith(index, term, bytes.Repeat([]byte{byte(index)}, size))
}

func entryWith(index, term uint64, data []byte) *raft.Log {
	e := &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data}
	sum := Checksum(e)
	e.Extensions = sum[:]
	return e
}

func (l *testLog) append(term uint64, count int) {
	l.t.Helper()
	l.appendData(term, count, func(index uint64) []byte {
		return bytes.Repeat([]byte{byte(index)}, l.rng.IntN(300))
	})
}

func (l *testLog) appendData(term uint64, count int, data func(index uint64) []byte) {
	l.t.Helper()
	var logs []*raft.Log
	for range count {
		index := l.end() + uint64(len(logs))
		logs = append(logs, entryWith(index, term, data(index)))
	}
	if err := l.StoreLogs(logs); err != nil {
		l.t.Fatal(err)
	}
	l.want = append(l.want, logs...)
}

// remove deletes entries at one end.
func (l *testLog) remove(low, high uint64) {
	l.t.Helper()
	if err := l.DeleteRange(low, high); err != nil {
		l.t.Fatal(err)
	}
	if low <= l.first {
		count := min(high+1-l.first, uint64(len(l.want)))
		l.first, l.want = l.first+count, l.want[count:]
	} else {
		l.want = l.want[:low-l.first]
	}
}

// content returns all entries, with their checksums.
func content(log raft.LogStore) (string, error) {
	first, err := log.FirstIndex()
	last, err2 := log.LastIndex()
	if err := errors.Join(err, err2); err != nil {
		return "", err
	}
	var all strings.Builder
	fmt.Fprintln(&all, first, last)
	for i := first; i <= last && i > 0; i++ {
		var e raft.Log
		if err := errors.Join(log.GetLog(i, &e), CheckEntry(&e)); err != nil {
			return "", err
		}
		fmt.Fprintln(&all, e.Index, e.Term, e.Type, e.Data)
	}
	return all.String(), nil
}

func (l *testLog) check() {
	l.t.Helper()
	got, err := content(l.Log)
	if err != nil {
		l.t.Fatal(err)
	}
	memory := raft.NewInmemStore()
	if err := memory.StoreLogs(l.want); err != nil {
		l.t.Fatal(err)
	}
	if want, err := content(memory); err != nil || got != want {
		l.t.Fatalf("the log has %.200s, want %.200s, %v", got, want, err)
	}
	for _, index := range []uint64{l.first - 1, l.end()} {
		if err := l.GetLog(index, new(raft.Log)); !errors.Is(err, raft.ErrLogNotFound) {
			l.t.Fatalf("entry %d of a log from %d to %d: %v", index, l.first, l.end()-1, err)
		}
	}
}

// segmentStarts returns the first entries of the segments.
func (l *testLog) segmentStarts() (starts []uint64) {
	for _, s := range l.meta.segments().Segments {
		starts = append(starts, s.BaseIndex)
	}
	return starts
}

// TestCutTail cuts the end of a log within a segment, at its edge and across two, each followed by a restart before and
// after the next entries. Version 0.4.0 of the library did not start again (its issue 31).
func TestCutTail(t *testing.T) { atresttest.BothWays(t, testCutTail) }

func testCutTail(t *testing.T, keys *atrest.Ring) {
	for _, clean := range []bool{true, false} {
		for _, restartFirst := range []bool{true, false} {
			for back := range 3 {
				for _, at := range []int64{-1, 0, 1, 2} {
					l := newTestLog(t, keys)
					for range 16 {
						l.append(3, 1+l.rng.IntN(4))
					}
					starts := l.segmentStarts()
					from := min(uint64(int64(starts[len(starts)-1-back])+at), l.end())
					l.remove(from, l.end()-1)
					l.check()
					if restartFirst {
						l.restart(clean)
					}
					l.append(5, 3)
					l.restart(clean)
					l.remove(l.end()-1, l.end()-1)
					l.restart(clean)
					for range 6 {
						l.append(6, 2)
					}
					l.restart(clean)
				}
			}
		}
	}
}

// TestEmptyLog empties a log as after the installation of a snapshot, and goes on behind it.
func TestEmptyLog(t *testing.T) { atresttest.BothWays(t, testEmptyLog) }

func testEmptyLog(t *testing.T, keys *atrest.Ring) {
	for _, clean := range []bool{true, false} {
		for _, count := range []int{0, 1, 30} {
			l := newTestLog(t, keys)
			for range count {
				l.append(3, 2)
			}
			if count > 0 {
				l.remove(1, l.end()-1)
			}
			l.restart(clean)
			l.first = 1000
			l.append(4, 3)
			l.restart(clean)
			l.append(4, 40)
			l.remove(1000, 1010)
			l.restart(clean)
		}
	}
}

// TestOperations does random operations and restarts.
func TestOperations(t *testing.T) { atresttest.BothWays(t, testOperations) }

func testOperations(t *testing.T, keys *atrest.Ring) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		l := newTestLog(t, keys)
		l.rng = rand.New(rand.NewPCG(seed, 7))
		for range 120 {
			switch n := uint64(len(l.want)); l.rng.IntN(12) {
			case 0:
				if n > 2 {
					l.remove(l.first, l.first+l.rng.Uint64N(n-1))
				}
			case 1:
				if n > 2 {
					l.remove(l.end()-1-l.rng.Uint64N(n-1), l.end()-1)
				}
			case 2:
				l.restart(true)
			case 3:
				l.restart(false)
			default:
				l.append(2, 1+l.rng.IntN(5))
			}
		}
		l.check()
	}
}

// copyLog copies a log's folder as a kill would leave it.
func copyLog(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// read opens a log, reads all of it, and closes it.
func read(dir string, keys *atrest.Ring) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: panic: %v", dir, r)
		}
	}()
	l, err := Open(dir, optionsWith(dir, keys))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, l.Close(false)) }()
	if text, err = content(l); err != nil {
		return "", err
	}
	// It must also take entries.
	last, err := l.LastIndex()
	if err != nil {
		return "", err
	}
	return text, l.StoreLog(entryOf(last+1, 9, 10))
}

// TestFlippedBytes alters every byte of every file of a log that was killed, by one bit and by all. Each start refuses
// the log with the name of a file, or finds all entries.
func TestFlippedBytes(t *testing.T) { atresttest.BothWays(t, testFlippedBytes) }

func testFlippedBytes(t *testing.T, keys *atrest.Ring) {
	l := newTestLog(t, keys)
	for range 12 {
		l.append(3, 1+l.rng.IntN(3))
	}
	l.remove(l.end()-2, l.end()-1)
	l.append(4, 2)
	l.remove(1, 9)
	l.append(4, 1)
	want, err := content(l.Log)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	refused, same := 0, 0
	step := 1
	if testing.Short() {
		step = 23
	}
	for _, file := range files {
		whole, err := os.ReadFile(filepath.Join(l.dir, file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		written := len(bytes.TrimRight(whole, "\x00")) + 40 // the rest is like the first bytes of it
		for at := 0; at < min(len(whole), written); at += step {
			if at > 16 && len(bytes.Trim(whole[at-16:min(at+17, len(whole))], "\x00")) == 0 {
				continue // in a long run of zeros
			}
			for _, flip := range []byte{1 << (at % 8), 0xFF} {
				dir := copyLog(t, l.dir)
				path := filepath.Join(dir, file.Name())
				f, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				_, err = f.WriteAt([]byte{whole[at] ^ flip}, int64(at))
				if err := errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
				switch got, err := read(dir, keys); {
				case err != nil && !strings.Contains(err.Error(), file.Name()) &&
					!strings.Contains(err.Error(), "/mark"):
					t.Errorf("%s, byte %d: the error names no file: %v", file.Name(), at, err)
				case errors.Is(err, durable.ErrDamaged) || errors.Is(err, durable.ErrNewerFormat):
					refused++
				case err != nil:
					t.Errorf("%s, byte %d: %v", file.Name(), at, err)
				case got != want:
					t.Errorf("%s, byte %d: it reads as %.300s", file.Name(), at, got)
				default:
					same++
				}
				_ = os.RemoveAll(filepath.Dir(dir))
			}
		}
	}
	t.Logf("refused %d, read as written %d", refused, same)
	if refused == 0 || same == 0 {
		t.Error("nothing was tested")
	}
}

// TestLostFiles removes and cuts each file of a log.
func TestLostFiles(t *testing.T) { atresttest.BothWays(t, testLostFiles) }

func testLostFiles(t *testing.T, keys *atrest.Ring) {
	l := newTestLog(t, keys)
	for range 30 {
		l.append(3, 2)
	}
	files, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		for _, size := range []int64{-1, 0, 1, 600} {
			dir := copyLog(t, l.dir)
			path := filepath.Join(dir, file.Name())
			if whole, err := os.ReadFile(path); err != nil || len(bytes.TrimRight(whole, "\x00")) <= int(size) {
				continue // nothing would be lost
			}
			if size < 0 {
				err = os.Remove(path)
			} else {
				err = os.Truncate(path, size)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := read(dir, keys); !errors.Is(err, durable.ErrDamaged) ||
				!strings.Contains(err.Error(), file.Name()) {
				t.Errorf("%s of %d bytes: %.100s, %v", file.Name(), size, got, err)
			}
		}
	}
}

// TestTornBatch leaves parts of the last batch, as a kill during its write does: the log goes on without it. The same
// with the one that completes a segment: the library would refuse to append.
func TestTornBatch(t *testing.T) { atresttest.BothWays(t, testTornBatch) }

func testTornBatch(t *testing.T, keys *atrest.Ring) {
	l := newTestLog(t, keys)
	for range 16 {
		l.restart(true) // a new segment is made beside the appends
		before := copyLog(t, l.dir)
		name := l.meta.fileOf(l.end())
		l.append(3, 3)
		after, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want, err := content(reopened(t, before, keys))
		if err != nil {
			t.Fatal(err)
		}
		old, err := os.ReadFile(filepath.Join(before, filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		from := 0
		for from < len(old) && old[from] == after[from] {
			from++
		}
		end := len(bytes.TrimRight(after, "\x00"))
		for _, part := range []int{1, 9, (end - from) / 2, end - from - 1} {
			dir := copyLog(t, before)
			path := filepath.Join(dir, filepath.Base(name))
			torn := append(bytes.Clone(after[:from+part]), make([]byte, len(after)-from-part)...)
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := read(dir, keys); err != nil || got != want {
				t.Fatalf("%d bytes of a batch at %d: %.100s, %v, want %.100s", part, from, got, err, want)
			}
		}
	}
}

// reopened opens a copy of a log for reading.
func reopened(t *testing.T, dir string, keys *atrest.Ring) *Log {
	t.Helper()
	dir = copyLog(t, dir)
	l, err := Open(dir, optionsWith(dir, keys))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close(false) })
	return l
}

// TestUnlistedSegment finds a segment that the list does not have: it is moved aside.
func TestUnlistedSegment(t *testing.T) { atresttest.BothWays(t, testUnlistedSegment) }

func testUnlistedSegment(t *testing.T, keys *atrest.Ring) {
	l := newTestLog(t, keys)
	l.append(3, 2)
	name := "00000000000000000500-00000000000000ff.wal"
	if err := os.WriteFile(filepath.Join(l.dir, name), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.restart(true)
	moved, err := os.ReadFile(filepath.Join(options(l.dir).Aside, name))
	if err != nil || string(moved) != "content" {
		t.Errorf("%q, %v", moved, err)
	}
}

// TestMaxCommand stores and reads back the largest command, and refuses a larger one.
func TestMaxCommand(t *testing.T) { atresttest.BothWays(t, testMaxCommand) }

func testMaxCommand(t *testing.T, keys *atrest.Ring) {
	if testing.Short() {
		t.Skip("it writes 64 MiB")
	}
	l := newTestLog(t, keys)
	if err := l.StoreLog(entryOf(1, 1<<62, MaxCommand)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(true); err != nil {
		t.Fatal(err)
	}
	l.open()
	var got raft.Log
	if err := errors.Join(l.GetLog(1, &got), CheckEntry(&got)); err != nil || len(got.Data) != MaxCommand {
		t.Fatal(len(got.Data), err)
	}
	if err := l.StoreLog(entryOf(2, 1, MaxCommand+1)); err == nil {
		t.Error("it was stored")
	}
}

// FuzzScan reads segments. What is read back must be the content that the checksums cover.
func FuzzScan(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "log")
	if err := Create(dir); err != nil {
		f.Fatal(err)
	}
	l, err := Open(dir, options(dir))
	if err != nil {
		f.Fatal(err)
	}
	for i := uint64(1); i <= 20; i++ {
		if err := l.StoreLog(entryOf(i, 2, 100)); err != nil {
			f.Fatal(err)
		}
	}
	if err := l.Close(true); err != nil {
		f.Fatal(err)
	}
	state, err := readSegments(dir)
	if err != nil {
		f.Fatal(err)
	}
	info := state.Segments[0]
	whole, err := os.ReadFile(segmentPath(dir, info))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		next := info.BaseIndex
		found, err := scan(bytes.NewReader(data), int64(len(data)), info, func(e *raft.Log) {
			if e.Index != next || CheckEntry(e) != nil {
				t.Fatalf("entry %d in the place of %d", e.Index, next)
			}
			next++
		})
		if err == nil && (found.last != next-1 || found.end+found.rest > int64(len(data))) {
			t.Fatalf("%+v after %d entries", found, next-info.BaseIndex)
		}
	})
}

// FuzzMark reads slots of a mark.
func FuzzMark(f *testing.F) {
	f.Add(mark{number: 7, base: 3, index: 9, term: 2, sum: 5}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		slot := append(bytes.Clone(data), make([]byte, slotBytes)...)[:slotBytes]
		m, written, err := parseMark(slot)
		if err == nil && written && !bytes.Equal(m.encode()[8:markBytes-4], slot[8:markBytes-4]) {
			t.Fatalf("%x is read as %+v", slot[:markBytes], m)
		}
	})
}

// FuzzSegments reads lists of segments. A list that is read is written the same.
func FuzzSegments(f *testing.F) {
	dir := filepath.Join(f.TempDir(), "log")
	if err := Create(dir); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(segmentsPath(dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = segmentsFormat.Decode(data, func(fields *durable.Fields) {
			for _, s := range parseSegments(fields).Segments {
				if s.BaseIndex == 0 || s.MinIndex < s.BaseIndex {
					t.Fatalf("%+v", s)
				}
			}
		})
	})
}
