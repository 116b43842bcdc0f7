package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/logstore"
)

// smallSegments opens a folder whose log has segments of so many bytes.
func smallSegments(t *testing.T, dir string, size int) *dataFolder {
	t.Helper()
	f, err := lockFolder(dir, nil, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	f.segmentBytes = size
	if err := f.open(); err != nil {
		t.Fatal(errors.Join(err, f.Close()))
	}
	return f
}

// TestNewSegmentWithoutDescriptors takes all file descriptors from a log whose last segment becomes full. The append
// that would complete it is put off, and so is a deletion. Nothing fails, and both succeed later.
func TestNewSegmentWithoutDescriptors(t *testing.T) {
	dir := t.TempDir()
	id := identity{Version: logInSegments, ID: "m", Group: "g", Epoch: 1, Begun: true, VoteSums: true}
	if err := errors.Join(id.save(dir), logstore.Create(logPath(dir))); err != nil {
		t.Fatal(err)
	}
	f := smallSegments(t, dir, 4096)
	next, refused := uint64(1), error(nil)
	add := func() error {
		entry := &raft.Log{Index: next, Term: followerTerm, Data: bytes.Repeat([]byte{1}, 100)}
		return f.fail.guard(func() error { return f.logs.StoreLog(entry) })
	}
	for range 3 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		next++
	}
	restore := takeDescriptors(t)
	for refused = add(); refused == nil && next < 1000; refused = add() {
		next++
	}
	cut := func() error { return f.fail.guard(func() error { return f.logs.DeleteRange(1, 2) }) }
	if err := cut(); !errors.Is(refused, logstore.ErrPutOff) || !errors.Is(err, logstore.ErrPutOff) {
		t.Errorf("append: %v; deletion: %v", refused, err)
	}
	restore()
	for range 100 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
		next++
	}
	if err := cut(); err != nil {
		t.Fatal(err)
	}
	if first, last, err := f.logs.bounds(); err != nil || first != 3 || last != next-1 {
		t.Errorf("entries %d to %d, %v", first, last, err)
	}
	if list, err := filepath.Glob(filepath.Join(logPath(dir), "*.wal")); err != nil || len(list) < 2 {
		t.Errorf("no segment was completed: %v, %v", list, err)
	}
	f.kill(t)
}

// TestInstalledSnapshotWithoutDescriptors takes all file descriptors from a follower when it has trimmed its log for a
// snapshot of the leader, and before raft opens that snapshot. Raft must read it, also if another snapshot is opened
// first: else it would go on as if the log had the entries that were trimmed, and take later ones. The same when they
// are taken before the snapshot is complete, or before the log is trimmed: then it keeps its log and no snapshot, and
// the leader sends the snapshot again.
func TestInstalledSnapshotWithoutDescriptors(t *testing.T) {
	const complete, trimmed, opened = "before it is complete", "before the trim", "before it is opened"
	for _, when := range []string{complete, trimmed, opened} {
		for _, last := range []uint64{0, 12, 31} {
			t.Run(fmt.Sprint(when, " ", last), func(t *testing.T) {
				dir := newFollower(t, last, unchanged)
				before := openFolder(t, dir)
				before.snapshotAt(t, 3, followerTerm-1)
				before.kill(t)
				f := startFollower(t, dir)
				older, err := f.snaps.List()
				if err != nil || len(older) != 1 {
					t.Fatal(older, err)
				}
				var restore func()
				installed := f.snaps.arrivals.installed
				f.snaps.arrivals.installed = func() error {
					if when == trimmed {
						restore = takeDescriptors(t)
					}
					err := installed()
					if when == opened {
						// As a leader does that sends it, and is not the leader any more.
						_, other, openErr := f.snaps.Open(older[0].ID)
						if openErr == nil {
							openErr = other.Close()
						}
						err = errors.Join(err, openErr)
						restore = takeDescriptors(t)
					}
					return err
				}
				if when == complete {
					f.snaps.arrivals.group = func() string { // it is asked before the snapshot is complete
						restore = takeDescriptors(t)
						return ""
					}
				}
				err = f.install()
				if restore == nil {
					t.Fatal("nothing was taken")
				}
				restore()
				// Segments need no trim if they are empty, or have the last entry of the snapshot.
				if when == complete || when == trimmed && last == 12 {
					if err == nil {
						t.Fatal("it was installed")
					}
					if _, end, err := f.logs.bounds(); err != nil || end != last {
						t.Errorf("the log ends at %d, not at %d: %v", end, last, err)
					}
					list, err := f.snaps.List()
					if err != nil || len(list) != 1 || f.snaps.newest().index != 3 || f.snaps.ready.Load() != nil {
						t.Errorf("%d snapshots, the newest ends with %+v: %v", len(list), f.snaps.newest(), err)
					}
					f.snaps.arrivals.group = func() string { return "" }
					f.snaps.arrivals.installed = installed
					err = f.install()
					if err != nil {
						t.Fatal(err)
					}
				} else if err != nil {
					t.Fatal(err)
				}
				if left, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"+snapshotSuffix)); len(left) > 0 {
					t.Errorf("%v, %v", left, err)
				}
				for range 2 {
					if err := f.append(max(last, followerIndex), followerTerm-1, 3); err != nil {
						t.Fatal(err)
					}
					if failed := f.fail.get(); failed != nil {
						t.Fatal(failed)
					}
					f.end()
					f = startFollower(t, dir)
					if first, end, err := f.logs.bounds(); err != nil || first > followerIndex+1 ||
						end != max(last, followerIndex)+3 {
						t.Fatalf("entries %d to %d, %v", first, end, err)
					}
				}
				f.end()
			})
		}
	}
}

// TestMoveThatIsNotFinished moves a log while there is no room for the smaller raft.db, here for lack of descriptors,
// and puts the older master.json back, and then also the older raft.db. Each is refused: entries that were stored since
// are in the segments alone. With the newer files it goes on.
func TestMoveThatIsNotFinished(t *testing.T) {
	n := databaseNode(t)
	raised(t, n)
	n.stop()
	older := map[string][]byte{}
	for _, name := range []string{"master.json", "raft.db"} {
		data, err := os.ReadFile(filepath.Join(n.cfg.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		older[name] = data
	}
	f := openFolder(t, n.cfg.Dir)
	for i, step := range f.moveSteps() {
		restore := func() {}
		if i == 2 { // finishMove
			restore = takeDescriptors(t)
		}
		err := step()
		restore()
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
	}
	if last, err := f.bolt.FirstIndex(); err != nil || last > 1<<60 {
		t.Fatalf("raft.db was replaced: %d, %v", last, err)
	}
	end, err := f.logs.LastIndex()
	if err == nil {
		err = f.logs.StoreLog(&raft.Log{Index: end + 1, Term: 9, Type: raft.LogNoop})
	}
	if err != nil {
		t.Fatal(err)
	}
	f.kill(t)
	newer := filepath.Join(t.TempDir(), "newer")
	copyFolder(t, n.cfg.Dir, newer)
	want := logContent(t, newer)
	for i, names := range [][]string{{"master.json"}, {"master.json", "raft.db"}} {
		copyFolder(t, newer, n.cfg.Dir)
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(n.cfg.Dir, name), older[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			s, err := Open(n.cfg)
			if err == nil {
				_ = s.Close()
			}
			why := []string{"put the newer master.json back", "put the newer ones back"}[i]
			if !errors.Is(err, ErrDisk) || !bytes.Contains([]byte(fmt.Sprint(err)), []byte(why)) {
				t.Errorf("%v was put back: %v", names, err)
			}
		}
		for _, name := range names {
			data, err := os.ReadFile(filepath.Join(newer, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(n.cfg.Dir, name), data, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := logContent(t, n.cfg.Dir); got != want {
			t.Errorf("the log is\n%s, not\n%s", got, want)
		}
	}
	f = openFolder(t, n.cfg.Dir)
	defer f.kill(t)
	if err := f.finishMove(); err != nil {
		t.Fatal(err)
	}
	if _, replaced, err := f.movedState(); err != nil || !replaced {
		t.Errorf("raft.db still has the log: %v", err)
	}
}
