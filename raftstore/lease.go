package raftstore

import (
	"math"
	"time"

	"github.com/hashicorp/raft"
)

// contact is the last time when this master was certain of its leader. Raft has that time for a follower. For a leader
// it does not: when a leader steps down, raft sets the last contact to that moment. So a leader has a lease of its own.
// A process that was halted continues as leader until raft checks its lease, and another master may lead meanwhile.
//
// The machine may be suspended, and the clock of package time stands still meanwhile. So each time has with it how long
// the machine had been suspended by then, or less.
//
// After a halt of the process or a suspension, messages and notifications are read that arrived in it or before it. So
// a contact shortly after it counts as one at its beginning.
type contact struct {
	lease    moment        // when this master was last certain that it leads
	resigned time.Time     // when it was last notified that it no longer leads
	read     time.Time     // the last time that raft had
	heard    moment        // when this master was then certain of its leader
	known    time.Duration // how long the machine had been suspended before raft's time was last read

	gap    time.Duration // between two looks of a process that was not halted, at most; 0 if halts are not noticed
	looked moment        // when the process last looked at its contacts; it does so in each of raft's timeouts
	before moment        // the look before the last halt
	until  time.Time     // up to when contacts may be messages from before the end of the last halt
}

// moment is a time, and how long the machine had been suspended by then, or less.
type moment struct {
	at        time.Time
	suspended time.Duration
}

// hear takes over the time that raft has. suspended is how long the machine had been suspended before it was read. A
// new time is later than the read before this one, so by then the machine had been suspended for c.known or longer.
func (c *contact) hear(at time.Time, suspended time.Duration) {
	if at.After(c.read) {
		c.read, c.heard = at, c.certain(moment{at: at, suspended: c.known})
	}
	c.known = max(c.known, suspended)
}

// look notes that the process runs at a time, when the machine has been suspended for so long. Before a contact is
// added, look must be called with a time after it.
func (c *contact) look(now time.Time, suspended time.Duration) {
	if c.gap > 0 && !c.looked.at.IsZero() && c.looked.until(now, suspended) > c.gap {
		if !c.looked.at.Before(c.until) { // else it may still read what arrived before an earlier halt
			c.before = c.looked
		}
		c.until = now.Add(c.gap)
	}
	c.looked = moment{at: now, suspended: suspended}
}

// certain returns the time for which a contact is certain.
func (c *contact) certain(m moment) moment {
	if m.at.After(c.until) || m.at.Before(c.before.at) {
		return m
	}
	return c.before
}

// last returns the last contact, zero if there was none. leading is whether the last notification was that this master
// leads.
func (c *contact) last(leading bool) moment {
	if !leading && c.read.After(c.resigned) && c.heard.at.After(c.lease.at) {
		return c.heard
	}
	return c.lease
}

// until returns the time from m to now, when the machine has been suspended for so long.
func (m moment) until(now time.Time, suspended time.Duration) time.Duration {
	return now.Sub(m.at) + max(0, suspended-m.suspended)
}

// leaseGap is how many timeouts may pass between two renewals of the lease before a majority is asked, and between two
// looks at the last contact before the process counts as one that was halted.
const leaseGap = 3

// renewLeases renews the lease while this master leads. Raft checks the lease of a running leader at least once in each
// timeout. After a longer gap, in which the process was halted or the machine suspended, a majority must confirm the
// leader first.
func (s *Store) renewLeases(r *raft.Raft) {
	for s.pause(s.cfg.Timeout) {
		s.hear(r)
		suspended := s.cfg.suspended() // before the time, so that it is not too long for that
		now := time.Now()
		if r.State() != raft.Leader {
			continue
		}
		if s.leadership.lease().until(now, suspended) > leaseGap*s.cfg.Timeout {
			if _, err := s.confirm(r); err != nil {
				continue
			}
		}
		s.leadership.renewLease(moment{at: now, suspended: suspended})
	}
}

func (l *leadership) lease() moment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.contact.lease
}

func (l *leadership) renewLease(m moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil && m.at.After(l.contact.lease.at) {
		l.contact.lease = m
	}
}

// hear takes over raft's time of the last contact, and returns what is then the last contact of this master.
func (s *Store) hear(r *raft.Raft) moment {
	suspended := s.cfg.suspended()
	heard := r.LastContact() // before the lock: raft steps down before it sends the notification
	l := &s.leadership
	l.mu.Lock()
	defer l.mu.Unlock()
	l.contact.look(time.Now(), suspended)
	l.contact.hear(heard, suspended)
	return l.contact.last(l.end != nil)
}

// LastContact returns the time since this master heard from a leader or, on a leader, since it was last certain that it
// leads. That is at most a few raft timeouts, unless the process was halted or the machine suspended. It is the
// longest duration if there was no contact.
func (s *Store) LastContact() time.Duration {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return math.MaxInt64
	}
	last := s.hear(r)
	if last.at.IsZero() {
		return math.MaxInt64
	}
	now := time.Now()
	return last.until(now, s.cfg.suspended())
}
