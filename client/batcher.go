package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/chainstore/chainstore/wire"
)

// BatcherConfig configures a [Batcher]. The zero value has good defaults.
type BatcherConfig struct {
	// MaxRecords and MaxBytes (of frames) bound a batch. The defaults, for 0, are also the limits of the API:
	// [wire.MaxBatchRecords] and [wire.MaxBatchBytes].
	MaxRecords, MaxBytes int
	// MaxBuffered bounds the bytes of the unanswered entries, of which each counts for at least 64. The default, for 0,
	// is four full batches, and the minimum one.
	MaxBuffered int
	// InFlight is the number of batches in flight, by default 1. With 1 the chain has the records in the order in which
	// they were added; with more only within each batch.
	InFlight int
}

// entryWeight is the least that an entry counts for in MaxBuffered: its position takes that much.
const entryWeight = 64

func (cfg *BatcherConfig) setDefaults() {
	if cfg.MaxRecords <= 0 || cfg.MaxRecords > wire.MaxBatchRecords {
		cfg.MaxRecords = wire.MaxBatchRecords
	}
	if cfg.MaxBytes <= 0 || cfg.MaxBytes > wire.MaxBatchBytes {
		cfg.MaxBytes = wire.MaxBatchBytes
	}
	if cfg.MaxBuffered <= 0 {
		cfg.MaxBuffered = 4 * cfg.MaxBytes
	}
	cfg.MaxBuffered = max(cfg.MaxBuffered, cfg.MaxBytes)
	if cfg.InFlight <= 0 {
		cfg.InFlight = 1
	}
}

// Batcher appends many records in few calls. Entries that are added while a batch is in flight go out together in the
// next one. There is no timer: a single entry is sent at once, and batches grow with the load.
//
// Add returns a [Future], and blocks while too many entries are unanswered. Any goroutine may call it.
//
// Like a bufio.Writer, a Batcher stops at the first batch that the cluster does not accept within the client's
// patience: all unanswered and later entries fail with that error. An entry that is refused for its content (too large,
// for example) fails alone: its batch is sent again in halves until the entry is found. Close must be called in any
// case.
type Batcher struct {
	client *Client
	ctx    context.Context // of the batches under way
	cfg    BatcherConfig
	room   *semaphore.Weighted // of MaxBuffered
	work   sync.WaitGroup      // the senders

	mu     sync.Mutex // guards all below
	wake   sync.Cond  // a group was queued, or the Batcher was closed
	queue  []*group   // not yet taken by a sender, oldest first; the last takes further entries
	live   map[*group]struct{}
	hint   int // how many bytes the last batch had
	closed bool
	failed error // of the batch that ended it
	first  error // the first error of any entry
}

// group is a batch. The Batcher's lock guards it while it is in the queue. Then its sender owns it until answered is
// closed, and after that it never changes.
type group struct {
	frames []byte
	ends   []int // where each frame ends in frames
	weight int64

	answered  chan struct{}
	positions []wire.Position // of each entry; nil for a group that was not sent
	errs      []error         // of each entry
	err       error           // of the batch: it ends the Batcher
}

// Future is the answer to an entry, once it is there.
type Future struct {
	group *group
	index int
}

// Done is closed when the answer is there.
func (f Future) Done() <-chan struct{} { return f.group.answered }

// Wait waits for the answer: the record's position, or an error as [Client.AppendBatch] gives it. It may be called
// again.
func (f Future) Wait(ctx context.Context) (wire.Position, error) {
	select {
	case <-f.group.answered:
	case <-ctx.Done():
		return wire.Position{}, ctx.Err()
	}
	return f.group.result(f.index)
}

// result returns the answer to an entry of an answered group.
func (g *group) result(i int) (wire.Position, error) {
	if g.positions == nil { // it was not sent
		return wire.Position{}, g.err
	}
	return g.positions[i], g.errs[i]
}

// NewBatcher starts a Batcher. When ctx ends every unanswered entry fails, and may or may not have been appended.
func (c *Client) NewBatcher(ctx context.Context, cfg BatcherConfig) *Batcher {
	cfg.setDefaults()
	b := &Batcher{
		client: c, ctx: ctx, cfg: cfg,
		room: semaphore.NewWeighted(int64(cfg.MaxBuffered)),
		live: make(map[*group]struct{}),
	}
	b.wake.L = &b.mu
	for range cfg.InFlight {
		b.work.Go(b.sender)
	}
	return b
}

// Add adds an entry to the next batch, and waits while too many entries are unanswered. The payload is copied. The
// error is that of an entry that no cluster accepts (see [Client.Append]; the Batcher continues), that of ctx, the one
// that stopped the Batcher, or [ErrClosed].
func (b *Batcher) Add(ctx context.Context, e Entry) (Future, error) {
	if err := e.check(); err != nil {
		return Future{}, err
	}
	if e.IdempotencyKey != "" {
		return Future{}, fmt.Errorf("%w: an entry of a batch has no idempotency key of its own", wire.ErrBadRequest)
	}
	size := e.frameSize()
	if size > b.cfg.MaxBytes {
		return Future{}, fmt.Errorf("%w: a record of %d bytes in a batch, the limit is %d: use Append",
			wire.ErrTooLarge, size, b.cfg.MaxBytes)
	}
	weight := int64(max(size, entryWeight))
	if err := b.room.Acquire(ctx, weight); err != nil {
		return Future{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.failed
	if err == nil && b.closed {
		err = ErrClosed
	}
	if err != nil {
		b.room.Release(weight)
		return Future{}, err
	}
	g := b.open(size)
	g.frames = wire.AppendFrame(g.frames, e.Key, e.Type, e.Payload)
	g.ends = append(g.ends, len(g.frames))
	g.weight += weight
	return Future{group: g, index: len(g.ends) - 1}, nil
}

// open is the group that takes the next frame. The lock is held.
func (b *Batcher) open(size int) *group {
	if n := len(b.queue); n > 0 {
		g := b.queue[n-1]
		if len(g.ends) < b.cfg.MaxRecords && len(g.frames)+size <= b.cfg.MaxBytes {
			return g
		}
	}
	g := &group{answered: make(chan struct{}), frames: make([]byte, 0, max(size, b.hint))}
	b.queue = append(b.queue, g)
	b.live[g] = struct{}{}
	b.wake.Signal()
	return g
}

// Flush waits until every entry that was added before it is answered. It returns the first error of any entry.
func (b *Batcher) Flush(ctx context.Context) error {
	b.mu.Lock()
	waiting := slices.Collect(maps.Keys(b.live))
	b.mu.Unlock()
	for _, g := range waiting {
		select {
		case <-g.answered:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

// Close waits until all entries are answered, and returns the first error of any of them. No entry can be added after
// it. It may be called again.
func (b *Batcher) Close() error {
	b.mu.Lock()
	b.closed = true
	b.wake.Broadcast()
	b.mu.Unlock()
	b.work.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.first
}

// sender sends one group after the other until the Batcher is closed and nothing is left.
func (b *Batcher) sender() {
	for {
		g, failed := b.next()
		if g == nil {
			return
		}
		g.err = failed
		if failed == nil {
			g.positions, g.errs = make([]wire.Position, len(g.ends)), make([]error, len(g.ends))
			g.err = b.deliver(g, 0, len(g.ends))
		}
		b.answer(g)
	}
}

// next waits for a group to send, nil at the end.
func (b *Batcher) next() (*group, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.wake.Wait()
	}
	if len(b.queue) == 0 {
		return nil, nil
	}
	g := b.queue[0]
	b.queue = b.queue[1:]
	b.hint = len(g.frames)
	return g, b.failed
}

// deliver sends the entries from i to j of a group. It halves a part that was refused for its content until each bad
// entry is alone. The error is one that ends the Batcher: entries that were sent before it keep their positions.
func (b *Batcher) deliver(g *group, i, j int) error {
	start := 0
	if i > 0 {
		start = g.ends[i-1]
	}
	positions, err := b.client.appendFrames(b.ctx, g.frames[start:g.ends[j-1]], j-i, "")
	switch {
	case err == nil:
		copy(g.positions[i:j], positions)
		return nil
	case !refusedForContent(err):
		for k := i; k < len(g.errs); k++ {
			g.errs[k] = err
		}
		return err
	case j-i == 1:
		g.errs[i] = err
		return nil
	}
	half := (i + j) / 2
	if err := b.deliver(g, i, half); err != nil {
		return err
	}
	return b.deliver(g, half, j)
}

// refusedForContent reports whether a batch was refused completely, because of the content of an entry.
func refusedForContent(err error) bool {
	if errors.Is(err, wire.ErrUnknownOutcome) {
		return false
	}
	return errors.Is(err, wire.ErrTooLarge) || errors.Is(err, wire.ErrBadRequest)
}

// answer publishes a group's results and makes room for what it took.
func (b *Batcher) answer(g *group) {
	b.mu.Lock()
	delete(b.live, g)
	if b.failed == nil {
		b.failed = g.err
	}
	b.first = cmp.Or(b.first, cmp.Or(g.errs...), g.err)
	b.mu.Unlock()
	g.frames, g.ends = nil, nil
	close(g.answered)
	b.room.Release(g.weight)
}
