package workerapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// quietTime is how long a storage node must have had no order of a leader before its blocks are open to a recovery. A
// leader gives an order each second, and another is elected in less than this.
const quietTime = 5 * time.Second

// leaderSilence measures how long the node has seen no sign of a leader.
type leaderSilence struct {
	mu      sync.Mutex
	last    time.Time // when an order came, or the node started
	ordered bool      // an order came since the start

	answered func() time.Time // see StorageConfig; not changed
	waits    func() bool      // whether the node waits for approval; nil for never; not changed
	// registered is quietTime for a node whose last sign of a leader was an answer to its registration, or that waits
	// for approval: such a node gets no orders, and registers every ten seconds. Not changed.
	registered time.Duration
}

// heard records an order.
func (l *leaderSilence) heard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last, l.ordered = time.Now(), true
}

// sign returns when the last sign of a leader came: an order, or an answer to a registration. If none came since the
// node started, it returns that time and false.
func (l *leaderSilence) sign() (last time.Time, ordered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered != nil {
		if at := l.answered(); at.After(l.last) {
			return at, true
		}
	}
	return l.last, l.ordered
}

// lasts returns nil if there was no sign of a leader for a time, and the node has run for that time. Otherwise the
// error wraps wire.ErrForbidden.
func (l *leaderSilence) lasts(d time.Duration) error {
	last, ordered := l.sign()
	since := time.Since(last)
	switch {
	case since >= d:
		return nil
	case ordered:
		return fmt.Errorf("%w: a leader gave this node an order %v ago, or answered its registration, so the group "+
			"may live: stop all masters, and wait for %v", wire.ErrForbidden, since.Round(time.Millisecond), d)
	}
	return fmt.Errorf("%w: this node was started %v ago and does not know of orders before that: wait for %v",
		wire.ErrForbidden, since.Round(time.Millisecond), d)
}

// quiet returns how long there must be no sign of a leader before the blocks are open.
func (l *leaderSilence) quiet() time.Duration {
	if l.waits != nil && l.waits() {
		return max(quietTime, l.registered)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answered != nil && l.answered().After(l.last) {
		return max(quietTime, l.registered)
	}
	return quietTime
}

// await waits until there was no sign of a leader for the time of quiet. If one comes meanwhile, the error wraps
// wire.ErrForbidden.
func (l *leaderSilence) await(ctx context.Context) error {
	last, _ := l.sign()
	quiet := l.quiet()
	timer := time.NewTimer(max(0, quiet-time.Since(last)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if again, _ := l.sign(); !again.Equal(last) {
		return fmt.Errorf("%w: a leader gives this node orders, so there is nothing to recover: stop all masters "+
			"first, and wait for %v", wire.ErrForbidden, quiet)
	}
	return nil
}
