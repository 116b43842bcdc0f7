package batch

import (
	"context"
	"sync"
	"time"
)

// SingleFlight runs an operation once for all callers that ask for the same key at the same time. Unlike
// golang.org/x/sync/singleflight it does not end an operation with its first caller, but cancels it when its last
// caller has gone, unless it is Detached. [SingleFlight.Close] waits for all operations.
//
// The zero value is ready for use.
type SingleFlight[K comparable, V any] struct {
	// Detached keeps an operation running when its last caller has gone. Set it where the operation keeps what it gets,
	// or where callers that do not wait until its timeout must not hide that a node hangs.
	Detached bool

	running sync.WaitGroup // operations

	mu     sync.Mutex // guards all below
	calls  map[K]*flight[V]
	closed error // set when no operation is started any more
}

// flight is one operation in flight.
type flight[V any] struct {
	Call[struct{}, V]
	callers int
	cancel  context.CancelCauseFunc
}

// Do returns the result of the operation for a key: of the one in flight, or of a new one with a timeout. The error is
// that of the operation, or the cause of the end of ctx.
func (f *SingleFlight[K, V]) Do(
	ctx context.Context, key K, timeout time.Duration, operation func(context.Context) (V, error),
) (V, error) {
	c, err := f.join(ctx, key, timeout, operation)
	if err != nil {
		return *new(V), err
	}
	defer f.leave(key, c)
	return c.Wait(ctx)
}

// join adds the caller to the operation in flight, or starts one.
func (f *SingleFlight[K, V]) join(
	ctx context.Context, key K, timeout time.Duration, operation func(context.Context) (V, error),
) (*flight[V], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed != nil {
		return nil, f.closed
	}
	c := f.calls[key]
	if c == nil {
		c = &flight[V]{Call: Call[struct{}, V]{Done: make(chan struct{})}}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		ctx, c.cancel = context.WithCancelCause(ctx)
		if f.calls == nil {
			f.calls = map[K]*flight[V]{}
		}
		f.calls[key] = c
		f.running.Go(func() {
			defer cancel()
			value, err := operation(ctx)
			f.mu.Lock()
			f.forget(key, c)
			f.mu.Unlock()
			c.End(value, err)
		})
	}
	c.callers++
	return c, nil
}

// leave removes a caller, and cancels an operation that has none left; one that has ended does not notice.
func (f *SingleFlight[K, V]) leave(key K, c *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.callers--; c.callers == 0 && !f.Detached {
		c.cancel(context.Canceled)
		f.forget(key, c)
	}
}

// forget makes the next caller start a new operation. mu is held.
func (f *SingleFlight[K, V]) forget(key K, c *flight[V]) {
	if f.calls[key] == c {
		delete(f.calls, key)
	}
}

// Close cancels all operations with a cause and waits until they have ended. Later calls of Do return the cause.
func (f *SingleFlight[K, V]) Close(cause error) {
	f.mu.Lock()
	f.closed = cause
	for _, c := range f.calls {
		c.cancel(cause)
	}
	f.mu.Unlock()
	f.running.Wait()
}
