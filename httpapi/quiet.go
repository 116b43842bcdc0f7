package httpapi

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// quietTime is how long a storage node must have had no order of a leader before its blocks are open to a recovery. Leaders give one each
// second, and another is elected in less than this.
const quietTime = 5 * time.Second

// quiet tells whether a leader gives orders.
type quiet struct {
	mu   sync.Mutex
	last time.Time // when an order came, or the node started
}

func (q *quiet) heard() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last = time.Now()
}

func (q *quiet) lastOrder() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.last
}

// await waits until no leader was heard of for quietTime. Where one is heard of meanwhile, the error wraps errForbidden.
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
		return fmt.Errorf("%w: a leader gives this node orders, so there is nothing to recover: stop all masters first, and wait for %v", errForbidden, quietTime)
	}
	return nil
}
