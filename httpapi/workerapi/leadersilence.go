package workerapi

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// quietTime is how long a storage node must have had no order of a leader before its blocks are open to a recovery. Leaders give one each
// second, and another is elected in less than this.
const quietTime = 5 * time.Second

// quiet tells whether a leader gives orders.
type quiet struct {
	mu      sync.Mutex
	last    time.Time // when an order came, or the node started
	ordered bool      // an order came since the start

	answered func() time.Time // see StorageConfig; not changed
}

func (q *quiet) started() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = time.Now()
}

func (q *quiet) heard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last, q.ordered = time.Now(), true
}

// since is how long ago the last sign of life came, or the node started where none came since.
func (q *quiet) since() (d time.Duration, ordered bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	last, ordered := q.sign()
	return time.Since(last), ordered
}

// sign is the last sign of life of a leader, an order or an answer, or the start where none came since; mu is held.
func (q *quiet) sign() (last time.Time, ordered bool) {
	if q.answered != nil {
		if at := q.answered(); at.After(q.last) {
			return at, true
		}
	}
	return q.last, q.ordered
}

func (q *quiet) lastOrder() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	last, _ := q.sign()
	return last
}

// lasts reports, as an error that wraps wire.ErrForbidden, that an order came within a time, or that the node has not run
// for so long.
func (q *quiet) lasts(d time.Duration) error {
	since, ordered := q.since()
	switch {
	case since >= d:
		return nil
	case ordered:
		return fmt.Errorf("%w: a leader gave this node an order %v ago, or answered its registration, so the group "+
			"may live: stop all masters, and wait for %v",
			wire.ErrForbidden, since.Round(time.Millisecond), d)
	}
	return fmt.Errorf("%w: this node was started %v ago and does not know of orders before that: wait for %v",
		wire.ErrForbidden, since.Round(time.Millisecond), d)
}

// await waits until no leader was heard of for quietTime. Where one is heard of meanwhile, the error wraps wire.ErrForbidden.
func (q *quiet) await(ctx context.Context) error {
	last := q.lastOrder()
	timer := time.NewTimer(max(0, quietTime-time.Since(last)))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !q.lastOrder().Equal(last) {
		return fmt.Errorf("%w: a leader gives this node orders, so there is nothing to recover: stop all masters first, and wait for %v", wire.ErrForbidden, quietTime)
	}
	return nil
}
