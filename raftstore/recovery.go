package raftstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// Recovery is the open data folder of a master that does not run. The majority of its group is lost, and the master
// becomes the only member. Only one goroutine may use it.
type Recovery struct {
	*dataFolder         // not open if the folder has no raft.db yet
	fresh          bool // see Fresh
	state          *masterfsm.State
	base           *raft.SnapshotMeta // the snapshot that was read, nil if there is none
	snapshotHeight uint64             // number of blocks of the chain in it
	minedAt        map[uint64]uint64  // log entry that mined a block, by block
	damaged        []Damage
	part           *logstore.Part     // the log, if it is damaged; nil otherwise
	retired        []masterfsm.LogKey // keys that were retired by an entry behind the snapshot
	last           uint64             // index of the last entry or snapshot
	lastTerm       uint64             // its term
	term           uint64             // the highest in the folder
	undo           bool               // see OpenRecovery
}

// Damage is a snapshot or a segment of the log that cannot be read. A master does not start with one, so Commit moves
// it to another folder.
type Damage struct {
	Path, Aside string // where it is, and where Commit moves it
	Segment     bool   // of the log: all entries that were needed could be read
	Index       uint64 // of the last entry that a snapshot includes
	Err         error
	term        uint64
}

// OpenRecovery opens a folder and reads its state: the newest snapshot that can be read, and every log entry behind
// it. It includes entries that may not be committed, since no majority is left to ask; see ReadBefore for the other
// case. An empty folder gives an empty state and a new member. So does one in which a founding from such a state was
// interrupted. No entry, vote or snapshot is changed; what an interrupted process has left is finished or removed, as
// at a start. A log that is damaged is read if all entries behind the snapshot are good. The error wraps [ErrRemoved]
// if the group has removed the master.
//
// undo is for a recovery that undoes a mistaken one. Then a folder is also accepted if it no longer starts because its
// master has seen the other group's epoch. A folder whose own state has the master as removed is still refused: its
// group continued without it.
//
// keys are those of a folder that is encrypted at rest, nil for none. The error wraps [atrest.ErrNoKey] if one is
// missing.
func OpenRecovery(dir string, undo bool, keys *atrest.Ring, log hclog.Logger) (*Recovery, error) {
	r, err := OpenFolder(dir, keys, log)
	if err != nil {
		return nil, err
	}
	r.undo = undo
	if err := r.checkCommit(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Rehearse makes the folder, which must be a copy, that of another master, in a group of its own: the caller gives
// Commit a new group id. The folder is marked, so that it opens with that cluster token alone.
func (r *Recovery) Rehearse(clusterToken string) {
	r.identity.ID, r.identity.Rehearsal = newMemberID(), rehearsalMark(clusterToken)
	r.identity.Key = nil // the next start makes another one
}

// rehearsalMark returns the hash of a rehearsal's cluster token that its folder keeps.
func rehearsalMark(clusterToken string) string {
	sum := sha256.Sum256([]byte("chainstore rehearsal\x00" + clusterToken))
	return hex.EncodeToString(sum[:])
}

// Rehearsal reports whether this master's folder was made for a rehearsal.
func (s *Store) Rehearsal() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity.Rehearsal != ""
}

// Founding returns the members that the group was founded with, nil unless the folder has them. The state gets them a
// moment after the founding.
func (r *Recovery) Founding() []wire.Member { return r.identity.Founding }

// checkCommit returns an error if the group has removed the master.
func (r *Recovery) checkCommit() error {
	switch {
	case r.identity.Removed && !r.undo:
		return fmt.Errorf("%w; if that was because of a recovery that was a mistake, undo it with "+
			"'chainstore master recover --undo-recovery'", r.identity.checkMember(r.dir))
	case r.state.MasterRemoved(r.identity.ID):
		return fmt.Errorf("%w, according to the state in %s: %s, of group %s; it lacks what the group did since; "+
			"recover another survivor, or found the group again with --from-storage and an empty folder",
			ErrRemoved, r.dir, r.identity.ID, r.identity.Group)
	}
	return nil
}

// OpenFolder is OpenRecovery for reading only. It also opens the folder of a removed master, which Commit refuses.
func OpenFolder(dir string, keys *atrest.Ring, log hclog.Logger) (_ *Recovery, err error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	folder, err := lockFolder(dir, keys, log)
	if err != nil {
		return nil, err
	}
	r := &Recovery{dataFolder: folder, state: masterfsm.New()}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	_, missing := os.Stat(filepath.Join(dir, "raft.db"))
	empty := errors.Is(missing, fs.ErrNotExist)
	r.fresh = r.identity.Group == "" && (empty || r.identity.Recovering)
	switch {
	case r.fresh && empty:
		return r, nil
	case r.identity.Group == "" && !r.fresh:
		return nil, fmt.Errorf("%s is of a master that never belonged to a group: it has nothing to recover", dir)
	}
	if err := r.open(); err != nil {
		if !errors.Is(err, durable.ErrDamaged) || r.logs == nil || !r.identity.inSegments() {
			return nil, err
		}
		if err = r.fail.guard(func() error { return r.openPart(err) }); err != nil {
			return nil, err
		}
	}
	if err := r.fail.guard(func() error { return errors.Join(r.votes.check(r.identity), r.read()) }); err != nil {
		return nil, err
	}
	if r.fresh {
		r.state = masterfsm.New()
	}
	return r, nil
}

// Member describes the master.
func (r *Recovery) Member() wire.Member {
	return wire.Member{ID: r.identity.ID, Group: r.identity.Group, Epoch: r.identity.Epoch, Applied: r.last}
}

// Level is the highest protocol level of the group that the master has recorded, or that its state has.
func (r *Recovery) Level() uint64 { return max(r.identity.Level, r.state.Level()) }

// Stale reports whether the master was refused because its folder is an older copy, which lacks what it acknowledged
// since.
func (r *Recovery) Stale() bool { return r.identity.Stale }

// Fresh reports whether the folder belongs to no group.
func (r *Recovery) Fresh() bool { return r.fresh }

// Last returns the term and the index of the last log entry. Of several survivors, recover the one with the highest
// term, and of these the one with the highest index. Raft elects by the same order, so that one has every committed
// entry that any of them has.
func (r *Recovery) Last() (term, index uint64) { return r.lastTerm, r.last }

// SnapshotHeight returns the number of blocks in the snapshot. These are known to be committed.
func (r *Recovery) SnapshotHeight() uint64 { return r.snapshotHeight }

// Damaged returns the snapshots and segments that cannot be read.
func (r *Recovery) Damaged() []Damage { return r.damaged }

// State returns the state in the folder. It may be changed before Commit.
func (r *Recovery) State() *masterfsm.State { return r.state }

// Log returns the transparency log's name with its signing keys. It includes keys whose retirement is not certain: it
// is in no snapshot, and the end of raft's log may never have been committed.
func (r *Recovery) Log() masterfsm.Log {
	l := r.state.Log()
	l.Keys = append(l.Signing(), r.retired...)
	return l
}

// Commit makes this master the only member of a group of that epoch, reached at raftAddress, with the present state.
// After a crash within Commit, the folder does not open until the recovery has been repeated.
func (r *Recovery) Commit(group string, epoch uint64, raftAddress string) error {
	if err := r.checkCommit(); err != nil {
		return err
	}
	if err := checkMembers(group, []wire.Member{{ID: r.identity.ID, Raft: raftAddress}}, r.identity.ID); err != nil {
		return err
	}
	if epoch <= r.identity.Epoch {
		return fmt.Errorf("epoch %d is not above %d", epoch, r.identity.Epoch)
	}
	if err := r.begin(); err != nil {
		return err
	}
	if err := r.fail.guard(func() error { return r.write(raftAddress) }); err != nil {
		return err
	}
	done := r.identity
	done.Group, done.Epoch, done.Level = group, epoch, r.Level() // a level never falls
	if done.Level >= masterfsm.LevelIdentities {                 // such a folder does not open without its starts
		starts, err := transport.OpenStarts(startsPath(r.dir), false)
		if err == nil {
			_, err = starts.Current()
		}
		if err != nil {
			return diskError("write "+startsPath(r.dir), err)
		}
	}
	done.Recovering, done.Removed, done.Stale = false, false, false
	return r.saveIdentity(done)
}

// begin records that the folder is being changed.
func (r *Recovery) begin() error {
	begun := r.identity
	begun.Recovering, begun.Founding = true, nil
	if err := r.saveIdentity(begun); err != nil {
		return err
	}
	if r.bolt == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	// No other member of the new group exists yet: the starts are of no use.
	if err := os.Remove(startsPath(r.dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return diskError("remove "+startsPath(r.dir), err)
	}
	return r.moveDamaged()
}

// write writes the state as a snapshot behind every entry of the folder, and empties the log.
func (r *Recovery) write(raftAddress string) error {
	term, err := r.writeSnapshot(raftAddress)
	if err != nil {
		return err
	}
	if err := r.emptyLog(); err != nil {
		return err
	}
	return r.votes.SetUint64([]byte(keyTerm), term)
}

// writeSnapshot returns the term of the snapshot.
func (r *Recovery) writeSnapshot(raftAddress string) (term uint64, err error) {
	configuration := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(r.identity.ID),
		Address: transport.ServerAddress(r.identity.ID, raftAddress),
	}}}
	index := r.last + 1
	term = max(r.term, 1)
	for _, d := range r.damaged {
		index, term = max(index, d.Index+1), max(term, d.term)
	}
	_, trans := raft.NewInmemTransport("") // Create asks it for a name, for an old form of snapshots
	sink, err := r.snaps.Create(raft.SnapshotVersionMax, index, term, configuration, index, trans)
	if err != nil {
		return 0, err
	}
	if err := (stateSnapshot{r.state.Snapshot()}).Persist(sink); err != nil {
		return 0, errors.Join(err, sink.Cancel())
	}
	return term, sink.Close()
}

// openPart opens what is behind the newest snapshot of a log that is damaged.
func (r *Recovery) openPart(refused error) error {
	if err := r.readSnapshot(); err != nil || r.base == nil {
		return refused
	}
	path := logPath(r.dir)
	part, err := logstore.OpenPart(path, r.base.Index+1, r.keys)
	if err != nil {
		return diskError("read the end of "+path, err)
	}
	for _, d := range part.Damaged {
		aside := filepath.Join(asidePath(r.dir), filepath.Base(d.Path))
		r.damaged = append(r.damaged, Damage{Path: d.Path, Aside: aside, Segment: true, Err: d.Err})
	}
	r.part, r.logs.LogStore, r.logs.name = part, part, path
	return nil
}

// emptyLog deletes all entries. The segments of a damaged log are moved aside. It runs when a snapshot has all that was
// read: a recovery that is repeated reads that one.
func (r *Recovery) emptyLog() error {
	if r.part != nil {
		path := logPath(r.dir)
		if err := logstore.Clear(path); err != nil {
			return r.fail.disk("empty "+path, err)
		}
		r.part = nil
		return r.openSegments()
	}
	first, last, err := r.logs.bounds()
	if err != nil || last == 0 {
		return err
	}
	return r.logs.DeleteRange(first, last)
}

// moveDamaged moves the snapshots that cannot be read to the folder "damaged".
func (r *Recovery) moveDamaged() error {
	for _, d := range r.damaged {
		if d.Segment {
			continue // emptyLog does it
		}
		if err := moveAside(d.Path, filepath.Dir(d.Aside)); err != nil {
			return diskError("move "+d.Path+" aside", err)
		}
	}
	return nil
}

// read chooses a snapshot, and reads the state from there to the end of the log.
func (r *Recovery) read() error {
	first, last, err := r.logs.bounds()
	if err != nil {
		return err
	}
	if r.part == nil { // openPart has read it
		if err := r.readSnapshot(); err != nil {
			return err
		}
	}
	if r.base != nil {
		r.last, r.lastTerm = r.base.Index, r.base.Term
	}
	if first > r.last+1 || first == 0 && r.base == nil && len(r.damaged) > 0 {
		err := fmt.Errorf("the log begins at entry %d, the newest snapshot that can be read ends at %d: nothing can "+
			"be recovered from this folder; use another survivor's, or found the group again with --from-storage and "+
			"an empty one", first, r.last)
		for _, d := range r.damaged {
			err = errors.Join(err, d.Err)
		}
		return diskError(r.logs.name, err)
	}
	r.minedAt = map[uint64]uint64{}
	if err := r.replay(last); err != nil {
		return err
	}
	term, err := r.votes.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, errNoValue) {
		return err
	}
	r.term = max(r.lastTerm, term)
	return nil
}

// readSnapshot reads the newest snapshot that can be read, and lists those that cannot.
func (r *Recovery) readSnapshot() error {
	list, err := r.snaps.List()
	if err != nil {
		return err
	}
	for _, meta := range list {
		state, err := r.restore(meta.ID)
		if err == nil {
			r.state, r.base, r.snapshotHeight = state, meta, state.Head().Height
			break
		}
		r.addDamaged(meta.ID, err)
	}
	folders, err := os.ReadDir(r.snaps.dir)
	if err != nil {
		return diskError("read "+r.snaps.dir, err)
	}
	for _, f := range folders {
		listed := slices.ContainsFunc(list, func(m *raft.SnapshotMeta) bool { return m.ID == f.Name() })
		if !f.IsDir() || listed {
			continue
		}
		if err := r.snaps.check(f.Name()); err != nil {
			r.addDamaged(f.Name(), err)
		}
	}
	return nil
}

func (r *Recovery) addDamaged(id string, err error) {
	d := Damage{Path: filepath.Join(r.snaps.dir, id), Aside: filepath.Join(asidePath(r.dir), id), Err: err}
	// Raft names a snapshot term-index-time.
	if _, err := fmt.Sscanf(id, "%d-%d-", &d.term, &d.Index); err != nil {
		d.term, d.Index = 0, 0 // not one of raft's
	}
	r.damaged = append(r.damaged, d)
}

// restore reads a snapshot.
func (r *Recovery) restore(id string) (*masterfsm.State, error) {
	reader, err := r.snaps.openReader(id)
	if err != nil {
		return nil, err
	}
	state, err := reader.restore()
	if err = errors.Join(err, reader.Close()); err != nil {
		return nil, err
	}
	return state, nil
}

// ReadBefore reads the state again, up to the entry before the one that mined a block. It is for a log whose end was
// never committed: the group has committed another block of that number. It does not change [Recovery.Last].
func (r *Recovery) ReadBefore(block uint64) error {
	index, known := r.minedAt[block]
	if !known {
		return fmt.Errorf("no entry of the log in %s mines block %d: what is in the snapshot cannot be undone", r.dir,
			block)
	}
	return r.fail.guard(func() (err error) {
		r.state = masterfsm.New()
		if r.base != nil {
			if r.state, err = r.restore(r.base.ID); err != nil {
				return err
			}
		}
		return r.replay(index - 1)
	})
}

// replay applies the entries behind the snapshot, up to index upTo.
func (r *Recovery) replay(upTo uint64) error {
	r.retired = nil
	next := uint64(1)
	if r.base != nil {
		next = r.base.Index + 1
	}
	name := r.logs.name
	for index := next; index <= upTo; index++ {
		var entry raft.Log // a new one each time: the log store may keep its bytes
		if err := r.logs.GetLog(index, &entry); err != nil {
			return diskError(name, err)
		}
		if entry.Type == raft.LogCommand {
			height, keys := r.state.Head().Height, r.state.Log().Keys
			if _, err := r.state.Apply(entry.Data); errors.Is(err, masterfsm.ErrCommand) {
				return diskError(name, fmt.Errorf("entry %d: %w", index, err))
			}
			if r.state.Head().Height > height {
				r.minedAt[height] = index
			}
			for i, now := range r.state.Log().Keys[:len(keys)] { // keys are only appended
				if keys[i].Signs() && !now.Signs() {
					r.retired = append(r.retired, keys[i])
				}
			}
		}
		if index > r.last {
			r.last, r.lastTerm = index, entry.Term
		}
	}
	return nil
}
