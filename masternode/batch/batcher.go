package batch

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Config describes a [Batcher]. All fields are required.
type Config[T any] struct {
	Lanes    int // batches that may be in flight at the same time
	Eager    int // a batch that is not full is sent while fewer than this many are in flight; at least 1
	MaxCount int // values in a batch
	MaxSize  int // sum of Size over a batch, unless one value alone is larger

	Size   func(T) int                // of one value
	Handle func(context.Context, []T) // processes a batch; must complete every value in it
	Refuse func(T, error)             // completes a value that was not handled because the batcher has ended
}

// Batcher groups values that arrive while a batch is in flight, without a timer: they form the next batch. A single
// value is handled at once, and batches grow with the load. A full batch does not wait for the one before it, since
// waiting would not make it larger.
//
// Values that are added before Run starts wait for it.
type Batcher[T any] struct {
	cfg   Config[T]
	ready chan struct{} // holds a token for each lane that should look for a batch

	mu       sync.Mutex // guards all below
	waiting  []T
	bytes    int   // sum of Size over waiting
	inFlight int   // batches
	closed   error // set when no value is accepted any more
}

// New makes a batcher.
func New[T any](cfg Config[T]) *Batcher[T] {
	return &Batcher[T]{cfg: cfg, ready: make(chan struct{}, cfg.Lanes)}
}

// Add queues a value, or refuses it when the batcher has ended.
func (b *Batcher[T]) Add(value T) {
	b.mu.Lock()
	if b.closed != nil {
		b.mu.Unlock()
		b.cfg.Refuse(value, b.closed)
		return
	}
	b.waiting = append(b.waiting, value)
	b.bytes += b.cfg.Size(value)
	due := b.due()
	b.mu.Unlock()
	if due {
		b.wake()
	}
}

// due reports whether a batch should be sent now. mu is held.
func (b *Batcher[T]) due() bool {
	full := b.bytes >= b.cfg.MaxSize || len(b.waiting) >= b.cfg.MaxCount
	return len(b.waiting) > 0 && (b.inFlight < b.cfg.Eager || full)
}

func (b *Batcher[T]) wake() {
	select {
	case b.ready <- struct{}{}:
	default: // every lane has a token already
	}
}

// next removes the next batch from the queue. It returns nil if none is due.
func (b *Batcher[T]) next() []T {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due() {
		return nil
	}
	n, size := 0, 0
	for n < len(b.waiting) && n < b.cfg.MaxCount {
		s := b.cfg.Size(b.waiting[n])
		if n > 0 && size+s > b.cfg.MaxSize {
			break
		}
		size += s
		n++
	}
	batch := b.waiting[:n:n]
	b.waiting = b.waiting[n:]
	b.bytes -= size
	b.inFlight++
	if len(b.waiting) == 0 {
		b.waiting = nil
	} else if b.due() {
		b.wake()
	}
	return batch
}

// done records that a batch has ended, so that waiting values may be sent.
func (b *Batcher[T]) done() {
	b.mu.Lock()
	b.inFlight--
	due := b.due()
	b.mu.Unlock()
	if due {
		b.wake()
	}
}

// Run handles batches until ctx ends, waits for those in flight, and then refuses the values that still wait.
func (b *Batcher[T]) Run(ctx context.Context) {
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
	b.closed = context.Cause(ctx)
	rest := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	for _, value := range rest {
		b.cfg.Refuse(value, b.closed)
	}
}
