package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/transport"
)

// follower is raft on a real folder with its log in segments. The test is its leader.
type follower struct {
	*dataFolder
	t      *testing.T
	raft   *raft.Raft
	leader *raft.InmemTransport
	own    *raft.InmemTransport
}

const (
	followerTerm  = 5 // of the leader
	followerIndex = 20
)

// newFollower makes a folder whose log has entries from 1 to last, those from changed on of an earlier term.
func newFollower(t *testing.T, last, changed uint64) string {
	t.Helper()
	dir := t.TempDir()
	id := identity{Version: logInSegments, ID: "f", Group: "g", Epoch: 1, Begun: true, VoteSums: true}
	if err := errors.Join(id.save(dir), logstore.Create(logPath(dir))); err != nil {
		t.Fatal(err)
	}
	f := openFolder(t, dir)
	err := f.votes.SetUint64([]byte(keyTerm), followerTerm-1)
	for i := uint64(1); i <= last; i++ {
		err = errors.Join(err, f.logs.StoreLog(followerEntry(i, changed)))
	}
	if err != nil {
		t.Fatal(err)
	}
	f.kill(t)
	return dir
}

// followerEntry returns an entry of the leader, or one of an earlier term.
func followerEntry(index, changed uint64) *raft.Log {
	term := uint64(followerTerm - 1)
	if index >= changed {
		term--
	}
	return &raft.Log{Index: index, Term: term, Type: raft.LogNoop}
}

const unchanged = 1 << 40

// start starts raft on the folder, after the checks of a start.
func startFollower(t *testing.T, dir string) *follower {
	t.Helper()
	return startFollowerWith(t, dir, nil)
}

// startFollowerWith is startFollower with at-rest keys.
func startFollowerWith(t *testing.T, dir string, keys *atrest.Ring) *follower {
	t.Helper()
	f := &follower{dataFolder: openFolderWith(t, dir, keys), t: t}
	var owner, leader raft.ServerAddress
	owner, f.own = raft.NewInmemTransport(raft.ServerAddress(transport.ServerAddress("f", "127.0.0.1:1")))
	leader, f.leader = raft.NewInmemTransport(raft.ServerAddress(transport.ServerAddress("l", "127.0.0.1:2")))
	f.own.Connect(leader, f.leader)
	f.leader.Connect(owner, f.own)
	f.snaps.arrivals = arrivals{group: func() string { return "" }, abort: func() {}, installed: f.logs.installed}
	f.logs.follows = func() bool { return true }
	changed, began := new(broadcast), new(broadcast)
	m := &machine{log: hclog.NewNullLogger(), fail: f.fail, changed: changed, termBegan: began,
		due: make(chan struct{}, 1), state: masterfsm.New(), policy: snapshotPolicy{entries: 1 << 30, bytes: 1 << 40}}
	f.logs.applied = m.appliedIndex
	s := &Store{dataFolder: f.dataFolder}
	err := f.fail.guard(func() (err error) {
		if err := s.checkFolder(); err != nil {
			return err
		}
		config := raftconfig.New("f", time.Hour, nil) // it never stands for election
		f.raft, err = raft.NewRaft(config, m, f.logs, f.votes, f.snaps, f.own)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// end ends raft as a kill does.
func (f *follower) end() {
	f.t.Helper()
	if err := f.raft.Shutdown().Error(); err != nil {
		f.t.Fatal(err)
	}
	f.kill(f.t)
}

func header() raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("l"), Addr: []byte("l@127.0.0.1:2")}
}

// install sends the leader's snapshot of entry 20.
func (f *follower) install() error {
	var state bytes.Buffer
	if err := masterfsm.New().Snapshot().Write(&state); err != nil {
		f.t.Fatal(err)
	}
	configuration := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{
		{ID: "f", Address: "f@127.0.0.1:1"}, {ID: "l", Address: "l@127.0.0.1:2"}}})
	request := &raft.InstallSnapshotRequest{RPCHeader: header(), SnapshotVersion: raft.SnapshotVersionMax,
		Term: followerTerm, LastLogIndex: followerIndex, LastLogTerm: followerTerm - 1,
		Configuration: configuration, ConfigurationIndex: 1, Size: int64(state.Len())}
	var answer raft.InstallSnapshotResponse
	err := f.leader.InstallSnapshot("f", f.own.LocalAddr(), request, &answer, &state)
	if err == nil && !answer.Success {
		err = errors.New("it did not succeed")
	}
	return err
}

// append sends entries of the leader's term behind an entry.
func (f *follower) append(prev, prevTerm uint64, count int) error {
	request := &raft.AppendEntriesRequest{RPCHeader: header(), Term: followerTerm,
		PrevLogEntry: prev, PrevLogTerm: prevTerm}
	for i := range uint64(count) {
		entry := &raft.Log{Index: prev + 1 + i, Term: followerTerm, Type: raft.LogNoop}
		request.Entries = append(request.Entries, entry)
	}
	var answer raft.AppendEntriesResponse
	err := f.leader.AppendEntries("f", f.own.LocalAddr(), request, &answer)
	if err == nil && !answer.Success {
		err = errors.New("the entries were not taken")
	}
	return err
}

// TestInstalledSnapshot installs a snapshot of entry 20 over logs that end before it, at it and behind it, with the
// leader's entry 20 or another one, and over an empty log. Raft runs on the real files. Afterwards the log takes the
// next entries, before and after a restart. A log that has entry 20 keeps what follows: this master may have
// acknowledged it.
func TestInstalledSnapshot(t *testing.T) {
	for _, c := range []struct {
		name          string
		last, changed uint64
		kept          uint64 // the last entry afterwards, 0 for an empty log
		stops         bool
	}{
		{"empty log", 0, unchanged, 0, false},
		{"older log", 12, unchanged, 0, false},
		{"older log of another term", 12, 9, 0, false},
		{"log that ends there", 20, unchanged, 20, false},
		{"longer log", 31, unchanged, 31, false},
		{"longer log, another term behind it", 31, 25, 31, false},
		{"log that contradicts it", 20, 18, 0, true},
		{"longer log that contradicts it", 31, 18, 31, false},
	} {
		for _, kill := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", restart first ", kill), func(t *testing.T) {
				dir := newFollower(t, c.last, c.changed)
				f := startFollower(t, dir)
				err := f.install()
				if c.stops {
					if err == nil || !errors.Is(f.fail.get(), errContradicts) {
						t.Fatalf("%v, %v", err, f.fail.get())
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if _, last, err := f.logs.bounds(); err != nil || last != c.kept {
					t.Fatalf("the log ends at %d, not %d: %v", last, c.kept, err)
				}
				if kill || c.stops {
					f.end()
					f = startFollower(t, dir)
				}
				prev, prevTerm := max(c.kept, followerIndex), followerEntry(max(c.kept, followerIndex), c.changed).Term
				if c.kept == 0 {
					prevTerm = followerTerm - 1
				}
				if c.changed < unchanged && c.kept > followerIndex { // the leader has other entries there
					prev, prevTerm = max(c.changed-1, followerIndex), followerTerm-1
				}
				for range 2 {
					if err := f.append(prev, prevTerm, 3); err != nil {
						t.Fatal(err)
					}
					prev, prevTerm = prev+3, followerTerm
					f.end()
					f = startFollower(t, dir)
					if first, last, err := f.logs.bounds(); err != nil || last != prev || first > followerIndex+1 {
						t.Fatalf("after the restart the log has entries %d to %d, %v", first, last, err)
					}
				}
				f.end()
			})
		}
	}
}

// TestInstalledSnapshotKilled ends the process between the installation of a snapshot and the deletion of entries in
// front of it. The next start deletes them.
func TestInstalledSnapshotKilled(t *testing.T) {
	for last, changed := range map[uint64]uint64{0: unchanged, 12: unchanged, 20: unchanged, 31: unchanged, 30: 18} {
		dir := newFollower(t, last, changed)
		f := openFolder(t, dir)
		f.snapshotAt(t, followerIndex, followerTerm-1)
		f.kill(t)
		kept, prev := last, max(last, followerIndex)
		switch {
		case last < followerIndex:
			kept = 0
		case changed < unchanged:
			prev = followerIndex // the leader has other entries there
		}
		g := startFollower(t, dir)
		if _, got, err := g.logs.bounds(); err != nil || got != kept {
			t.Errorf("a log of %d entries ends at %d, not %d: %v", last, got, kept, err)
		}
		if err := g.append(prev, followerTerm-1, 2); err != nil {
			t.Errorf("a log of %d entries: %v", last, err)
		}
		g.end()
	}
}

// TestFlippedByteWhileRunning alters an entry of a running master's log that is not in memory. It is reported with the
// file, and not served.
func TestFlippedByteWhileRunning(t *testing.T) {
	dir := newFollower(t, 2*cachedEntries, unchanged)
	f := openFolder(t, dir)
	defer f.kill(t)
	path := f.segments.FileOf(5)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := logstore.Checksum(followerEntry(5, unchanged))
	at := bytes.Index(whole, sum[:])
	if at < 0 || bytes.Count(whole, sum[:]) != 1 {
		t.Fatal("the entry's checksum is not in the file")
	}
	if _, err := file.WriteAt([]byte{sum[0] ^ 1}, int64(at)); err != nil {
		t.Fatal(err)
	}
	var got raft.Log
	err = f.fail.guard(func() error { return f.logs.GetLog(5, &got) })
	if !errors.Is(err, ErrDisk) || !bytes.Contains([]byte(err.Error()), []byte(path)) {
		t.Errorf("%+v, %v", got, err)
	}
}
