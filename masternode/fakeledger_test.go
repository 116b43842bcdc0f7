package masternode

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// fate is what becomes of a command that is on its way into the log.
type fate uint8

const (
	committed     fate = iota // and answered
	deposedKept               // the leader is deposed and cannot tell; the next one finds the command in its log
	deposedForgot             // the leader is deposed and cannot tell; nobody else has the command
)

// fakeLedger is a group of masters as the one that leads it sees it. The group's log is committed at once, unless fate says otherwise, and a
// test can cut its leadership.
type fakeLedger struct {
	t       *testing.T
	delay   func() time.Duration   // of a commit
	fate    func() fate            // of a command
	vacancy func() time.Duration   // from the end of a leadership to the next
	applied func(*masterfsm.State) // looks at the state after each command
	confirm func() error           // why a majority does not confirm that this master leads
	silence func() time.Duration   // since a leader was heard of

	mu        sync.RWMutex // guards all below
	state     *masterfsm.State
	changed   chan struct{}
	term      uint64
	leader    bool
	cut       chan struct{} // closed when the leadership is cut
	entries   int
	inherited [][]byte // commands of a deposed leader, not committed yet, that the next one will
}

func newFakeLedger(t *testing.T) *fakeLedger {
	return &fakeLedger{
		t: t, state: masterfsm.New(), changed: make(chan struct{}), cut: make(chan struct{}),
		delay:   func() time.Duration { return 0 },
		fate:    func() fate { return committed },
		vacancy: func() time.Duration { return 300 * time.Millisecond },
		applied: func(*masterfsm.State) {},
		confirm: func() error { return nil },
		silence: func() time.Duration { return 0 },
	}
}

func (l *fakeLedger) Propose(_ context.Context, command []byte) (any, error) {
	l.mu.RLock()
	term, leader := l.term, l.leader
	l.mu.RUnlock()
	if !leader {
		return nil, wire.ErrNotLeader
	}
	if d := l.delay(); d > 0 {
		time.Sleep(d) // the time that the disks take; in a synctest bubble it costs nothing
	}
	f := l.fate()
	l.mu.Lock()
	defer l.mu.Unlock()
	if f == committed && l.leader && l.term == term {
		return l.apply(command)
	}
	if f == deposedKept && l.term == term { // else the next leader began without it
		l.inherited = append(l.inherited, command)
	}
	if l.term == term {
		l.depose()
	}
	return nil, wire.ErrUnknownOutcome
}

// apply commits a command; mu is held.
func (l *fakeLedger) apply(command []byte) (any, error) {
	result, err := l.state.Apply(command)
	if errors.Is(err, masterfsm.ErrCommand) {
		l.t.Errorf("a command that would stop the masters: %v", err)
	}
	l.entries++
	l.applied(l.state)
	l.wake()
	return result, err
}

// wake tells that something changed; mu is held.
func (l *fakeLedger) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *fakeLedger) Read(f func(*masterfsm.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

func (l *fakeLedger) Changed() <-chan struct{} {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.changed
}

func (l *fakeLedger) ReadIndex(context.Context) (wire.ReadIndex, error) {
	if err := l.confirm(); err != nil {
		return wire.ReadIndex{}, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.leader {
		return wire.ReadIndex{}, wire.ErrNotLeader
	}
	return wire.ReadIndex{Index: 1, Term: l.term}, nil
}

func (l *fakeLedger) WaitApplied(context.Context, uint64) error { return nil }

func (l *fakeLedger) Leader() string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.leader {
		return "m1"
	}
	return ""
}

func (l *fakeLedger) LastContact() time.Duration { return l.silence() }

func (l *fakeLedger) Applied() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return uint64(l.entries)
}

// RunAsLeader elects the one member again a moment after its leadership was cut.
func (l *fakeLedger) RunAsLeader(ctx context.Context, lead func(context.Context, uint64) error) error {
	for ctx.Err() == nil {
		l.mu.Lock()
		for _, command := range l.inherited {
			_, _ = l.apply(command) // whoever proposed it is not there to be told
		}
		l.inherited, l.leader = nil, true
		l.term++
		term, cut := l.term, l.cut
		l.wake()
		l.mu.Unlock()
		leading, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// Leadership may be lost before the context is told.
			err := lead(leading, term)
			if err != nil && leading.Err() == nil && !errors.Is(err, wire.ErrNotLeader) && !errors.Is(err, wire.ErrUnknownOutcome) {
				l.t.Errorf("lead: %v", err)
			}
		}()
		select {
		case <-ctx.Done():
		case <-cut:
		case <-ended: // handed over, and back after the vacancy
		}
		l.mu.Lock()
		l.depose()
		l.cut = make(chan struct{})
		l.mu.Unlock()
		cancel()
		<-ended
		select {
		case <-ctx.Done():
		case <-time.After(l.vacancy()):
		}
	}
	return nil
}

// cutLeadership ends the leadership of now.
func (l *fakeLedger) cutLeadership() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.depose()
}

// depose ends the leadership of now: nothing is committed in its term any more. mu is held.
func (l *fakeLedger) depose() {
	if l.leader {
		l.leader = false
		close(l.cut)
		l.wake()
	}
}
