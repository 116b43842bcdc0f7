package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// alive checks that a store has not failed.
func alive(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.fail.get(); err != nil {
			t.Fatalf("member %s failed: %v", n.Member().ID, err)
		}
	}
}

// TestNoDescriptors takes all file descriptors from a master while a snapshot is due. The master goes on, and takes the
// snapshot once there are descriptors.
func TestNoDescriptors(t *testing.T) {
	nodes := testGroup(t, 1, smallSnapshots)
	n := nodes[0]
	create(t, "first", n)
	restore := takeDescriptors(t)
	from := n.Applied()
	for i := range 50 {
		create(t, fmt.Sprint("project ", i), n)
	}
	for n.snaps.lacking.Load() == nil && n.fail.get() == nil {
		create(t, fmt.Sprint("project ", n.Applied()), n)
	}
	restore()
	alive(t, n)
	awaitSnapshot(t, n, from)
	alive(t, n)
}

// takeDescriptors lets the process open no more files until restore is called. The test must not run in parallel.
func takeDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	set := func(to syscall.Rlimit) {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &to); err != nil {
			t.Fatal(err)
		}
	}
	set(syscall.Rlimit{Cur: 0, Max: limit.Max})
	t.Cleanup(func() { set(limit) })
	return func() { set(limit) }
}

// fullDisks lets a test say for each store of a group how much may be written to its disk.
type fullDisks []*atomic.Int64 // bytes; negative for no limit

// testFullDisks founds a group whose disks have no limit yet.
func testFullDisks(t *testing.T, size int, change func(*Config)) ([]*node, fullDisks) {
	t.Helper()
	var disks fullDisks
	nodes := testGroup(t, size, func(c *Config) {
		left := new(atomic.Int64)
		left.Store(-1)
		disks = append(disks, left)
		c.Reserved = func(bytes uint64) error {
			if l := left.Load(); l >= 0 && bytes > uint64(l) {
				return fmt.Errorf("%w: for a test", wire.ErrNoSpace)
			}
			return nil
		}
		if change != nil {
			change(c)
		}
	})
	return nodes, disks
}

// TestFullDiskOfFollower fills the disk of a follower. It refuses entries and goes on; the others commit without it; it
// catches up when there is room.
func TestFullDiskOfFollower(t *testing.T) {
	t.Parallel()
	nodes, disks := testFullDisks(t, 3, nil)
	create(t, "before", nodes...)
	agree(t, nodes...)
	leader := leaderOf(t, nodes...)
	full := 0
	if nodes[0] == leader {
		full = 1
	}
	disks[full].Store(0)
	create(t, "meanwhile", nodes...)
	if nodes[full].has("meanwhile") {
		t.Error("the full disk took an entry")
	}
	disks[full].Store(-1)
	agree(t, nodes...)
	alive(t, nodes...)
	if !nodes[full].has("meanwhile") {
		t.Error("an entry is missing")
	}
}

// TestFullDiskOfLeader fills the disk of the leader. Another master leads then, and nothing ends.
func TestFullDiskOfLeader(t *testing.T) {
	t.Parallel()
	nodes, disks := testFullDisks(t, 3, nil)
	create(t, "before", nodes...)
	leader := leaderOf(t, nodes...)
	var rest []*node
	for i, n := range nodes {
		if n == leader {
			disks[i].Store(0)
		} else {
			rest = append(rest, n)
		}
	}
	if _, err := leader.Propose(patience(t), project("refused")); !errors.Is(err, ErrUnknownOutcome) &&
		!errors.Is(err, ErrNotLeader) {
		t.Errorf("propose on a full disk: %v", err)
	}
	create(t, "meanwhile", rest...)
	for _, d := range disks {
		d.Store(-1)
	}
	agree(t, nodes...)
	alive(t, nodes...)
}

// TestFullDisksOfAll fills all disks: nothing is committed, and all goes on when there is room.
func TestFullDisksOfAll(t *testing.T) {
	t.Parallel()
	nodes, disks := testFullDisks(t, 3, nil)
	create(t, "before", nodes...)
	agree(t, nodes...)
	leader := leaderOf(t, nodes...)
	for _, d := range disks {
		d.Store(0)
	}
	if _, err := leader.Propose(patience(t), project("refused")); err == nil {
		t.Error("a full disk took an entry")
	}
	for _, d := range disks {
		d.Store(-1)
	}
	create(t, "after", nodes...)
	agree(t, nodes...)
	alive(t, nodes...)
}

// TestSnapshotWithoutRoom checks that no snapshot is begun that the disk has no room for, and that one is taken later.
func TestSnapshotWithoutRoom(t *testing.T) {
	t.Parallel()
	nodes, disks := testFullDisks(t, 1, smallSnapshots)
	n := nodes[0]
	n.snaps.size.Store(1 << 20)
	disks[0].Store(1 << 16) // enough for entries
	from := n.Applied()
	for i := 0; n.snaps.lacking.Load() == nil; i++ {
		create(t, fmt.Sprint("project ", i), n)
	}
	if list, err := n.snaps.List(); err != nil || len(list) > 0 {
		t.Errorf("the snapshots are %v, %v", list, err)
	}
	disks[0].Store(-1)
	awaitSnapshot(t, n, from)
	alive(t, n)
}

// fullSink is raft's sink on a disk that becomes full.
type fullSink struct {
	raft.SnapshotSink
	at string // the step that fails
}

var errNoSpace = &fs.PathError{Op: "write", Path: "state.bin", Err: syscall.ENOSPC}

func (s fullSink) Write(b []byte) (int, error) {
	if s.at == "write" {
		return 0, errNoSpace
	}
	return s.SnapshotSink.Write(b)
}

func (s fullSink) Close() error {
	if s.at == "sync" {
		err := &fs.PathError{Op: "sync", Path: "state.bin", Err: syscall.ENOSPC}
		return errors.Join(err, s.SnapshotSink.Cancel()) // as raft's does, which removes its folder then
	}
	if s.at == "close" {
		return errNoSpace // as raft's does, which leaves its folder then
	}
	return s.SnapshotSink.Close()
}

func (s fullSink) Cancel() error { return errNoSpace } // as raft's does when it cannot flush

// TestSnapshotThatMeetsAFullDisk checks that such a snapshot ends no store and leaves no files.
func TestSnapshotThatMeetsAFullDisk(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"write", "close"} {
		n := testGroup(t, 1, nil)[0]
		create(t, "first", n)
		_, trans := raft.NewInmemTransport("")
		sink, err := n.snaps.Create(1, 1, 1, raft.Configuration{}, 1, trans)
		if err != nil {
			t.Fatal(err)
		}
		k := sink.(*snapshotSink)
		k.own = true
		k.SnapshotSink = fullSink{k.SnapshotSink, at}
		_, err = sink.Write([]byte("state"))
		if err == nil {
			err = sink.Close()
		} else if cancelErr := sink.Cancel(); cancelErr == nil {
			t.Error("raft's sink was cancelled")
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", at, err)
		}
		alive(t, n)
		if left, err := filepath.Glob(filepath.Join(n.snaps.dir, "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %v are left, %v", at, left, err)
		}
	}
}

// TestSnapshotWhoseSyncFails checks that the failed sync of a snapshot ends the store although the disk is full: it
// must be remembered.
func TestSnapshotWhoseSyncFails(t *testing.T) {
	t.Parallel()
	n := testGroup(t, 1, nil)[0]
	create(t, "first", n)
	_, trans := raft.NewInmemTransport("")
	sink, err := n.snaps.Create(1, 1, 1, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	k := sink.(*snapshotSink)
	k.own = true
	k.SnapshotSink = fullSink{k.SnapshotSink, "sync"}
	if err := sink.Close(); !durable.IsSync(err) {
		t.Errorf("%v", err)
	}
	if err := n.fail.get(); !durable.IsSync(err) {
		t.Errorf("the store goes on: %v", err)
	}
}
