package masternode

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// gatherer hands things on in batches without a timer: while a batch is under way, what arrives waits and goes with the next.
// Under load batches grow by themselves; a single thing goes at once.
type gatherer[T any] struct {
	lanes    int                        // batches that may be under way at the same time
	maxCount int                        // things in a batch
	maxSize  int                        // sum of size over a batch, unless one thing alone is larger
	size     func(T) int                // of one thing
	handle   func(context.Context, []T) // takes a batch; must finish every thing in it
	refuse   func(T, error)             // finishes a thing that is not handed on

	mu      sync.Mutex // guards all below
	waiting []T
	closed  error         // set when nothing is taken any more
	ready   chan struct{} // holds a token while something waits
}

// init must be called before use.
func (g *gatherer[T]) init() { g.ready = make(chan struct{}, g.lanes) }

// add queues a thing, or finishes it when the gatherer has ended.
func (g *gatherer[T]) add(t T) {
	g.mu.Lock()
	if g.closed != nil {
		g.mu.Unlock()
		g.refuse(t, g.closed)
		return
	}
	g.waiting = append(g.waiting, t)
	g.mu.Unlock()
	g.wake()
}

func (g *gatherer[T]) wake() {
	select {
	case g.ready <- struct{}{}:
	default: // enough lanes are told already
	}
}

// take removes the next batch, nil where nothing waits.
func (g *gatherer[T]) take() []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for n < len(g.waiting) && n < g.maxCount {
		s := g.size(g.waiting[n])
		if n > 0 && size+s > g.maxSize {
			break
		}
		size += s
		n++
	}
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	if len(g.waiting) == 0 {
		g.waiting = nil
	} else {
		g.wake()
	}
	return batch
}

// run hands batches on until ctx ends, then finishes what still waits.
func (g *gatherer[T]) run(ctx context.Context) {
	var lanes errgroup.Group
	for range g.lanes {
		lanes.Go(func() error {
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-g.ready:
				}
				if batch := g.take(); len(batch) > 0 {
					g.handle(ctx, batch)
				}
			}
		})
	}
	_ = lanes.Wait() // a lane has no error to give
	g.mu.Lock()
	g.closed = context.Cause(ctx)
	rest := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	for _, t := range rest {
		g.refuse(t, g.closed)
	}
}
