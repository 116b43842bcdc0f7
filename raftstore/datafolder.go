package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/histogram"
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

	// Set by open.
	bolt  *raftboltdb.BoltStore
	logs  *logStore
	votes *stableStore
	snaps *snapshotStore
}

// lockFolder locks a folder, which it creates if it is missing, and reads the identity.
func lockFolder(dir string, log hclog.Logger) (*dataFolder, error) {
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
	f := &dataFolder{dir: dir, log: log, lock: lock, identity: id, fail: newFailure(), reserved: noLimit}
	if err := f.checkNew(); err != nil {
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
	for _, name := range []string{"raft.db", "snapshots", filepath.Base(startsPath(f.dir))} {
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
	path := filepath.Join(f.dir, "raft.db")
	if err := durable.CheckFile(path, true); err != nil {
		return diskError("open the log", err)
	}
	if f.bolt, err = raftconfig.OpenLog(path); err != nil {
		return diskError("open "+path, err)
	}
	if f.snaps, err = openSnapshots(f.dir, f.fail, f.watchdog, f.reserved, raftconfig.WarningsOnly(f.log)); err != nil {
		return diskError("open "+filepath.Join(f.dir, "snapshots"), err)
	}
	if err := durable.RemoveUnfinished(f.dir); err != nil {
		f.log.Warn("temporary files stay in the data folder", "error", err)
	}
	f.votes = &stableStore{
		StableStore: f.bolt, name: path, fail: f.fail, watchdog: f.watchdog, summed: f.identity.VoteSums,
	}
	f.logs = &logStore{
		LogStore: f.bolt, name: path, fail: f.fail, watchdog: f.watchdog, snaps: f.snaps,
		reserved: f.reserved, fsync: f.fsync,
	}
	return nil
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
	if f.bolt != nil {
		err = f.bolt.Close()
	}
	return errors.Join(err, f.lock.Close())
}
