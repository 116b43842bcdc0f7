package raftstore

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// watchLeader has raft look for the leader when its silence has lasted for the timeout and up to half as much again. By
// itself raft looks at random moments, one to two timeouts apart, so that it may find a silence of one timeout only when
// it has lasted for three; and a vote needs a majority that has found it. The random part keeps followers from standing
// for election all at once.
func (s *Store) watchLeader(r *raft.Raft) {
	timeout := s.cfg.Timeout
	for {
		wait := timeout
		if _, leader := r.LeaderWithID(); leader != "" && r.State() == raft.Follower {
			patience := timeout + rand.N(timeout/2)
			if silence := time.Since(r.LastContact()); silence < timeout {
				wait = patience - silence
			} else {
				s.wake(r)
			}
		}
		if !s.pause(s.stop, wait) {
			return
		}
	}
}

// wake has a follower look at its last contact now: raft does when its heartbeat timeout becomes shorter.
func (s *Store) wake(r *raft.Raft) {
	for _, d := range []time.Duration{s.cfg.Timeout + time.Millisecond, s.cfg.Timeout} {
		s.reload(r, func(c *raft.ReloadableConfig) { c.HeartbeatTimeout, c.ElectionTimeout = d, d })
	}
}

// reload changes raft's configuration.
func (s *Store) reload(r *raft.Raft, change func(*raft.ReloadableConfig)) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	c := r.ReloadableConfig()
	change(&c)
	if err := r.ReloadConfig(c); err != nil {
		s.log.Error("raft refuses its configuration", "error", err)
	}
}
