package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/wire"
)

// databaseNode founds a group of one as an older program does, with the log in raft.db.
func databaseNode(t *testing.T) *node {
	t.Helper()
	cfg := testConfig(t, t.TempDir())
	cfg.SnapshotEntries, cfg.SnapshotBytes, cfg.TrailingBytes = 20, 1<<20, 1<<20
	s := openStore(t, cfg)
	cfg.Bind = s.Member().Raft
	id := s.identity
	id.Group, id.Epoch, id.Founding = "g", 1, []wire.Member{s.Member()}
	if err := errors.Join(s.Close(), id.save(cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	n := openNode(t, cfg)
	for i := range 30 {
		create(t, fmt.Sprint("p", i), n)
	}
	return n
}

// openFolder opens the files of a folder, as [Open] does before it moves the log.
func openFolder(t *testing.T, dir string) *dataFolder {
	t.Helper()
	return openFolderWith(t, dir, nil)
}

// openFolderWith is openFolder with at-rest keys.
func openFolderWith(t *testing.T, dir string, keys *atrest.Ring) *dataFolder {
	t.Helper()
	f, err := lockFolder(dir, keys, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.open(); err != nil {
		t.Fatal(errors.Join(err, f.Close()))
	}
	return f
}

// kill closes the files of a folder without what a clean stop does.
func (f *dataFolder) kill(t *testing.T) {
	t.Helper()
	f.fail.report(errors.New("killed"))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// logContent returns the log of a folder with its term and vote.
func logContent(t *testing.T, dir string) string {
	t.Helper()
	id, err := loadIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	content, err := readLog(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// startsWhole starts a master on a folder, and checks that it has everything and the log where it should be.
func startsWhole(t *testing.T, cfg Config, version int) {
	t.Helper()
	n := openNode(t, cfg)
	if n.identity.Version != version {
		t.Errorf("the folder is of version %d, not %d", n.identity.Version, version)
	}
	create(t, "after", n)
	if !awaitProjects(t, n.Store, 30) || !n.has("after") {
		t.Error("projects are missing")
	}
	n.stop()
}

// TestMoveLogKilled ends the move of a log after each of its steps, and within the copy. Before master.json has the new
// version, an older program finds the whole log in raft.db. Afterwards it refuses the folder. This program always
// starts with the whole log, and moves it.
func TestMoveLogKilled(t *testing.T) {
	t.Parallel()
	n := databaseNode(t)
	raised(t, n)
	n.stop()
	if id, err := loadIdentity(n.cfg.Dir); err != nil || id.Version != logInDatabase {
		t.Fatal(id.Version, err)
	}
	want := logContent(t, n.cfg.Dir)
	half := func(f *dataFolder) error {
		first, last, err := f.logs.bounds()
		if err != nil {
			return err
		}
		return logstore.Copy(f.unused(), f.bolt, first, (first+last)/2, f.copyOptions())
	}
	garbage := func(f *dataFolder) error {
		return errors.Join(os.Mkdir(f.unused(), 0o700), os.WriteFile(f.unused()+"/mark", []byte("x"), 0o600))
	}
	steps := len((&dataFolder{}).moveSteps())
	for done := -2; done <= steps; done++ {
		t.Run(fmt.Sprint(done), func(t *testing.T) {
			cfg := n.cfg
			cfg.Dir = filepath.Join(t.TempDir(), "m")
			copyFolder(t, n.cfg.Dir, cfg.Dir)
			f := openFolder(t, cfg.Dir)
			var err error
			switch {
			case done == -1:
				err = half(f)
			case done == -2:
				err = garbage(f)
			}
			for _, step := range f.moveSteps()[:max(done, 0)] {
				err = errors.Join(err, step())
			}
			if err != nil {
				t.Fatal(err)
			}
			f.kill(t)
			id, err := loadIdentity(cfg.Dir)
			if err != nil || (id.Version == logInDatabase) != (done < 2) {
				t.Fatalf("version %d after %d steps, %v", id.Version, done, err)
			}
			if got := logContent(t, cfg.Dir); got != want {
				t.Errorf("the log, term and vote are\n%s, not\n%s", got, want)
			}
			if done < 2 {
				older := cfg
				older.Dir = filepath.Join(t.TempDir(), "older")
				copyFolder(t, cfg.Dir, older.Dir)
				startsInDatabase(t, older)
			}
			startsWhole(t, cfg, logInSegments)
			f = openFolder(t, cfg.Dir)
			defer f.kill(t)
			if _, replaced, err := raftconfig.Moved(f.bolt); err != nil || !replaced {
				t.Errorf("raft.db still has a log: %v", err)
			}
		})
	}
}

// startsInDatabase starts a master whose log is in raft.db, as a program does that does not move it.
func startsInDatabase(t *testing.T, cfg Config) {
	t.Helper()
	lowerLevel(t, cfg)
	startsWhole(t, cfg, logInDatabase)
}

// TestMoveEmptyLog moves a log without entries.
func TestMoveEmptyLog(t *testing.T) {
	t.Parallel()
	s := openStore(t, testConfig(t, t.TempDir()))
	if err := s.fail.guard(s.moveLog); err != nil || s.identity.Version != logInSegments {
		t.Fatal(s.identity.Version, err)
	}
	if first, last, err := s.logs.bounds(); first != 0 || last != 0 || err != nil {
		t.Errorf("entries %d to %d, %v", first, last, err)
	}
	dir := s.cfg.Dir
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := s.cfg
	cfg.Secret = testSecret
	n := openNode(t, cfg)
	if err := n.Found("g", []wire.Member{n.Member()}); err != nil {
		t.Fatal(err)
	}
	create(t, "one", n)
	n.stop()
	if id, err := loadIdentity(dir); err != nil || id.Version != logInSegments {
		t.Error(id.Version, err)
	}
}

// snapshotAt writes a snapshot of an empty state.
func (f *dataFolder) snapshotAt(t *testing.T, index, term uint64) {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	configuration := raft.Configuration{Servers: []raft.Server{{ID: "m", Address: "m@127.0.0.1:1"}}}
	sink, err := f.snaps.Create(raft.SnapshotVersionMax, index, term, configuration, index, trans)
	if err == nil {
		err = (stateSnapshot{masterfsm.New().Snapshot()}).Persist(sink)
	}
	if err == nil {
		err = sink.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestMoveThatIsPutOff ends a move after the copy, without room for the new master.json or with a kill. The master goes
// on with raft.db, and is killed again when it has deleted an entry that the leader does not have. It starts, although
// the copy has that entry.
func TestMoveThatIsPutOff(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		dir := t.TempDir()
		id := identity{Version: logInDatabase, ID: "m", Group: "g", Level: masterfsm.LevelSegments, Begun: true,
			VoteSums: true}
		if err := id.save(dir); err != nil {
			t.Fatal(err)
		}
		f := openFolder(t, dir)
		err := f.votes.SetUint64([]byte(keyTerm), 3)
		for i := uint64(1); i <= 5; i++ {
			err = errors.Join(err, f.logs.StoreLog(&raft.Log{Index: i, Term: 3, Type: raft.LogNoop}))
		}
		if err != nil {
			t.Fatal(err)
		}
		steps := f.moveSteps()
		if killed {
			if err := steps[0](); err != nil {
				t.Fatal(err)
			}
			f.kill(t)
			f = openFolder(t, dir)
			f.identity.Level = 0 // as after a recovery
			if err := f.moveIfDue(); err != nil {
				t.Fatal(err)
			}
		} else {
			full := &os.PathError{Op: "write", Path: dir, Err: syscall.ENOSPC}
			steps[1] = func() error { return durable.Unchanged(full) }
			if err := f.move(steps); err != nil || f.identity.Version != logInDatabase {
				t.Fatal(f.identity.Version, err)
			}
		}
		if err := f.logs.DeleteRange(5, 5); err != nil {
			t.Fatal(err)
		}
		f.kill(t)
		f = openFolder(t, dir)
		if err := f.moveIfDue(); err != nil || f.identity.Version != logInSegments {
			t.Fatal(f.identity.Version, err)
		}
		if _, last, err := f.logs.bounds(); err != nil || last != 4 {
			t.Errorf("the log ends with entry %d, not with 4: %v", last, err)
		}
		f.kill(t)
	}
}

// TestMoveLogWithGap moves a log with a gap, which the snapshot of a leader has left. What is in front of it is in the
// snapshot. Without the snapshot, the gap is damage.
func TestMoveLogWithGap(t *testing.T) {
	t.Parallel()
	for _, snapshot := range []uint64{19, 22, 0} {
		dir := t.TempDir()
		id := identity{Version: logInDatabase, ID: "m", Group: "g", Begun: true, VoteSums: true}
		if err := id.save(dir); err != nil {
			t.Fatal(err)
		}
		f := openFolder(t, dir)
		err := f.votes.SetUint64([]byte(keyTerm), 3)
		for i := uint64(5); i <= 30; i++ {
			if i < 10 || i >= 20 {
				err = errors.Join(err, f.logs.StoreLog(&raft.Log{Index: i, Term: 2, Data: []byte{byte(i)}}))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if snapshot > 0 {
			f.snapshotAt(t, snapshot, 2)
		}
		err = f.fail.guard(f.moveLog)
		first, last, _ := f.logs.bounds()
		if snapshot == 0 {
			if err == nil || f.identity.Version != logInDatabase || first != 5 {
				t.Errorf("a log with a gap was moved: %v, version %d", err, f.identity.Version)
			}
		} else if err != nil || first != 20 || last != 30 {
			t.Errorf("snapshot at %d: entries %d to %d, %v", snapshot, first, last, err)
		}
		f.kill(t)
	}
}

// TestMoveLogWithoutRoom keeps the log in raft.db where the disk lacks the room for a second one.
func TestMoveLogWithoutRoom(t *testing.T) {
	t.Parallel()
	n := databaseNode(t)
	raised(t, n)
	n.stop()
	cfg := n.cfg
	cfg.Reserved = func(bytes uint64) error {
		if bytes > 1<<20 {
			return errors.New("no room")
		}
		return nil
	}
	startsWhole(t, cfg, logInDatabase)
	startsWhole(t, n.cfg, logInSegments)
}

// TestLogToDatabase moves a log back, ends that after each step, and starts the master with either program.
func TestLogToDatabase(t *testing.T) {
	t.Parallel()
	n := databaseNode(t)
	raised(t, n)
	n.stop()
	startsWhole(t, n.cfg, logInSegments)
	want := logContent(t, n.cfg.Dir)
	steps := len((&dataFolder{}).backSteps())
	for done := range steps + 1 {
		t.Run(fmt.Sprint(done), func(t *testing.T) {
			cfg := n.cfg
			cfg.Dir = filepath.Join(t.TempDir(), "m")
			copyFolder(t, n.cfg.Dir, cfg.Dir)
			f, err := lockFolder(cfg.Dir, nil, hclog.NewNullLogger())
			if err != nil {
				t.Fatal(err)
			}
			for _, step := range f.backSteps()[:done] {
				if err := f.fail.guard(step); err != nil {
					t.Fatal(err)
				}
			}
			f.kill(t)
			if got := logContent(t, cfg.Dir); got != want {
				t.Errorf("the log, term and vote are\n%s, not\n%s", got, want)
			}
			again := cfg
			again.Dir = filepath.Join(t.TempDir(), "again")
			copyFolder(t, cfg.Dir, again.Dir)
			startsWhole(t, again, logInSegments)
			if moved, err := LogToDatabase(cfg.Dir, nil, nil); err != nil || moved != (done < 2) {
				t.Errorf("moved back: %v, %v", moved, err)
			}
			if got := logContent(t, cfg.Dir); got != want {
				t.Errorf("the log, term and vote are\n%s, not\n%s", got, want)
			}
			startsInDatabase(t, cfg)
		})
	}
	if _, err := LogToDatabase(filepath.Join(t.TempDir(), "none"), nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that does not exist: %v", err)
	}
}

// TestOlderFileOfMovedLog puts an older master.json or raft.db back into a folder whose log was moved. The first names
// an empty log, and the second lacks votes. Both are refused, also by a program that does not know the folder log.
func TestOlderFileOfMovedLog(t *testing.T) {
	t.Parallel()
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
	startsWhole(t, n.cfg, logInSegments) // in a later term
	for name, why := range map[string]string{"master.json": "put the newer master.json back", "raft.db": "older copy"} {
		path := filepath.Join(n.cfg.Dir, name)
		newer, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, older[name], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(n.cfg)
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), why) ||
			!strings.Contains(err.Error(), "--join") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "master.json" {
			bolt, err := raftconfig.OpenLog(databasePath(n.cfg.Dir))
			if err != nil {
				t.Fatal(err)
			}
			// An older program compares the first entry with the newest snapshot.
			if first, err := bolt.FirstIndex(); err != nil || first < 1<<60 {
				t.Errorf("raft.db begins at %d, %v", first, err)
			}
			if err := bolt.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(path, newer, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startsWhole(t, n.cfg, logInSegments)
}

// TestLostSegments starts masters whose log has lost a part: the whole folder, its content, or one file.
func TestLostSegments(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 10)
	n.stop()
	files, err := os.ReadDir(logPath(n.cfg.Dir))
	if err != nil || len(files) < 3 {
		t.Fatal(len(files), err)
	}
	lose := map[string]func(path string) error{
		"log": os.RemoveAll,
		"segments": func(path string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(path)), os.Mkdir(filepath.Dir(path), 0o700))
		},
		".": func(path string) error { // the folder became a file
			dir := logPath(path)
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		},
	}
	for _, file := range files {
		lose["log/"+file.Name()] = os.Remove
	}
	for name, lose := range lose {
		cfg := n.cfg
		cfg.Dir = filepath.Join(t.TempDir(), "m")
		copyFolder(t, n.cfg.Dir, cfg.Dir)
		path := filepath.Join(cfg.Dir, name)
		if name == "segments" {
			path = filepath.Join(logPath(cfg.Dir), name)
		}
		if err := lose(path); err != nil {
			t.Fatal(err)
		}
		before := folderContent(t, cfg.Dir)
		s, err := Open(cfg)
		if err == nil {
			_ = s.Close()
		}
		if !errors.Is(err, ErrDisk) || !strings.Contains(fmt.Sprint(err), logPath(cfg.Dir)) ||
			!strings.Contains(err.Error(), "--join") {
			t.Errorf("%s is lost: %v", name, err)
		}
		if r, err := OpenRecovery(cfg.Dir, false, nil, nil); !errors.Is(err, ErrDisk) {
			t.Errorf("%s is lost, and the rest was recovered: %v", name, errors.Join(err, r.Close()))
		}
		if after := folderContent(t, cfg.Dir); len(after) != len(before) {
			t.Errorf("%s is lost: %d files became %d", name, len(before), len(after))
		}
	}
}

// TestTornSegments alters parts of all files of a log in segments. The folder is refused with the name of a file, or
// the log is read as it was written.
func TestTornSegments(t *testing.T) {
	dir := memDir(t)
	id := identity{Version: logInSegments, ID: "m", Group: "g", Begun: true, VoteSums: true}
	if err := errors.Join(os.Mkdir(dir, 0o700), logstore.Create(logPath(dir))); err != nil {
		t.Fatal(err)
	}
	writeLog(t, dir, id)
	want, err := readLog(dir, id)
	if err != nil || strings.Count(want, "\n") != 284 {
		t.Fatal(want, err)
	}
	kept := memDir(t)
	copyFolder(t, dir, kept)
	files, err := os.ReadDir(logPath(kept))
	if err != nil {
		t.Fatal(err)
	}
	step, seeds := 1, 100
	if testing.Short() {
		step, seeds = 19, 4
	}
	refused, read := 0, 0
	for _, file := range files {
		whole, err := os.ReadFile(filepath.Join(logPath(kept), file.Name()))
		if err != nil {
			t.Fatal(err)
		}
		whole = bytes.TrimRight(whole, "\x00")
		whole = append(whole, make([]byte, 4096-len(whole)%4096)...)
		if file.Name() == "mark" {
			whole = whole[:1024]
		}
		alter := func(name string, data []byte) {
			copyFolder(t, kept, dir)
			if err := os.WriteFile(filepath.Join(logPath(dir), file.Name()), data, 0o600); err != nil {
				t.Fatal(err)
			}
			switch got, err := readLog(dir, id); {
			case err != nil && !strings.Contains(err.Error(), file.Name()) && !strings.Contains(err.Error(), "/mark"):
				t.Errorf("%s, %s: the error names no file: %v", file.Name(), name, err)
			case err != nil && (!errors.Is(err, durable.ErrDamaged) || !strings.Contains(err.Error(), "--join")) &&
				!errors.Is(err, durable.ErrNewerFormat):
				t.Errorf("%s, %s: %v", file.Name(), name, err)
			case err != nil:
				refused++
			case got != want:
				t.Errorf("%s, %s: it reads as %.300s", file.Name(), name, got)
			default:
				read++
			}
		}
		if len(whole) < 4096 {
			for bit := 0; bit < 8*len(whole); bit += 9 * step { // all of them: TestFlippedBytes of package logstore
				data := bytes.Clone(whole)
				data[bit/8] ^= 1 << (bit % 8)
				alter(fmt.Sprint("bit ", bit), data)
			}
			continue
		}
		tornLog(whole, step, seeds, alter)
	}
	t.Logf("refused %d times, read as written %d times", refused, read)
	if refused == 0 || read == 0 {
		t.Error("nothing was tested")
	}
}

// TestTooLargeCommand refuses a command that could not be read back before it is appended.
func TestTooLargeCommand(t *testing.T) {
	t.Parallel()
	n := singleMaster(t, 1)
	last, err := n.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Propose(patience(t), make([]byte, logstore.MaxCommand+1)); !errors.Is(err, masterfsm.ErrBadCommand) {
		t.Errorf("%v", err)
	}
	if after, err := n.logs.LastIndex(); err != nil || after != last {
		t.Errorf("the log ends at %d instead of %d, %v", after, last, err)
	}
	create(t, "after", n)
}

// TestJoinerWritesSegments checks that a master which joins a group of the level has its log in segments from the
// start, and one that joins a group below it in raft.db.
func TestJoinerWritesSegments(t *testing.T) {
	t.Parallel()
	for level, version := range map[uint64]int{
		0: logInDatabase, masterfsm.LevelSegments - 1: logInDatabase, masterfsm.LevelSegments: logInSegments,
	} {
		s := openStore(t, testConfig(t, t.TempDir()))
		if err := s.Adopt(wire.Adoption{Group: "g", Epoch: 1, Level: level, Member: s.Member().ID}); err != nil {
			t.Fatal(err)
		}
		if s.identity.Version != version || (s.segments != nil) != (version == logInSegments) {
			t.Errorf("joined a group of level %d with a folder of version %d", level, s.identity.Version)
		}
	}
}
