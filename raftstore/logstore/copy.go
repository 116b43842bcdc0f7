package logstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// Copy makes the folder of a log that has the entries from first to last of another one, none if last is 0. The folder
// must not exist. Each entry is checked, and what was written is opened again and compared. It is durable, besides its
// own name. The error wraps [ErrTooLarge] if an entry cannot be stored.
func Copy(dir string, from raft.LogStore, first, last uint64, o Options) error {
	if err := Create(dir); err != nil {
		return err
	}
	checked := checkedLog{from}
	if err := with(dir, o, func(l *Log) error { return raftconfig.CopyEntries(l, checked, first, last) }); err != nil {
		return err
	}
	return with(dir, o, func(l *Log) error { return raftconfig.CompareEntries(l, checked, first, last) })
}

// with opens a log for one operation.
func with(dir string, o Options, operation func(*Log) error) error {
	l, err := Open(dir, o)
	if err != nil {
		return err
	}
	err = operation(l)
	return errors.Join(err, l.Close(err == nil))
}

// checkedLog is a log whose entries are checked when they are read.
type checkedLog struct{ raft.LogStore }

// GetLog reads an entry.
func (c checkedLog) GetLog(index uint64, entry *raft.Log) error {
	if err := c.LogStore.GetLog(index, entry); err != nil {
		return err
	}
	if entry.Index != index {
		return fmt.Errorf("entry %d is in the place of entry %d", entry.Index, index)
	}
	return CheckEntry(entry)
}
