package raftstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
)

// closeDescriptors is more than the number of files that the end of a snapshot opens at a time.
const closeDescriptors = 8

const (
	retainedSnapshots = 2
	snapshotSuffix    = ".tmp" // of one that is being written
	metaFile          = "meta.json"
	sumFile           = "meta.sum" // CRC-32C of meta.json, 8 hex digits: raft's own checksum covers state.bin alone
	retrySnapshot     = time.Second
	retryLacking      = 5 * time.Second // after a snapshot that lacked a resource
)

// snapshotStore wraps raft's snapshot store. It reports failures, and makes the files private. A lack of room on the
// disk, of file descriptors or of memory is no failure: raft tries again, and no snapshot that is complete is changed.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir      string
	fail     *failure
	watchdog *watchdog
	reserved func(bytes uint64) error
	newest   atomic.Uint64         // the highest index of a snapshot
	size     atomic.Uint64         // bytes of the newest snapshot, as far as it is known
	lacking  atomic.Pointer[error] // what the last snapshot lacked; nil once one was begun

	creating sync.Mutex      // held while a snapshot begins; guards open
	open     map[string]bool // the folders of snapshots that are being written
}

// openSnapshots opens the folder "snapshots" in dir, and removes snapshots that a crash left unfinished.
func openSnapshots(
	dir string, fail *failure, watchdog *watchdog, reserved func(uint64) error, log hclog.Logger,
) (*snapshotStore, error) {
	s := &snapshotStore{
		dir: filepath.Join(dir, "snapshots"), fail: fail, watchdog: watchdog, reserved: reserved,
		open: map[string]bool{},
	}
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
		s.size.Store(uint64(list[0].Size))
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
	// Without room the snapshot would take the space that the log needs.
	if err := s.reserved(s.size.Load()); err != nil {
		s.lacking.Store(&err)
		return nil, err
	}
	s.creating.Lock()
	defer s.creating.Unlock()
	sink, err := s.FileSnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
	if err != nil {
		s.removeUnfinished()
		return nil, s.failed("begin a snapshot in "+s.dir, err)
	}
	dir := filepath.Join(s.dir, sink.ID()+snapshotSuffix)
	s.open[dir] = true
	err = errors.Join(os.Chmod(dir, 0o700), os.Chmod(filepath.Join(dir, "state.bin"), 0o600),
		os.Chmod(filepath.Join(dir, metaFile), 0o600))
	if err != nil {
		return nil, errors.Join(s.fail.disk("begin a snapshot in "+s.dir, err), sink.Cancel())
	}
	s.lacking.Store(nil)
	return &snapshotSink{SnapshotSink: sink, store: s, dir: dir, index: index}, nil
}

// failed reports the failure of an operation, unless a resource was missing, and returns it. The operation must have
// changed nothing that is used.
func (s *snapshotStore) failed(what string, err error) error {
	if !durable.NoSpace(err) && !durable.NoResources(err) {
		return s.fail.disk(what, err)
	}
	err = diskError(what, err)
	s.lacking.Store(&err)
	return err
}

// removeUnfinished removes the folders of snapshots that were begun and are not written any more, which raft leaves
// when it meets an error. The caller holds creating.
func (s *snapshotStore) removeUnfinished() {
	left, _ := filepath.Glob(filepath.Join(s.dir, "*"+snapshotSuffix)) // the pattern is good
	for _, dir := range left {
		if !s.open[dir] {
			_ = os.RemoveAll(dir) // it takes room; the next start removes it too
		}
	}
}

// end removes what is left of a snapshot that is not written any more.
func (s *snapshotStore) end(dir string) {
	s.creating.Lock()
	defer s.creating.Unlock()
	delete(s.open, dir)
	s.removeUnfinished()
}

// List lists the snapshots, the newest first.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.FileSnapshotStore.List()
	if err != nil {
		return nil, s.failed("list "+s.dir, err)
	}
	return list, nil
}

// Open opens a snapshot after a check of its metadata. The reader is a *snapshotReader. A failure is reported.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if _, err := os.Stat(filepath.Join(s.dir, id)); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err // newer ones replaced it
	}
	reader, err := s.openReader(id)
	if err != nil {
		if !durable.NoResources(err) {
			s.fail.report(err)
		}
		return nil, nil, err
	}
	return reader.meta, reader, nil
}

// openReader is Open for a snapshot that exists. A failure is not reported.
func (s *snapshotStore) openReader(id string) (*snapshotReader, error) {
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
	dir   string // of the unfinished snapshot
	index uint64
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	defer k.store.watchdog.watch("write a snapshot in " + k.store.dir)()
	n, err := k.SnapshotSink.Write(b)
	if err != nil {
		err = k.store.failed("write a snapshot in "+k.store.dir, err)
	}
	return n, err
}

// Cancel removes the snapshot.
func (k *snapshotSink) Cancel() error {
	defer k.store.end(k.dir)
	return k.SnapshotSink.Cancel()
}

// Close makes the snapshot durable, the entries of its folder too: raft trims its log next.
func (k *snapshotSink) Close() error {
	// The sync of a large snapshot may take long on a disk that works: it is not watched. Writes of the log detect a
	// disk that hangs.
	defer k.store.end(k.dir)
	// Raft opens the folder after it has put the snapshot into its place.
	if err := durable.HaveDescriptors(closeDescriptors); err != nil {
		return errors.Join(k.store.failed("finish a snapshot in "+k.store.dir, err), k.SnapshotSink.Cancel())
	}
	err := k.SnapshotSink.Close()
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(k.store.dir, k.ID())); errors.Is(statErr, fs.ErrNotExist) {
			return k.store.failed("write a snapshot in "+k.store.dir, err) // another one has other files
		}
	}
	if err == nil {
		if err = k.store.check(k.ID()); durable.CanRetry(err) { // it writes the checksum and syncs the folder
			return k.store.failed("finish a snapshot in "+k.store.dir, err)
		}
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
			pause := retrySnapshot
			if lacking := s.snaps.lacking.Load(); lacking != nil {
				pause = retryLacking
				s.log.Warn("a snapshot is put off, and the log grows meanwhile", "error", *lacking)
			}
			// Raft takes none while a change of the members is being committed.
			s.log.Debug("no snapshot", "error", err)
			if !s.pause(pause) {
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
		s.snaps.size.Store(uint64(list[0].Size))
		s.log.Debug("snapshot taken", "index", list[0].Index, "bytes", list[0].Size, "took", time.Since(start))
	}
	return nil
}
