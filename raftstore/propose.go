package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/logstore"
)

// Propose appends a command to the log and waits until it is applied here. It returns the result of the command, or
// its refusal, which is an error of package masterfsm. Otherwise the error wraps [ErrNotLeader], and nothing was
// appended, or [ErrUnknownOutcome]. The caller must not use cmd afterwards, whatever is returned.
// A command of more than [logstore.MaxCommand] bytes is refused with [masterfsm.ErrBadCommand].
func (s *Store) Propose(ctx context.Context, cmd []byte) (any, error) {
	if len(cmd) > logstore.MaxCommand {
		return nil, fmt.Errorf("%w: it has %d bytes, at most %d can be stored", masterfsm.ErrBadCommand, len(cmd),
			logstore.MaxCommand)
	}
	return s.callLeader(ctx, func(r *raft.Raft) (any, error) {
		future := r.Apply(cmd, 0)
		if err := future.Error(); err != nil {
			return nil, proposeError(err)
		}
		if err, ok := future.Response().(error); ok {
			return nil, err
		}
		return future.Response(), nil
	})
}

// callLeader is callRaft for a call that appends to the log. Where this master does not lead, nothing is appended, and
// the error wraps [ErrNotLeader], even if ctx has ended. If ctx ends later, it wraps [ErrUnknownOutcome].
func (s *Store) callLeader(ctx context.Context, call func(*raft.Raft) (any, error)) (any, error) {
	r, err := s.enter()
	if err != nil {
		return nil, err
	}
	leads := r.State() == raft.Leader
	s.calls.Done()
	if !leads {
		return nil, ErrNotLeader
	}
	return s.callRaft(ctx, ErrUnknownOutcome, func(r *raft.Raft) (any, error) {
		if r.State() != raft.Leader {
			return nil, ErrNotLeader
		}
		return call(r)
	})
}

// callRaft runs a call of raft and waits for its result. When ctx ends first, or the store fails or stops, after which
// raft may never answer, the error wraps unanswered, and call continues in its goroutine.
func (s *Store) callRaft(ctx context.Context, unanswered error, call func(*raft.Raft) (any, error)) (any, error) {
	r, err := s.enter()
	if err != nil {
		return nil, err
	}
	type outcome struct {
		value any
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		defer s.calls.Done()
		value, err := call(r)
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", unanswered, context.Cause(ctx))
	case <-s.stop:
		err = errStopped // not ErrClosed: the call may have appended
	case <-s.fail.dead:
		err = s.fail.get()
	}
	select {
	case o := <-done:
		return o.value, o.err
	default:
		return nil, fmt.Errorf("%w: %w", unanswered, err)
	}
}

func proposeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return ErrNotLeader
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}
