package client

import (
	"context"
	"errors"
	"sync"

	"github.com/chainstore/chainstore/wire"
)

// BatcherConfig configures a [Batcher]. The zero value has good defaults.
type BatcherConfig struct {
	// MaxRecords and MaxBytes (of frames) bound a batch, and MaxBytes an entry. The defaults, for 0, are also the
	// limits of the API: [wire.MaxBatchRecords] and [wire.MaxBatchBytes].
	MaxRecords, MaxBytes int
	// MaxBuffered bounds the bytes of the unanswered entries, of which each counts for at least 64. The default, for 0,
	// is four full batches, and the minimum one.
	MaxBuffered int
	// InFlight is the number of batches in flight, by default 1. With 1 the chain has the records in the order in which
	// they were added; with more only within each batch.
	InFlight int
}

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
	queue  *queue
	work   sync.WaitGroup // the senders
}

// NewBatcher starts a Batcher. When ctx ends every unanswered entry fails, and may or may not have been appended.
func (c *Client) NewBatcher(ctx context.Context, cfg BatcherConfig) *Batcher {
	cfg.setDefaults()
	b := &Batcher{
		client: c, ctx: ctx, queue: newQueue(cfg.MaxBuffered, cfg.MaxBytes, cfg.MaxRecords, cfg.MaxBytes),
	}
	for range cfg.InFlight {
		b.work.Go(b.sender)
	}
	return b
}

// Add adds an entry, and waits while too many entries are unanswered. The payload is copied. The error is that of an
// entry that no cluster accepts (see [Client.Append]; the Batcher continues), that of ctx, the one that stopped the
// Batcher, or [ErrClosed].
func (b *Batcher) Add(ctx context.Context, e Entry) (Future, error) { return b.queue.add(ctx, &e) }

// Flush waits until every entry that was added before it is answered. It returns the first error of any entry.
func (b *Batcher) Flush(ctx context.Context) error { return b.queue.flush(ctx) }

// Close waits until all entries are answered, and returns the first error of any of them. No entry can be added after
// it. It may be called again.
func (b *Batcher) Close() error {
	b.queue.close()
	b.work.Wait()
	return b.queue.firstError()
}

// sender sends one group after the other until the Batcher is closed and nothing is left.
func (b *Batcher) sender() {
	for {
		g, failed := b.queue.next()
		if g == nil {
			return
		}
		g.err = failed
		if failed == nil {
			g.positions = make([]wire.Position, len(g.ends))
			g.err = b.deliver(g, 0, len(g.ends))
		}
		b.queue.answer(g)
	}
}

// deliver sends the entries from i to j of a group. It halves a part that was refused for its content until each bad
// entry is alone. The error is one that ends the Batcher: entries that were sent before it keep their positions.
func (b *Batcher) deliver(g *group, i, j int) error {
	positions, err := b.client.appendFrames(b.ctx, g.frame(i, j), j-i, "")
	switch {
	case err == nil:
		copy(g.positions[i:j], positions)
		return nil
	case !refusedForContent(err):
		for k := i; k < len(g.ends); k++ {
			g.fail(k, err)
		}
		return err
	case j-i == 1:
		g.fail(i, err)
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
