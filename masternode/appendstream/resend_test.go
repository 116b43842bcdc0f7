package appendstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// TestUnreadEndsWithItsWrite checks that a write that ends just as its time is over leaves no mark.
func TestUnreadEndsWithItsWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &request[uint64]{}
		r.freed = sync.NewCond(&r.mu)
		for i := range 2000 {
			if err := r.watched(func() error { time.Sleep(unreadTime); return nil }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			r.mu.Lock()
			unread := r.unread
			r.mu.Unlock()
			if unread {
				t.Fatalf("write %d has ended, and counts as not taken", i)
			}
		}
	})
}

// TestRightsBeforeEachPart checks that a part is not sent again after its sender has lost its rights.
func TestRightsBeforeEachPart(t *testing.T) {
	for what, refusal := range map[string]error{
		"unknown outcome": wire.ErrUnknownOutcome, "backlog": wire.ErrBacklog, "no leader": wire.ErrNoLeader,
		"quota": &wire.QuotaError{Limit: 10, Wait: 1000}, "left of a quota": &wire.QuotaError{Limit: 10, Left: 2},
		"known in part": &Gap{Next: 3},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, 1)
				var revoked error
				r.cfg.Limit = func() (int, int, error) { return 0, 0, revoked }
				submit := r.cfg.Submit
				r.cfg.Submit = func(first uint64, records []uint64) func() ([]wire.Position, error) {
					if revoked == nil {
						revoked = wire.ErrUnauthorized
						return func() ([]wire.Position, error) { return nil, refusal }
					}
					return submit(first, records)
				}
				r.send(1, 5, 5)
				if last, err := Run(t.Context(), r.cfg); last != 0 || !errors.Is(err, wire.ErrUnauthorized) {
					t.Errorf("%d, %v", last, err)
				}
				r.check(1, 0)
			})
		})
	}
}

// TestRightsOfAnOvertakingPart is TestRightsBeforeEachPart for a part that overtook the one before it.
func TestRightsOfAnOvertakingPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.cfg.Window = 10
		var mu sync.Mutex
		var revoked error
		r.cfg.Limit = func() (int, int, error) {
			mu.Lock()
			defer mu.Unlock()
			return 5, 0, revoked
		}
		submit := r.cfg.Submit
		r.cfg.Submit = func(first uint64, records []uint64) func() ([]wire.Position, error) {
			wait := submit(first, records)
			return func() ([]wire.Position, error) {
				if first == 16 { // it is refused at once, the one before it takes a second
					mu.Lock()
					defer mu.Unlock()
					revoked = wire.ErrUnauthorized
					return wait()
				}
				time.Sleep(time.Second)
				return wait()
			}
		}
		r.send(1, 20, 5)
		if last, err := Run(t.Context(), r.cfg); last != 15 || !errors.Is(err, wire.ErrUnauthorized) || r.gaps != 1 {
			t.Errorf("%d, %v, %d gaps", last, err, r.gaps)
		}
		r.check(1, 15)
	})
}

// TestRightsWithoutALeader checks that a stream waits as long for a leader that says what its sender may do as for one
// that takes a part.
func TestRightsWithoutALeader(t *testing.T) {
	for away, want := range map[time.Duration]uint64{patience - 2*time.Second: 5, time.Hour: 0} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1)
			began := time.Now()
			r.cfg.Limit = func() (int, int, error) {
				if time.Since(began) < away {
					return 0, 0, fmt.Errorf("%w: silence", wire.ErrNoLeader)
				}
				return 0, 0, nil
			}
			r.send(1, 5, 5)
			last, err := Run(t.Context(), r.cfg)
			passed := time.Since(began)
			if last != want || (want == 0) != errors.Is(err, wire.ErrNoLeader) || passed > patience+time.Second ||
				passed < min(away, patience) {
				t.Errorf("%d, %v after %v", last, err, passed)
			}
			r.check(1, want)
		})
	}
}

// TestQuotaOfMany checks that a stream gets on although others spend of its quota whenever they can, so that it is
// never whole: the parts become as small as what is left.
func TestQuotaOfMany(t *testing.T) {
	const second, others = 100, 60 // records of the quota, and those that others spend
	for _, bytes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1)
			window, spent := time.Now(), others
			submit := r.cfg.Submit
			r.cfg.Submit = func(first uint64, records []uint64) func() ([]wire.Position, error) {
				if time.Since(window) >= time.Second {
					window, spent = time.Now(), others
				}
				if left := second - spent; left < len(records) {
					short := &wire.QuotaError{Limit: second, Left: uint64(left), Wait: 1000}
					if short.Bytes = bytes; bytes {
						short.Limit, short.Left = 100*short.Limit, 100*short.Left
					}
					return func() ([]wire.Position, error) { return nil, short }
				}
				spent += len(records)
				return submit(first, records)
			}
			r.cfg.Limit = func() (int, int, error) { return second, 0, nil }
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it does not get on"))
			defer cancel()
			r.send(1, 400, 50)
			if last, err := Run(ctx, r.cfg); last != 400 || err != nil {
				t.Errorf("%d, %v", last, err)
			}
			r.check(1, uint64(len(r.table)))
		})
	}
}

// TestQuotaWithNothingLeft is TestQuotaOfMany where the refusals do not say what is left.
func TestQuotaWithNothingLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		submit := r.cfg.Submit
		r.cfg.Submit = func(first uint64, records []uint64) func() ([]wire.Position, error) {
			if len(records) > 3 {
				return func() ([]wire.Position, error) { return nil, &wire.QuotaError{Limit: 100, Wait: 100} }
			}
			return submit(first, records)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("it does not get on"))
		defer cancel()
		r.send(1, 400, 50)
		if last, err := Run(ctx, r.cfg); last != 400 || err != nil {
			t.Errorf("%d, %v", last, err)
		}
		r.check(1, uint64(len(r.table)))
	})
}

// TestNoRoomForMore checks that a stream reads on when its answers have freed room, and ends where it holds nothing.
func TestNoRoomForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		var mu sync.Mutex
		room := 30
		next := r.cfg.Next
		r.cfg.Next = func(most int) ([]uint64, error) {
			mu.Lock()
			defer mu.Unlock()
			if most = min(most, room); most == 0 {
				return nil, wire.ErrBacklog
			}
			records, err := next(most)
			room -= len(records)
			return records, err
		}
		r.cfg.Answered = func(records []uint64) {
			mu.Lock()
			defer mu.Unlock()
			room += len(records)
		}
		r.delay = func() time.Duration { return 3 * time.Second }
		r.send(1, 200, 50)
		if last, err := Run(t.Context(), r.cfg); last != 200 || err != nil {
			t.Errorf("%d, %v", last, err)
		}
		r.check(1, 200)
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.cfg.Next = func(int) ([]uint64, error) { return nil, wire.ErrBacklog }
		if last, err := Run(t.Context(), r.cfg); last != 0 || !errors.Is(err, wire.ErrBacklog) {
			t.Errorf("%d, %v", last, err)
		}
	})
}
