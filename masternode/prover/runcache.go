package prover

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chainstore/chainstore/masternode/batch"
)

// run is a run of proven values: the hashes of a tile, or the entries of a bundle.
type run struct {
	width int // number of values
	data  []byte
}

// runCache keeps the widest known run for each key. A run never changes but gets longer. Concurrent callers share one
// read.
type runCache[K comparable] struct {
	reads batch.SingleFlight[K, run]
	kept  *lru.Cache[K, run]
	mu    sync.Mutex // held while a run is compared with the kept one and replaces it
}

func newRunCache[K comparable](size int) *runCache[K] {
	return &runCache[K]{kept: newLRU[K, run](size)}
}

func newLRU[K comparable, V any](size int) *lru.Cache[K, V] {
	kept, err := lru.New[K, V](size)
	if err != nil {
		panic(err) // the size is not positive
	}
	return kept
}

// known returns the kept run of a key, if it has at least width values.
func (c *runCache[K]) known(key K, width int) (run, bool) {
	kept, ok := c.kept.Get(key)
	return kept, ok && kept.width >= width
}

// keep keeps a run unless a wider one is kept.
func (c *runCache[K]) keep(key K, r run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept, _ := c.kept.Peek(key); kept.width < r.width {
		c.kept.Add(key, r)
	}
}

// get returns a run of at least width values: the kept one, or what read returns, which has as many.
func (c *runCache[K]) get(
	ctx context.Context, key K, width int, timeout time.Duration, read func(context.Context) (run, error),
) (run, error) {
	for {
		if kept, ok := c.known(key, width); ok {
			return kept, nil
		}
		r, err := c.reads.Do(ctx, key, timeout, read)
		if err != nil || r.width >= width {
			return r, err
		}
		// The read was that of a caller that wanted fewer values.
	}
}
