package raftstore

import (
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// contact says when this master was last certain of its leader. A follower learns from raft when it heard from one. A
// leader does not: when it steps down, raft says that it heard from a leader just then. So a leader counts from its
// lease instead. A process that was halted goes on as leader until raft looks at the lease, while another may lead
// for long.
type contact struct {
	lease    time.Time // when this master last led without a doubt
	resigned time.Time // when it was last notified that it does not lead any more
}

// last returns when this master was certain of a leader, zero where it never was. heard is what raft says. leading is
// whether this master was notified that it leads, and not yet that it does not.
func (c contact) last(heard time.Time, leading bool) time.Time {
	if !leading && heard.After(c.resigned) && heard.After(c.lease) {
		return heard
	}
	return c.lease
}

// leaseGap is how many timeouts may pass between two renewals of the lease before a majority is asked.
const leaseGap = 3

// keepLease renews the lease while this master leads. Raft looks at the lease of a running leader at least once in each
// timeout. After a longer gap, in which the process was halted, a majority must confirm the leader first.
func (s *Store) keepLease(r *raft.Raft) {
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

// LastContact returns how long ago this master heard from a leader or, where it leads, was last certain that it does:
// no longer than a few raft timeouts, unless the process was halted. It returns the longest duration where it never
// did.
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
