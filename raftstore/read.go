package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Read calls f with the state, which does not change meanwhile. f should be quick, and keep only what package masterfsm
// allows to keep.
func (s *Store) Read(f func(*masterfsm.State)) { s.machine.read(f) }

// StateChanged returns a channel that is closed at the next change of the state or of the members. Take it before
// reading.
func (s *Store) StateChanged() <-chan struct{} { return s.changed.wait() }

// LeaderChanged returns a channel that is closed when this master learns of another leader, or of none, and when a term
// begins, which puts the leader's URL into the state. Take it before reading.
func (s *Store) LeaderChanged() <-chan struct{} { return s.leaderChanged.wait() }

// Applied returns the index of the newest log entry that is in the state.
func (s *Store) Applied() uint64 { return s.machine.appliedIndex() }

// WaitApplied waits until the state includes everything up to a log index that the leader's [Store.ReadIndex] returned.
func (s *Store) WaitApplied(ctx context.Context, index uint64) error {
	for {
		changed := s.changed.wait()
		if s.machine.appliedIndex() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for log index %d: %w", index, context.Cause(ctx))
		case <-s.closed:
			return ErrClosed
		case <-s.fail.dead:
			return ErrClosed
		}
	}
}

type readAnswer struct {
	index wire.ReadIndex
	err   error
}

// ReadIndex returns the leader's commit index, after a majority has confirmed that it still leads. A state that is
// applied up to that index includes everything that was acknowledged before the call. Calls that come during a
// confirmation share the next one. The error wraps [ErrNotLeader]; so it does on a leader whose BeginTerm is not
// applied yet.
func (s *Store) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	r, err := s.enter()
	if err != nil {
		return wire.ReadIndex{}, err
	}
	defer s.calls.Done()
	if r.State() != raft.Leader {
		return wire.ReadIndex{}, ErrNotLeader
	}
	answer := make(chan readAnswer, 1)
	s.readMu.Lock()
	s.queued = append(s.queued, answer)
	s.readMu.Unlock()
	wake(s.reads)
	select {
	case a := <-answer:
		return a.index, a.err
	case <-ctx.Done():
		return wire.ReadIndex{}, context.Cause(ctx)
	case <-s.fail.dead:
		return wire.ReadIndex{}, ErrClosed
	}
}

// confirmReads answers the waiting ReadIndex calls. Calls that wait at the same time share one confirmation.
func (s *Store) confirmReads(r *raft.Raft) {
	for {
		select {
		case <-s.reads:
		case <-s.stop:
			return
		}
		s.readMu.Lock()
		waiting := s.queued
		s.queued = nil
		s.readMu.Unlock()
		var a readAnswer
		a.index, a.err = s.confirm(r)
		for _, w := range waiting {
			w <- a
		}
	}
}

// confirm reads the commit index, and then has a majority confirm that this master led when it read the index.
func (s *Store) confirm(r *raft.Raft) (wire.ReadIndex, error) {
	term, ok := leaderTerm(r)
	if !ok {
		return wire.ReadIndex{}, ErrNotLeader
	}
	var began uint64
	s.machine.read(func(state *masterfsm.State) { began = state.Term().Term })
	if began != term {
		return wire.ReadIndex{}, fmt.Errorf("%w: its term %d has not begun", ErrNotLeader, term)
	}
	index := r.CommitIndex()
	_, err := s.callRaft(context.Background(), ErrClosed, func(r *raft.Raft) (any, error) {
		return nil, r.VerifyLeader().Error()
	})
	if now, ok := leaderTerm(r); err != nil || !ok || now != term {
		return wire.ReadIndex{}, errors.Join(ErrNotLeader, err)
	}
	return wire.ReadIndex{Index: index, Term: term}, nil
}

// broadcast wakes all goroutines that wait for the next change of one kind.
type broadcast struct {
	mu   sync.Mutex
	next chan struct{} // nil until wait is called after the last change
}

// wait returns a channel that is closed at the next change.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// notify closes the channel that wait has returned.
func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
