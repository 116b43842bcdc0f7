package batch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Config describes a [Batcher].
type Config[T, R any] struct {
	Lanes    int         // batches that may be in flight at the same time
	Eager    int         // a batch that is not full is sent while fewer than this many are in flight; at least 1
	MaxCount int         // calls in a batch
	MaxSize  int         // sum of Size over a batch, unless one value alone is larger
	Size     func(T) int // of one value; nil if only MaxCount bounds a batch

	// Gather is how long a batch that is not full waits at most for the callers of the batches before it, see
	// [gathering]; 0: it does not wait. A batch of Enough callers does not wait; 0: any batch may. Callers is how many
	// callers a value stands for; nil: one.
	Gather  time.Duration
	Enough  int
	Callers func(T) int

	Handle func(context.Context, []*Call[T, R]) // processes a batch; must end every call in it
	Closed error                                // wrapped by the error of a call that is refused because Run has ended
}

// Call is a value on its way through a [Batcher]. Result and Err are set when Done is closed.
type Call[T, R any] struct {
	Value  T
	Done   chan struct{}
	Result R
	Err    error

	answering func() // runs before the first call of a batch ends; nil outside of a batch
}

// End sets the result and closes Done.
func (c *Call[T, R]) End(result R, err error) {
	c.Result, c.Err = result, err
	if c.answering != nil {
		c.answering()
	}
	close(c.Done)
}

// Wait returns the result. The error is that of the call, or the cause of the end of ctx.
func (c *Call[T, R]) Wait(ctx context.Context) (R, error) {
	select {
	case <-c.Done:
		return c.Result, c.Err
	case <-ctx.Done():
		return *new(R), context.Cause(ctx)
	}
}

// Ended returns a call that has ended with a result.
func Ended[T, R any](result R) *Call[T, R] {
	c := &Call[T, R]{Done: make(chan struct{})}
	c.End(result, nil)
	return c
}

// Failed returns a call that has ended with an error.
func Failed[T, R any](err error) *Call[T, R] {
	c := &Call[T, R]{Done: make(chan struct{})}
	c.End(*new(R), err)
	return c
}

// Batcher groups calls that arrive while a batch is in flight: they form the next batch. A single call is handled at
// once, and batches grow with the load. A full batch does not wait for the one before it, since waiting would not make
// it larger.
//
// Calls that start before Run wait for it.
type Batcher[T, R any] struct {
	cfg   Config[T, R]
	ready chan struct{} // holds a token for each lane that should look for a batch

	mu       sync.Mutex // guards all below
	waiting  []*Call[T, R]
	bytes    int // sum of Size over waiting
	callers  int // sum of Callers over waiting
	inFlight int // batches
	gather   gathering
	timer    *time.Timer // for the end of a wait; nil without Gather
	ticking  bool        // it is set
	closed   error       // set when no call is accepted any more
}

// New makes a batcher.
func New[T, R any](cfg Config[T, R]) *Batcher[T, R] {
	if cfg.Size == nil {
		cfg.MaxSize, cfg.Size = 1, func(T) int { return 0 }
	}
	if cfg.Callers == nil {
		cfg.Callers = func(T) int { return 1 }
	}
	return &Batcher[T, R]{cfg: cfg, ready: make(chan struct{}, cfg.Lanes), gather: gathering{limit: cfg.Gather}}
}

// Start queues a call, or refuses it when Run has ended.
func (b *Batcher[T, R]) Start(value T) *Call[T, R] {
	b.mu.Lock()
	if b.closed != nil {
		b.mu.Unlock()
		return Failed[T, R](b.closed)
	}
	c := &Call[T, R]{Value: value, Done: make(chan struct{})}
	b.waiting = append(b.waiting, c)
	b.bytes += b.cfg.Size(value)
	callers := b.cfg.Callers(value)
	b.callers += callers
	b.gather.came(callers)
	due := b.due()
	b.mu.Unlock()
	if due {
		b.wake()
	}
	return c
}

// due reports whether a batch should be sent now. If one waits for callers, due sees to it that a lane looks again. mu
// is held.
func (b *Batcher[T, R]) due() bool {
	if len(b.waiting) == 0 {
		return false
	}
	if b.bytes >= b.cfg.MaxSize || len(b.waiting) >= b.cfg.MaxCount {
		return true
	}
	if b.inFlight >= b.cfg.Eager {
		return false
	}
	if b.gather.owed == 0 || b.cfg.Enough > 0 && b.callers >= b.cfg.Enough {
		return true
	}
	left := b.gather.wait(time.Now())
	if left > 0 && !b.ticking {
		b.ticking = true
		if b.timer == nil {
			b.timer = time.AfterFunc(left, b.waited)
		} else {
			b.timer.Reset(left)
		}
	}
	return left == 0
}

// waited runs when a wait for callers may have ended.
func (b *Batcher[T, R]) waited() {
	b.mu.Lock()
	b.ticking = false
	due := b.due()
	b.mu.Unlock()
	if due {
		b.wake()
	}
}

// Waiting returns how many calls wait for a batch, and the sum of Size over them.
func (b *Batcher[T, R]) Waiting() (calls, size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.waiting), b.bytes
}

func (b *Batcher[T, R]) wake() {
	select {
	case b.ready <- struct{}{}:
	default: // every lane has a token already
	}
}

// next removes the next batch from the queue. It returns nil if none is due.
func (b *Batcher[T, R]) next() []*Call[T, R] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due() {
		return nil
	}
	n, size, callers := 0, 0, 0
	for n < len(b.waiting) && n < b.cfg.MaxCount {
		s := b.cfg.Size(b.waiting[n].Value)
		if n > 0 && size+s > b.cfg.MaxSize {
			break
		}
		size += s
		callers += b.cfg.Callers(b.waiting[n].Value)
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.bytes -= size
	b.callers -= callers
	b.inFlight++
	if b.cfg.Gather > 0 {
		// A caller may call again before the last one of its batch has its answer, so the first answer counts.
		began := time.Now()
		answering := sync.OnceFunc(func() { b.answered(callers, began) })
		for _, c := range batch {
			c.answering = answering
		}
	}
	if len(b.waiting) == 0 {
		b.waiting = nil
	} else if b.due() {
		b.wake()
	}
	return batch
}

// answered notes that the callers of a batch, which left the queue at a time, are about to get their answers.
func (b *Batcher[T, R]) answered(callers int, began time.Time) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gather.answered(callers, now.Sub(began), now)
}

// done records that a batch has ended, so that waiting calls may be sent.
func (b *Batcher[T, R]) done() {
	b.mu.Lock()
	b.inFlight--
	due := b.due()
	b.mu.Unlock()
	if due {
		b.wake()
	}
}

// Run handles batches until ctx ends, waits for those in flight, and then refuses the calls that still wait.
func (b *Batcher[T, R]) Run(ctx context.Context) {
	var lanes errgroup.Group
	for range b.cfg.Lanes {
		lanes.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-b.ready:
				}
				if ctx.Err() != nil {
					return nil
				}
				if batch := b.next(); len(batch) > 0 {
					b.cfg.Handle(ctx, batch)
					b.done()
				}
			}
		})
	}
	_ = lanes.Wait() // lanes return no error
	b.mu.Lock()
	b.closed = fmt.Errorf("%w: %w", b.cfg.Closed, context.Cause(ctx))
	rest := b.waiting
	b.waiting, b.bytes, b.callers = nil, 0, 0
	if b.timer != nil {
		b.timer.Stop()
	}
	b.mu.Unlock()
	for _, c := range rest {
		c.End(*new(R), b.closed)
	}
}
