package raftstore

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/raftstore/logstore"
)

const (
	cachedEntries = 512
	cachedBytes   = 16 << 20
	// replayBytes bounds the entries that are kept in memory between the two times that raft reads them at its start.
	replayBytes   = 64 << 20
	entryOverhead = 128 // bytes of an entry in memory, besides its data
	// deleteBatch bounds how long a trim of the log delays appends.
	deleteBatch = 2048
)

// logStore wraps raft's log store. It checks entries, caches the newest, knows their sizes, and allows no operation
// after the first failure. Any goroutine may call its methods.
type logStore struct {
	raft.LogStore
	segments *logstore.Log // the same as LogStore, nil where the log is in raft.db
	name     string        // of the file or folder, for errors
	fail     *failure
	watchdog *watchdog
	snaps    *snapshotStore
	reserved func(bytes uint64) error
	fsync    histogram.Histogram // of successful writes
	applied  func() uint64       // returns the newest entry in the state; nil in a recovery
	follows  func() bool         // reports whether this master does not lead; nil for never

	mu     sync.RWMutex // guards all below
	recent window[raft.Log]
	bytes  int              // of data in recent
	replay window[raft.Log] // what raft has read to find its members, and will read again to apply
	used   int              // bytes of replayBytes that were used so far
	sizes  window[uint32]   // bytes of data of the newest entries, back to the first that was seen since the start

	// truncated says that the end of the log was deleted. Raft replaces it at once. If it gets an error then, it goes
	// on as if it had the deleted entries: it would refuse all others, or be elected with a log that it does not have.
	truncated bool
}

// window has a value for each index of a range.
type window[T any] struct {
	first uint64
	items []T
}

// end returns the index after the last.
func (w *window[T]) end() uint64 { return w.first + uint64(len(w.items)) }

// set appends the value of an index. If the index does not follow the last one, the window is reset to it.
func (w *window[T]) set(index uint64, v T) {
	if index != w.end() {
		w.first, w.items = index, nil
	}
	w.items = append(w.items, v)
}

func (w *window[T]) get(index uint64) (v T, ok bool) {
	if index < w.first || index-w.first >= uint64(len(w.items)) {
		return v, false
	}
	return w.items[index-w.first], true
}

// remove removes the indices from low to high, which are at one of the ends.
func (w *window[T]) remove(low, high uint64) {
	low, high = max(low, w.first), min(high+1, w.end())
	switch {
	case low >= high:
	case low == w.first:
		clear(w.items[:high-low])
		if w.items, w.first = w.items[high-low:], high; len(w.items) == 0 {
			w.items = nil
		}
	default:
		w.items = w.items[:low-w.first]
	}
}

// GetLog returns an entry. A damaged entry is a failure, and ends the calling goroutine.
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	if cached, ok := s.cached(index); ok {
		*l = cached
		return nil
	}
	err := readMapped(func() error { return s.LogStore.GetLog(index, l) })
	if errors.Is(err, raft.ErrLogNotFound) {
		if s.endsSnapshot(index, l) {
			return nil
		}
		if !s.isLost(index) {
			return err
		}
		err = fmt.Errorf("entry %d is missing, those around it are there", index)
	}
	if err == nil && l.Index != index {
		err = fmt.Errorf("entry %d is in the place of entry %d", l.Index, index)
	}
	if err == nil {
		err = logstore.CheckEntry(l)
	}
	if err != nil {
		s.fail.exit(diskError("read "+s.fileOf(index), err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// At its start, raft reads the last entry, and then all that follow the snapshot, in order.
	if _, known := s.sizes.get(index); !known && (index == s.sizes.end() || len(s.sizes.items) <= 1) {
		s.sizes.set(index, uint32(len(l.Data)))
		if s.used += len(l.Data) + entryOverhead; s.used <= replayBytes {
			s.replay.set(index, *l)
		}
	}
	return nil
}

// fileOf returns the name of the file that has an entry.
func (s *logStore) fileOf(index uint64) string {
	if s.segments != nil {
		return s.segments.FileOf(index)
	}
	return s.name
}

// endsSnapshot answers a follower's question for the last entry of its newest snapshot, which is not in its log. Raft
// 1.7.3 compares the term of that entry with the one that the leader has, and uses the term of the snapshot only if no
// entry follows. Without an answer it refuses whatever the leader sends, and the leader sends its snapshot over and
// over: https://github.com/hashicorp/raft/issues/697.
//
// A leader sends the entries that it has, so it must not get this one. If it gets it in the moment at which it stops to
// lead, the checksum is wrong, and the receiver refuses the entry.
func (s *logStore) endsSnapshot(index uint64, l *raft.Log) bool {
	last := s.snaps.newest()
	if last.index != index || s.follows == nil || !s.follows() {
		return false
	}
	*l = raft.Log{Index: index, Term: last.term, Type: raft.LogNoop, Extensions: []byte{0}}
	return true
}

// errContradicts is the failure after a snapshot of the leader has replaced the last entry of the log.
var errContradicts = errors.New("a snapshot from the leader has replaced the last entries of this master's log, " +
	"which were never committed: start the master again")

// installed runs when a snapshot of the leader has become the newest, before raft uses it. Where the snapshot ends at
// the last entry of the log, and that was another one, raft keeps its term in memory, and would refuse all that the
// leader sends. Then the calling goroutine ends with a failure.
func (s *logStore) installed() error {
	_, end, err := s.bounds()
	if err != nil {
		return err
	}
	if err := s.dropUnmatched(); err != nil {
		return err
	}
	if _, last, err := s.bounds(); err != nil || last > 0 || end != s.snaps.newest().index {
		return err
	}
	s.fail.exit(errContradicts)
	return nil
}

// dropUnmatched deletes the entries up to the end of the newest snapshot, unless its last entry is among them. Without
// it, they may be entries that were never committed (figure 13 of the Raft paper, rule 7). If this master became the
// leader, it would send them to a member that lacks them, and that member would apply them. It also closes the gap that
// a snapshot behind the log leaves: segments cannot have one.
func (s *logStore) dropUnmatched() error {
	last := s.snaps.newest()
	first, end, err := s.bounds()
	if err != nil || first == 0 || first > last.index {
		return err
	}
	var l raft.Log
	err = readMapped(func() error { return s.LogStore.GetLog(last.index, &l) })
	switch {
	case err == nil && l.Term == last.term:
		return nil
	case err != nil && !errors.Is(err, raft.ErrLogNotFound):
		return s.fail.disk("read "+s.fileOf(last.index), err)
	}
	return s.remove(first, min(last.index, end), deleteBatch)
}

// isLost reports whether a missing entry should exist. Below the newest snapshot there may be a gap: a snapshot from
// the leader leaves one.
func (s *logStore) isLost(index uint64) bool {
	first, last, err := s.bounds()
	return err == nil && index > s.snaps.newest().index && index >= first && index <= last
}

// cached returns an entry that is in memory.
func (s *logStore) cached(index uint64) (raft.Log, bool) {
	s.mu.RLock()
	l, ok := s.recent.get(index)
	search := !ok && len(s.replay.items) > 0
	s.mu.RUnlock()
	if !search {
		return l, ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok = s.replay.get(index)
	if index == s.replay.first {
		s.replay.remove(index, index) // this was the second time: raft applies it now
	}
	return l, ok
}

// dropReplay drops entries up to an index that are kept for raft's second read: they are in a snapshot, perhaps of
// another master, so raft does not read them again.
func (s *logStore) dropReplay(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replay.remove(s.replay.first, index)
}

// StoreLog stores one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries. Those that came from another master are checked first. While too little of the disk is
// free, it stores none and returns an error. A failure of the disk ends the calling goroutine.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	s.fail.exitIfFailed()
	s.mu.RLock()
	truncated := s.truncated
	s.mu.RUnlock()
	for _, l := range logs {
		if len(l.Extensions) == 0 {
			sum := logstore.Checksum(l)
			l.Extensions = sum[:]
		} else if err := logstore.CheckEntry(l); err != nil {
			err = fmt.Errorf("from the leader: %w", err)
			if truncated {
				s.fail.exit(fmt.Errorf("replace the end of %s: %w", s.name, err))
			}
			return err
		}
	}
	if err := s.checkNext(logs); err != nil {
		return err
	}
	// Raft takes this for a log that cannot be written now: a leader steps down, and a follower refuses the entries,
	// which the leader sends again.
	if err := s.reserved(appendSize(logs)); err != nil && !truncated {
		return fmt.Errorf("append to %s: %w", s.name, err)
	}
	for err := s.append(logs); err != nil; err = s.append(logs) {
		if !truncated {
			return err
		}
		s.fail.exitIfFailed()
		time.Sleep(retryAppend)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.truncated = false
	for _, l := range logs {
		s.evict(l.Index, l.Index) // an entry is replaced only if it was never committed
		s.replay.remove(l.Index, s.replay.end())
		if s.recent.end() != l.Index {
			s.bytes = 0
		}
		s.recent.set(l.Index, *l)
		s.bytes += len(l.Data)
		s.sizes.set(l.Index, uint32(len(l.Data)))
	}
	for len(s.recent.items) > 1 && (s.bytes > cachedBytes || len(s.recent.items) > cachedEntries) {
		s.evict(s.recent.first, s.recent.first)
	}
	return nil
}

// retryAppend is the pause between two attempts of an append that must not be put off.
const retryAppend = 20 * time.Millisecond

// append appends entries, or returns an error if file descriptors are lacking. Any other failure ends the calling
// goroutine.
func (s *logStore) append(logs []*raft.Log) error {
	defer s.watchdog.watch("append to " + s.name)()
	began := time.Now()
	err := readMapped(func() error { return s.LogStore.StoreLogs(logs) })
	switch {
	case errors.Is(err, logstore.ErrPutOff):
		return fmt.Errorf("append to %s: %w", s.name, err)
	case err != nil:
		s.fail.exit(diskError("append to "+s.name, err))
	}
	s.fsync.Since(began)
	return nil
}

// checkNext returns an error if entries do not follow the last one of segments, which can have no gap.
func (s *logStore) checkNext(logs []*raft.Log) error {
	if s.segments == nil {
		return nil
	}
	_, last, err := s.bounds()
	if err == nil && last > 0 && len(logs) > 0 && logs[0].Index != last+1 {
		err = fmt.Errorf("append to %s: entry %d does not follow the last one, %d", s.name, logs[0].Index, last)
	}
	return err
}

// appendSize returns about how many bytes the log grows by.
func appendSize(logs []*raft.Log) (bytes uint64) {
	for _, l := range logs {
		bytes += uint64(len(l.Data)) + entryOverhead
	}
	return bytes
}

// evict removes entries from the cache. The caller holds mu.
func (s *logStore) evict(low, high uint64) {
	for i := max(low, s.recent.first); i <= high; i++ {
		l, ok := s.recent.get(i)
		if !ok {
			break
		}
		s.bytes -= len(l.Data)
	}
	s.recent.remove(low, high)
}

// DeleteRange deletes entries at one end of the log. At the front it deletes them in pieces, so that appends can run in
// between. At the end it deletes nothing while there is no room for other entries. It deletes no entry that is
// committed and in no snapshot. A failure is reported and returned.
func (s *logStore) DeleteRange(low, high uint64) error {
	if err := s.fail.get(); err != nil {
		return err
	}
	first, last, err := s.bounds()
	if err != nil {
		return err
	}
	if s.applied != nil {
		// A trim ends at a snapshot, and entries that are replaced were not committed.
		if from, to := max(low, s.snaps.newest().index+1), min(high, s.applied()); from <= to {
			return fmt.Errorf("the leader contradicts committed entries: it replaces entries %d to %d", from, to)
		}
	}
	if last == 0 || high < first {
		return nil
	}
	piece := uint64(deleteBatch)
	if low > first {
		if err := s.reserved(0); err != nil {
			return fmt.Errorf("replace the end of %s: %w", s.name, err)
		}
		piece = high - low + 1
	}
	if err := s.remove(low, high, piece); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.truncated = s.truncated || high >= last
	return nil
}

// remove deletes entries at one end of the log, so many at once. Segments are removed as whole files, all at once.
func (s *logStore) remove(low, high, piece uint64) error {
	if s.segments != nil {
		return s.removeSegments(low, high)
	}
	s.forget(low, high)
	for ; low <= high; low += piece {
		done := s.watchdog.watch("trim " + s.name)
		err := readMapped(func() error { return s.LogStore.DeleteRange(low, min(low+piece-1, high)) })
		done()
		if err != nil {
			return s.fail.disk("trim "+s.name, err)
		}
	}
	return nil
}

// removeSegments is remove for a log in segments. A lack of file descriptors is no failure: nothing was removed.
func (s *logStore) removeSegments(low, high uint64) error {
	defer s.watchdog.watch("trim " + s.name)()
	err := s.LogStore.DeleteRange(low, high)
	if errors.Is(err, logstore.ErrPutOff) {
		return fmt.Errorf("trim %s: %w", s.name, err)
	}
	s.forget(low, high)
	if err != nil {
		return s.fail.disk("trim "+s.name, err)
	}
	return nil
}

// forget drops what is in memory of entries at one end of the log.
func (s *logStore) forget(low, high uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.evict(low, high)
	s.replay.remove(low, high)
	s.sizes.remove(low, high)
}

// FirstIndex returns the index of the first entry, 0 if there is none.
func (s *logStore) FirstIndex() (uint64, error) {
	first, _, err := s.bounds()
	return first, err
}

// LastIndex returns the index of the last entry, 0 if there is none.
func (s *logStore) LastIndex() (uint64, error) {
	_, last, err := s.bounds()
	return last, err
}

// bounds returns the indices of the first and the last entry, 0 if there is none. A failure is reported and
// returned.
func (s *logStore) bounds() (first, last uint64, err error) {
	err = readMapped(func() (err error) {
		if first, err = s.LogStore.FirstIndex(); err == nil {
			last, err = s.LogStore.LastIndex()
		}
		return err
	})
	if err != nil {
		return 0, 0, s.fail.disk("read "+s.name, err)
	}
	return first, last, nil
}

// trailing returns how many of the newest entries have at most maxBytes together: at most maxEntries, at least one, and
// only entries that were seen since the start.
func (s *logStore) trailing(maxBytes, maxEntries uint64) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var n, bytes uint64
	for i := len(s.sizes.items) - 1; i >= 0 && n < maxEntries; i-- {
		bytes += uint64(s.sizes.items[i])
		if bytes > maxBytes {
			break
		}
		n++
	}
	return max(n, 1)
}
