package raftstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
)

const (
	retainedSnapshots = 2
	snapshotSuffix    = ".tmp" // of one that is being written
	metaFile          = "meta.json"
	sumFile           = "meta.sum" // CRC-32C of meta.json, 8 hex digits: raft's own checksum covers state.bin alone
	retrySnapshot     = time.Second
)

// snapshotStore wraps raft's snapshot store. It reports failures, and makes the files private.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir      string
	fail     *failure
	watchdog *watchdog
	newest   atomic.Uint64 // the highest index of a snapshot
}

// openSnapshots opens the folder "snapshots" in dir, and removes snapshots that a crash left unfinished.
func openSnapshots(dir string, fail *failure, watchdog *watchdog, log hclog.Logger) (*snapshotStore, error) {
	s := &snapshotStore{dir: filepath.Join(dir, "snapshots"), fail: fail, watchdog: watchdog}
	if err := durable.MkdirAll(s.dir); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), snapshotSuffix) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	if err := s.checkKinds(entries); err != nil {
		return nil, err
	}
	s.FileSnapshotStore, err = raft.NewFileSnapshotStoreWithLogger(dir, retainedSnapshots, log)
	if err != nil {
		return nil, err
	}
	list, err := s.FileSnapshotStore.List()
	if len(list) > 0 {
		s.newest.Store(list[0].Index)
	}
	return s, err
}

// checkKinds checks that the files of all snapshots are files: raft would wait for a pipe.
func (s *snapshotStore) checkKinds(entries []os.DirEntry) error {
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		for _, name := range []string{metaFile, sumFile, "state.bin"} {
			if err := durable.CheckFile(filepath.Join(s.dir, e.Name(), name), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkAll checks the metadata of all snapshots.
func (s *snapshotStore) checkAll() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return diskError("read "+s.dir, err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := s.check(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// check checks the metadata of a snapshot, its index and members among it, against its checksum. It writes the checksum
// of a new snapshot, and of one where a crash came in between.
func (s *snapshotStore) check(id string) error {
	path, sumPath := filepath.Join(s.dir, id, metaFile), filepath.Join(s.dir, id, sumFile)
	meta, err := durable.ReadFile(path)
	if err != nil {
		return diskError("read "+path, err)
	}
	want := fmt.Sprintf("%08x", durable.Checksum(meta))
	switch sum, err := durable.ReadFile(sumPath); {
	case errors.Is(err, fs.ErrNotExist):
		if err := durable.WriteFile(sumPath, []byte(want), 0o600); err != nil {
			return diskError("write "+sumPath, err)
		}
	case err != nil:
		return diskError("read "+sumPath, err)
	case string(sum) != want:
		return diskError("snapshot "+path, fmt.Errorf("its checksum is %.8q, its bytes have %s", sum, want))
	}
	return nil
}

// Create begins a snapshot.
func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	if err := s.fail.get(); err != nil {
		return nil, err
	}
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		return nil, s.fail.disk("begin a snapshot in "+s.dir, err)
	}
	dir := filepath.Join(s.dir, sink.ID()+snapshotSuffix)
	err = errors.Join(os.Chmod(dir, 0o700), os.Chmod(filepath.Join(dir, "state.bin"), 0o600),
		os.Chmod(filepath.Join(dir, metaFile), 0o600))
	if err != nil {
		return nil, errors.Join(s.fail.disk("begin a snapshot in "+s.dir, err), sink.Cancel())
	}
	return &snapshotSink{SnapshotSink: sink, store: s, index: index}, nil
}

// List lists the snapshots, the newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.FileSnapshotStore.List()
	if err != nil {
		return nil, s.fail.disk("list "+s.dir, err)
	}
	return list, nil
}

// Open opens a snapshot after a check of its metadata. The reader is a *snapshotReader. A failure is reported.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if _, err := os.Stat(filepath.Join(s.dir, id)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err // newer ones replaced it
	}
	reader, err := s.open(id)
	if err != nil {
		s.fail.report(err)
		return nil, nil, err
	}
	return reader.meta, reader, nil
}

// open is Open for a snapshot that exists. A failure is not reported.
func (s *snapshotStore) open(id string) (*snapshotReader, error) {
	if err := s.check(id); err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, id)
	meta, reader, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, diskError("snapshot "+path, err)
	}
	return &snapshotReader{ReadCloser: reader, path: path, meta: meta}, nil
}

// snapshotSink reports failures of a snapshot that is being written.
type snapshotSink struct {
	raft.SnapshotSink
	store *snapshotStore
	index uint64
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	defer k.store.watchdog.watch("write a snapshot in " + k.store.dir)()
	n, err := k.SnapshotSink.Write(b)
	if err != nil {
		err = k.store.fail.disk("write a snapshot in "+k.store.dir, err)
	}
	return n, err
}

// Close makes the snapshot durable, the entries of its folder too: raft trims its log next.
func (k *snapshotSink) Close() error {
	// The sync of a large snapshot may take long on a disk that works: it is not watched. Writes of the log detect a
	// disk that hangs.
	err := k.SnapshotSink.Close()
	if err == nil {
		err = k.store.check(k.ID()) // it writes the checksum and syncs the folder
	}
	if err != nil {
		return k.store.fail.disk("finish a snapshot in "+k.store.dir, err)
	}
	k.store.newest.Store(max(k.index, k.store.newest.Load()))
	return nil
}

// snapshotReader is a reader with the snapshot's metadata, which raft does not pass to the state machine.
type snapshotReader struct {
	io.ReadCloser
	path string
	meta *raft.SnapshotMeta
}

// restore returns the state in the snapshot.
func (r *snapshotReader) restore() (*masterfsm.State, error) {
	state, err := masterfsm.Restore(r)
	if err != nil {
		return nil, diskError("snapshot "+r.path, err)
	}
	return state, nil
}

// takeSnapshots takes a snapshot whenever one is due, until the store stops.
func (s *Store) takeSnapshots(r *raft.Raft) {
	for {
		select {
		case <-s.due:
		case <-s.stop:
			return
		}
		if err := s.takeSnapshot(r); err != nil && s.fail.get() == nil {
			// Raft takes none while a change of the members is being committed.
			s.log.Debug("no snapshot", "error", err)
			if !s.pause(retrySnapshot) {
				return
			}
			wake(s.due)
		}
	}
}

// takeSnapshot takes a snapshot when one is due.
func (s *Store) takeSnapshot(r *raft.Raft) error {
	s.machine.mu.RLock()
	due, logged := s.machine.snapshotDue(), s.machine.logged
	s.machine.mu.RUnlock()
	if !due {
		return nil
	}
	s.reload(r, func(c *raft.ReloadableConfig) {
		c.TrailingLogs = s.logs.trailing(s.cfg.TrailingBytes, 2*s.cfg.SnapshotEntries)
	})
	start := time.Now()
	if err := r.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return err
	}
	list, err := s.snaps.List()
	if err != nil {
		return err
	}
	s.machine.mu.Lock()
	defer s.machine.mu.Unlock()
	s.machine.snapshotAt = logged
	if len(list) > 0 {
		s.logs.dropReplay(list[0].Index)
		s.machine.policy.last = uint64(list[0].Size)
		s.log.Debug("snapshot taken", "index", list[0].Index, "bytes", list[0].Size, "took", time.Since(start))
	}
	return nil
}
