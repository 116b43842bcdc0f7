package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/internal/durable"
)

// TestReadWhileTrimmed reads entries whose segment is closed by a deletion before the library has found it. A deleted
// entry gives [raft.ErrLogNotFound], and another one is read again.
func TestReadWhileTrimmed(t *testing.T) { atresttest.BothWays(t, testReadWhileTrimmed) }

func testReadWhileTrimmed(t *testing.T, keys *atrest.Ring) {
	for _, c := range []struct {
		name      string
		low, high uint64 // deleted meanwhile
		index     uint64
		found     bool
	}{
		{"trimmed", 1, 20, 5, false},
		{"the last of the trimmed", 1, 20, 20, false},
		{"behind the trim", 1, 20, 21, true},
		{"cut off", 30, 40, 35, false},
		{"in front of the cut", 30, 40, 29, true},
		{"all", 1, 40, 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestLog(t, keys)
			for range 40 {
				l.append(3, 1)
			}
			read := l.read
			l.read = func(index uint64, entry *raft.Log) error {
				l.read = read
				l.remove(c.low, c.high)
				return &fs.PathError{Op: "read", Path: "segment", Err: os.ErrClosed}
			}
			var entry raft.Log
			err := l.GetLog(c.index, &entry)
			if c.found && (err != nil || entry.Index != c.index) || !c.found && !errors.Is(err, raft.ErrLogNotFound) {
				t.Errorf("entry %d, %v", entry.Index, err)
			}
		})
	}
	l := newTestLog(t, keys)
	l.append(3, 1)
	l.read = func(uint64, *raft.Log) error { return os.ErrClosed }
	if err := l.GetLog(1, new(raft.Log)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a file that stays closed: %v", err)
	}
}

// TestPartOfADamagedLog alters every byte of every segment, and removes each, and reads the entries behind a snapshot.
// It succeeds where only entries in front of them are damaged. No wrong or missing entry is ever passed over. The same
// where the payloads have the form of batches with the next entries.
func TestPartOfADamagedLog(t *testing.T) { atresttest.BothWays(t, testPartOfADamagedLog) }

func testPartOfADamagedLog(t *testing.T, keys *atrest.Ring) {
	t.Run("random", func(t *testing.T) {
		l := newTestLog(t, keys)
		for range 14 {
			l.append(3, 1+l.rng.IntN(3))
		}
		l.remove(l.end()-2, l.end()-1)
		l.append(4, 2)
		l.remove(1, 3)
		l.append(4, 1)
		step := 1
		if keys.Has() {
			step = 7
		}
		l.readParts(l.end()-2, step, false)
	})
	if keys.Has() {
		return // what is stored of a payload has no form
	}
	for _, c := range []struct {
		name         string
		count        uint64 // of batches in a payload
		each         int    // entries of each append
		segmentBytes int
	}{
		{"batches of the next entries", 3, 1, testSegment},
		{"batches of the next entries, in one segment", 3, 1, 8 * testSegment},
		{"batches of the next entries, among others", 3, 2, testSegment},
		{"batches up to the end of the log", 12, 1, 8 * testSegment},
		{"batches up to the end of each segment", 12, 2, testSegment},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestLogOf(t, keys, c.segmentBytes)
			for l.end() <= 6 {
				l.appendData(4, c.each, func(index uint64) []byte { return batches(index, index+c.count, 4) })
			}
			for l.end() <= 12 {
				l.append(4, c.each)
			}
			// Such an end of the log is refused.
			l.readParts(5, 3, c.count > 6)
		})
	}
}

// batches returns a payload in which there are batches, each with an entry. It is at least 128 bytes long, and
// [raft.Log.Index] and [raft.Log.Term] of the entry that has it are less than 128.
func batches(from, to, term uint64) []byte {
	const inFront = 8 + 1 + 1 + 1 + 2 // frame, index, term, type, length
	payload := make([]byte, 16-inFront)
	for index := from; index <= to; index++ {
		var content bytes.Buffer
		var codec wal.BinaryCodec
		if err := codec.Encode(entryOf(index, term, 3), &content); err != nil {
			panic(err)
		}
		batch := binary.LittleEndian.AppendUint32([]byte{segment.FrameEntry, 0, 0, 0}, uint32(content.Len()))
		batch = append(batch, content.Bytes()...)
		for len(batch)%frameBytes > 0 {
			batch = append(batch, 0)
		}
		sum := durable.Checksum(batch)
		batch = binary.LittleEndian.AppendUint32(append(batch, segment.FrameCommit, 0, 0, 0), sum)
		payload = append(payload, batch...)
	}
	return payload
}

// readParts is [TestPartOfADamagedLog] for a log, with every step-th byte. mayRefuse says that entries that are not
// damaged may be refused.
func (l *testLog) readParts(middle uint64, step int, mayRefuse bool) {
	t := l.t
	if testing.Short() {
		step = 7
	}
	opened, refused := 0, 0
	for _, first := range []uint64{8, middle, l.end()} {
		var want strings.Builder
		for _, e := range l.want {
			if e.Index >= first {
				fmt.Fprintln(&want, e.Index, e.Term, e.Type, e.Data)
			}
		}
		for _, s := range l.meta.segments().Segments {
			whole, err := os.ReadFile(segmentPath(l.dir, s))
			if err != nil {
				t.Fatal(err)
			}
			needed := int64(len(whole)) // where the batch begins that has the first entry
			found, err := scanFile(segmentPath(l.dir, s), s, func(*raft.Log) {})
			if err != nil {
				t.Fatal(err)
			}
			if found.last >= first {
				needed = 0
				if first > s.BaseIndex {
					needed = found.contains(first - 1).end
				}
				if found.contains(first).last == found.contains(first-1).last {
					needed = 0 // the entry in front of it is in the same batch: nothing is certain
				}
			}
			for at := -1; at < int(found.end); at += step {
				dir := memCopy(t, l.dir)
				path := filepath.Join(dir, filepath.Base(segmentPath(l.dir, s)))
				if at < 0 {
					err = os.Remove(path)
				} else {
					whole[at] ^= 0xFF
					err = os.WriteFile(path, whole, 0o600)
					whole[at] ^= 0xFF
				}
				if err != nil {
					t.Fatal(err)
				}
				got, err := readPart(dir, l.ring, first)
				switch {
				case err == nil && got != want.String():
					t.Errorf("from %d, %s, byte %d: %.300s, want %.300s", first, path, at, got, want.String())
				case err == nil:
					opened++
				case !strings.Contains(err.Error(), dir):
					t.Errorf("from %d, %s, byte %d: the error names no file: %v", first, path, at, err)
				case at >= 0 && int64(at) < needed && !mayRefuse:
					t.Errorf("from %d, %s, byte %d of %d that are not needed: %v", first, path, at, needed, err)
				default:
					refused++
				}
				_ = os.RemoveAll(filepath.Dir(dir))
			}
		}
	}
	t.Logf("opened %d, refused %d", opened, refused)
	if opened == 0 || refused == 0 {
		t.Error("nothing was tested")
	}
}

// TestPartWithATornEnd ends a process within an append whose payload has the form of batches, at each byte: one of
// these may be the last that was written. A byte of an earlier segment is damaged, or one of the last segment. The
// entries of the payload are never used.
func TestPartWithATornEnd(t *testing.T) {
	sizes := map[string]int{"an earlier segment": testSegment, "the last segment": 8 * testSegment}
	for name, segmentBytes := range sizes {
		t.Run(name, func(t *testing.T) {
			l := newTestLogOf(t, nil, segmentBytes)
			for l.end() <= 12 {
				l.append(4, 1)
			}
			l.restart(true) // a new segment is made beside the appends
			last := l.end() - 1
			before := memCopy(t, l.dir)
			list := l.meta.segments().Segments
			damaged, tail := segmentPath(before, list[0]), segmentPath(before, list[len(list)-1])
			alterByte(t, damaged, headerBytes+60)
			l.appendData(4, 1, func(uint64) []byte { return batches(last+1, last+4, 4) })
			after, err := os.ReadFile(filepath.Join(l.dir, filepath.Base(tail)))
			if err != nil {
				t.Fatal(err)
			}
			old, err := os.ReadFile(tail)
			if err != nil {
				t.Fatal(err)
			}
			end := len(bytes.TrimRight(old, "\x00"))
			refused, opened := 0, 0
			for cut := end; cut < len(bytes.TrimRight(after, "\x00")); cut++ {
				torn := append(bytes.Clone(after[:cut]), make([]byte, len(after)-cut)...)
				if damaged == tail {
					torn[headerBytes+60] = old[headerBytes+60]
				}
				if err := os.WriteFile(tail, torn, 0o600); err != nil {
					t.Fatal(err)
				}
				for _, first := range []uint64{last, last + 1, last + 2} {
					p, err := OpenPart(before, first, nil)
					if err != nil {
						refused++
						if damaged != tail || !strings.Contains(err.Error(), tail) {
							t.Errorf("%d bytes of the last batch, from %d: %v", cut-end, first, err)
						}
						continue
					}
					opened++
					if got, err := p.LastIndex(); err != nil || got > last || got < last && first <= last {
						t.Errorf("%d bytes of the last batch, from %d: it ends at %d, %v", cut-end, first, got, err)
					}
				}
			}
			t.Logf("opened %d, refused %d", opened, refused)
			if opened == 0 {
				t.Error("nothing was tested")
			}
		})
	}
}

// alterByte alters a byte of a file.
func alterByte(t *testing.T, path string, at int) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		data[at] ^= 0xFF
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// memCopy copies a log's folder to memory, if the machine has such a file system.
func memCopy(t *testing.T, from string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "logstore-*")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dir = filepath.Join(dir, "log")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// readPart reads the entries from first on: with Open, or where that refuses the log, with OpenPart. Then it clears the
// log, which must be usable.
func readPart(dir string, keys *atrest.Ring, first uint64) (text string, err error) {
	l, err := Open(dir, optionsWith(dir, keys))
	if err == nil {
		defer func() { err = errors.Join(err, l.Close(false)) }()
		return entriesFrom(l, first)
	}
	if !errors.Is(err, durable.ErrDamaged) {
		return "", err
	}
	p, err := OpenPart(dir, first, keys)
	if err != nil {
		return "", err
	}
	if text, err = entriesFrom(p, first); err != nil {
		return "", err
	}
	if err := Clear(dir); err != nil {
		return "", err
	}
	l, err = Open(dir, optionsWith(dir, keys))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, l.Close(false)) }()
	if end, err := l.LastIndex(); err != nil || end != 0 {
		return "", fmt.Errorf("%s: the log ends at %d: %w", dir, end, err)
	}
	for _, d := range p.Damaged {
		if _, err := os.Stat(d.Path); err == nil {
			return "", fmt.Errorf("%s is still there", d.Path)
		}
	}
	return text, l.StoreLog(entryOf(1000, 9, 10))
}

func entriesFrom(log raft.LogStore, first uint64) (string, error) {
	last, err := log.LastIndex()
	var all strings.Builder
	for i := first; err == nil && i <= last; i++ {
		var e raft.Log
		if err = log.GetLog(i, &e); err == nil {
			fmt.Fprintln(&all, e.Index, e.Term, e.Type, e.Data)
		}
	}
	return all.String(), err
}
