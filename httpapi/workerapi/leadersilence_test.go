package workerapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// TestLeaderSilence checks that the cluster token permits reading blocks only after a time without contact to a leader.
func TestLeaderSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l leaderSilence
		l.heard()
		begin := time.Now()
		if err := l.await(t.Context()); err != nil || time.Since(begin) != quietTime {
			t.Errorf("after the last order: %v after %v", err, time.Since(begin))
		}
		time.Sleep(time.Hour)
		begin = time.Now()
		if err := l.await(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("long after: %v after %v", err, time.Since(begin))
		}
		l.heard()
		time.AfterFunc(quietTime-1, l.heard)
		if err := l.await(t.Context()); !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("a leader was heard of meanwhile: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := l.await(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the reader went away: %v", err)
		}
	})
}
