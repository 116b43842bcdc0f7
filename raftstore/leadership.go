package raftstore

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// retryDuties is how long a leader waits before it starts its duties again after they failed.
const retryDuties = time.Second

// leadership follows raft's notifications. Raft blocks on the channel, so none is lost and their order is kept.
type leadership struct {
	notify chan bool

	mu      sync.Mutex         // guards all below
	ctx     context.Context    // of the present leadership, nil if there is none
	end     context.CancelFunc // ends ctx
	contact contact
}

// readNotifications reads raft's notifications of leadership. It never calls raft, which blocks on them.
func (s *Store) readNotifications() {
	set := func(leads bool) { s.leadership.set(leads, s.cfg.suspended()) }
	defer set(false)
	for {
		select {
		case leads := <-s.leadership.notify:
			set(leads)
			s.leaderChanged.notify()
		case <-s.fail.dead:
			// Raft's main goroutine may have ended. Further notifications are read, and ignored.
			set(false)
			s.leaderChanged.notify()
			for {
				select {
				case <-s.leadership.notify:
				case <-s.stop:
					return
				}
			}
		case <-s.stop:
			return
		}
	}
}

// set takes over a notification, when the machine has been suspended for so long.
func (l *leadership) set(leads bool, suspended time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.contact.look(now, suspended)
	if l.end != nil {
		l.end()
		l.ctx, l.end = nil, nil
		l.contact.resigned = now
	}
	if leads { // a majority has just elected it
		l.contact.lease = l.contact.certain(moment{at: now, suspended: l.contact.known})
		l.ctx, l.end = context.WithCancel(context.Background())
	}
}

// current returns a context that ends with the present leadership, nil if this master does not lead.
func (l *leadership) current() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ctx
}

// observe reports each change of the leader that raft knows of.
func (s *Store) observe(r *raft.Raft) {
	seen := make(chan raft.Observation, 16)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	r.RegisterObserver(observer)
	s.tasks.Go(func() {
		defer r.DeregisterObserver(observer)
		for {
			select {
			case <-seen:
				s.leaderChanged.notify()
			case <-s.stop:
				return
			}
		}
	})
}

// leaderTerm returns the term in which this master leads now. Raft ends its leadership before it changes the term. So
// if the term is the same before and after the check of the state, it is the term of that leadership.
func leaderTerm(r *raft.Raft) (uint64, bool) {
	term := r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// RunAsLeader calls lead with the term each time that this master becomes the leader, and waits until it returns. The
// context of lead ends with the leadership. When lead returns while this master still leads, the leadership is
// transferred if another member can lead; otherwise lead is called again a second later. RunAsLeader returns nil when
// ctx ends or the store is closed, and the failure when the store fails. It must not be called concurrently.
func (s *Store) RunAsLeader(ctx context.Context, lead func(ctx context.Context, term uint64) error) error {
	for {
		changed := s.leaderChanged.wait()
		leading := s.leadership.current()
		r := s.raft.Load()
		if leading == nil || r == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			case <-s.closed:
				return nil
			case <-s.fail.dead:
				return s.fail.get()
			}
		}
		term, ok := leaderTerm(r)
		if !ok { // the notification that the leadership has ended is about to come
			select {
			case <-leading.Done():
				continue
			case <-time.After(time.Millisecond): // or raft was in the middle of a change
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := s.runDuties(ctx, leading, term, lead)
		if ctx.Err() != nil {
			return nil
		}
		if leading.Err() != nil {
			continue
		}
		s.log.Warn("the leader's duties ended, transferring the leadership", "term", term, "error", err)
		if err := s.TransferLeadership(""); err != nil {
			s.log.Debug("leadership not transferred", "error", err)
		}
		select {
		case <-leading.Done():
		case <-time.After(retryDuties):
		case <-ctx.Done():
		}
	}
}

// runDuties calls lead with a context that ends with ctx and with the leadership.
func (s *Store) runDuties(ctx, leading context.Context, term uint64, lead func(context.Context, uint64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(leading, func() { cancel(ErrNotLeader) })()
	return lead(ctx, term)
}

// Leader returns the id of the leader, "" if raft knows of none.
func (s *Store) Leader() string {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return ""
	}
	_, id := r.LeaderWithID()
	return string(id)
}

// Members returns the members in raft's configuration, without their URLs. The leader knows which followers it
// reaches. Another master knows the state of the leader and its own only.
func (s *Store) Members() []wire.Master {
	self := s.Member()
	r := s.raft.Load()
	if r == nil {
		return []wire.Master{{ID: self.ID, Raft: self.Raft, State: "unknown"}}
	}
	leader := s.Leader()
	var masters []wire.Master
	for _, server := range r.GetConfiguration().Configuration().Servers {
		id := string(server.ID)
		_, hostPort, err := transport.SplitAddress(server.Address)
		if err != nil {
			hostPort = string(server.Address)
		}
		m := wire.Master{ID: id, Raft: hostPort, State: "unknown", Voter: server.Suffrage == raft.Voter}
		switch {
		case id == leader:
			m.State = "leader"
		case id == self.ID:
			m.State = "follower"
		case leader == self.ID && s.stream.Unreachable(id):
			m.State = "unreachable"
		case leader == self.ID:
			m.State = "follower"
		}
		masters = append(masters, m)
	}
	return masters
}

// watchLeader starts an election when the leader was silent for 1 to 1.5 timeouts, at random, so that followers do not
// become candidates at the same time. Raft itself checks at random moments, one to two timeouts apart. So it may notice
// a silence of one timeout only after three, and a vote needs a majority that has noticed it.
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
		if !s.pause(wait) {
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
	s.reloadMu.Lock()
	defer s.reloadMu.Unlock()
	c := r.ReloadableConfig()
	change(&c)
	if err := r.ReloadConfig(c); err != nil {
		s.log.Error("raft refuses its configuration", "error", err)
	}
}
