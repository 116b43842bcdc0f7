package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
	"github.com/chainstore/chainstore/raftstore/snapfile"
)

// closeDescriptors is more than the number of files that the end of a snapshot opens at a time.
const closeDescriptors = 8

const (
	retainedSnapshots = 2
	keepAll           = math.MaxInt // snapshots that raft retains: it would remove the files of a snapshot one by one
	snapshotSuffix    = ".tmp"      // of one that is being written or removed
	stateFile         = "state.bin"
	metaFile          = "meta.json"
	sumFile           = "meta.sum" // CRC-32C of meta.json, 8 hex digits: raft's own checksum covers state.bin alone
)

// snapshotStore wraps raft's snapshot store. It reports failures, and makes the files private. A lack of room on the
// disk, of file descriptors or of memory is no failure: raft tries again, and no snapshot that is complete is changed.
type snapshotStore struct {
	*raft.FileSnapshotStore
	dir      string
	log      hclog.Logger
	fail     *failure
	watchdog *watchdog
	reserved func(bytes uint64) error
	keys     *atrest.Ring                   // of the operator, nil for none
	encrypts bool                           // new snapshots are encrypted; set before raft uses the store
	last     atomic.Pointer[entryID]        // the last entry in the newest snapshot; nil if there is none
	size     atomic.Uint64                  // bytes of the newest snapshot, as far as it is known
	lacking  atomic.Pointer[error]          // what the last snapshot lacked; nil once one was begun
	ready    atomic.Pointer[snapshotReader] // of the leader's last snapshot, until raft opens it
	arrivals arrivals

	changing sync.Mutex      // held while a complete snapshot is renamed, or gets another key file
	creating sync.Mutex      // held while a snapshot begins; guards open
	open     map[string]bool // the folders of snapshots that are being written
}

// openSnapshots opens the folder "snapshots" in dir, and removes snapshots that a crash left unfinished.
func openSnapshots(
	dir string, keys *atrest.Ring, fail *failure, watchdog *watchdog, reserved func(uint64) error, log hclog.Logger,
) (*snapshotStore, error) {
	s := &snapshotStore{
		dir: snapshotsPath(dir), log: log, fail: fail, watchdog: watchdog, reserved: reserved, keys: keys,
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
		if e.IsDir() {
			if err := durable.RemoveUnfinished(filepath.Join(s.dir, e.Name())); err != nil {
				log.Warn("temporary files stay in a snapshot", "error", err)
			}
		}
		if strings.HasSuffix(e.Name(), snapshotSuffix) {
			if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	if err := s.checkKinds(entries); err != nil {
		return nil, err
	}
	s.FileSnapshotStore, err = raft.NewFileSnapshotStoreWithLogger(dir, keepAll, log)
	if err != nil {
		return nil, err
	}
	return s, s.findNewest()
}

// entryID is the position of an entry in the log, and the term in which it was written.
type entryID struct{ index, term uint64 }

// isNewer reports whether a log that ends with the entry is newer than one that ends with the other: raft elects by the
// same order.
func (e entryID) isNewer(than entryID) bool {
	return e.term > than.term || e.term == than.term && e.index > than.index
}

// newest returns the last entry that the newest snapshot has, zero if there is no snapshot.
func (s *snapshotStore) newest() (last entryID) {
	if noted := s.last.Load(); noted != nil {
		last = *noted
	}
	return last
}

// findNewest notes the newest snapshot.
func (s *snapshotStore) findNewest() error {
	list, err := s.FileSnapshotStore.List()
	s.last.Store(nil)
	s.size.Store(0)
	if len(list) > 0 {
		s.last.Store(&entryID{index: list[0].Index, term: list[0].Term})
		s.size.Store(uint64(list[0].Size))
	}
	return err
}

// checkKinds checks that the files of all snapshots are files: raft would wait for a pipe.
func (s *snapshotStore) checkKinds(entries []os.DirEntry) error {
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		for _, name := range []string{metaFile, sumFile, stateFile, snapfile.KeyFile} {
			if err := durable.CheckFile(filepath.Join(s.dir, e.Name(), name), false); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkAll checks the metadata of all snapshots at a start. It removes one that is not whole if nothing can depend on
// it: there is a newer one, or it has no checksum. The checksum is written and synced before raft trims the log, so a
// power cut came first, and the log has what the snapshot had.
func (s *snapshotStore) checkAll() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return diskError("read "+s.dir, err)
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.IsDir() })
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return compareSnapshots(b.Name(), a.Name()) })
	whole := false
	for _, e := range entries {
		id := e.Name()
		err := s.check(id)
		if err == nil {
			whole = true
			continue
		}
		_, sumErr := os.Lstat(filepath.Join(s.dir, id, sumFile))
		if durable.CannotRead(err) || durable.NoResources(err) || !whole && !errors.Is(sumErr, fs.ErrNotExist) {
			return err
		}
		s.log.Warn("an unfinished snapshot is removed", "snapshot", id, "error", err)
		if err := s.remove(id); err != nil {
			return diskError("remove the snapshot "+filepath.Join(s.dir, id), err)
		}
	}
	return s.findNewest()
}

// compareSnapshots compares the names of two snapshots, which raft makes: term-index-time.
func compareSnapshots(a, b string) int {
	parts := func(id string) (n [3]uint64) {
		_, _ = fmt.Sscanf(id, "%d-%d-%d", &n[0], &n[1], &n[2]) // a name that is not raft's is the oldest
		return n
	}
	x, y := parts(a), parts(b)
	return slices.Compare(x[:], y[:])
}

// remove removes a snapshot. First it gets another name: a crash must not leave a part of it under its own.
func (s *snapshotStore) remove(id string) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	dir := filepath.Join(s.dir, id+snapshotSuffix)
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(s.dir, id), dir); err != nil {
		return err
	}
	if err := durable.SyncDir(s.dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// removeOld removes all but the newest snapshots.
func (s *snapshotStore) removeOld() error {
	list, err := s.FileSnapshotStore.List()
	if err != nil {
		return err
	}
	for _, old := range list[min(len(list), retainedSnapshots):] {
		if err := s.remove(old.ID); err != nil {
			return err
		}
	}
	return nil
}

// check checks the metadata of a snapshot, its index and members among it, against its checksum. It writes the checksum
// of a new snapshot, and of one where a crash came in between: then the metadata must match the state.
func (s *snapshotStore) check(id string) error {
	path, sumPath := filepath.Join(s.dir, id, metaFile), filepath.Join(s.dir, id, sumFile)
	meta, err := durable.ReadFile(path)
	if err != nil {
		return diskError("read "+path, err)
	}
	want := fmt.Sprintf("%08x", durable.Checksum(meta))
	switch sum, err := durable.ReadFile(sumPath); {
	case errors.Is(err, fs.ErrNotExist):
		if err := s.checkUnsummed(id, meta); err != nil {
			return err
		}
		if err := durable.WriteFile(sumPath, []byte(want), 0o600); err != nil {
			return diskError("write "+sumPath, err)
		}
	case err != nil:
		return diskError("read "+sumPath, err)
	case string(sum) != want:
		return snapshotDamaged(path, fmt.Errorf("its checksum in %s is %.8q, its bytes have %s", sumFile, sum, want))
	}
	return nil
}

// checkUnsummed checks metadata without a checksum. Raft would skip a snapshot whose metadata cannot be read, and
// continue as if it had never taken it.
func (s *snapshotStore) checkUnsummed(id string, meta []byte) error {
	path := filepath.Join(s.dir, id, metaFile)
	var m struct {
		raft.SnapshotMeta
		CRC []byte
	}
	if err := json.Unmarshal(meta, &m); err != nil {
		return snapshotDamaged(path, err)
	}
	if want := fmt.Sprintf("%d-%d-", m.Term, m.Index); m.ID != id || !strings.HasPrefix(id, want) ||
		m.Version < raft.SnapshotVersionMin || m.Version > raft.SnapshotVersionMax {
		return snapshotDamaged(path, fmt.Errorf("version %d of snapshot %.64q of term %d and entry %d",
			m.Version, m.ID, m.Term, m.Index))
	}
	state, err := durable.OpenFile(filepath.Join(s.dir, id, stateFile), os.O_RDONLY, 0)
	if err != nil {
		return diskError("open the state of snapshot "+id, err)
	}
	defer state.Close()
	hash := crc64.New(crc64.MakeTable(crc64.ECMA))
	size, err := io.Copy(hash, state)
	if err != nil {
		return diskError("read "+state.Name(), err)
	}
	if sum := hash.Sum(nil); size != m.Size || !bytes.Equal(sum, m.CRC) {
		return snapshotDamaged(path, fmt.Errorf("it is of a state of %d bytes with checksum %x, %s has %d with %x",
			m.Size, m.CRC, stateFile, size, sum))
	}
	return nil
}

// snapshotDamaged returns the failure after a file of a snapshot was found to be wrong. A file that cannot be read need
// not be damaged.
func snapshotDamaged(path string, err error) error {
	if durable.CannotRead(err) || durable.NoResources(err) || errors.Is(err, atrest.ErrNoKey) {
		return diskError("snapshot "+path, err)
	}
	return diskError("snapshot "+path, fmt.Errorf("%w (if it is damaged, %s)", err, raftconfig.Remedy))
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
	for s.creating.Lock(); s.isTaken(term, index); s.creating.Lock() {
		s.creating.Unlock()
		time.Sleep(time.Millisecond)
	}
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
	k := &snapshotSink{SnapshotSink: sink, store: s, dir: dir, last: entryID{index: index, term: term}}
	if s.encrypts {
		if k.sealed, err = snapfile.Create(dir, sink.ID(), s.keys, sink); err != nil {
			delete(s.open, dir)
			return nil, errors.Join(s.failed("begin a snapshot in "+s.dir, err), sink.Cancel())
		}
	}
	s.lacking.Store(nil)
	return k, nil
}

// isTaken reports whether a snapshot exists, or is being written, that has the name which raft would give to another
// one now: it consists of the term, the index and the time in milliseconds. Raft would write both into one folder.
func (s *snapshotStore) isTaken(term, index uint64) bool {
	const slack = 5 // milliseconds until raft reads the time
	now := time.Now().UnixMilli()
	for ms := now; ms <= now+slack; ms++ {
		path := filepath.Join(s.dir, fmt.Sprintf("%d-%d-%d", term, index, ms))
		for _, p := range []string{path, path + snapshotSuffix} {
			if _, err := os.Lstat(p); err == nil {
				return true
			}
		}
	}
	return false
}

// failed reports the failure of an operation, unless a resource was missing before any sync, and returns it. The
// operation must have changed nothing that is used.
func (s *snapshotStore) failed(what string, err error) error {
	if durable.IsSync(err) || !durable.NoSpace(err) && !durable.NoResources(err) {
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
	// A leadership that has ended may still open another one.
	if ready := s.ready.Load(); ready != nil && ready.meta.ID == id && s.ready.CompareAndSwap(ready, nil) {
		return ready.meta, ready, nil
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
	path := filepath.Join(s.dir, id, stateFile)
	meta, reader, err := s.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, snapshotDamaged(path, err)
	}
	content, encrypted, err := snapfile.Open(filepath.Join(s.dir, id), id, s.keys, reader)
	if err != nil {
		return nil, errors.Join(snapshotDamaged(path, err), reader.Close())
	}
	if encrypted {
		meta.Size = snapfile.PlainSize(meta.Size) // raft sends so many bytes
	}
	return &snapshotReader{Reader: content, Closer: reader, path: path, meta: meta}, nil
}

// snapshotSink reports failures of a snapshot that is being written.
type snapshotSink struct {
	raft.SnapshotSink
	store  *snapshotStore
	dir    string           // of the unfinished snapshot
	last   entryID          // of the entries that are in the snapshot
	sealed *snapfile.Writer // encrypts the state; nil where it is in clear

	own     bool     // this master takes it; else the leader sends it
	copied  bool     // it replaces one that exists: see rewrite
	arrival *arrival // the check of one that the leader sends; nil before its first byte
}

func (k *snapshotSink) Write(b []byte) (int, error) {
	n, err := k.write(b)
	if err == nil && !k.own {
		if k.arrival == nil {
			k.arrival = k.store.arrivals.begin()
		}
		err = k.arrival.check(b)
	}
	return n, err
}

func (k *snapshotSink) write(b []byte) (int, error) {
	defer k.store.watchdog.watch("write a snapshot in " + k.store.dir)()
	var to io.Writer = k.SnapshotSink
	if k.sealed != nil {
		to = k.sealed
	}
	n, err := to.Write(b)
	if err != nil {
		err = k.store.failed("write a snapshot in "+k.store.dir, err)
	}
	return n, err
}

// Cancel removes the snapshot.
func (k *snapshotSink) Cancel() error {
	defer k.store.end(k.dir)
	if k.arrival != nil {
		_ = k.arrival.end(errors.New("it did not arrive whole"))
		k.store.arrivals.abort()
	}
	return k.SnapshotSink.Cancel()
}

// Close makes the snapshot durable, the entries of its folder too: raft trims its log next.
func (k *snapshotSink) Close() error {
	// The sync of a large snapshot may take long on a disk that works: it is not watched. Writes of the log detect a
	// disk that hangs.
	defer k.store.end(k.dir)
	if !k.own {
		if err := k.arrival.end(nil); err != nil {
			return errors.Join(err, k.SnapshotSink.Cancel())
		}
	}
	// Raft opens the folder after it has put the snapshot into its place.
	if err := durable.HaveDescriptors(closeDescriptors); err != nil {
		return errors.Join(k.store.failed("finish a snapshot in "+k.store.dir, err), k.SnapshotSink.Cancel())
	}
	if k.sealed != nil {
		if err := k.sealed.Close(); err != nil {
			return errors.Join(k.store.failed("write a snapshot in "+k.store.dir, err), k.SnapshotSink.Cancel())
		}
	}
	err := k.SnapshotSink.Close()
	if err != nil {
		if _, statErr := os.Stat(filepath.Join(k.store.dir, k.ID())); errors.Is(statErr, fs.ErrNotExist) {
			return k.store.failed("write a snapshot in "+k.store.dir, err) // another one has other files
		}
	}
	if err == nil {
		if err = k.store.check(k.ID()); durable.CanRetry(err) { // it writes the checksum and syncs the folder
			return k.giveUp(err)
		}
	}
	if err != nil {
		return k.store.fail.disk("finish a snapshot in "+k.store.dir, err)
	}
	if !k.own {
		if err := k.open(); err != nil {
			return k.giveUp(err)
		}
	}
	older := k.store.last.Load()
	if k.last.index >= k.store.newest().index {
		k.store.last.Store(&k.last)
	}
	if !k.own && k.store.arrivals.installed != nil {
		if err := k.store.arrivals.installed(); err != nil {
			if k.store.fail.get() != nil {
				return err // the log may be trimmed for the snapshot
			}
			k.store.last.CompareAndSwap(&k.last, older)
			return k.giveUp(err)
		}
	}
	if k.copied {
		return nil
	}
	if err := k.store.removeOld(); err != nil {
		// The snapshot is complete, and the log was trimmed for it: raft must use it. The next one removes the rest.
		err = k.store.failed("remove old snapshots in "+k.store.dir, err)
		if k.store.fail.get() != nil {
			return err
		}
		k.store.log.Warn("old snapshots stay", "error", err)
	}
	return nil
}

// giveUp removes the snapshot, which has its final name, after an error, and returns the error. Raft does not use the
// snapshot, and nothing was trimmed for it. If a power cut brings it back, it is one that is complete, or that the next
// start removes.
func (k *snapshotSink) giveUp(err error) error {
	err = k.store.failed("finish a snapshot in "+k.store.dir, err)
	if k.store.fail.get() != nil {
		return err
	}
	k.store.changing.Lock()
	defer k.store.changing.Unlock()
	// With the name of an unfinished one, end removes it.
	return errors.Join(err, k.store.close(), os.Rename(filepath.Join(k.store.dir, k.ID()), k.dir))
}

// open opens the leader's snapshot for raft, while nothing depends on it yet. Once the log was trimmed for it, raft
// must not lack a descriptor to read it: it would go on with a log that does not have what it believes.
func (k *snapshotSink) open() error {
	reader, err := k.store.openReader(k.ID())
	if err != nil {
		return err
	}
	if other := k.store.ready.Swap(reader); other != nil {
		_ = other.Close() // nothing was written
	}
	return durable.HaveDescriptors(closeDescriptors)
}

// close closes a snapshot that raft has not opened.
func (s *snapshotStore) close() error {
	if ready := s.ready.Swap(nil); ready != nil {
		return ready.Close()
	}
	return nil
}

// snapshotReader is a reader with the snapshot's metadata, which raft does not pass to the state machine.
type snapshotReader struct {
	io.Reader // of the state, decrypted
	io.Closer
	path string
	meta *raft.SnapshotMeta
}

// restore returns the state in the snapshot.
func (r *snapshotReader) restore() (*masterfsm.State, error) {
	state, err := masterfsm.Restore(r)
	if err != nil {
		return nil, snapshotDamaged(r.path, err)
	}
	return state, nil
}
