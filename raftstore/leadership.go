package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/raftstore/transport"
	"github.com/chainstore/chainstore/wire"
)

// afterFailedLead is how long a leader waits before it takes up its duties again after they failed.
const afterFailedLead = time.Second

// leadership is what raft's notices say. Raft blocks on them, so that none is lost, and they are drained in order.
type leadership struct {
	notify chan bool

	mu      sync.Mutex         // guards all below
	reign   uint64             // goes up each time that this master becomes the leader
	ctx     context.Context    // of the present reign, nil where there is none
	end     context.CancelFunc // ends ctx
	contact contact
}

// drainNotices takes raft's notices of leadership. It never calls raft.
func (s *Store) drainNotices() {
	defer s.lead.set(false)
	for {
		select {
		case leads := <-s.lead.notify:
			s.lead.set(leads)
			s.leaderChanged.tell()
		case <-s.fail.dead:
			// Raft's main goroutine may be gone. Its notices are still drained, and mean nothing any more.
			s.lead.set(false)
			s.leaderChanged.tell()
			for {
				select {
				case <-s.lead.notify:
				case <-s.stop:
					return
				}
			}
		case <-s.stop:
			return
		}
	}
}

func (l *leadership) set(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end != nil {
		l.end()
		l.ctx, l.end = nil, nil
		l.contact.resigned = time.Now()
	}
	if leads {
		l.reign++
		l.contact.lease = time.Now() // a majority has just elected it
		l.ctx, l.end = context.WithCancel(context.Background())
	}
}

func (l *leadership) current() (reign uint64, ctx context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reign, l.ctx
}

// observe reports each change of the leader that raft believes in.
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
				s.leaderChanged.tell()
			case <-s.stop:
				return
			}
		}
	})
}

// leaderTerm is the term in which this master leads at this moment. Raft gives up leading before it moves the term, so a
// term that is the same before and after is that of the leadership seen in between.
func leaderTerm(r *raft.Raft) (uint64, bool) {
	term := r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// RunAsLeader calls lead each time that this master becomes the leader, with the term, and waits for it to return before the
// next time. The context that lead gets ends with the leadership. When lead returns while this master still leads, the
// leadership is handed over where another can take it; else lead is called again a second later. RunAsLeader returns nil
// when ctx ends or the store is closed, and the failure when the store fails. It is to be called once at a time.
func (s *Store) RunAsLeader(ctx context.Context, lead func(ctx context.Context, term uint64) error) error {
	for {
		changed := s.leaderChanged.wait()
		reign, reigning := s.lead.current()
		r := s.raft.Load()
		if reigning == nil || r == nil {
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
		if !ok { // the notice that it has ended is under way
			select {
			case <-reigning.Done():
				continue
			case <-time.After(time.Millisecond): // or raft was seen in mid-change
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := s.leadOnce(ctx, reigning, term, lead)
		if ctx.Err() != nil {
			return nil
		}
		if reigning.Err() != nil {
			continue
		}
		s.log.Warn("the leader's duties ended, handing the leadership over", "reign", reign, "term", term, "error", err)
		if err := s.TransferLeadership(""); err != nil {
			s.log.Debug("leadership not handed over", "error", err)
		}
		select {
		case <-reigning.Done():
		case <-time.After(afterFailedLead):
		case <-ctx.Done():
		}
	}
}

// leadOnce calls lead with a context that ends with the caller's and with the reign.
func (s *Store) leadOnce(ctx, reigning context.Context, term uint64, lead func(context.Context, uint64) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(reigning, func() { cancel(ErrNotLeader) })()
	return lead(ctx, term)
}

// Leader is the member that raft believes to lead, "" where it knows of none.
func (s *Store) Leader() string {
	r := s.raft.Load()
	if r == nil || s.fail.get() != nil || s.Refused() != nil {
		return ""
	}
	_, id := r.LeaderWithID()
	return string(id)
}

// Members are the masters of the group, as raft's configuration has them; their URLs are left open. The leader knows which
// followers it reaches; another master knows no more than the leader and itself.
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
