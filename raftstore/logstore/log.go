package logstore

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// Options say how a log is opened.
type Options struct {
	Aside        string       // folder for files that are moved out of the log's
	SegmentBytes int          // after which a segment is complete: 64 MiB by default
	Logger       hclog.Logger // nil for none
	// Keys are those of the operator. With a key that encrypts, each entry that is appended is encrypted. nil for none:
	// then an encrypted log is refused.
	Keys *atrest.Ring
	// Failed is called when an operation fails whose error no caller gets, such as the removal of a segment. nil for
	// none.
	Failed func(error)

	disk disk
}

// disk carries out an operation that changes a file: "write", "sync", "truncate", "replace", "create" or "delete". The
// last three are durable when they succeed. nil just does it; tests let operations fail.
type disk func(operation, path string, do func() error) error

func (d disk) do(operation, path string, do func() error) error {
	if d == nil {
		return do()
	}
	return d(operation, path, do)
}

// Log is an open log. Any goroutine may call its methods. After an error of a method that changes the log, it must be
// closed.
type Log struct {
	wal    *wal.WAL
	read   func(index uint64, entry *raft.Log) error // of wal; tests replace it
	meta   *metaStore
	tail   *atomic.Int64 // where the content of the last segment ends
	report func(error)
	broken atomic.Pointer[error] // the first error that the library does not return

	mu    sync.Mutex // guards all below, and is held during changes
	mark  markFile
	base  mark // the mark of the newest entry
	keys  *keyring
	plain map[uint64]bool // the ids of segments that had entries in clear when the log was opened
	buf   []byte          // of entries that are encrypted
}

// keptBuffer bounds the memory that is kept for the next append.
const keptBuffer = 1 << 20

// Create makes the folder of an empty log. The folder must not exist. It is durable, besides its own name.
func Create(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := writeSegments(dir, types.PersistentState{}); err != nil {
		return err
	}
	first := make([]byte, slots*slotBytes)
	copy(first, mark{}.encode())
	return durable.Create(markPath(dir), first, 0o600)
}

// Open checks a log that [Create] has made and opens it. The error names a file. It wraps [durable.ErrDamaged] if the
// log has lost an entry or is not as it was written, and [atrest.ErrNoKey] if a key is missing; then nothing was
// changed.
func Open(dir string, o Options) (_ *Log, err error) {
	logger := o.Logger
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	keys, err := openKeys(keysPath(dir), o.Keys, o.disk)
	if err != nil {
		return nil, err
	}
	f := &folder{dir: dir, aside: o.Aside, warn: logger.Warn, disk: o.disk, keys: keys, plain: map[uint64]bool{}}
	if err := f.prepare(); err != nil {
		return nil, err
	}
	if keys.torn {
		if err := keys.write(keys.list); err != nil {
			return nil, err
		}
	}
	if err := durable.RemoveUnfinished(dir); err != nil {
		logger.Warn("temporary files stay in the folder of the log", "error", err)
	}
	l := &Log{report: o.Failed, base: f.newest, tail: new(atomic.Int64), keys: keys, plain: f.plain}
	l.tail.Store(f.end)
	l.meta = &metaStore{dir: dir, failed: l.noteError, state: f.state, disk: o.disk}
	l.mark.disk = o.disk
	l.mark.file, err = durable.OpenFile(markPath(dir), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	l.mark.last = f.mark
	defer func() {
		if err != nil {
			err = errors.Join(err, l.mark.file.Close())
		}
	}()
	l.wal, err = wal.Open(dir, wal.WithMetaStore(l.meta), wal.WithLogger(logger),
		wal.WithSegmentFiler(segment.NewFiler(dir, files{failed: l.noteError, tail: l.tail, disk: o.disk})),
		wal.WithSegmentSize(cmp.Or(o.SegmentBytes, wal.DefaultSegmentSize)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	l.read = l.wal.GetLog
	first, err := l.wal.FirstIndex()
	last, err2 := l.wal.LastIndex()
	if err = errors.Join(err, err2); err == nil && (first != f.first || last != f.last) {
		err = fmt.Errorf("%s: entries %d to %d were found, package wal has %d to %d", dir, f.first, f.last, first, last)
	}
	// From now on the mark is durable, as everything that it says.
	if err == nil {
		err = l.mark.writeSynced(l.base)
	}
	if err != nil {
		return nil, errors.Join(err, l.wal.Close())
	}
	return l, nil
}

// noteError keeps the first error of an operation whose caller may ignore it, reports it, and returns it.
func (l *Log) noteError(err error) error {
	if err == nil {
		return nil
	}
	if l.broken.CompareAndSwap(nil, &err) && l.report != nil {
		l.report(err)
	}
	return err
}

// IsMonotonic returns true: see [raft.MonotonicLogStore].
func (l *Log) IsMonotonic() bool { return true }

// FirstIndex returns the index of the first entry, 0 if there is none.
func (l *Log) FirstIndex() (uint64, error) { return l.wal.FirstIndex() }

// LastIndex returns the index of the last entry, 0 if there is none.
func (l *Log) LastIndex() (uint64, error) { return l.wal.LastIndex() }

// FileOf returns the path of the segment that has an entry, and that of the folder if there is none.
func (l *Log) FileOf(index uint64) string { return l.meta.fileOf(index) }

// GetLog reads an entry, and decrypts it. The error is [raft.ErrLogNotFound], or names the file. It may panic where the
// file is damaged. The caller checks the entry.
func (l *Log) GetLog(index uint64, entry *raft.Log) (err error) {
	// A reader of the library has no hold on the segments before it has found its own: a deletion may close that one
	// first. Then the entry was deleted, or the next attempt finds the right segment.
	for range readAttempts {
		var first uint64
		if first, err = l.wal.FirstIndex(); err != nil {
			return err
		}
		if index < first { // the library returns it as long as the segment has it
			return raft.ErrLogNotFound
		}
		if err = l.read(index, entry); !errors.Is(err, os.ErrClosed) {
			if err == nil {
				err = l.keys.open(entry)
			}
			return l.readError(index, err)
		}
	}
	return l.readError(index, err)
}

// readAttempts is how often an entry is read whose segment was closed meanwhile.
const readAttempts = 8

func (l *Log) readError(index uint64, err error) error {
	if err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		err = fmt.Errorf("%s: entry %d: %w", filepath.Base(l.meta.fileOf(index)), index, err)
	}
	return err
}

// ErrPutOff is returned by an operation that lacks file descriptors, or room for a small file. It has changed nothing,
// and may be tried again.
var ErrPutOff = errors.New("file descriptors or room are lacking")

// operationDescriptors is more than the number of files that an operation opens at a time.
const operationDescriptors = 8

// haveDescriptors returns an error that wraps [ErrPutOff] unless an operation has the descriptors that it needs.
func haveDescriptors() error {
	if err := durable.HaveDescriptors(operationDescriptors); err != nil {
		return fmt.Errorf("%w: %w", ErrPutOff, err)
	}
	return nil
}

// rolls reports whether an append may complete the last segment, or replaces it because it is empty: the library then
// makes a new one.
func (l *Log) rolls(logs []*raft.Log) bool {
	list := l.meta.segments().Segments
	tail, last := list[len(list)-1], logs[len(logs)-1].Index
	// With the header, the commit and the index block.
	end := l.tail.Load() + headerBytes + 2*frameBytes + 4*int64(last+2-min(tail.BaseIndex, last))
	for _, entry := range logs {
		end += int64(len(entry.Data)) + maxOverhead
	}
	return end > int64(tail.SizeLimit) || l.base.index == 0 && logs[0].Index != tail.BaseIndex
}

// StoreLog appends one entry.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries, which must follow the last one. They are durable when it returns. Entries without a
// checksum in their extension field get it. With keys, they are stored encrypted. The error wraps [ErrTooLarge] if one
// has more than [MaxCommand] bytes, or [ErrPutOff]; then none is stored.
func (l *Log) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, entry := range logs {
		if len(entry.Data) > MaxCommand {
			return fmt.Errorf("%w: entry %d has %d bytes, at most %d can be read back", ErrTooLarge, entry.Index,
				len(entry.Data), MaxCommand)
		}
		if len(entry.Extensions) == 0 {
			sum := Checksum(entry)
			entry.Extensions = sum[:]
		}
	}
	logs, err := l.stored(logs)
	if err != nil {
		return err
	}
	if l.rolls(logs) {
		if err := haveDescriptors(); err != nil {
			return err
		}
	}
	if err := l.change(func() error { return l.wal.StoreLogs(logs) }); err != nil {
		return err
	}
	began := l.meta.begins(logs[0].Index)
	if began {
		l.base = mark{base: logs[0].Index}
	}
	for _, entry := range logs {
		l.base.add(entry)
	}
	if began { // the segment before it is complete
		return l.mark.writeSynced(l.base)
	}
	return l.mark.write(l.base)
}

// stored returns entries as they are stored: encrypted if there is a key. The memory is used again by the next call.
// The caller holds mu.
func (l *Log) stored(logs []*raft.Log) ([]*raft.Log, error) {
	if !l.keys.ring.Has() {
		return logs, nil
	}
	if !l.keys.own || l.keys.sealed+len(logs) > maxSealed {
		if err := l.beginKey(); err != nil {
			return nil, err
		}
	}
	if cap(l.buf) > keptBuffer {
		l.buf = nil
	}
	logs, l.buf = l.keys.seal(logs, l.buf)
	return logs, nil
}

// beginKey begins a new data key. The error wraps [ErrPutOff], or the log is not to be used any more. The caller holds
// mu.
func (l *Log) beginKey() error {
	first, err := l.wal.FirstIndex()
	if err != nil {
		return err
	}
	err = l.change(func() error { return l.keys.begin(first) })
	if durable.CanRetry(err) {
		return fmt.Errorf("%w: %w", ErrPutOff, err)
	}
	return l.noteError(err)
}

// Renew encrypts the data keys with the operator's current key, and begins a new one, unless they are. The error is as
// that of [Log.StoreLogs].
func (l *Log) Renew() (changed bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.keys.ring.Has() || l.keys.isCurrent() {
		return false, nil
	}
	err = l.beginKey()
	return err == nil, err
}

// AtRest returns what of the log is encrypted.
func (l *Log) AtRest() (found AtRest) {
	l.keys.mu.RLock()
	found.Keys = idsOf(l.keys.list)
	l.keys.mu.RUnlock()
	for _, s := range l.meta.segments().Segments {
		if l.plain[s.ID] {
			found.Plain++
		}
	}
	return found
}

// change runs a change by the library. Its errors include those that the library does not return.
func (l *Log) change(operation func() error) error {
	if err := l.broken.Load(); err != nil {
		return *err
	}
	err := operation()
	if other := l.broken.Load(); other != nil && err != nil && !errors.Is(err, *other) {
		err = errors.Join(*other, err)
	}
	return err
}

// DeleteRange deletes entries at one end of the log. Before it deletes the newest one, the mark is lowered. If the
// error wraps [ErrPutOff], none was deleted.
func (l *Log) DeleteRange(low, high uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, err := l.wal.FirstIndex()
	if err != nil {
		return err
	}
	last, err := l.wal.LastIndex()
	if err != nil {
		return err
	}
	if last == 0 || low > last || high < first || low > high {
		return nil
	}
	if err := haveDescriptors(); err != nil {
		return err
	}
	if high >= last {
		var lower mark
		if low > first {
			var newest raft.Log
			if err := l.wal.GetLog(low-1, &newest); err != nil {
				return fmt.Errorf("%s: entry %d: %w", filepath.Base(l.meta.fileOf(low-1)), low-1, err)
			}
			lower = mark{base: low, index: low - 1, term: newest.Term}
		}
		if err := l.mark.writeSynced(lower); err != nil {
			return err
		}
		l.base = lower
	}
	return l.change(func() error { return l.wal.DeleteRange(low, high) })
}

// Close closes the log. If clean, the mark is synced first.
func (l *Log) Close(clean bool) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if clean && l.broken.Load() == nil {
		err = l.mark.sync()
	}
	return errors.Join(err, l.wal.Close(), l.mark.file.Close())
}
