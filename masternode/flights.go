package masternode

import (
	"context"
	"sync"
	"time"
)

// flights have what many ask for at the same time read once. A read does not end with the one who asked first, as with others' libraries it may, but
// with the last who waits for it: what nobody waits for any more is not to keep the storage nodes busy.
type flights[K comparable, V any] struct {
	mu    sync.Mutex // guards all below
	under map[K]*flight[V]
}

type flight[V any] struct {
	waiting int // who ask
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are set
	value   V
	err     error
}

// do waits for the read of a key that is under way, or begins one, which may take so long.
func (f *flights[K, V]) do(ctx context.Context, key K, timeout time.Duration, read func(context.Context) (V, error)) (V, error) {
	f.mu.Lock()
	r := f.under[key]
	if r == nil {
		r = &flight[V]{done: make(chan struct{})}
		var flying context.Context
		flying, r.cancel = context.WithTimeout(context.WithoutCancel(ctx), timeout)
		if f.under == nil {
			f.under = map[K]*flight[V]{}
		}
		f.under[key] = r
		go func() {
			defer r.cancel()
			r.value, r.err = read(flying)
			f.land(key, r)
			close(r.done)
		}()
	}
	r.waiting++
	f.mu.Unlock()
	select {
	case <-r.done:
		return r.value, r.err
	case <-ctx.Done():
		f.leave(key, r)
		var none V
		return none, context.Cause(ctx)
	}
}

// leave ends a read for which nobody waits. Who comes now begins another.
func (f *flights[K, V]) leave(key K, r *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.waiting--; r.waiting == 0 {
		r.cancel()
		f.forget(key, r)
	}
}

func (f *flights[K, V]) land(key K, r *flight[V]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(key, r)
}

// forget has who comes now begin another read. mu is held.
func (f *flights[K, V]) forget(key K, r *flight[V]) {
	if f.under[key] == r {
		delete(f.under, key)
	}
}
