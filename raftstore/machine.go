package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/masterfsm"
)

// machine is raft's state machine: the status table under its lock.
type machine struct {
	log       hclog.Logger
	histogram histogram.Histogram // of batches
	fail      *failure
	changed   *broadcast      // notified when the state changes
	termBegan *broadcast      // notified when a term begins
	due       chan<- struct{} // receives when a snapshot may be due

	level atomic.Uint64 // the group's protocol level: that of the state, or a higher one seen before this start

	mu         sync.RWMutex // guards all below
	state      *masterfsm.State
	applied    uint64  // index of the last entry that is in the state
	broken     error   // why nothing is applied any more
	logged     logSize // what was applied since the start
	snapshotAt logSize // logged, when the last snapshot began
	policy     snapshotPolicy
}

// logSize is an amount of log.
type logSize struct{ entries, bytes uint64 }

// snapshotPolicy decides when a snapshot is due: see DESIGN.md.
type snapshotPolicy struct {
	entries, bytes uint64
	last           uint64 // bytes of the last snapshot
}

// maxEntriesFactor times the threshold of entries is when a snapshot is due at the latest.
const maxEntriesFactor = 16

func (p snapshotPolicy) due(g logSize) bool {
	if g.entries < p.entries && g.bytes < p.bytes {
		return false
	}
	return g.bytes >= p.last || g.entries >= maxEntriesFactor*p.entries
}

// Apply applies one entry.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries under one lock. The result of each is that of the command, or its refusal as an error.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	defer m.histogram.Since(time.Now())
	results := make([]any, len(logs))
	m.mu.Lock()
	term := m.state.Term()
	for i, l := range logs {
		if m.broken != nil {
			results[i] = m.broken
			continue
		}
		if l.Type == raft.LogCommand {
			switch v, err := m.state.Apply(l.Data); {
			case errors.Is(err, masterfsm.ErrCommand):
				m.broken = fmt.Errorf("committed log entry %d: %w", l.Index, err)
				m.fail.report(m.broken)
				results[i] = m.broken
				continue
			case err != nil:
				results[i] = err
			default:
				results[i] = v
			}
		}
		m.applied = l.Index
		m.logged.entries++
		m.logged.bytes += uint64(len(l.Data))
	}
	due := m.broken == nil && m.snapshotDue()
	m.raiseLevel()
	began := m.state.Term() != term
	m.mu.Unlock()
	m.changed.notify()
	if began {
		m.termBegan.notify()
	}
	if due {
		wake(m.due)
	}
	return results
}

// raiseLevel raises the level to that of the state. The caller holds mu.
func (m *machine) raiseLevel() {
	if level := m.state.Level(); level > m.level.Load() {
		m.level.Store(level)
	}
}

// snapshotDue reports whether a snapshot is due. The caller holds mu.
func (m *machine) snapshotDue() bool {
	last := m.snapshotAt
	return m.policy.due(logSize{entries: m.logged.entries - last.entries, bytes: m.logged.bytes - last.bytes})
}

// Snapshot takes a snapshot of the state; raft calls it between two batches.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.broken != nil {
		return nil, m.broken // raft counts more entries as applied than the state has
	}
	return stateSnapshot{m.state.Snapshot()}, nil
}

// Restore replaces the state with that of a snapshot.
func (m *machine) Restore(source io.ReadCloser) error {
	for wrapper, ok := source.(raft.ReadCloserWrapper); ok; wrapper, ok = source.(raft.ReadCloserWrapper) {
		source = wrapper.WrappedReadCloser()
	}
	reader, ok := source.(*snapshotReader)
	if !ok {
		return fmt.Errorf("a snapshot of type %T, without its index", source)
	}
	state, err := reader.restore()
	if err != nil {
		m.fail.report(err)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.state, m.applied, m.snapshotAt = state, reader.meta.Index, m.logged
	m.policy.last = uint64(reader.meta.Size)
	m.raiseLevel()
	m.log.Info("state read from a snapshot", "index", reader.meta.Index, "bytes", reader.meta.Size)
	m.changed.notify()
	m.termBegan.notify()
	return nil
}

// stateSnapshot writes a snapshot of the state into raft's store.
type stateSnapshot struct{ *masterfsm.Snapshot }

// Persist writes the snapshot; raft closes or cancels the sink.
func (s stateSnapshot) Persist(sink raft.SnapshotSink) error {
	if own, ok := sink.(*snapshotSink); ok {
		own.own = true
	}
	return s.Write(sink)
}

// Release does nothing: a snapshot has no resources.
func (s stateSnapshot) Release() {}

// read calls f with the state. Nothing is applied meanwhile.
func (m *machine) read(f func(*masterfsm.State)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state)
}

func (m *machine) appliedIndex() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.applied
}

// arrivals checks the snapshots that a leader sends before they become this master's newest. Raft would first give up
// the older ones and then find that it cannot read the new one.
type arrivals struct {
	group func() string // of this master
	abort func()        // ends the connection on which a snapshot arrives; raft would read it to its end
	// installed is called when a snapshot has become the newest, before raft uses it; nil for nothing.
	installed func() error
}

// arrival is the check of one snapshot.
type arrival struct {
	content *io.PipeWriter
	result  chan error
}

// begin begins the check of a snapshot.
func (a *arrivals) begin() *arrival {
	reader, writer := io.Pipe()
	c := &arrival{content: writer, result: make(chan error, 1)}
	go func() {
		state, err := masterfsm.Restore(reader)
		if err == nil {
			if got, want := state.Group().ID, a.group(); got != "" && got != want {
				err = fmt.Errorf("it is of group %s, this master is of group %s", got, want)
			}
		}
		if err == nil {
			var more [1]byte
			if _, moreErr := io.ReadFull(reader, more[:]); moreErr == nil {
				err = errors.New("it goes on behind its end")
			}
		}
		_ = reader.CloseWithError(errors.Join(errors.New("a snapshot from the leader is refused"), err))
		c.result <- err
	}()
	return c
}

// check checks the next bytes.
func (c *arrival) check(b []byte) error {
	_, err := c.content.Write(b)
	return err
}

// end ends the check, with why if the snapshot is given up, and returns its result.
func (c *arrival) end(why error) error {
	if c == nil {
		return errors.New("a snapshot from the leader is refused: it is empty")
	}
	_ = c.content.CloseWithError(why)
	if err := <-c.result; err != nil {
		return fmt.Errorf("a snapshot from the leader is refused: %w", err)
	}
	return nil
}

const (
	retrySnapshot = time.Second
	retryLacking  = 5 * time.Second // after a snapshot that lacked a resource
)

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
