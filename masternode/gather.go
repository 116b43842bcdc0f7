package masternode

import (
	"context"
	"sync"

	"golang.org/x/sync/errgroup"
)

// gatherer hands things on in batches without a timer: while a batch is under way, what arrives waits and goes with the next.
// Under load batches grow by themselves; a single thing goes at once. Only a batch that is full does not wait for the one
// before it: there is nothing to be gained by waiting.
type gatherer[T any] struct {
	lanes    int                        // batches that may be under way at the same time
	maxCount int                        // things in a batch
	maxSize  int                        // sum of size over a batch, unless one thing alone is larger
	eager    int                        // batches under way below which one goes although it is not full; at least 1
	size     func(T) int                // of one thing
	handle   func(context.Context, []T) // takes a batch; must finish every thing in it
	refuse   func(T, error)             // finishes a thing that is not handed on

	mu       sync.Mutex // guards all below
	waiting  []T
	bytes    int           // sum of size over waiting
	underWay int           // batches
	closed   error         // set when nothing is taken any more
	ready    chan struct{} // holds a token for each lane that should look
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
	g.bytes += g.size(t)
	due := g.due()
	g.mu.Unlock()
	if due {
		g.wake()
	}
}

// due reports whether a batch should go now; mu is held.
func (g *gatherer[T]) due() bool {
	full := g.bytes >= g.maxSize || len(g.waiting) >= g.maxCount
	return len(g.waiting) > 0 && (g.underWay < g.eager || full)
}

func (g *gatherer[T]) wake() {
	select {
	case g.ready <- struct{}{}:
	default: // enough lanes are told already
	}
}

// take removes the next batch, nil where none is due.
func (g *gatherer[T]) take() []T {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.due() {
		return nil
	}
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
	g.bytes -= size
	g.underWay++
	if len(g.waiting) == 0 {
		g.waiting = nil
	} else if g.due() {
		g.wake()
	}
	return batch
}

// done notes that a batch has ended, so that what waits may go.
func (g *gatherer[T]) done() {
	g.mu.Lock()
	g.underWay--
	due := g.due()
	g.mu.Unlock()
	if due {
		g.wake()
	}
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
					g.done()
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
