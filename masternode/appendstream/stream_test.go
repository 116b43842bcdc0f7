package appendstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// rig is a request on a fake table: a list of records. The number of a record is its content, so every record must
// stand in the place of its number.
type rig struct {
	t   *testing.T
	cfg Config[uint64]

	body    chan []uint64 // closed at the end
	stopped chan struct{}
	left    []uint64
	stop    sync.Once
	drained bool

	mu       sync.Mutex
	table    []uint64
	delay    func() time.Duration
	fail     func(first uint64) (before, after error) // the append is not made; it is, and its answer is lost
	answered []uint64
	flushed  int // answers that were flushed
	blocked  chan struct{}
	parts    int
	resent   int // records that the table had already
	gaps     int
	most     int // records that were read and had no answer
	read     int
}

func newRig(t *testing.T, first uint64) *rig {
	r := &rig{t: t, body: make(chan []uint64), stopped: make(chan struct{})}
	r.cfg = Config[uint64]{
		First: first, Window: 100, Bytes: 1 << 20,
		Next: r.next, Stop: func() { r.stop.Do(func() { close(r.stopped) }) }, Size: func(uint64) int { return 100 },
		Drain: func() {
			r.drained = true
			for range r.body {
			}
		},
		Limit: func() (int, int, error) { return 0, 0, nil },
		Submit: func(first uint64, records []uint64) func() ([]wire.Position, error) {
			return func() ([]wire.Position, error) { return r.submit(first, records) }
		},
		Answer: r.answer, Flush: r.flush,
	}
	for n := range first - 1 {
		r.table = append(r.table, n+1)
	}
	return r
}

func (r *rig) next(most int) ([]uint64, error) {
	for len(r.left) == 0 {
		select {
		case <-r.stopped:
			return nil, errors.New("stopped")
		case records, ok := <-r.body:
			if !ok {
				return nil, io.EOF
			}
			r.left = records
		}
	}
	n := min(most, len(r.left))
	records := r.left[:n]
	r.left = r.left[n:]
	r.mu.Lock()
	r.read += n
	r.most = max(r.most, r.read-len(r.answered))
	r.mu.Unlock()
	return records, nil
}

// send sends records with the numbers from first to last, some at a time, and then the end.
func (r *rig) send(first, last, each uint64) {
	go func() {
		defer close(r.body)
		for n := first; n <= last; n += each {
			var records []uint64
			for m := n; m < n+each && m <= last; m++ {
				records = append(records, m)
			}
			r.body <- records
		}
	}()
}

func (r *rig) submit(first uint64, records []uint64) ([]wire.Position, error) {
	r.mu.Lock()
	delay, fail := r.delay, r.fail
	r.parts++
	r.mu.Unlock()
	if delay != nil {
		time.Sleep(delay())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var before, after error
	if fail != nil {
		before, after = fail(first)
	}
	if before != nil {
		return nil, before
	}
	next := uint64(len(r.table)) + 1
	end := first + uint64(len(records))
	if next == 1 && first > 1 {
		r.gaps++
		return nil, wire.ErrUnknownStream
	}
	if first > next || first < next && end > next {
		r.gaps++
		return nil, &Gap{Next: next}
	}
	if first == next {
		r.table = append(r.table, records...)
	} else {
		r.resent += len(records)
	}
	if after != nil {
		return nil, after
	}
	positions := make([]wire.Position, len(records))
	for i := range positions {
		positions[i].Index = first + uint64(i)
	}
	return positions, nil
}

func (r *rig) answer(first uint64, positions []wire.Position) error {
	if r.blocked != nil {
		<-r.blocked
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, p := range positions {
		if p.Index != first+uint64(i) {
			r.t.Errorf("number %d got the position of %d", first+uint64(i), p.Index)
		}
		r.answered = append(r.answered, p.Index)
	}
	return nil
}

func (r *rig) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flushed = len(r.answered)
	return nil
}

// check checks that exactly the numbers up to last are in the table, in order, and those from first on were answered.
func (r *rig) check(first, last uint64) {
	r.t.Helper()
	numbers := func(from uint64) (all []uint64) {
		for n := from; n <= last; n++ {
			all = append(all, n)
		}
		return all
	}
	if !slices.Equal(r.table, numbers(1)) {
		r.t.Errorf("the table has %d records, want %d in order", len(r.table), last)
	}
	if !slices.Equal(r.answered, numbers(first)) || r.flushed != len(r.answered) {
		r.t.Errorf("%d answers, %d flushed, want those from %d to %d", len(r.answered), r.flushed, first, last)
	}
	if r.most > r.cfg.Window {
		r.t.Errorf("%d records had no answer, the window is %d", r.most, r.cfg.Window)
	}
}

func TestInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 8)
		r.delay = func() time.Duration { return 3 * time.Millisecond }
		r.send(8, 1007, 7)
		if last, err := Run(t.Context(), r.cfg); last != 1007 || err != nil {
			t.Errorf("%d, %v", last, err)
		}
		r.check(8, 1007)
		if r.parts > 60 || r.resent != 0 {
			t.Errorf("%d parts, %d records sent again", r.parts, r.resent)
		}
	})
}

// TestRandomFailures loses parts and answers, and lets parts overtake each other. Every record must be appended once,
// in order, and be answered.
func TestRandomFailures(t *testing.T) {
	gaps, resent := 0, 0
	for seed := range uint64(50) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex
				random := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return rng.IntN(n)
				}
				r := newRig(t, 1)
				r.delay = func() time.Duration { return time.Duration(random(4)) * time.Millisecond }
				r.fail = func(uint64) (before, after error) {
					switch random(8) {
					case 0:
						return wire.ErrNoLeader, nil
					case 1:
						return wire.ErrUnknownOutcome, nil
					case 2:
						return nil, wire.ErrUnknownOutcome
					}
					return nil, nil
				}
				r.send(1, 2000, 1+uint64(random(40)))
				if last, err := Run(t.Context(), r.cfg); last != 2000 || err != nil {
					t.Errorf("%d, %v", last, err)
				}
				r.check(1, 2000)
				gaps += r.gaps
				resent += r.resent
			})
		})
	}
	if gaps == 0 || resent == 0 {
		t.Errorf("%d gaps, %d records sent again: nothing was tested", gaps, resent)
	}
}

// TestSentAgain sends records of which the table has the first ones.
func TestSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 31)
		r.cfg.First = 11
		r.send(11, 60, 15)
		if last, err := Run(t.Context(), r.cfg); last != 60 || err != nil {
			t.Errorf("%d, %v", last, err)
		}
		r.check(11, 60)
		if r.resent != 20 {
			t.Errorf("%d records were sent again, want 20", r.resent)
		}
	})
}

// TestFinalErrors checks that an error which does not pass ends the request, after the answers of the records before.
func TestFinalErrors(t *testing.T) {
	for _, final := range []error{wire.ErrUnauthorized, wire.ErrTooLarge, &Gap{Next: 3}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1)
			r.cfg.Limit = func() (int, int, error) { return 5, 0, nil }
			r.delay = func() time.Duration { return time.Millisecond }
			r.fail = func(first uint64) (error, error) {
				if first >= 11 {
					return final, nil
				}
				return nil, nil
			}
			r.send(1, 50, 5)
			if last, err := Run(t.Context(), r.cfg); last != 10 || !errors.Is(err, final) {
				t.Errorf("%d, %v, want %v", last, err, final)
			}
			r.check(1, 10)
			for range r.body { // end the sender
			}
		})
	}
}

// TestGivesUp checks that a part is not sent again forever.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.fail = func(uint64) (error, error) { return wire.ErrNoLeader, nil }
		began := time.Now()
		r.send(1, 1, 1)
		last, err := Run(t.Context(), r.cfg)
		if passed := time.Since(began); last != 0 || !errors.Is(err, wire.ErrNoLeader) || passed < patience ||
			passed > patience+time.Second {
			t.Errorf("%d, %v after %v", last, err, passed)
		}
	})
}

// TestQuota checks that a stream waits for its quota however long that takes.
func TestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		refusals := 0
		r.fail = func(uint64) (error, error) {
			if refusals++; refusals <= 100 {
				return &wire.QuotaError{Limit: 1, Wait: 1000}, nil
			}
			return nil, nil
		}
		began := time.Now()
		r.send(1, 3, 3)
		if last, err := Run(t.Context(), r.cfg); last != 3 || err != nil || time.Since(began) < 100*time.Second {
			t.Errorf("%d, %v after %v", last, err, time.Since(began))
		}
		r.check(1, 3)
	})
}

// TestLimits checks the size of parts.
func TestLimits(t *testing.T) {
	for records, limit := range map[int][2]int{2: {2, 0}, 3: {0, 350}, 1: {0, 50}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, 1)
			r.cfg.Limit = func() (int, int, error) { return limit[0], limit[1], nil }
			r.send(1, 60, 30)
			if last, err := Run(t.Context(), r.cfg); last != 60 || err != nil {
				t.Errorf("%d, %v", last, err)
			}
			if want := 60 / records; r.parts-r.gaps != want {
				t.Errorf("%d parts of %d records, want %d", r.parts-r.gaps, records, want)
			}
		})
	}
}

// TestUnread checks that a client that reads no answers gets to the end of the request: the records of one window are
// appended, the rest of the body is dropped, and the answers are written once the client reads.
func TestUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.blocked = make(chan struct{})
		r.send(1, 500, 10)
		go func() {
			time.Sleep(20 * time.Second)
			close(r.blocked)
		}()
		last, err := Run(t.Context(), r.cfg)
		if last != 100 || !errors.Is(err, wire.ErrUnreadAnswers) || !r.drained {
			t.Errorf("%d, %v, drained: %v", last, err, r.drained)
		}
		r.check(1, 100)
	})
}

// TestSlowReader checks that a client that reads slowly is not taken for one that does not read.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.blocked = make(chan struct{})
		ticker := time.NewTicker(unreadTime - time.Second)
		defer ticker.Stop()
		ended := make(chan struct{})
		defer close(ended)
		go func() {
			for {
				select {
				case r.blocked <- struct{}{}:
				case <-ended:
					return
				}
				select {
				case <-ticker.C:
				case <-ended:
					return
				}
			}
		}()
		r.send(1, 500, 50)
		if last, err := Run(t.Context(), r.cfg); last != 500 || err != nil {
			t.Errorf("%d, %v", last, err)
		}
		r.check(1, 500)
	})
}

// TestEnd checks that the parts that are under way come to their end when the context ends.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.delay = func() time.Duration { return time.Minute }
		ctx, cancel := context.WithCancelCause(t.Context())
		stopping := errors.New("stopping")
		go func() {
			r.body <- []uint64{1, 2, 3}
			time.Sleep(time.Second)
			cancel(stopping)
		}()
		if last, err := Run(ctx, r.cfg); last != 3 || !errors.Is(err, stopping) {
			t.Errorf("%d, %v", last, err)
		}
		r.check(1, 3)
	})
}

// TestAnswerFails checks that a request ends when its client is gone.
func TestAnswerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		gone := errors.New("gone")
		r.cfg.Answer = func(uint64, []wire.Position) error { return gone }
		go func() { r.body <- []uint64{1} }()
		if last, err := Run(t.Context(), r.cfg); last != 1 || !errors.Is(err, gone) {
			t.Errorf("%d, %v", last, err)
		}
	})
}

// TestOtherRecordsAreRefusedWithoutEffect checks that a request with another record under a number that the stream has
// appends nothing, although its later records would follow the stream's last one.
func TestOtherRecordsAreRefusedWithoutEffect(t *testing.T) {
	for _, have := range []uint64{3, 40, 100} { // of the 100 records of the window
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, have+1)
			r.cfg.First = 1
			other := errors.New("another record")
			submit := r.cfg.Submit
			r.cfg.Submit = func(first uint64, records []uint64) func() ([]wire.Position, error) {
				wait := submit(first, records)
				return func() ([]wire.Position, error) {
					positions, err := wait()
					if err == nil && first <= have { // it is compared once it is known to be there
						time.Sleep(time.Second)
						return nil, other
					}
					return positions, err
				}
			}
			r.cfg.Limit = func() (int, int, error) { return 20, 0, nil }
			r.send(1, 400, 50)
			if _, err := Run(t.Context(), r.cfg); !errors.Is(err, other) {
				t.Errorf("%d records are there: %v", have, err)
			}
			for range r.body { // until the sender has ended
			}
			if uint64(len(r.table)) != have {
				t.Errorf("of %d records the table has %d afterwards", have, len(r.table))
			}
		})
	}
}
