package masterstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Fate is the fate of a command on its way into the log.
type Fate uint8

const (
	Committed     Fate = iota // and reported
	DeposedKept               // the leader is deposed, outcome unknown; the next one finds the command in its log
	DeposedForgot             // the leader is deposed, outcome unknown; no other master has the command
)

// Ledger is the ledger of a group of masters from its leader's view. The log is committed at once, unless Fate returns
// otherwise. A test can end the leadership.
type Ledger struct {
	t       *testing.T
	Delay   func() time.Duration   // of a commit
	Fate    func() Fate            // of a command
	Vacancy func() time.Duration   // from the end of a leadership to the next
	OnApply func(*masterfsm.State) // called with the state after each command
	Silence func() time.Duration   // since the last contact with a leader
	// Audited lets the group's level rise above Level, so that acts have records. The first records of users are then
	// not at the first positions.
	Audited atomic.Bool
	confirm atomic.Pointer[func() error]

	Mu        sync.RWMutex // guards the fields below
	State     *masterfsm.State
	changed   chan struct{} // closed at the next change of the state
	elected   chan struct{} // closed at the next change of the leader
	elections int           // calls of LeaderChanged
	Term      uint64
	Leads     bool
	cut       chan struct{} // closed when the leadership is cut
	Entries   int
	inherited [][]byte // commands of a deposed leader that the next one will commit
	Recorded  uint64   // protocol level that the folder has recorded; see Level
}

func NewLedger(t *testing.T) *Ledger {
	return &Ledger{
		t: t, State: masterfsm.New(),
		changed: make(chan struct{}), elected: make(chan struct{}), cut: make(chan struct{}),
		Delay:   func() time.Duration { return 0 },
		Fate:    func() Fate { return Committed },
		Vacancy: func() time.Duration { return 300 * time.Millisecond },
		OnApply: func(*masterfsm.State) {},
		Silence: func() time.Duration { return 0 },
	}
}

// Propose commits a command after a delay that simulates the disks. If ctx ends first, the command is committed and the
// caller does not learn the outcome.
func (l *Ledger) Propose(ctx context.Context, command []byte) (any, error) {
	l.Mu.RLock()
	term, leader := l.Term, l.Leads
	l.Mu.RUnlock()
	if !leader {
		return nil, wire.ErrNotLeader
	}
	if !l.Audited.Load() && masterfsm.Raises(command) > Level {
		var level uint64
		l.Read(func(s *masterfsm.State) { level = s.Level() })
		if level >= Level {
			return nil, fmt.Errorf("%w: the test wants no audit trail", masterfsm.ErrBadCommand)
		}
		command = l.Encode(&masterfsm.RaiseLevel{Level: Level})
	}
	if d := l.Delay(); d > 0 {
		select {
		case <-time.After(d): // in a synctest bubble this takes no real time
		case <-ctx.Done():
		}
	}
	f := l.Fate()
	l.Mu.Lock()
	defer l.Mu.Unlock()
	if f == Committed && l.Leads && l.Term == term {
		result, err := l.Apply(command)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, context.Cause(ctx))
		}
		return result, err
	}
	if f == DeposedKept && l.Term == term { // else the next leader began without it
		l.inherited = append(l.inherited, command)
	}
	if l.Term == term {
		l.depose()
	}
	return nil, wire.ErrUnknownOutcome
}

// Apply commits a command. The caller holds Mu.
func (l *Ledger) Apply(command []byte) (any, error) {
	term := l.State.Term()
	result, err := l.State.Apply(command)
	if errors.Is(err, masterfsm.ErrCommand) {
		l.t.Errorf("a command that would stop the masters: %v", err)
	}
	l.Entries++
	l.OnApply(l.State)
	close(l.changed)
	l.changed = make(chan struct{})
	if l.State.Term() != term {
		l.Elect()
	}
	return result, err
}

// Elect wakes the callers that wait for another leader. The caller holds Mu.
func (l *Ledger) Elect() {
	close(l.elected)
	l.elected = make(chan struct{})
}

func (l *Ledger) Read(f func(*masterfsm.State)) {
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	f(l.State)
}

func (l *Ledger) StateChanged() <-chan struct{} {
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	return l.changed
}

func (l *Ledger) LeaderChanged() <-chan struct{} {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.elections++
	return l.elected
}

// LeaderWaits returns how often LeaderChanged was called: by each waiter at first, and after each wake-up.
func (l *Ledger) LeaderWaits() int {
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	return l.elections
}

// SetConfirm makes f say why a majority does not confirm that this master leads; nil if it does.
func (l *Ledger) SetConfirm(f func() error) { l.confirm.Store(&f) }

// ReadIndex returns the number of committed commands, once the term has begun.
func (l *Ledger) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	if ctx.Err() != nil {
		return wire.ReadIndex{}, context.Cause(ctx)
	}
	if confirm := l.confirm.Load(); confirm != nil {
		if err := (*confirm)(); err != nil {
			return wire.ReadIndex{}, err
		}
	}
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	if !l.Leads || l.State.Term().Term != l.Term {
		return wire.ReadIndex{}, wire.ErrNotLeader
	}
	return wire.ReadIndex{Index: uint64(l.Entries), Term: l.Term}, nil
}

// WaitApplied waits until that many commands are applied.
func (l *Ledger) WaitApplied(ctx context.Context, index uint64) error {
	for {
		changed := l.StateChanged()
		if l.Applied() >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for log index %d: %w", index, context.Cause(ctx))
		}
	}
}

func (l *Ledger) Leader() string {
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	if l.Leads {
		return "m1"
	}
	return ""
}

// Level is that of the state, or Recorded if it is higher.
func (l *Ledger) Level() (level uint64) {
	l.Read(func(s *masterfsm.State) { level = max(s.Level(), l.Recorded) })
	return level
}

func (l *Ledger) LastContact() time.Duration { return l.Silence() }

func (l *Ledger) Applied() uint64 {
	l.Mu.RLock()
	defer l.Mu.RUnlock()
	return uint64(l.Entries)
}

// Committed is Applied: an entry is applied when it is committed.
func (l *Ledger) Committed() uint64 { return l.Applied() }

// RunAsLeader elects the one member again some time after its leadership has ended.
func (l *Ledger) RunAsLeader(ctx context.Context, lead func(context.Context, uint64) error) error {
	for ctx.Err() == nil {
		l.Mu.Lock()
		for _, command := range l.inherited {
			_, _ = l.Apply(command) // the proposer has already returned
		}
		l.inherited, l.Leads = nil, true
		l.Term++
		term, cut := l.Term, l.cut
		l.Elect()
		l.Mu.Unlock()
		leading, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			// The leadership may be lost before the context ends.
			err := lead(leading, term)
			if err != nil && leading.Err() == nil && !errors.Is(err, wire.ErrNotLeader) &&
				!errors.Is(err, wire.ErrUnknownOutcome) {
				l.t.Errorf("lead: %v", err)
			}
		}()
		select {
		case <-ctx.Done():
		case <-cut:
		case <-ended: // transferred, and back after the vacancy
		}
		l.Mu.Lock()
		l.depose()
		l.cut = make(chan struct{})
		l.Mu.Unlock()
		cancel()
		<-ended
		select {
		case <-ctx.Done():
		case <-time.After(l.Vacancy()):
		}
	}
	return nil
}

// CutLeadership ends the present leadership.
func (l *Ledger) CutLeadership() {
	l.Mu.Lock()
	defer l.Mu.Unlock()
	l.depose()
}

// depose ends the present leadership: nothing more is committed in its term. The caller holds Mu.
func (l *Ledger) depose() {
	if l.Leads {
		l.Leads = false
		close(l.cut)
		l.Elect()
	}
}

// Following is the ledger of a master that follows m1, whatever happens.
type Following struct{ *Ledger }

func (Following) Leader() string { return "m1" }

func (Following) Propose(context.Context, []byte) (any, error) { return nil, wire.ErrNotLeader }

func (Following) ReadIndex(context.Context) (wire.ReadIndex, error) {
	return wire.ReadIndex{}, wire.ErrNotLeader
}

func (Following) RunAsLeader(ctx context.Context, _ func(context.Context, uint64) error) error {
	<-ctx.Done()
	return nil
}

// Level is the level of a group that is not Audited, once it has risen.
const Level = masterfsm.LevelAudit - 1

// Encode encodes a command as a leader of the group does. A leader that has no name is the actor of acts.
func (l *Ledger) Encode(c masterfsm.Command) []byte {
	var level uint64
	l.Read(func(s *masterfsm.State) { level = s.Level() })
	return masterfsm.EncodeBy(level, trail.Origin{}, [chain.SaltSize]byte{1}, c)
}
