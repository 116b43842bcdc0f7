package workerapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Blocks are open under the cluster token only where no leader has been heard of for a while.
func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q quiet
		q.heard()
		begin := time.Now()
		if err := q.await(t.Context()); err != nil || time.Since(begin) != quietTime {
			t.Errorf("after the last order: %v after %v", err, time.Since(begin))
		}
		time.Sleep(time.Hour)
		begin = time.Now()
		if err := q.await(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("long after: %v after %v", err, time.Since(begin))
		}
		q.heard()
		time.AfterFunc(quietTime-1, q.heard)
		if err := q.await(t.Context()); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("a leader was heard of meanwhile: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.await(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the reader went away: %v", err)
		}
	})
}
