package raftstore

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
)

// machine is raft's state machine: the status table under its lock.
type machine struct {
	log     hclog.Logger
	fail    *failure
	changed *broadcast      // when the state changes
	begun   *broadcast      // when a term begins
	due     chan<- struct{} // receives when a snapshot may be due

	level atomic.Uint64 // the group's protocol level: that of the state, or a higher one seen before this start

	mu      sync.RWMutex // guards all below
	state   *masterfsm.State
	applied uint64 // index of the last entry that is in the state
	broken  error  // why nothing is applied any more
	grown   growth // of the log, since the start
	marked  growth // grown, when the last snapshot began
	policy  snapshotPolicy
}

// growth is an amount of log.
type growth struct{ entries, bytes uint64 }

// snapshotPolicy decides when a snapshot is due: see DESIGN.md.
type snapshotPolicy struct {
	entries, bytes uint64
	last           uint64 // bytes of the last snapshot
}

// mostEntries times the threshold of entries is when a snapshot is due at the latest, however large the last one was.
const mostEntries = 16

func (p snapshotPolicy) due(g growth) bool {
	if g.entries < p.entries && g.bytes < p.bytes {
		return false
	}
	return g.bytes >= p.last || g.entries >= mostEntries*p.entries
}

// Apply applies one entry.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch applies entries under one lock. The result of each is that of the command, or its refusal as an error.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	results := make([]any, len(logs))
	m.mu.Lock()
	term := m.state.Term()
	for i, l := range logs {
		if m.broken != nil {
			results[i] = m.broken
			continue
		}
		if l.Type == raft.LogCommand {
			v, err := m.state.Apply(l.Data)
			switch {
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
		m.grown.entries++
		m.grown.bytes += uint64(len(l.Data))
	}
	due := m.broken == nil && m.snapshotDue()
	m.noteLevel()
	begun := m.state.Term() != term
	m.mu.Unlock()
	m.tell(begun)
	if due {
		select {
		case m.due <- struct{}{}:
		default:
		}
	}
	return results
}

// noteLevel raises the level to that of the state. mu is held.
func (m *machine) noteLevel() {
	if level := m.state.Level(); level > m.level.Load() {
		m.level.Store(level)
	}
}

// snapshotDue reports whether a snapshot is due. mu is held.
func (m *machine) snapshotDue() bool {
	return m.policy.due(growth{entries: m.grown.entries - m.marked.entries, bytes: m.grown.bytes - m.marked.bytes})
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
	reader, ok := unwrap(source)
	if !ok {
		return fmt.Errorf("a snapshot of type %T, without its index", source)
	}
	state, err := masterfsm.Restore(reader)
	if err != nil {
		err = diskError("snapshot "+reader.name, err)
		m.fail.report(err)
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return m.broken
	}
	m.state, m.applied, m.marked = state, reader.index, m.grown
	m.policy.last = uint64(reader.size)
	m.noteLevel()
	m.log.Info("state read from a snapshot", "index", reader.index, "bytes", reader.size)
	m.tell(true)
	return nil
}

// tell wakes those that wait for a change of the state, and of the term if one has begun.
func (m *machine) tell(begun bool) {
	m.changed.notify()
	if begun {
		m.begun.notify()
	}
}

// stateSnapshot writes a snapshot of the state into raft's store.
type stateSnapshot struct{ *masterfsm.Snapshot }

// Persist writes the snapshot; raft closes or cancels the sink.
func (s stateSnapshot) Persist(sink raft.SnapshotSink) error {
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
