package raftconfig

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/chainstore/chainstore/internal/durable"
)

// movedIndex is the index of the only entry of a log store whose entries are in another log. A program that takes the
// file for the log refuses it: the log would begin behind its snapshots.
const movedIndex = math.MaxUint64

// raft-boltdb's names of its buckets: that of the entries, and that of the stable store.
var logBucket, stableBucket = []byte("logs"), []byte("conf")

// Moved reports whether the entries of a log store are in another log: see [ReplaceLog] and [MarkMoved]. replaced says
// that it does not have them any more.
func Moved(log *raftboltdb.BoltStore) (moved, replaced bool, err error) {
	first, err := log.FirstIndex()
	last, err2 := log.LastIndex()
	return last == movedIndex, first == movedIndex, errors.Join(err, err2)
}

// MarkMoved notes in a log store that its entries are in another log. It keeps them, and needs little room.
func MarkMoved(log *raftboltdb.BoltStore) error { return log.StoreLog(&raft.Log{Index: movedIndex}) }

// ReplaceLog replaces the log store at a path, which must not be open, by one with the same term and vote. It gets the
// entries from first to last of another log, none if last is 0. Without a log it says that its entries are elsewhere:
// see [Moved]. The new file is durable, and appears at its path when it is complete.
func ReplaceLog(path string, log raft.LogStore, first, last uint64) error {
	if err := CheckLog(path); err != nil {
		return err
	}
	stable, err := readStable(path)
	if err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	err = writeReplacement(temp, stable, log, first, last)
	if err == nil {
		err = compareLog(temp, stable, log, first, last)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temp))
	}
	return durable.Rename(temp, path)
}

// stableValue is a value of the stable store.
type stableValue struct{ key, value []byte }

func readStable(path string) (values []stableValue, err error) {
	o := options()
	o.ReadOnly = true
	db, err := bbolt.Open(path, 0o600, o)
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(stableBucket)
		if bucket == nil {
			return nil
		}
		return bucket.ForEach(func(key, value []byte) error {
			values = append(values, stableValue{bytes.Clone(key), bytes.Clone(value)})
			return nil
		})
	})
	return values, errors.Join(err, db.Close())
}

func writeReplacement(path string, stable []stableValue, log raft.LogStore, first, last uint64) (err error) {
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: options(), NoSync: false})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	for _, v := range stable {
		if err := store.Set(v.key, v.value); err != nil {
			return err
		}
	}
	if log == nil {
		return MarkMoved(store)
	}
	return CopyEntries(store, log, first, last)
}

// compareLog returns an error unless a file has what writeReplacement should have written.
func compareLog(path string, stable []stableValue, log raft.LogStore, first, last uint64) (err error) {
	written, err := readStable(path)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(written, stable, func(a, b stableValue) bool {
		return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
	}) {
		return fmt.Errorf("%s: its term and vote are not those of the file that it replaces", path)
	}
	store, err := OpenLog(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if log == nil {
		return nil
	}
	return CompareEntries(store, log, first, last)
}

const (
	copiedEntries = 256 // at a time
	copiedBytes   = 4 << 20
)

// CopyEntries appends the entries from first to last of a log to another one, none if last is 0.
func CopyEntries(to, from raft.LogStore, first, last uint64) error {
	var batch []*raft.Log
	size := 0
	for index := first; index <= last && last > 0; index++ {
		entry := new(raft.Log)
		if err := from.GetLog(index, entry); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		batch, size = append(batch, entry), size+len(entry.Data)
		if len(batch) < copiedEntries && size < copiedBytes && index < last {
			continue
		}
		if err := to.StoreLogs(batch); err != nil {
			return err
		}
		batch, size = nil, 0
	}
	return nil
}

// CompareEntries returns an error unless a log has exactly the entries from first to last of another one, none if last
// is 0.
func CompareEntries(log, with raft.LogStore, first, last uint64) error {
	gotFirst, err := log.FirstIndex()
	gotLast, err2 := log.LastIndex()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if gotLast != last || last > 0 && gotFirst != first {
		return fmt.Errorf("the copy has entries %d to %d, not %d to %d", gotFirst, gotLast, first, last)
	}
	for index := first; index <= last && last > 0; index++ {
		var want, got raft.Log
		if err := errors.Join(with.GetLog(index, &want), log.GetLog(index, &got)); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type ||
			!bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) {
			return fmt.Errorf("entry %d of the copy is another one", index)
		}
	}
	return nil
}
