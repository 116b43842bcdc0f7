package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/wire"
)

// An entry that cannot be decoded stops every master, and nothing is applied after it.
func TestUndecodableEntryStops(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	leader := leaderOf(t, nodes...)
	create(t, "before", nodes...)
	ctx := patience(t)
	r := leader.raft.Load()
	bad, after := r.Apply([]byte("not a command"), 0), r.Apply(project("after"), 0)
	if err := bad.Error(); err != nil {
		t.Fatal(err)
	}
	if err, _ := bad.Response().(error); !errors.Is(err, masterfsm.ErrCommand) {
		t.Errorf("the proposer got %v", err)
	}
	if after.Error() == nil {
		if err, _ := after.Response().(error); !errors.Is(err, masterfsm.ErrCommand) {
			t.Errorf("the next proposer got %v", err)
		}
	}
	for _, n := range nodes {
		select {
		case err := <-n.Failed():
			if !errors.Is(err, masterfsm.ErrCommand) {
				t.Errorf("member failed with %v", err)
			}
		case <-ctx.Done():
			t.Fatal("a member did not fail")
		}
		if !n.has("before") || n.has("after") {
			t.Error("the state moved on after the bad entry")
		}
		if _, err := n.Propose(ctx, project("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("propose on a failed store: %v", err)
		}
		if _, err := n.machine.Snapshot(); !errors.Is(err, masterfsm.ErrCommand) {
			t.Errorf("snapshot of a failed store: %v", err)
		}
		if err := <-n.done; !errors.Is(err, masterfsm.ErrCommand) {
			t.Errorf("RunAsLeader returned %v", err)
		}
		n.done = nil
	}
}

// realDisk fails writes of the real log store on request.
type realDisk struct {
	raft.LogStore
	mu   sync.Mutex
	fail bool
}

func (d *realDisk) StoreLogs(logs []*raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail {
		return errTest
	}
	return d.LogStore.StoreLogs(logs)
}

func (d *realDisk) breakDown() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = true
}

// A leader whose disk fails stops, another master takes over, and Close still ends.
func TestDiskFailureOfLeader(t *testing.T) {
	t.Parallel()
	disks := map[*Store]*realDisk{}
	var nodes []*node
	var members []wire.Member
	for i := range 3 {
		n := openNode(t, testConfig(t, filepath.Join(t.TempDir(), fmt.Sprint(i))))
		if err := n.fail.guard(n.moveLog); err != nil { // else the founding does it
			t.Fatal(err)
		}
		disks[n.Store] = &realDisk{LogStore: n.segments}
		n.logs.LogStore = disks[n.Store]
		nodes, members = append(nodes, n), append(members, n.Member())
	}
	if err := nodes[0].Found("g", members); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[1:] {
		if err := n.Adopt(wire.Adoption{Group: "g", Epoch: 1, Member: n.Member().ID}); err != nil {
			t.Fatal(err)
		}
	}
	create(t, "before", nodes...)
	leader := leaderOf(t, nodes...)
	disks[leader.Store].breakDown()
	if _, err := leader.Propose(patience(t), project("lost")); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("propose on a failing disk: %v", err)
	}
	if err := <-leader.Failed(); !errors.Is(err, ErrDisk) || !errors.Is(err, errTest) {
		t.Errorf("the leader failed with %v", err)
	}
	var rest []*node
	for _, n := range nodes {
		if n != leader {
			rest = append(rest, n)
		}
	}
	create(t, "after", rest...)
	leader.stop()
	if rest[0].has("lost") {
		t.Error("an entry that no disk took is in the state")
	}
}

func smallSnapshots(c *Config) {
	c.SnapshotEntries, c.SnapshotBytes, c.TrailingBytes = 20, 1<<20, 1
}

func awaitSnapshot(t testing.TB, n *node, index uint64) {
	t.Helper()
	ctx := patience(t)
	for {
		if list, err := n.snaps.List(); err != nil || len(list) > 0 && list[0].Index >= index {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no snapshot")
		}
	}
}

// A master that is behind the others' logs catches up with a snapshot, and one that restarts begins with its own.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	testSnapshots(t, smallSnapshots)
}

func testSnapshots(t *testing.T, change func(*Config)) {
	t.Helper()
	nodes := testGroup(t, 3, change)
	leader := leaderOf(t, nodes...)
	var away *node
	for i, n := range nodes {
		if n != leader {
			away = n
			nodes = append(nodes[:i], nodes[i+1:]...)
			break
		}
	}
	agree(t, leader, away)
	at := away.Applied()
	away.stop()
	for i := range 60 {
		create(t, fmt.Sprint("p", i), nodes...)
	}
	for _, n := range nodes {
		awaitSnapshot(t, n, at+20)
	}
	if first, err := leaderOf(t, nodes...).logs.FirstIndex(); err != nil || first <= at+1 {
		t.Fatalf("the log begins at %d, the absent master is at %d, %v", first, at, err)
	}
	checkModes(t, leader.cfg.Dir)

	nodes = append(nodes, openNode(t, away.cfg))
	agree(t, nodes...)
	create(t, "after", nodes...)
	agree(t, nodes...)
	for _, n := range nodes {
		n.stop()
	}
	for i, n := range nodes {
		nodes[i] = openNode(t, n.cfg)
		if nodes[i].Applied() == 0 {
			t.Error("a restart without the snapshot")
		}
	}
	agree(t, nodes...)
	for _, n := range nodes {
		for _, name := range []string{"p0", "p59", "after"} {
			if !n.has(name) {
				t.Fatalf("member %s lacks %s", n.Member().ID, name)
			}
		}
	}
}

func checkModes(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamagedSnapshotRefused(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, smallSnapshots)
	for i := range 30 {
		create(t, fmt.Sprint("p", i), nodes...)
	}
	awaitSnapshot(t, nodes[0], 20)
	nodes[0].stop()
	cfg := nodes[0].cfg
	paths, err := filepath.Glob(filepath.Join(cfg.Dir, "snapshots", "*", "state.bin"))
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = Open(cfg)
	if !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "--join") {
		t.Fatalf("%v", err)
	}
}

// An unfinished snapshot is removed after a crash.
func TestHalfSnapshotRemoved(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir())
	if err := openStore(t, cfg).Close(); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(cfg.Dir, "snapshots", "1-2-3"+snapshotSuffix)
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	openStore(t, cfg)
	if _, err := os.Stat(half); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it is still there")
	}
}

func TestSnapshotPolicy(t *testing.T) {
	t.Parallel()
	p := snapshotPolicy{entries: 100, bytes: 1000}
	for _, c := range []struct {
		last   uint64
		logged logSize
		due    bool
	}{
		{0, logSize{99, 999}, false},
		{0, logSize{100, 1}, true},
		{0, logSize{1, 1000}, true},
		{5000, logSize{1, 1000}, false},
		{5000, logSize{1, 5000}, true},
		{5000, logSize{100, 4999}, false},
		{5000, logSize{1600, 10}, true},
	} {
		p.last = c.last
		if got := p.due(c.logged); got != c.due {
			t.Errorf("after %+v with a snapshot of %d bytes: due %v", c.logged, c.last, got)
		}
	}
}

// A leader confirms no read before the BeginTerm of its own term.
func TestReadIndexWaitsForBeginTerm(t *testing.T) {
	t.Parallel()
	s := openStore(t, testConfig(t, t.TempDir()))
	if err := s.Found("g", []wire.Member{s.Member()}); err != nil {
		t.Fatal(err)
	}
	ctx := patience(t)
	for s.Leader() != s.Member().ID {
		select {
		case <-s.LeaderChanged():
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("no leader")
		}
	}
	if _, err := s.ReadIndex(ctx); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("%v", err)
	}
	term, _ := leaderTerm(s.raft.Load())
	_, err := s.Propose(ctx, masterfsm.Encode(&masterfsm.BeginTerm{Term: term, Group: "g",
		Settings: masterfsm.DefaultSettings()}))
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	for range 200 {
		tasks.Go(func() {
			read, err := s.ReadIndex(ctx)
			if err != nil || read.Term != term {
				t.Errorf("%+v, %v", read, err)
			}
			if err := s.WaitApplied(ctx, read.Index); err != nil {
				t.Error(err)
			}
		})
	}
	tasks.Wait()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.WaitApplied(ended, 1<<40); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Duties that fail are not started again at once, and another master may lead.
func TestRunAsLeaderAfterFailure(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	first := leaderOf(t, nodes...)
	first.end()
	if err := <-first.done; err != nil {
		t.Fatal(err)
	}
	first.done = nil
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	began := make(chan struct{})
	last := map[uint64]time.Time{} // when the duties of a term were last started
	done := make(chan error, 1)
	go func() {
		done <- first.RunAsLeader(ctx, func(ctx context.Context, term uint64) error {
			before, again := last[term]
			if len(last) == 0 {
				close(began)
			}
			last[term] = time.Now()
			// On a busy machine it may be elected again, and then has the duties of another term.
			if pause := time.Since(before); again && pause < retryDuties {
				t.Errorf("the failed duties of term %d were taken up again after %v", term, pause)
			}
			return errTest
		})
	}()
	<-began
	var rest []*node
	for _, n := range nodes {
		if n != first {
			rest = append(rest, n)
		}
	}
	leaderOf(t, rest...)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A leader without followers starts failed duties again, after a pause.
func TestRunAsLeaderAlone(t *testing.T) {
	t.Parallel()
	s := openStore(t, testConfig(t, t.TempDir()))
	if err := s.Found("g", []wire.Member{s.Member()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	var calls []time.Time
	err := s.RunAsLeader(ctx, func(ctx context.Context, term uint64) error {
		if calls = append(calls, time.Now()); len(calls) == 2 {
			cancel()
		}
		return errTest
	})
	if err != nil || len(calls) != 2 || calls[1].Sub(calls[0]) < retryDuties {
		t.Errorf("%v, %v", calls, err)
	}
}

// TestDamagedEntryNamesTheWayBack checks that the error says what to do.
func TestDamagedEntryNamesTheWayBack(t *testing.T) {
	err := logstore.CheckEntry(&raft.Log{Index: 7, Extensions: []byte("sum?")})
	if !errors.Is(err, durable.ErrDamaged) || !strings.Contains(err.Error(), "entry 7") ||
		!strings.Contains(err.Error(), "--join") {
		t.Error(err)
	}
}
