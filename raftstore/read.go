package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Read lets f look at the state, which does not change meanwhile: f should be quick, and keep nothing but what package
// masterfsm says may be kept.
func (s *Store) Read(f func(*masterfsm.State)) { s.machine.read(f) }

// StateChanged returns a channel that is closed at the next change of the state or of the members. Take it before reading.
func (s *Store) StateChanged() <-chan struct{} { return s.changed.wait() }

// LeaderChanged returns a channel that is closed when this master begins to believe in another leader, or in none, and when a
// term begins, which puts the leader's URL into the state. Take it before reading.
func (s *Store) LeaderChanged() <-chan struct{} { return s.leaderChanged.wait() }

// Applied is the index of the newest log entry that is in the state.
func (s *Store) Applied() uint64 { return s.machine.appliedIndex() }

// WaitApplied waits until the state holds everything up to a log index that [Store.ReadIndex] of the leader gave.
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

// ReadIndex returns the commit index, on the leader, after a majority has confirmed that it still leads. A state that is
// applied up to there holds all that was acknowledged before the call. Calls that come while one is being confirmed
// share the next confirmation. The error wraps [ErrNotLeader], also until this leader's BeginTerm is applied.
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
	s.wmu.Lock()
	s.wait = append(s.wait, answer)
	s.wmu.Unlock()
	select {
	case s.reads <- struct{}{}:
	default:
	}
	select {
	case a := <-answer:
		return a.index, a.err
	case <-ctx.Done():
		return wire.ReadIndex{}, context.Cause(ctx)
	case <-s.fail.dead:
		return wire.ReadIndex{}, ErrClosed
	}
}

// confirmReads answers the waiting ReadIndex calls, all that wait at a time with one confirmation.
func (s *Store) confirmReads(r *raft.Raft) {
	for {
		select {
		case <-s.reads:
		case <-s.stop:
			return
		}
		s.wmu.Lock()
		waiting := s.wait
		s.wait = nil
		s.wmu.Unlock()
		var a readAnswer
		a.index, a.err = s.confirm(r)
		for _, w := range waiting {
			w <- a
		}
	}
}

// confirm takes the commit index, and then has a majority confirm that the index was this leader's to give.
func (s *Store) confirm(r *raft.Raft) (wire.ReadIndex, error) {
	term, ok := leaderTerm(r)
	if !ok {
		return wire.ReadIndex{}, ErrNotLeader
	}
	var begun uint64
	s.machine.read(func(state *masterfsm.State) { begun = state.Term().Term })
	if begun != term {
		return wire.ReadIndex{}, fmt.Errorf("%w: its term %d has not begun", ErrNotLeader, term)
	}
	index := r.CommitIndex()
	// Raft never answers this when its main goroutine has met a failure.
	verified := make(chan error, 1)
	if _, err := s.enter(); err != nil {
		return wire.ReadIndex{}, err
	}
	go func() {
		defer s.calls.Done()
		verified <- r.VerifyLeader().Error()
	}()
	select {
	case err := <-verified:
		if now, ok := leaderTerm(r); err != nil || !ok || now != term {
			return wire.ReadIndex{}, errors.Join(ErrNotLeader, err)
		}
		return wire.ReadIndex{Index: index, Term: term}, nil
	case <-s.fail.dead:
		return wire.ReadIndex{}, ErrClosed
	case <-s.stop:
		return wire.ReadIndex{}, ErrClosed
	}
}
