package raftstore

import (
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// contact is when this master last was certain of its leader. Raft tells when a follower heard of one. Of a leader it tells nothing, and when
// it steps down raft says that it heard of one just then; so what a leader goes by is its pulse: a process that was halted goes on as
// leader until its lease is looked at, while another may lead for long.
type contact struct {
	pulse    time.Time // when this master last led without a doubt
	resigned time.Time // when it was last told that it does not lead any more
}

// last is when this master was certain of a leader, zero where it never was. heard is what raft says; leading, whether this master has been
// told that it leads and not yet that it does not.
func (c contact) last(heard time.Time, leading bool) time.Time {
	if !leading && heard.After(c.resigned) && heard.After(c.pulse) {
		return heard
	}
	return c.pulse
}

// keepPulse feels that this master leads. Raft looks at the lease of a leader that runs once in each timeout at least; after a longer gap,
// in which the process was halted, a majority must confirm it first.
func (s *Store) keepPulse(r *raft.Raft) {
	for s.pause(s.stop, s.cfg.Timeout) {
		now := time.Now()
		if r.State() != raft.Leader {
			continue
		}
		if now.Sub(s.lead.felt()) > pulseGap*s.cfg.Timeout {
			if _, err := s.confirm(r); err != nil {
				continue
			}
		}
		s.lead.feel(now)
	}
}

// pulseGap is how many timeouts may pass between two beats of the pulse before a majority is asked.
const pulseGap = 3

func (l *leadership) felt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.contact.pulse
}

func (l *leadership) feel(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil && at.After(l.contact.pulse) {
		l.contact.pulse = at
	}
}

// LastContact is how long ago this master heard from a leader or, where it leads, was last certain that it does: no longer than a few
// raft timeouts, unless it was halted. It is the longest duration where it never did.
func (s *Store) LastContact() time.Duration {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return math.MaxInt64
	}
	heard := r.LastContact() // before the lock: raft steps down before it tells so
	s.lead.mu.Lock()
	last := s.lead.contact.last(heard, s.lead.end != nil)
	s.lead.mu.Unlock()
	if last.IsZero() {
		return math.MaxInt64
	}
	return time.Since(last)
}
