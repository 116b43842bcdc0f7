package raftstore

import (
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// watchLeader starts an election when the leader was silent for the timeout and up to half as much again. Raft itself
// looks at random moments, one to two timeouts apart, so it may notice a silence of one timeout only after three; and
// a vote needs a majority that has noticed. The random part keeps followers from standing for election at the same
// moment.
func (s *Store) watchLeader(r *raft.Raft) {
	timeout := s.cfg.Timeout
	for {
		wait := timeout
		if _, leader := r.LeaderWithID(); leader != "" && r.State() == raft.Follower {
			patience := timeout + rand.N(timeout/2)
			if silence := time.Since(r.LastContact()); silence < timeout {
				wait = patience - silence
			} else {
				s.checkLastContact(r)
			}
		}
		if !s.pause(s.stop, wait) {
			return
		}
	}
}

// checkLastContact makes a follower check its last contact with the leader now. Raft has no call for that, but raft
// 1.7.3 does it when its heartbeat timeout becomes shorter; so the timeout is raised and lowered again.
func (s *Store) checkLastContact(r *raft.Raft) {
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
