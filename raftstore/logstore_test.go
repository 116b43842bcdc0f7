package raftstore

import (
	"bytes"
	"errors"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

var errTest = errors.New("the disk says no")

// faultyDisk is a log and stable store that fails on request, before or after it does its work.
type faultyDisk struct {
	*raft.InmemStore
	before, after bool
}

func (f *faultyDisk) write(work func() error) error {
	if f.before {
		return errTest
	}
	if err := work(); err != nil {
		return err
	}
	if f.after {
		return errTest
	}
	return nil
}

func (f *faultyDisk) StoreLogs(logs []*raft.Log) error {
	return f.write(func() error { return f.InmemStore.StoreLogs(logs) })
}

func (f *faultyDisk) Set(key, value []byte) error {
	return f.write(func() error { return f.InmemStore.Set(key, value) })
}

func (f *faultyDisk) SetUint64(key []byte, v uint64) error {
	return f.write(func() error { return f.InmemStore.SetUint64(key, v) })
}

func (f *faultyDisk) DeleteRange(low, high uint64) error {
	return f.write(func() error { return f.InmemStore.DeleteRange(low, high) })
}

func entry(index uint64, data string) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte(data)}
}

func testLogs() (*logStore, *faultyDisk) {
	disk := &faultyDisk{InmemStore: raft.NewInmemStore()}
	return &logStore{
		LogStore: disk, name: "test.db", fail: newFailure(), snaps: &snapshotStore{}, reserved: noLimit,
	}, disk
}

func TestLogStore(t *testing.T) {
	s, disk := testLogs()
	for i := uint64(1); i <= 2*cachedEntries; i++ {
		if err := s.StoreLog(entry(i, "data")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(s.recent.items); n != cachedEntries || s.bytes != 4*n {
		t.Errorf("%d entries, %d bytes are cached", n, s.bytes)
	}
	for _, i := range []uint64{1, cachedEntries, 2 * cachedEntries} {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil || l.Index != i || string(l.Data) != "data" {
			t.Errorf("entry %d is %+v, %v", i, l, err)
		}
	}
	// A new leader's entries replace some at the end.
	if err := s.DeleteRange(1000, 2*cachedEntries); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 1000, Term: 2, Data: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(1000, &l); err != nil || l.Term != 2 {
		t.Errorf("entry 1000 is %+v, %v", l, err)
	}
	if err := s.GetLog(1001, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 1001: %v", err)
	}
	if err := s.DeleteRange(1, 990); err != nil {
		t.Fatal(err)
	}
	if first, _ := disk.FirstIndex(); first != 991 {
		t.Errorf("the log begins at %d", first)
	}
	if got := s.trailing(1000, 1000); got != 10 {
		t.Errorf("%d entries may trail, there are 10", got)
	}
	if got := s.trailing(5+4+4, 1000); got != 3 {
		t.Errorf("%d entries have at most 13 bytes", got)
	}
	if got := s.trailing(1, 1000); got != 1 {
		t.Errorf("%d entries trail at least", got)
	}
	if err := s.fail.get(); err != nil {
		t.Error(err)
	}
	// After a restart raft reads the last entry, and then all behind the snapshot.
	s = &logStore{reserved: noLimit, LogStore: disk, name: "test.db", fail: newFailure(), snaps: &snapshotStore{}}
	for _, i := range []uint64{1000, 996, 997, 998, 999, 1000, 992} {
		if err := s.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.StoreLog(entry(1001, "new")); err != nil {
		t.Fatal(err)
	}
	if got := s.trailing(1000, 1000); got != 6 {
		t.Errorf("after a restart %d entries may trail, 6 were seen", got)
	}
}

// countingDisk counts what is read.
type countingDisk struct {
	*raft.InmemStore
	reads int
}

func (d *countingDisk) GetLog(index uint64, l *raft.Log) error {
	d.reads++
	return d.InmemStore.GetLog(index, l)
}

// At its start raft reads each entry twice, and the disk is read once. Entries that are replaced, trimmed or in a
// snapshot are not kept.
func TestStartReadsOnce(t *testing.T) {
	disk := &countingDisk{InmemStore: raft.NewInmemStore()}
	s := &logStore{reserved: noLimit, LogStore: disk, name: "test.db", fail: newFailure(), snaps: &snapshotStore{}}
	for i := uint64(1); i <= 2000; i++ {
		if err := s.StoreLog(entry(i, "data")); err != nil {
			t.Fatal(err)
		}
	}
	read := func(low, high uint64) {
		t.Helper()
		for i := low; i <= high; i++ {
			var l raft.Log
			if err := s.GetLog(i, &l); err != nil || l.Index != i {
				t.Fatalf("entry %d is %+v, %v", i, l, err)
			}
		}
	}
	restart := func() {
		t.Helper()
		s = &logStore{reserved: noLimit, LogStore: disk, name: "test.db", fail: newFailure(), snaps: &snapshotStore{}}
		disk.reads = 0
		read(2000, 2000)
		read(1001, 2000)
	}
	restart()
	read(1500, 1500) // a leader sends it to a follower
	read(1001, 2000)
	if disk.reads != 1001 || s.replay.items != nil {
		t.Errorf("%d reads of the disk, %d entries are kept", disk.reads, len(s.replay.items))
	}

	restart()
	if err := s.DeleteRange(1991, 2000); err != nil {
		t.Fatal(err)
	}
	if err := s.StoreLog(&raft.Log{Index: 1991, Term: 2, Data: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(1991, &l); err != nil || l.Term != 2 {
		t.Errorf("entry 1991 is %+v, %v", l, err)
	}
	s.dropReplay(1985)
	if len(s.replay.items) != 5 || s.replay.first != 1986 {
		t.Errorf("%d entries from %d on are kept, those of a snapshot among them", len(s.replay.items), s.replay.first)
	}
	if err := s.DeleteRange(1, 1988); err != nil {
		t.Fatal(err)
	}
	if len(s.replay.items) != 2 {
		t.Errorf("%d entries are kept, trimmed ones among them", len(s.replay.items))
	}
}

// The real store deletes the range that it is given, and no more.
func TestBoltTrim(t *testing.T) {
	bolt, err := raftconfig.OpenLog(filepath.Join(t.TempDir(), "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer bolt.Close()
	s := &logStore{reserved: noLimit, LogStore: bolt, name: "raft.db", fail: newFailure(), snaps: &snapshotStore{}}
	const n = 2*deleteBatch + 100
	var logs []*raft.Log
	for i := range uint64(n) {
		logs = append(logs, entry(i+1, "some data that is a little longer"))
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, n-10); err != nil {
		t.Fatal(err)
	}
	first, err := s.FirstIndex()
	if err != nil || first != n-9 {
		t.Fatalf("the log begins at %d, %v", first, err)
	}
	for i := range uint64(n) {
		var l raft.Log
		if err := bolt.GetLog(i+1, &l); (err == nil) != (i+1 >= first) {
			t.Fatalf("entry %d: %v", i+1, err)
		}
	}
}

// After a failed write nothing more is written, whether the failed write is on the disk or not.
func TestLogStoreFails(t *testing.T) {
	for _, after := range []bool{false, true} {
		s, disk := testLogs()
		if err := s.StoreLog(entry(1, "one")); err != nil {
			t.Fatal(err)
		}
		disk.before, disk.after = !after, after
		if err := s.fail.guard(func() error { return s.StoreLog(entry(2, "two")) }); !errors.Is(err, errTest) ||
			!errors.Is(err, ErrDisk) {
			t.Fatalf("%v", err)
		}
		disk.before, disk.after = false, false
		went := false
		_ = s.fail.guard(func() error {
			_ = s.StoreLog(entry(3, "three"))
			went = true
			return nil
		})
		if last, _ := disk.LastIndex(); went || last == 3 {
			t.Error("the store went on after a failure")
		}
		if err := s.DeleteRange(1, 1); !errors.Is(err, errTest) {
			t.Errorf("delete after a failure: %v", err)
		}
	}
}

func TestLogStoreDetectsDamage(t *testing.T) {
	for name, damage := range map[string]func(*raft.Log){
		"data":     func(l *raft.Log) { l.Data[2] ^= 1 },
		"term":     func(l *raft.Log) { l.Term++ },
		"type":     func(l *raft.Log) { l.Type = raft.LogNoop },
		"checksum": func(l *raft.Log) { l.Extensions = nil },
	} {
		t.Run(name, func(t *testing.T) {
			s, disk := testLogs()
			l := entry(1, "data")
			sum := logstore.Checksum(l)
			l.Extensions = bytes.Clone(sum[:])
			damage(l)
			if name != "checksum" {
				if err := s.StoreLog(l); err == nil || s.fail.get() != nil {
					t.Errorf("a damaged entry of the leader: %v, %v", err, s.fail.get())
				}
			}
			if err := disk.InmemStore.StoreLog(l); err != nil {
				t.Fatal(err)
			}
			var got raft.Log
			if err := s.fail.guard(func() error { return s.GetLog(1, &got) }); !errors.Is(err, ErrDisk) {
				t.Errorf("a damaged entry on disk: %v", err)
			}
		})
	}
}

// An entry that is missing between others is damage. Below the newest snapshot it is not, nor beyond either end of the
// log.
func TestLogStoreDetectsHole(t *testing.T) {
	for _, c := range []struct {
		index, snapshot uint64
		lost            bool
	}{{3, 0, true}, {3, 2, true}, {3, 3, false}, {6, 0, false}, {1, 0, false}} {
		s, disk := testLogs()
		s.snaps.last.Store(&entryID{index: c.snapshot})
		for _, i := range []uint64{2, 4, 5} {
			if err := disk.StoreLog(entry(i, "data")); err != nil {
				t.Fatal(err)
			}
		}
		var got raft.Log
		err := s.fail.guard(func() error { return s.GetLog(c.index, &got) })
		if errors.Is(err, ErrDisk) != c.lost || !c.lost && !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestVoteIsOneWrite(t *testing.T) {
	disk := &faultyDisk{InmemStore: raft.NewInmemStore()}
	s := &stableStore{StableStore: disk, name: "test.db", fail: newFailure()}
	if _, err := s.GetUint64([]byte(keyVoteTerm)); err == nil || err.Error() != "not found" {
		t.Fatalf("no vote: %v", err)
	}
	vote := func(term uint64, candidate string) {
		t.Helper()
		if err := s.SetUint64([]byte(keyVoteTerm), term); err != nil {
			t.Fatal(err)
		}
		if err := s.Set([]byte(keyVoteCandidate), []byte(candidate)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(term uint64, candidate string) {
		t.Helper()
		gotTerm, err := s.GetUint64([]byte(keyVoteTerm))
		if err != nil || gotTerm != term {
			t.Errorf("voted in term %d, %v", gotTerm, err)
		}
		got, err := s.Get([]byte(keyVoteCandidate))
		if err != nil || string(got) != candidate {
			t.Errorf("voted for %q, %v", got, err)
		}
	}
	vote(3, "a@h:1")
	check(3, "a@h:1")
	// A crash between the halves leaves the old vote whole.
	if err := s.SetUint64([]byte(keyVoteTerm), 4); err != nil {
		t.Fatal(err)
	}
	check(3, "a@h:1")
	vote(5, "b@h:2")
	check(5, "b@h:2")

	disk.before = true
	if err := s.fail.guard(func() error { return s.SetUint64([]byte(keyTerm), 6) }); !errors.Is(err, ErrDisk) {
		t.Errorf("a failed write: %v", err)
	}
}

// TestTruncatedTailIsReplaced checks that a follower that has deleted the end of its log writes those that take its
// place. If raft gets an error then, it goes on as if it had the deleted ones: it would refuse all entries, or be
// elected with a log that it does not have. So nothing is deleted while there is no room, and what cannot be replaced
// is a failure.
func TestTruncatedTailIsReplaced(t *testing.T) {
	errFull := errors.New("no room")
	other := func(index uint64) *raft.Log { return &raft.Log{Index: index, Term: 2, Data: []byte("other")} }
	changed := other(3)
	changed.Extensions = []byte{1, 2, 3, 4}
	with := func() (s *logStore, full *bool) {
		s, _ = testLogs()
		full = new(bool)
		s.reserved = func(uint64) error {
			if *full {
				return errFull
			}
			return nil
		}
		for i := uint64(1); i <= 5; i++ {
			if err := s.StoreLog(entry(i, "data")); err != nil {
				t.Fatal(err)
			}
		}
		return s, full
	}

	s, full := with()
	*full = true
	if err := s.DeleteRange(3, 5); !errors.Is(err, errFull) || s.fail.get() != nil {
		t.Errorf("the end of the log is deleted although there is no room: %v, %v", err, s.fail.get())
	}
	if last, err := s.LastIndex(); err != nil || last != 5 {
		t.Errorf("the log ends at %d, %v", last, err)
	}
	if err := s.DeleteRange(1, 2); err != nil {
		t.Errorf("the begin of the log cannot be deleted while there is no room: %v", err)
	}
	*full = false
	if err := s.DeleteRange(3, 5); err != nil {
		t.Fatal(err)
	}
	*full = true // the room has gone meanwhile
	if err := s.StoreLog(other(3)); err != nil {
		t.Errorf("the end of the log was deleted and is not replaced: %v", err)
	}
	if err := s.StoreLog(other(4)); !errors.Is(err, errFull) || s.fail.get() != nil {
		t.Errorf("an entry is appended although there is no room: %v, %v", err, s.fail.get())
	}

	s, _ = with()
	last := other(6)
	last.Extensions = changed.Extensions
	if err := s.StoreLog(last); err == nil || s.fail.get() != nil {
		t.Errorf("a changed entry: %v, %v", err, s.fail.get())
	}
	if err := s.DeleteRange(3, 5); err != nil {
		t.Fatal(err)
	}
	_ = s.fail.guard(func() error { return s.StoreLog(changed) })
	if s.fail.get() == nil {
		t.Error("a changed entry took the place of the end of the log, and the store goes on without either")
	}
}
