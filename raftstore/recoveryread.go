package raftstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
)

// read chooses a snapshot, and reads the state from there to the end of the log.
func (r *Recovery) read() error {
	s := r.files
	first, err := s.logs.FirstIndex()
	if err != nil {
		return err
	}
	last, err := s.logs.LastIndex()
	if err != nil {
		return err
	}
	if err := r.choose(); err != nil {
		return err
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
		return diskError(s.logs.name, err)
	}
	r.minedAt = map[uint64]uint64{}
	if err := r.replay(last); err != nil {
		return err
	}
	term, err := s.votes.GetUint64([]byte(keyTerm))
	if err != nil && err.Error() != errNoValue.Error() {
		return err
	}
	r.term = max(r.lastTerm, term)
	return nil
}

// choose reads the newest snapshot that can be read, and lists those that cannot.
func (r *Recovery) choose() error {
	snaps := r.files.snaps
	list, err := snaps.List()
	if err != nil {
		return err
	}
	for _, meta := range list {
		state, err := r.restore(meta.ID)
		if err == nil {
			r.state, r.base, r.settled = state, meta, state.Head().Height
			break
		}
		r.foundDamaged(meta.ID, err)
	}
	folders, err := os.ReadDir(snaps.dir)
	if err != nil {
		return diskError("read "+snaps.dir, err)
	}
	for _, f := range folders {
		listed := slices.ContainsFunc(list, func(m *raft.SnapshotMeta) bool { return m.ID == f.Name() })
		if !f.IsDir() || listed {
			continue
		}
		if err := snaps.check(f.Name()); err != nil {
			r.foundDamaged(f.Name(), err)
		}
	}
	return nil
}

func (r *Recovery) foundDamaged(id string, err error) {
	d := Damage{Path: filepath.Join(r.files.snaps.dir, id), Aside: filepath.Join(r.dir, "damaged", id), Err: err}
	// Raft names a snapshot term-index-time.
	if _, err := fmt.Sscanf(id, "%d-%d-", &d.term, &d.Index); err != nil {
		d.term, d.Index = 0, 0 // not one of raft's
	}
	r.damaged = append(r.damaged, d)
}

// restore reads a snapshot.
func (r *Recovery) restore(id string) (*masterfsm.State, error) {
	path := filepath.Join(r.files.snaps.dir, id)
	if err := r.files.snaps.check(id); err != nil {
		return nil, err
	}
	_, reader, err := r.files.snaps.FileSnapshotStore.Open(id)
	if err != nil {
		return nil, diskError("snapshot "+path, err)
	}
	state, err := masterfsm.Restore(reader)
	if err = errors.Join(err, reader.Close()); err != nil {
		return nil, diskError("snapshot "+path, err)
	}
	return state, nil
}

// ReadBelow reads the state again, up to the entry before the one that mined a block. It is for a log whose end was
// never committed: the group has committed another block of that number. The log's last entry stays what it is.
func (r *Recovery) ReadBelow(block uint64) error {
	index, known := r.minedAt[block]
	if !known {
		return fmt.Errorf("no entry of the log in %s mines block %d: what is in the snapshot cannot be undone", r.dir,
			block)
	}
	return r.files.fail.guard(func() (err error) {
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
	name := r.files.logs.name
	for index := next; index <= upTo; index++ {
		var entry raft.Log // a new one each time: the log store may keep its bytes
		if err := r.files.logs.GetLog(index, &entry); err != nil {
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
