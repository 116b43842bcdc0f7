package batch

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestGathering checks the waits for callers step by step.
func TestGathering(t *testing.T) {
	const took = 4 * time.Millisecond
	start := time.Unix(0, 0)
	settled := func() *gathering { return &gathering{limit: 2 * time.Millisecond, usual: took} }

	g := settled()
	if g.wait(start) != 0 {
		t.Error("it waits before any answer")
	}
	g.answered(1, took, start)
	g.came(1)
	if w := g.wait(start); w != 0 {
		t.Errorf("a single caller waits %v", w)
	}
	g.answered(8, took, start)
	if w := g.wait(start); w != 2*time.Millisecond {
		t.Errorf("a wait of %v, want half of a batch", w)
	}
	g.came(7)
	if w := g.wait(start.Add(time.Millisecond)); w != time.Millisecond {
		t.Errorf("%v are left, want 1ms", w)
	}
	g.came(1)
	if w := g.wait(start.Add(time.Millisecond)); w != 0 {
		t.Errorf("all are back, and it waits %v", w)
	}
	g.answered(8, took, start)
	g.came(6) // a quarter is late, which is no miss
	if w := g.wait(start.Add(2 * time.Millisecond)); w != 0 || g.skips != 0 {
		t.Errorf("a wait of %v, %d skips", w, g.skips)
	}
	for i, skips := range []int{1, 2, 4, 8, 16, 32, 64, 64} {
		g.answered(8, took, start)
		g.came(5)
		if w := g.wait(start.Add(2 * time.Millisecond)); w != 0 || g.skips != skips {
			t.Errorf("miss %d: a wait of %v, %d skips, want %d", i, w, g.skips, skips)
		}
		for range skips {
			g.answered(8, took, start)
			if w := g.wait(start); w != 0 {
				t.Errorf("after miss %d it waits %v", i, w)
			}
		}
	}
	g.answered(8, took, start)
	g.came(8)
	g.answered(8, took, start)
	g.came(2)
	if g.wait(start.Add(2*time.Millisecond)) != 0 || g.skips != 1 {
		t.Errorf("after a try that paid, a miss skips %d", g.skips)
	}

	short := &gathering{limit: 2 * time.Millisecond, usual: time.Millisecond}
	short.answered(8, time.Millisecond, start)
	if w := short.wait(start); w != time.Millisecond/2 {
		t.Errorf("a wait of %v for batches of 1ms", w)
	}
	none := &gathering{}
	none.answered(8, took, start)
	if w := none.wait(start); w != 0 {
		t.Errorf("without a limit it waits %v", w)
	}
}

// loop is the outcome of callers that call again and again for a second of virtual time.
type loop struct {
	calls, batches int
	slowest        time.Duration
}

// runLoop lets callers call again after a pause. A batch takes 4 ms.
func runLoop(t *testing.T, gather time.Duration, callers int, pause func(*rand.Rand) time.Duration) (l loop) {
	synctest.Test(t, func(t *testing.T) {
		l = loop{}
		b := New(Config[int, int]{
			Lanes: 4, Eager: 1, MaxCount: 1000, Closed: errClosed, Gather: gather,
			Handle: func(_ context.Context, batch []*Call[int, int]) {
				time.Sleep(4 * time.Millisecond)
				l.batches++
				for _, c := range batch {
					c.End(c.Value, nil)
				}
			},
		})
		stop := run(t, b)
		ended := make(chan loop)
		end := time.Now().Add(time.Second)
		for i := range callers {
			go func() {
				var own loop
				random := rand.New(rand.NewPCG(1, uint64(i)))
				time.Sleep(time.Duration(i) * 97 * time.Microsecond) // they do not begin together
				for time.Now().Before(end) {
					began := time.Now()
					if _, err := b.Start(i).Wait(t.Context()); err != nil {
						t.Error(err)
					}
					own.calls, own.slowest = own.calls+1, max(own.slowest, time.Since(began))
					time.Sleep(pause(random))
				}
				ended <- own
			}()
		}
		for range callers {
			own := <-ended
			l.calls, l.slowest = l.calls+own.calls, max(l.slowest, own.slowest)
		}
		stop()
	})
	return l
}

// TestCallersShareABatch checks that callers in a closed loop end up in the same batches, that one caller waits for
// nobody, and that waits for callers that do not come back cost next to nothing.
func TestCallersShareABatch(t *testing.T) {
	const gather = 2 * time.Millisecond
	soon := func(*rand.Rand) time.Duration { return 300 * time.Microsecond }
	apart, together := runLoop(t, 0, 40, soon), runLoop(t, gather, 40, soon)
	if each := together.calls / together.batches; each < 38 || together.calls < apart.calls*17/10 {
		t.Errorf("%d callers a batch; %d calls, without a wait %d", each, together.calls, apart.calls)
	}
	alone, single := runLoop(t, 0, 1, soon), runLoop(t, gather, 1, soon)
	if single != alone {
		t.Errorf("a single caller: %+v, without a wait %+v", single, alone)
	}
	late := func(random *rand.Rand) time.Duration { return time.Duration(random.IntN(40)) * time.Millisecond }
	usual := runLoop(t, 0, 40, late)
	if open := runLoop(t, gather, 40, late); open.calls < usual.calls*98/100 || open.slowest > usual.slowest+gather {
		t.Errorf("callers that come back late: %+v, without a wait %+v", open, usual)
	}
}

// TestEnoughCallers checks that a batch of enough callers waits for nobody.
func TestEnoughCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: 10 * time.Millisecond}
		cfg := r.batcher(2, 1, 100, 1000).cfg
		cfg.Gather, cfg.Enough, cfg.Callers = 2*time.Millisecond, 10, func(v int) int { return v }
		b := New(cfg)
		stop := run(t, b)
		for range 30 { // until the usual duration is known
			call := b.Start(40)
			<-call.Done
		}
		for want, values := range map[time.Duration][]int{
			10 * time.Millisecond: {4, 6}, 12 * time.Millisecond: {4, 5},
		} {
			<-b.Start(40).Done // 40 callers were answered
			began := time.Now()
			first, second := b.Start(values[0]), b.Start(values[1])
			<-first.Done
			<-second.Done
			if took := time.Since(began); took != want {
				t.Errorf("%v callers took %v, want %v", values, took, want)
			}
			time.Sleep(time.Second)
			<-b.Start(40).Done // it was no miss
		}
		stop()
	})
}

// TestGatherIsBounded checks that a call waits at most for the limit if the others stay away, and not at all while a
// batch is full or the batcher is about to stop.
func TestGatherIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder{took: 10 * time.Millisecond}
		cfg := r.batcher(2, 1, 4, 1000).cfg
		cfg.Gather = 2 * time.Millisecond
		b := New(cfg)
		stop := run(t, b)
		for range 3 {
			b.Start(1)
		}
		time.Sleep(100 * time.Millisecond)
		for range 30 { // until the usual duration is known
			call := b.Start(1)
			<-call.Done
		}
		three := []*Call[int, int]{b.Start(1), b.Start(2), b.Start(3)}
		for _, c := range three {
			<-c.Done
		}
		began := time.Now()
		<-b.Start(4).Done
		if took := time.Since(began); took > 12*time.Millisecond {
			t.Errorf("a call took %v", took)
		}
		stop()
		if c := b.Start(5); !errors.Is(c.Err, errClosed) {
			t.Errorf("after the end: %v", c.Err)
		}
	})
}
