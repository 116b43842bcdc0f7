package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/atrest/atresttest"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// tinyMaster founds a group of one with small segments, and lets it take two snapshots and vote. Its log keeps all
// entries. keys are for a folder that is encrypted, nil for one in clear.
func tinyMaster(t *testing.T, keys *atrest.Ring) *node {
	t.Helper()
	cfg := testConfig(t, memDir(t))
	cfg.AtRest = keys
	cfg.SnapshotEntries, cfg.SnapshotBytes, cfg.TrailingBytes = 1000, 1<<30, 1<<30
	n := openNode(t, cfg)
	n.segmentBytes = 1024
	if err := n.Found("g", []wire.Member{n.Member()}); err != nil {
		t.Fatal(err)
	}
	raised(t, n)
	for i := range 12 {
		create(t, fmt.Sprint("p", i), n)
		if i == 2 || i == 5 {
			if err := n.raft.Load().Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// readFolder starts a folder without raft, and returns everything that raft would have: the identity, the starts, the
// votes, the log and the state.
func readFolder(dir string, keys *atrest.Ring) (content string, err error) {
	f, err := lockFolder(dir, keys, hclog.NewNullLogger())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.open(); err != nil {
		return "", err
	}
	var all bytes.Buffer
	r := &Recovery{dataFolder: f, state: masterfsm.New()}
	err = f.fail.guard(func() error {
		if err := f.moveIfDue(); err != nil {
			return err
		}
		starts, err := transport.OpenStarts(startsPath(dir), f.identity.Level >= masterfsm.LevelIdentities)
		if err != nil {
			return err
		}
		if err := (&Store{dataFolder: f}).checkFolder(); err != nil {
			return err
		}
		if err := f.encrypt(); err != nil {
			return err
		}
		id := f.identity
		id.Checksum = ""
		fmt.Fprintf(&all, "%+v\n%+v\n", id, starts)
		if err := r.read(); err != nil {
			return err
		}
		if len(r.damaged) > 0 && r.base != nil && r.damaged[0].Index > r.base.Index {
			return r.damaged[0].Err // raft would stop when it reads it
		}
		for _, key := range []string{keyTerm, keyVoteTerm} {
			n, err := f.votes.GetUint64([]byte(key))
			fmt.Fprintln(&all, key, n, err)
		}
		candidate, err := f.votes.Get([]byte(keyVoteCandidate))
		fmt.Fprintln(&all, string(candidate), err)
		first, last, err := f.logs.bounds()
		for i := first; err == nil && i <= last; i++ {
			var l raft.Log
			if err = f.logs.GetLog(i, &l); err == nil {
				fmt.Fprintln(&all, l.Index, l.Term, l.Type, l.Data)
			}
		}
		if err != nil {
			return err
		}
		return r.state.Snapshot().Write(&all)
	})
	return strings.ReplaceAll(all.String(), dir, ""), err
}

// flips returns the places of a file that a test flips: all, except for the inside of long runs of zeros.
func flips(data []byte, step int) (places []int) {
	zeros := 0
	for at, b := range data {
		if zeros++; b != 0 {
			zeros = 0
		}
		rest := data[at:min(at+17, len(data))]
		if (zeros <= 16 || len(bytes.Trim(rest, "\x00")) > 0) && at%step == 0 {
			places = append(places, at)
		}
	}
	return places
}

// everyFlip calls check with each file of a folder and each place to flip, in parallel. Each call has a folder of its
// own, which has the flip.
func everyFlip(t *testing.T, dir string, step int, check func(dir, file string, at int)) (count int64) {
	t.Helper()
	original := folderContent(t, dir)
	type flip struct {
		file string
		at   int
	}
	work := make(chan flip)
	var workers sync.WaitGroup
	var done atomic.Int64
	for range 2 * runtime.GOMAXPROCS(0) {
		own := memDir(t)
		copyFolder(t, dir, own)
		workers.Go(func() {
			for f := range work {
				path := filepath.Join(own, f.file)
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				if err == nil {
					_, err = file.WriteAt([]byte{original[filepath.Join(dir, f.file)][f.at] ^ 1<<(f.at%8)}, int64(f.at))
					err = errors.Join(err, file.Close())
				}
				if err != nil {
					t.Error(err)
					continue
				}
				check(own, f.file, f.at)
				done.Add(1)
				if err := restore(own, dir, original); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for path, data := range original {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range flips([]byte(data), step) {
			work <- flip{name, at}
		}
	}
	close(work)
	workers.Wait()
	return done.Load()
}

// begins reports whether a file begins with some data.
func begins(path, data string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	b := make([]byte, len(data))
	_, err = io.ReadFull(f, b)
	return err == nil && string(b) == data
}

// restore makes a folder what it was.
func restore(own, dir string, original map[string]string) error {
	err := filepath.WalkDir(own, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if _, ok := original[filepath.Join(dir, strings.TrimPrefix(path, own))]; !ok {
			return os.Remove(path)
		}
		return nil
	})
	for path, data := range original {
		path := filepath.Join(own, strings.TrimPrefix(path, dir))
		if begins(path, data) {
			err = errors.Join(err, os.Truncate(path, int64(len(data)))) // bbolt makes raft.db larger
			continue
		}
		err = errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(data), 0o600))
	}
	return err
}

// TestEveryFlipOfAFolder flips a bit of every byte of every file of a stopped master. Each start refuses the folder
// with the name of the file, or finds the same identity, votes, log and state. None counts as one whose key is missing.
func TestEveryFlipOfAFolder(t *testing.T) { atresttest.BothWays(t, testEveryFlipOfAFolder) }

func testEveryFlipOfAFolder(t *testing.T, keys *atrest.Ring) {
	t.Parallel()
	n := tinyMaster(t, keys)
	n.stop()
	path := databasePath(n.cfg.Dir)
	if data, err := os.ReadFile(path); err != nil || os.WriteFile(path, usedPages(data), 0o600) != nil {
		t.Fatal(err)
	}
	want, err := readFolder(n.cfg.Dir, keys)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := readFolder(n.cfg.Dir, keys); err != nil || again != want {
		t.Fatalf("a second start: %.2000s, %v, want %.2000s", again, err, want)
	}
	if list, err := filepath.Glob(filepath.Join(logPath(n.cfg.Dir), "*.wal")); err != nil || len(list) < 3 {
		t.Fatalf("segments: %v, %v", list, err)
	}
	step := 1
	if testing.Short() || underRace {
		step = 37
	}
	var refused, same atomic.Int64
	count := everyFlip(t, n.cfg.Dir, step, func(dir, file string, at int) {
		switch got, err := readFolder(dir, keys); {
		case errors.Is(err, atrest.ErrNoKey):
			t.Errorf("%s, byte %d: a key is missing: %v", file, at, err)
		case err != nil && !strings.Contains(err.Error(), filepath.Base(file)) &&
			(!strings.HasPrefix(file, "log/") || !strings.Contains(err.Error(), "log/mark")):
			t.Errorf("%s, byte %d: the error names no file: %v", file, at, err)
		case err != nil:
			refused.Add(1)
		case got != want:
			t.Errorf("%s, byte %d: %s", file, at, difference(got, want))
		default:
			same.Add(1)
		}
	})
	t.Logf("%d flips: refused %d, read as written %d", count, refused.Load(), same.Load())
	if refused.Load() == 0 || same.Load() == 0 {
		t.Error("nothing was tested")
	}
}

// difference returns where two texts begin to differ.
func difference(got, want string) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	part := func(s string) string { return s[max(0, min(at-40, len(s))):min(at+80, len(s))] }
	return fmt.Sprintf("from byte %d on it reads as %q, not %q", at, part(got), part(want))
}

// TestEveryFlipWhileRunning flips a bit of every byte of the segments, snapshots and raft.db of a running master, as a
// disk does behind the page cache. Each is read as for a follower that is behind, as for one that gets a snapshot, and
// as raft reads its votes. A read fails with the name of the file, or returns what was written.
func TestEveryFlipWhileRunning(t *testing.T) { atresttest.BothWays(t, testEveryFlipWhileRunning) }

func testEveryFlipWhileRunning(t *testing.T, keys *atrest.Ring) {
	t.Parallel()
	n := tinyMaster(t, keys)
	n.stop()
	f := openFolderWith(t, n.cfg.Dir, keys)
	defer f.kill(t)
	// The last transaction of raft.db has the vote, and the one before it another one.
	for _, candidate := range []string{"other@127.0.0.1:1", "member@127.0.0.1:2"} {
		if err := errors.Join(f.votes.SetUint64([]byte(keyVoteTerm), 77),
			f.votes.Set([]byte(keyVoteCandidate), []byte(candidate))); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) (content string, err error) {
		fail := newFailure()
		switch {
		case strings.HasPrefix(file, "log/"):
			logs := &logStore{LogStore: f.logs.LogStore, segments: f.segments, name: f.logs.name, fail: fail,
				snaps: &snapshotStore{}, reserved: noLimit} // it has no entry in memory
			first, last, err := f.logs.bounds()
			for i := first; err == nil && i <= last; i++ { // each on its own: one failure must not hide another
				var l raft.Log
				if err = fail.guard(func() error { return logs.GetLog(i, &l) }); err == nil {
					content += fmt.Sprintln(l.Index, l.Term, l.Type, l.Data)
				}
			}
			return content, err
		case strings.HasPrefix(file, "snapshots/"):
			reader, err := f.snaps.openReader(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return "", err
			}
			data, err := io.ReadAll(reader)
			return fmt.Sprintf("%+v\n%s", reader.meta, data), errors.Join(err, reader.Close())
		}
		votes := f.votes
		err = f.fail.guard(func() error {
			term, err := votes.GetUint64([]byte(keyTerm))
			vote, err2 := votes.GetUint64([]byte(keyVoteTerm))
			candidate, err3 := votes.Get([]byte(keyVoteCandidate))
			content = fmt.Sprintln(term, vote, string(candidate))
			return errors.Join(err, err2, err3)
		})
		return content, err
	}
	step := 1
	if testing.Short() || underRace {
		step = 31
	}
	refused, same := 0, 0
	for path, data := range folderContent(t, n.cfg.Dir) {
		file, err := filepath.Rel(n.cfg.Dir, path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(file, "/") && file != "raft.db" || file == "log/mark" || file == "log/segments" ||
			file == "log/keys" {
			continue // a running master only writes them
		}
		want, err := read(file)
		if err != nil {
			t.Fatal(file, err)
		}
		disk, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range flips([]byte(data), step) {
			if _, err := disk.WriteAt([]byte{data[at] ^ 1<<(at%8)}, int64(at)); err != nil {
				t.Fatal(err)
			}
			switch got, err := read(file); {
			case err != nil && (!errors.Is(err, ErrDisk) || errors.Is(err, atrest.ErrNoKey) ||
				!strings.Contains(err.Error(), filepath.Base(file))):
				t.Errorf("%s, byte %d: %v", file, at, err)
			case err != nil:
				refused++
			case got != want:
				t.Errorf("%s, byte %d: %s", file, at, difference(got, want))
			default:
				same++
			}
			if _, err := disk.WriteAt([]byte{data[at]}, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("refused %d, read as written %d", refused, same)
	if refused == 0 || same == 0 {
		t.Error("nothing was tested")
	}
}
