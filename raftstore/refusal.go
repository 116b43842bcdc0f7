package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// ErrStaleFolder: this master's data folder is an older copy of itself, or a copy of one that another process has. It
// lacks later votes and acknowledged entries, so the master takes no part in the group.
var ErrStaleFolder = errors.New("the data folder is an older copy of itself, or another process has a copy of it")

// Refused returns an error if this master takes no part in the group and must not serve. The error wraps
// [ErrStaleFolder] and says how to rejoin.
func (s *Store) Refused() error {
	if err := s.refused.Load(); err != nil {
		return *err
	}
	return nil
}

// refuse ends this master's part in the group, because its data folder is an older copy. The refusal is recorded in the
// identity, so no later start of the folder serves either.
func (s *Store) refuse(why error) {
	err := fmt.Errorf("%w (%w); this master neither votes nor acknowledges nor serves: make sure that no other "+
		"process runs with this folder or a copy of it, move %s away, and start with an empty folder, a join "+
		"ticket, and --join with the URL of another master in place of --peers, so that it joins as a new member",
		ErrStaleFolder, why, s.cfg.Dir)
	if !s.refused.CompareAndSwap(nil, &err) {
		return
	}
	s.log.Error("this master is refused", "error", err)
	s.stream.Disable()
	s.leadership.set(false, s.cfg.suspended())
	s.tasks.Go(func() {
		down := s.shutDownRaft()
		s.mu.Lock()
		next := s.identity
		next.Stale = true
		saved := s.saveIdentity(next)
		s.mu.Unlock()
		if saved != nil {
			s.log.Error("the refusal is not recorded", "error", saved)
			s.fail.report(saved) // no resource was free to record it: the process must not go on as if it were
		}
		if err := down(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			s.log.Error("stop of raft", "error", err)
		}
		s.leaderChanged.notify()
	})
}

// shutDownRaft begins the shutdown of raft if it runs. down waits for its end.
func (s *Store) shutDownRaft() (down func() error) {
	if r := s.raft.Load(); r != nil {
		return r.Shutdown().Error
	}
	return func() error { return nil }
}
