package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
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

// Committed returns the index of the newest log entry that this master knows to be committed. It is never lower than
// that of an entry that is applied: after a start raft knows none at first.
func (s *Store) Committed() uint64 {
	applied := s.machine.appliedIndex()
	if r := s.raft.Load(); r != nil {
		return max(applied, r.CommitIndex())
	}
	return applied
}

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

// confirm reads the commit index, and then has a majority confirm that no other master led in a later term when this
// one read the index.
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
	err := s.confirmTerm(r, term)
	if now, ok := leaderTerm(r); err != nil || !ok || now != term {
		return wire.ReadIndex{}, errors.Join(ErrNotLeader, err)
	}
	return wire.ReadIndex{Index: index, Term: term}, nil
}

// confirmTerm has a majority confirm the leader of a term.
func (s *Store) confirmTerm(r *raft.Raft, term uint64) error {
	if s.machine.level.Load() < masterfsm.LevelTerms {
		_, err := s.callRaft(context.Background(), ErrClosed, func(r *raft.Raft) (any, error) {
			return nil, r.VerifyLeader().Error()
		})
		return err
	}
	leading := s.leadership.current()
	if leading == nil {
		return errors.New("the notification of the leadership, or of its end, is on its way")
	}
	voters := majority{self: raft.ServerID(s.id), ask: s.askTerm, tasks: &s.tasks}
	return voters.confirm(leading, r.GetConfiguration().Configuration(), term)
}

// askTerm asks a voter for its current term.
func (s *Store) askTerm(ctx context.Context, voter raft.Server) (uint64, error) {
	_, hostPort, err := transport.SplitAddress(voter.Address)
	if err != nil {
		return 0, err
	}
	return s.stream.AskTerm(ctx, string(voter.ID), hostPort, max(time.Second, 4*s.cfg.Timeout))
}

// currentTerm answers the question of another master for raft's term. It returns false if this master takes no part in
// the group. A term is on disk before raft shows it, and before this master votes in it.
func (s *Store) currentTerm() (uint64, bool) {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return 0, false
	}
	return r.CurrentTerm(), true
}

// majority confirms a leader by asking the voters for their current terms.
//
// Raft's own VerifyLeader is not enough. It counts members without a vote, and answers to heartbeats that were sent
// before the question: see TestConfirmationIsStrict.
type majority struct {
	self raft.ServerID
	// ask asks a voter. The question is sent after the call. It may end later than its context.
	ask   func(ctx context.Context, voter raft.Server) (uint64, error)
	tasks *sync.WaitGroup // for the goroutines that ask
}

// confirm returns nil once a majority of the voters of the leader's newest configuration has a term of at most the
// leader's. self counts as one, if it has a vote. ctx ends with the leadership.
//
// Nothing that was acknowledged before the call is missing then in what the leader had committed before it. Suppose
// that a leader of a later term had acknowledged something. A majority had voted for the first such leader, and each of
// them had that term or a later one before it voted; terms never fall. The two configurations are the same or differ in
// one member, because this leader has committed an entry of its own term and changes one member at a time. So their
// majorities have a member in common, and it does not have both terms.
func (m majority) confirm(ctx context.Context, newest raft.Configuration, term uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, len(newest.Servers))
	voters, agree, waiting := 0, 0, 0
	for _, server := range newest.Servers {
		switch {
		case server.Suffrage != raft.Voter:
			continue
		case server.ID == m.self:
			agree++
		default:
			waiting++
			m.tasks.Go(func() { answers <- m.askOne(ctx, server, term) })
		}
		voters++
	}
	var others []error
	for need := voters/2 + 1; agree < need; {
		if agree+waiting < need {
			return fmt.Errorf("%d of %d voters confirm term %d: %w", agree, voters, term, errors.Join(others...))
		}
		select {
		case err := <-answers:
			waiting--
			if err == nil {
				agree++
			} else {
				others = append(others, err)
			}
		case <-ctx.Done():
			return errors.Join(append(others, context.Cause(ctx))...)
		}
	}
	return nil
}

// askOne returns nil if a voter has a term of at most the leader's.
func (m majority) askOne(ctx context.Context, voter raft.Server, term uint64) error {
	got, err := m.ask(ctx, voter)
	switch {
	case err != nil:
		return fmt.Errorf("master %s: %w", voter.ID, err)
	case got > term:
		return fmt.Errorf("master %s is at term %d", voter.ID, got)
	}
	return nil
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
