package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// dataFolder is a master's data folder, locked by this process.
type dataFolder struct {
	dir      string
	log      hclog.Logger
	lock     *durable.Lock
	identity identity // a Store guards it by mu
	fail     *failure
	watchdog *watchdog                // nil in a recovery: writes are not watched
	reserved func(bytes uint64) error // see Config.Reserved
	fsync    histogram.Histogram      // of writes of the log

	segmentBytes int // of the log, 0 for the default

	keys *atrest.Ring // of the operator, for encryption at rest; nil for none

	// Set by open.
	bolt     *raftboltdb.BoltStore // raft.db
	segments *logstore.Log         // the folder log, nil where the log is in raft.db
	logs     *logStore             // one of the two
	votes    *stableStore          // raft.db
	snaps    *snapshotStore
}

// databasePath returns the path of the stable store, which may have the log too.
func databasePath(dir string) string { return filepath.Join(dir, "raft.db") }

// logPath returns the path of the folder with the segments of the log.
func logPath(dir string) string { return filepath.Join(dir, "log") }

// snapshotsPath returns the path of the folder with the snapshots.
func snapshotsPath(dir string) string { return filepath.Join(dir, "snapshots") }

// lockFolder locks a folder, which it creates if it is missing, and reads the identity. keys are those of the operator.
// The error wraps [atrest.ErrNoKey] if one is missing.
func lockFolder(dir string, keys *atrest.Ring, log hclog.Logger) (*dataFolder, error) {
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(dir)
	if err != nil {
		return nil, err
	}
	id, err := loadIdentity(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	f := &dataFolder{dir: dir, log: log, lock: lock, identity: id, fail: newFailure(), reserved: noLimit, keys: keys}
	if err := errors.Join(f.checkNew(), f.checkKeys()); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return f, nil
}

// checkNew returns an error for a folder that has files of a member and lacks master.json. It would become that of
// another member, with the log and votes of the one that it was. Nothing is changed before this check.
func (f *dataFolder) checkNew() error {
	if !f.identity.isNew {
		return nil
	}
	for _, name := range []string{"raft.db", "log", "snapshots", filepath.Base(startsPath(f.dir))} {
		_, err := os.Lstat(filepath.Join(f.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return diskError(f.dir, err)
		}
		return diskError(f.dir, fmt.Errorf("master.json is missing, and %s is not: put it back, or %s", name,
			raftconfig.Remedy))
	}
	return nil
}

func noLimit(uint64) error { return nil }

// open opens the log, the stable store and the snapshots.
func (f *dataFolder) open() (err error) {
	path := databasePath(f.dir)
	if err := durable.CheckFile(path, true); err != nil {
		return diskError("open the log", err)
	}
	if f.bolt, err = raftconfig.OpenLog(path); err != nil {
		return diskError("open "+path, err)
	}
	f.snaps, err = openSnapshots(f.dir, f.keys, f.fail, f.watchdog, f.reserved, raftconfig.WarningsOnly(f.log))
	if err != nil {
		return diskError("open "+snapshotsPath(f.dir), err)
	}
	f.snaps.encrypts = f.identity.Version == encryptedAtRest
	if err := durable.RemoveUnfinished(f.dir); err != nil {
		f.log.Warn("temporary files stay in the data folder", "error", err)
	}
	f.votes = &stableStore{
		StableStore: f.bolt, name: path, fail: f.fail, watchdog: f.watchdog, summed: f.identity.VoteSums,
	}
	f.logs = &logStore{fail: f.fail, watchdog: f.watchdog, snaps: f.snaps, reserved: f.reserved, fsync: f.fsync}
	return f.openLog()
}

// openLog opens the log where the identity says that it is.
func (f *dataFolder) openLog() error {
	if f.identity.inSegments() {
		return f.openSegments()
	}
	moved, _, err := f.movedState()
	path := databasePath(f.dir)
	if err == nil && moved {
		err = fmt.Errorf("master.json is from before the log was moved from it to %s: put the newer master.json back, "+
			"or %s", logPath(f.dir), raftconfig.Remedy)
	}
	if err != nil {
		return diskError("open "+path, err)
	}
	f.logs.LogStore, f.logs.name = f.bolt, path
	return f.checkCopied()
}

// movedState reports whether raft.db says that its log was moved, and whether it was also replaced by a file without
// that log.
func (f *dataFolder) movedState() (moved, replaced bool, err error) {
	err = readMapped(func() (err error) {
		moved, replaced, err = raftconfig.Moved(f.bolt)
		return err
	})
	return moved, replaced, err
}

// checkCopied returns an error if the log is in raft.db and there are segments with entries that it lacks: master.json
// and raft.db are older copies then. Else the segments are what a killed move has left.
func (f *dataFolder) checkCopied() error {
	path := logPath(f.dir)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	what := "compare " + path + " with " + f.logs.name
	l, err := logstore.Open(path, f.copyOptions())
	if err != nil {
		return diskError(what, err)
	}
	copied, err := newestEntry(l)
	err = errors.Join(err, l.Close(true))
	var here entryID
	if err == nil {
		here, err = newestEntry(f.bolt)
	}
	if err != nil {
		return diskError(what, err)
	}
	if newest := f.snaps.newest(); newest.isNewer(here) {
		here = newest
	}
	if copied.isNewer(here) {
		return diskError("open "+f.logs.name, fmt.Errorf("it ends with entry %d of term %d, and %s with entry %d of "+
			"term %d: it is an older copy, and so is master.json: put the newer ones back, or %s", here.index,
			here.term, path, copied.index, copied.term, raftconfig.Remedy))
	}
	return nil
}

// newestEntry returns the last entry of a log, zero if there is none.
func newestEntry(log raft.LogStore) (last entryID, err error) {
	err = readMapped(func() error {
		index, err := log.LastIndex()
		if err != nil || index == 0 {
			return err
		}
		var l raft.Log
		err = log.GetLog(index, &l)
		last = entryID{index: index, term: l.Term}
		return err
	})
	return last, err
}

func (f *dataFolder) openSegments() error {
	path := logPath(f.dir)
	if err := f.finishReplacement(); err != nil {
		return diskError("open "+path, err)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return diskError("open "+path, fmt.Errorf("it is missing, and had this master's log (%s)", raftconfig.Remedy))
	case err == nil && !info.IsDir():
		err = fmt.Errorf("it is a %s, not a folder (%s)", durable.KindOf(info.Mode()), raftconfig.Remedy)
	}
	if err == nil {
		f.segments, err = logstore.Open(path, f.logOptions())
	}
	if err != nil {
		return diskError("open "+path, err)
	}
	f.logs.LogStore, f.logs.name, f.logs.segments = f.segments, path, f.segments
	return nil
}

func (f *dataFolder) logOptions() logstore.Options {
	return logstore.Options{
		Aside: asidePath(f.dir), SegmentBytes: f.segmentBytes, Logger: raftconfig.WarningsOnly(f.log), Keys: f.keys,
		Failed: func(err error) { _ = f.fail.disk("write to "+logPath(f.dir), err) },
	}
}

// removeCopy removes the segments that a move has left, before the log in raft.db is used: that one may lose entries at
// its end which the copy has, and checkCopied would take it for the older one. open has checked that the copy has no
// other entries.
func (f *dataFolder) removeCopy() error {
	if err := f.removeLog(); err != nil {
		return diskError("remove "+logPath(f.dir), err)
	}
	return nil
}

// moveLog moves the log from raft.db to segments. A folder that lacks the room keeps its log in raft.db. The log must
// not be in use.
func (f *dataFolder) moveLog() error { return f.move(f.moveSteps()) }

// move is moveLog with these steps.
func (f *dataFolder) move(steps []func() error) error {
	for _, step := range steps {
		err := step()
		if failed := f.fail.get(); failed != nil {
			return failed
		}
		if f.identity.Version == logInDatabase && canWait(err) {
			f.log.Warn("the log stays in raft.db until the next start", "folder", f.dir, "error", err)
			return f.removeCopy()
		}
		if err != nil {
			f.fail.report(err)
			return err
		}
	}
	return nil
}

// checkVotes returns an error if term and vote are damaged, or older than the log or the snapshots: with an earlier
// term, raft.db may lack a vote.
func (f *dataFolder) checkVotes() error {
	if err := f.votes.check(f.identity); err != nil || !f.identity.Begun {
		return err
	}
	newest := f.snaps.newest().term
	last, err := f.logs.LastIndex()
	if err != nil {
		return err
	}
	if last > 0 {
		var l raft.Log
		if err := f.logs.GetLog(last, &l); err != nil {
			return err
		}
		newest = max(newest, l.Term)
	}
	switch term, err := f.votes.GetUint64([]byte(keyTerm)); {
	case err != nil:
		return err
	case term < newest:
		return diskError(f.votes.name, fmt.Errorf("it has term %d, the log and the snapshots have %d: it is an "+
			"older copy, which may lack a vote: put the newer raft.db back, or %s", term, newest, raftconfig.Remedy))
	}
	return nil
}

// moveIfDue moves the log to segments once the group's level forbids programs that know only raft.db. It also finishes
// an interrupted move. Nothing is moved beside votes that are damaged.
func (f *dataFolder) moveIfDue() error {
	id := f.identity
	stays := id.Version == logInDatabase && (id.Group == "" || id.Level < masterfsm.LevelSegments || id.Stale)
	if _, err := os.Lstat(logPath(f.dir)); stays && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := f.checkVotes(); err != nil {
		return err
	}
	switch {
	case stays:
		return f.removeCopy()
	case id.inSegments():
		return f.finishMove()
	}
	return f.moveLog()
}

// moveDescriptors is more than the number of files that a step of a move opens at a time.
const moveDescriptors = 8

// segmentBytes returns the size of the segments of a log of which so many bytes are between two snapshots.
func segmentBytes(betweenSnapshots uint64) int {
	return int(min(max(betweenSnapshots/4, 64<<10), 64<<20))
}

// canWait reports whether an error says that a move of the log lacked a resource, and that it may be done later.
func canWait(err error) bool {
	return !durable.IsSync(err) && (durable.NoSpace(err) || durable.NoResources(err) ||
		errors.Is(err, durable.ErrExhausted) || errors.Is(err, logstore.ErrTooLarge))
}

// moveSteps returns the steps of moveLog. After a kill between two of them the next start finds the whole log: in
// raft.db until master.json has the new version, also by an older program, and in segments from then on.
func (f *dataFolder) moveSteps() []func() error {
	return []func() error{
		f.copyLog,
		func() error {
			id := f.identity
			id.Version = logInSegments
			if f.keys.Has() {
				id.Version = encryptedAtRest
			}
			return f.saveIdentity(id)
		},
		f.finishMove,
		f.openSegments,
	}
}

// unused returns the path of a folder with segments that are no log: a copy that is being made, or what is removed.
func (f *dataFolder) unused() string { return logPath(f.dir) + ".new" }

// removeLog removes the folder log. It is gone at once, also if the process is killed meanwhile.
func (f *dataFolder) removeLog() error {
	if err := os.RemoveAll(f.unused()); err != nil {
		return err
	}
	if err := durable.Rename(logPath(f.dir), f.unused()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(f.unused())
}

// copyLog copies the log from raft.db to segments, in place of what an interrupted move has left there: open has
// checked that it has no other entries.
func (f *dataFolder) copyLog() error {
	to := logPath(f.dir)
	failed := func(err error) error { return diskError("move the log from "+f.logs.name+" to "+to, err) }
	if err := durable.HaveDescriptors(moveDescriptors); err != nil {
		return failed(err)
	}
	if err := f.snaps.checkAll(); err != nil {
		return err
	}
	first, last, err := f.logs.bounds()
	if err != nil {
		return err
	}
	if newest := f.snaps.newest().index; last > 0 && first <= newest {
		first, err = f.behindGaps(first, min(last, newest))
		if err != nil {
			return err
		}
	}
	if err := f.removeLog(); err != nil {
		return failed(err)
	}
	info, err := os.Stat(databasePath(f.dir))
	if err != nil {
		return failed(err)
	}
	if err := f.reserved(uint64(info.Size())); last > 0 && err != nil {
		return failed(fmt.Errorf("%w: %w", durable.ErrExhausted, err))
	}
	err = readMapped(func() error { return logstore.Copy(f.unused(), f.bolt, first, last, f.copyOptions()) })
	if err == nil {
		err = durable.Rename(f.unused(), to)
	}
	if err != nil {
		return failed(err)
	}
	return nil
}

// copyOptions are those of a log that is not in use: the errors of its operations are returned.
func (f *dataFolder) copyOptions() logstore.Options {
	o := f.logOptions()
	o.Failed = nil
	return o
}

// behindGaps returns the first entry behind which no entry is missing, up to index last. A snapshot from the leader
// leaves a gap in raft.db, and the entries in front of it are in the snapshot.
func (f *dataFolder) behindGaps(first, last uint64) (uint64, error) {
	for index := first; index <= last; index++ {
		err := readMapped(func() error { return f.bolt.GetLog(index, new(raft.Log)) })
		if errors.Is(err, raft.ErrLogNotFound) {
			first, err = index+1, nil
		}
		if err != nil {
			return 0, diskError("read "+f.logs.name, err)
		}
	}
	return first, nil
}

// finishMove removes the log from raft.db after it was moved. Without room for the smaller file, it does that at the
// next start, and raft.db only gets the mark that its log was moved. Without the mark, the log is not used: if an older
// master.json was put back, the one in raft.db would count.
func (f *dataFolder) finishMove() error {
	moved, replaced, err := f.movedState()
	if err != nil || replaced {
		return err
	}
	if !moved {
		if err := f.checkMoved(); err != nil {
			return err
		}
	}
	if err = durable.HaveDescriptors(moveDescriptors); err == nil {
		err = f.replaceDatabase(nil, 0, 0)
	}
	if !canWait(err) {
		return err
	}
	f.log.Warn("raft.db still has the log that was moved, and takes its room", "error", err)
	if moved {
		return nil
	}
	if err := readMapped(func() error { return raftconfig.MarkMoved(f.bolt) }); err != nil {
		path := databasePath(f.dir)
		return diskError("write to "+path, fmt.Errorf("it has a log that was moved, and there is no room to note that "+
			"in it: make room on the disk: %w", err))
	}
	return nil
}

// checkMoved returns an error if the log in raft.db is newer than that in the segments, so that it is not deleted: the
// file may have been put back after the move of another one, which was empty or older. Of two logs, that one is newer
// whose last entry has the higher term, or the same one and the higher index.
func (f *dataFolder) checkMoved() error {
	if f.segments == nil { // it was copied just now, and compared
		return nil
	}
	there, err := newestEntry(f.bolt)
	if err != nil || there.index == 0 {
		return err
	}
	moved, err := newestEntry(f.segments)
	if newest := f.snaps.newest(); newest.isNewer(moved) {
		moved = newest
	}
	if err == nil && there.isNewer(moved) {
		err = diskError("open "+databasePath(f.dir), fmt.Errorf("it ends with entry %d of term %d, and %s with entry "+
			"%d of term %d: it was put back after its log was moved (%s)", there.index, there.term, logPath(f.dir),
			moved.index, moved.term, raftconfig.Remedy))
	}
	return err
}

// replaceDatabase replaces raft.db by one with the same term and vote, and with those entries of a log. Where the error
// says that it can wait, raft.db is as it was.
func (f *dataFolder) replaceDatabase(log raft.LogStore, first, last uint64) error {
	path := databasePath(f.dir)
	err := f.bolt.Close()
	if err == nil {
		err = readMapped(func() error { return raftconfig.ReplaceLog(path, log, first, last) })
	}
	if err != nil && !canWait(err) {
		return diskError("write "+path, err)
	}
	bolt, openErr := raftconfig.OpenLog(path)
	if openErr != nil {
		return diskError("open "+path, openErr)
	}
	f.bolt, f.votes.StableStore = bolt, bolt
	if err != nil {
		return diskError("write "+path, err)
	}
	return nil
}

// LogToDatabase moves the log of a stopped master from its segments back to raft.db, for a program that knows only
// that. moved is false where it is there already. This program moves it to segments again at the next start if the
// group's level allows that. After a kill the next start finds the whole log, in one of the two. mark remembers a
// failed sync; nil for none.
func LogToDatabase(dir string, mark *durable.SyncMark, log hclog.Logger) (moved bool, err error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	if _, err := os.Stat(filepath.Join(dir, "master.json")); err != nil {
		return false, fmt.Errorf("%s is not the folder of a master: %w", dir, err)
	}
	f, err := lockFolder(dir, nil, log)
	if errors.Is(err, atrest.ErrNoKey) {
		err = fmt.Errorf("the folder is encrypted at rest, decrypt it first with 'chainstore at-rest decrypt': %w", err)
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.identity.Version == logInDatabase {
		return false, nil
	}
	f.fail.mark = mark
	for _, step := range f.backSteps() {
		if err := f.fail.guard(step); err != nil {
			f.fail.report(err)
			return false, err
		}
	}
	return true, nil
}

// backSteps returns the steps of LogToDatabase. The log is that in segments until master.json has the older version.
func (f *dataFolder) backSteps() []func() error {
	return []func() error{
		func() error {
			if err := f.open(); err != nil {
				return err
			}
			if err := f.checkVotes(); err != nil {
				return err
			}
			first, last, err := f.logs.bounds()
			if err != nil {
				return err
			}
			return f.replaceDatabase(f.segments, first, last)
		},
		func() error {
			id := f.identity
			id.Version = logInDatabase
			return f.saveIdentity(id)
		},
		func() error {
			err := f.segments.Close(true)
			f.segments = nil
			if err = errors.Join(err, f.removeLog()); err != nil {
				return diskError("remove "+logPath(f.dir), err)
			}
			return nil
		},
	}
}

// saveIdentity writes the identity to disk and replaces the present one. A failure is reported, unless nothing was
// changed and the caller may try again: see [durable.CanRetry].
func (f *dataFolder) saveIdentity(id identity) error {
	defer f.watchdog.watch("write master.json in " + f.dir)()
	if err := id.save(f.dir); durable.CanRetry(err) {
		return diskError("write to "+f.dir, err)
	} else if err != nil {
		return f.fail.disk("write to "+f.dir, err)
	}
	f.identity = id
	return nil
}

// Close releases the folder.
func (f *dataFolder) Close() error {
	f.watchdog.close()
	var err error
	if f.snaps != nil {
		err = f.snaps.close()
	}
	if f.segments != nil {
		err = errors.Join(err, f.segments.Close(f.fail.get() == nil))
	}
	if f.bolt != nil {
		err = errors.Join(err, f.bolt.Close())
	}
	return errors.Join(err, f.lock.Close())
}
