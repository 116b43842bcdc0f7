package leader

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Now is the time for a command, unix milliseconds: the wall clock, unless that is wrong. The state machine makes it
// monotonic.
func (l *Leader) Now() uint64 { return l.clock.now() }

// TermClock is how long this master has led, by a monotonic clock. It is zero while this master does not lead. It names
// the term, because another one may begin while a command is on its way.
func (l *Leader) TermClock() masterfsm.Leadership {
	now := l.current.Load()
	if now == nil {
		return masterfsm.Leadership{}
	}
	elapsed := l.cfg.Clock().Sub(now.began).Milliseconds()
	return masterfsm.Leadership{Term: now.order.Term, Elapsed: uint64(max(0, elapsed))}
}

// Age is the table's age now, as this master has counted it. It is that of the table while this master does not lead.
func (l *Leader) Age() (age uint64) {
	if now := l.current.Load(); now != nil {
		return now.age()
	}
	l.cfg.Ledger.Read(func(s *masterfsm.State) { age = s.Age() })
	return age
}

// age is the table's age now, as this leader has counted it.
func (l *leadership) age() uint64 {
	return l.begunAge + uint64(max(0, l.cfg.Clock().Sub(l.began).Milliseconds()))
}

// Propose commits a command and returns the result of the state machine. An act gets the origin of ctx, and a salt for
// its record: see package origin. Errors are those of [Ledger].Propose; the error wraps wire.ErrNotLeader while this
// master must not acknowledge anything.
func (l *Leader) Propose(ctx context.Context, c masterfsm.Command) (any, error) {
	now := l.current.Load()
	if now != nil || l.fenced.Load() { // else the term begins
		if _, err := l.mayAcknowledge(); err != nil {
			return nil, err
		}
	}
	result, err := l.proposeOnce(ctx, c, now)
	if errors.Is(err, masterfsm.ErrUnrecorded) && masterfsm.NeedsOrigin(l.level(), c) {
		result, err = l.proposeOnce(ctx, c, now) // the level rose before the act was applied: now with its origin
	}
	return result, err
}

func (l *Leader) level() (level uint64) {
	l.cfg.Ledger.Read(func(s *masterfsm.State) { level = s.Level() })
	return level
}

func (l *Leader) proposeOnce(ctx context.Context, c masterfsm.Command, now *leadership) (any, error) {
	level := l.level() // it may rise before the command is applied: every level reads what a lower one wrote
	if first := masterfsm.FirstLevel(c); level < first {
		return nil, fmt.Errorf("%w: this needs protocol level %d, and the group is at %d, because a master runs an "+
			"older version of ChainStore: upgrade all masters", wire.ErrUnavailable, first, level)
	}
	result, err := l.cfg.Ledger.Propose(ctx, masterfsm.EncodeBy(level, l.originOf(ctx), newSalt(), c))
	if err == nil && now != nil && now.fences.suspended.Load() {
		return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, errSuspended)
	}
	return result, err
}

// originOf returns the origin of a request, or that of what this leader does by itself.
func (l *Leader) originOf(ctx context.Context) trail.Origin {
	if o, ok := origin.Of(ctx); ok {
		return o
	}
	return trail.Origin{Actor: trail.Actor{Kind: trail.ByLeader, Name: l.cfg.Member.ID}}
}

// newSalt returns the salt of a record.
func newSalt() (salt [chain.SaltSize]byte) {
	rand.Read(salt[:])
	return salt
}

// ProposeFor commits a command whose result is a T.
func ProposeFor[T any](ctx context.Context, l *Leader, c masterfsm.Command) (T, error) {
	result, err := l.Propose(ctx, c)
	typed, ok := result.(T)
	if err == nil && !ok {
		err = fmt.Errorf("the state machine answered with %T", result)
	}
	return typed, err
}

// room returns why no appends are taken, nil if they are. Other commands are: they make room, or are small.
func (l *Leader) room() error {
	if own := l.cfg.Disk(); own.IsFull() {
		return fmt.Errorf("%w: %d MiB are free on the leader's disk, less than its --min-free; nothing was appended",
			wire.ErrNoSpace, own.Free>>20)
	}
	if full := l.Full(); len(full) > 0 {
		return fmt.Errorf("%w: the masters %s have less free space than their --min-free; nothing was appended",
			wire.ErrNoSpace, strings.Join(full, ", "))
	}
	return nil
}

// Append commits submissions as one command, and returns the outcome of each.
func (l *Leader) Append(ctx context.Context, submissions [][]byte) ([]masterfsm.Outcome, error) {
	now, err := l.mayAcknowledge()
	if err != nil {
		return nil, err
	}
	if err := l.room(); err != nil {
		return nil, err
	}
	result, err := l.cfg.Ledger.Propose(ctx, masterfsm.EncodeAppend(l.Now(), l.TermClock(), submissions...))
	outcomes, ok := result.([]masterfsm.Outcome)
	switch {
	case now.fences.suspended.Load(): // meanwhile: the group may have been recovered without this log
		return nil, fmt.Errorf("%w: %w", wire.ErrUnknownOutcome, errSuspended)
	case err != nil:
		return nil, err
	case !ok || len(outcomes) != len(submissions):
		return nil, fmt.Errorf("the state machine answered %d submissions with %T", len(submissions), result)
	}
	return outcomes, nil
}

// mayAcknowledge returns the term of this master, or an error if this master must not acknowledge what it commits as
// the leader. Nothing was committed then.
func (l *Leader) mayAcknowledge() (*leadership, error) {
	now := l.current.Load()
	switch {
	case l.fenced.Load():
		return nil, fmt.Errorf("%w: %w", wire.ErrNotLeader, ErrLaterEpoch)
	case now == nil:
		return nil, fmt.Errorf("%w: its term has not begun", wire.ErrNotLeader)
	case now.fences.suspended.Load():
		return nil, fmt.Errorf("%w: %w", wire.ErrNotLeader, errSuspended)
	}
	return now, nil
}

// Suspended returns an error if this master leads and acknowledges nothing because of workers that obey a later epoch.
func (l *Leader) Suspended() error {
	if now := l.current.Load(); now != nil && now.fences.suspended.Load() {
		return errSuspended
	}
	return nil
}

// SuspectStorage makes a check of a storage node due at once. detail may be "".
func (l *Leader) SuspectStorage(ctx context.Context, id, code, detail string) (*masterfsm.Storage, error) {
	cause := masterfsm.Cause{Code: code}
	if detail != "" {
		cause.Args = detailText(detail)
	}
	return ProposeFor[*masterfsm.Storage](ctx, l, &masterfsm.Suspect{ID: id, Cause: cause, Time: l.Now()})
}
