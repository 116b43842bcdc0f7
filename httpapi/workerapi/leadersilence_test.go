package workerapi

import (
	"context"
	"errors"
	"sync"
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

// TestSilenceOfAWaitingNode checks that a node that waits for approval, or that no leader has given an order since it
// answered a registration, does not open its blocks between two registrations, which are ten seconds apart.
func TestSilenceOfAWaitingNode(t *testing.T) {
	for name, waits := range map[string]bool{"it waits": true, "it is registered": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var answered time.Time
				var mu sync.Mutex
				l := leaderSilence{last: time.Now().Add(-time.Second), registered: time.Minute,
					waits: func() bool { return waits },
					answered: func() time.Time {
						mu.Lock()
						defer mu.Unlock()
						return answered
					}}
				ctx, stop := context.WithCancel(t.Context())
				registering := make(chan struct{})
				go func() {
					defer close(registering)
					every := time.NewTicker(10 * time.Second)
					defer every.Stop()
					for {
						mu.Lock()
						answered = time.Now()
						mu.Unlock()
						select {
						case <-every.C:
						case <-ctx.Done():
							return
						}
					}
				}()
				time.Sleep(time.Second)
				for range 3 {
					if err := l.await(t.Context()); !errors.Is(err, wire.ErrForbidden) {
						t.Errorf("between two registrations: %v", err)
					}
				}
				stop()
				<-registering
				mu.Lock()
				last := answered
				mu.Unlock()
				if err := l.await(t.Context()); err != nil || time.Since(last) != time.Minute {
					t.Errorf("without a leader: %v after %v", err, time.Since(last))
				}
				l.heard()
				begin := time.Now()
				if err := l.await(t.Context()); err != nil || !waits && time.Since(begin) != quietTime {
					t.Errorf("after an order: %v after %v", err, time.Since(begin))
				}
			})
		})
	}
}
