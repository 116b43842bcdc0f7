package raftstore

import (
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// contact is the last time when this master was certain of its leader. Raft has that time for a follower. For a leader
// it does not: when a leader steps down, raft sets the last contact to that moment. So a leader has a lease of its own.
// A process that was halted continues as leader until raft checks its lease, and another master may lead meanwhile.
type contact struct {
	lease    time.Time // when this master was last certain that it leads
	resigned time.Time // when it was last notified that it no longer leads
}

// last returns the time of the last contact, zero if there was none. heard is the time that raft has. leading is
// whether the last notification was that this master leads.
func (c contact) last(heard time.Time, leading bool) time.Time {
	if !leading && heard.After(c.resigned) && heard.After(c.lease) {
		return heard
	}
	return c.lease
}

// leaseGap is how many timeouts may pass between two renewals of the lease before a majority is asked.
const leaseGap = 3

// renewLeases renews the lease while this master leads. Raft checks the lease of a running leader at least once in each
// timeout. After a longer gap, in which the process was halted, a majority must confirm the leader first.
func (s *Store) renewLeases(r *raft.Raft) {
	for s.pause(s.cfg.Timeout) {
		now := time.Now()
		if r.State() != raft.Leader {
			continue
		}
		if now.Sub(s.leadership.lease()) > leaseGap*s.cfg.Timeout {
			if _, err := s.confirm(r); err != nil {
				continue
			}
		}
		s.leadership.renewLease(now)
	}
}

func (l *leadership) lease() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.contact.lease
}

func (l *leadership) renewLease(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil && at.After(l.contact.lease) {
		l.contact.lease = at
	}
}

// LastContact returns the time since this master heard from a leader or, on a leader, since it was last certain that it
// leads. That is at most a few raft timeouts, unless the process was halted. It is the longest duration if there was no
// contact.
func (s *Store) LastContact() time.Duration {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return math.MaxInt64
	}
	heard := r.LastContact() // before the lock: raft steps down before it sends the notification
	s.leadership.mu.Lock()
	last := s.leadership.contact.last(heard, s.leadership.end != nil)
	s.leadership.mu.Unlock()
	if last.IsZero() {
		return math.MaxInt64
	}
	return time.Since(last)
}
