package raftstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/durable"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// Rescue is the data folder of a master that does not run, open to make that master the whole group: its majority is lost. Its methods
// belong to one goroutine.
type Rescue struct {
	dir      string
	lock     *durable.Lock
	log      hclog.Logger
	files    *Store // only its files are open; nil for a folder that has none yet
	identity identity
	fresh    bool
	state    *masterfsm.State
	last     uint64 // index of the last entry or snapshot
	term     uint64 // the highest that the folder knows of
}

// OpenRescue opens a folder and reads its state: that of the newest snapshot that can be read, with every log entry behind it, committed or
// not, since nobody is left who could tell. An empty folder gives an empty state and a new member. Nothing is changed.
func OpenRescue(dir string, log hclog.Logger) (_ *Rescue, err error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	if err := durable.MkdirAll(dir); err != nil {
		return nil, err
	}
	r := &Rescue{dir: dir, log: log, state: masterfsm.New()}
	if r.lock, err = durable.LockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	if r.identity, err = loadIdentity(dir); err != nil {
		return nil, err
	}
	if r.identity.Removed {
		return nil, r.identity.mayRun(dir)
	}
	_, missing := os.Stat(filepath.Join(dir, "raft.db"))
	if errors.Is(missing, fs.ErrNotExist) && r.identity.Group == "" {
		r.fresh = true
		return r, nil
	}
	if r.identity.Group == "" && !r.identity.Rescue {
		return nil, fmt.Errorf("%s is of a master that never was part of a group: there is nothing in it to recover", dir)
	}
	if err := r.openFiles(); err != nil {
		return nil, err
	}
	return r, r.files.fail.guard(func() error {
		if err := r.files.votes.check(r.identity); err != nil {
			return err
		}
		return r.read()
	})
}

func (r *Rescue) openFiles() error {
	s := &Store{cfg: Config{Dir: r.dir}, log: r.log, fail: newFailure()}
	if err := s.openFiles(); err != nil {
		return err
	}
	r.files = s
	return nil
}

// read reads the state.
func (r *Rescue) read() error {
	s := r.files
	list, err := s.snaps.List()
	if err != nil {
		return err
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	var why error
	found := len(list) == 0
	for _, meta := range list {
		if err := r.restore(meta.ID); err != nil {
			why = errors.Join(why, err)
			continue
		}
		r.last, r.term, found = meta.Index, meta.Term, true
		break
	}
	if !found || first > r.last+1 {
		return errors.Join(diskError(s.logs.name, fmt.Errorf("the log begins at entry %d, the newest snapshot that can be read ends at %d", first, r.last)), why)
	}
	var entry raft.Log
	for index := r.last + 1; index <= last; index++ {
		if err := s.logs.GetLog(index, &entry); err != nil {
			return diskError(s.logs.name, err)
		}
		if entry.Type == raft.LogCommand {
			if _, err := r.state.Apply(entry.Data); errors.Is(err, masterfsm.ErrCommand) {
				return diskError(s.logs.name, fmt.Errorf("entry %d: %w", index, err))
			}
		}
		r.last, r.term = index, entry.Term
	}
	term, err := s.votes.GetUint64([]byte(keyTerm))
	if err != nil && err.Error() != errNoValue.Error() {
		return err
	}
	r.term = max(r.term, term)
	return nil
}

// restore reads a snapshot. One that is damaged makes way for an older one.
func (r *Rescue) restore(id string) error {
	if err := r.files.snaps.check(id); err != nil {
		return err
	}
	_, reader, err := r.files.snaps.FileSnapshotStore.Open(id)
	path := filepath.Join(r.files.snaps.dir, id)
	if err != nil {
		return diskError("snapshot "+path, err)
	}
	state, err := masterfsm.Restore(reader)
	if err = errors.Join(err, reader.Close()); err != nil {
		return diskError("snapshot "+path, err)
	}
	r.state = state
	return nil
}

// Member is who the master is.
func (r *Rescue) Member() wire.Member {
	return wire.Member{ID: r.identity.ID, Group: r.identity.Group, Epoch: r.identity.Epoch, Applied: r.last}
}

// Fresh reports whether the folder was empty.
func (r *Rescue) Fresh() bool { return r.fresh }

// LastIndex is the index of the last log entry.
func (r *Rescue) LastIndex() uint64 { return r.last }

// State is what the folder holds. It may be changed before Commit.
func (r *Rescue) State() *masterfsm.State { return r.state }

// Commit makes this master the only member of a group of that epoch, reached at raftAddress, with the state as it is now. A crash on the way
// leaves a folder that does not start until the rescue was done again.
func (r *Rescue) Commit(group string, epoch uint64, raftAddress string) error {
	if err := checkMembers(group, []wire.Member{{ID: r.identity.ID, Raft: raftAddress}}, r.identity.ID); err != nil {
		return err
	}
	if epoch <= r.identity.Epoch {
		return fmt.Errorf("epoch %d is not above %d", epoch, r.identity.Epoch)
	}
	begun := r.identity
	begun.Rescue, begun.Founding = true, nil
	if err := begun.save(r.dir); err != nil {
		return diskError("write to "+r.dir, err)
	}
	r.identity = begun
	if r.files == nil {
		if err := r.openFiles(); err != nil {
			return err
		}
	}
	if err := r.files.fail.guard(func() error { return r.write(raftAddress) }); err != nil {
		return err
	}
	done := begun
	done.Group, done.Epoch, done.Rescue = group, epoch, false
	if err := done.save(r.dir); err != nil {
		return diskError("write to "+r.dir, err)
	}
	r.identity = done
	return nil
}

// write writes the state as a snapshot behind everything that the folder knows of, and cuts the log.
func (r *Rescue) write(raftAddress string) error {
	s := r.files
	configuration := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(r.identity.ID), Address: serverAddress(r.identity.ID, raftAddress),
	}}}
	index, term := r.last+1, max(r.term, 1)
	_, transport := raft.NewInmemTransport("") // the snapshot's form of old asks it for a name
	sink, err := s.snaps.Create(raft.SnapshotVersionMax, index, term, configuration, index, transport)
	if err != nil {
		return err
	}
	if err := (stateSnapshot{r.state.Snapshot()}).Persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	if last > 0 {
		if err := s.logs.DeleteRange(first, last); err != nil {
			return err
		}
	}
	return s.votes.SetUint64([]byte(keyTerm), term)
}

// Close gives the folder back.
func (r *Rescue) Close() error {
	var err error
	if r.files != nil {
		err = r.files.bolt.Close()
	}
	if r.lock != nil {
		err = errors.Join(err, r.lock.Close())
	}
	return err
}
