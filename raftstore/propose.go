package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Propose appends a command to the log and waits until it is applied here. It returns the result of the command, or
// its refusal, which is an error of package masterfsm. Otherwise the error wraps [ErrNotLeader], and nothing was
// appended, or [ErrUnknownOutcome]. The caller must not use cmd afterwards, whatever is returned.
func (s *Store) Propose(ctx context.Context, cmd []byte) (any, error) {
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

// callLeader runs call where this master leads, and waits for its result, for ctx, or for a failure of the store. After
// the latter two the outcome is unknown, and call continues in its goroutine.
func (s *Store) callLeader(ctx context.Context, call func(*raft.Raft) (any, error)) (any, error) {
	r, err := s.enter()
	if err != nil {
		return nil, err
	}
	if r.State() != raft.Leader {
		s.calls.Done()
		return nil, ErrNotLeader
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
		return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, context.Cause(ctx))
	case <-s.fail.dead:
		select {
		case o := <-done:
			return o.value, o.err
		default:
			return nil, fmt.Errorf("%w: %w", ErrUnknownOutcome, s.fail.get())
		}
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
