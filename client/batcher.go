package client

import (
	"context"
	"errors"
	"net/http"
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
	// they were added, and an append stream sends them where the cluster has streams. With more they are sent in
	// batches, and have an order only within each.
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

// Batcher appends many records in few requests, through an append stream whose id a master makes, or in batches if the
// cluster has no streams. There is no timer: a single entry is sent at once, and entries that are added while others
// are under way go out together.
//
// Add returns a [Future], and blocks while too many entries are unanswered. Any goroutine may call it.
//
// Like a bufio.Writer, a Batcher stops when the cluster accepts nothing within the client's patience: all unanswered
// and later entries fail with that error, or an [*UnknownOutcomeError] for those that may have been appended. An entry
// that is refused for its content (too large, for example) fails alone. Close must be called in any case.
//
// Each entry is appended once, however often it is sent. A Batcher that was idle for more than a minute may begin
// another stream. It sends batches, from then on, when the project has as many streams as it may or the masters serve
// no more of them. Behind a proxy that sends nothing on before the end of a body, the first entries wait for 250 ms.
type Batcher struct {
	client *Client
	ctx    context.Context // of the requests under way
	cfg    BatcherConfig
	queue  *queue
	work   sync.WaitGroup // the senders
}

// NewBatcher starts a Batcher. No request is made before the first entry is added. When ctx ends every unanswered entry
// fails, and may or may not have been appended.
func (c *Client) NewBatcher(ctx context.Context, cfg BatcherConfig) *Batcher {
	cfg.setDefaults()
	b := &Batcher{client: c, ctx: ctx, cfg: cfg}
	b.queue = newQueue(cfg.MaxBuffered, cfg.MaxBytes, cfg.MaxRecords, cfg.MaxBytes)
	if cfg.InFlight > 1 {
		for range cfg.InFlight {
			b.work.Go(b.sendBatches)
		}
		return b
	}
	b.queue.bound(min(cfg.MaxRecords, streamGroup), min(cfg.MaxBytes, streamGroupBytes))
	b.work.Go(b.run)
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

// run sends the entries through a stream if the cluster has streams, else in batches.
func (b *Batcher) run() {
	if !b.queue.await() {
		return
	}
	opened, err := b.client.OpenAppendStream(b.ctx)
	switch {
	case hasNoStreams(err):
	case err != nil:
		b.queue.stop(err)
		return
	default:
		a := newAppender(b.ctx, b.client, b.queue, AppendStreamConfig{ID: opened.Stream})
		a.reopen, a.window = &reopening{}, windowOf(opened)
		if a.run(); !a.reopen.batches {
			return
		}
		for _, g := range a.sent {
			if err == nil {
				err = b.deliver(g, g.done, len(g.ends))
			} else {
				g.failFrom(g.done, err)
			}
			g.err = err
			b.queue.answer(g)
		}
	}
	b.queue.bound(b.cfg.MaxRecords, b.cfg.MaxBytes)
	b.sendBatches()
}

// hasNoStreams reports whether an attempt to open a stream failed because the cluster has none, or no room for another,
// or because a proxy does not know the path. Batches go on then, or fail for a reason of their own.
func hasNoStreams(err error) bool {
	for _, none := range []error{wire.ErrNoStreams, wire.ErrNoSuchRoute, wire.ErrMethod, wire.ErrTooMany, ErrAnswer} {
		if errors.Is(err, none) {
			return true
		}
	}
	e, ok := errors.AsType[*wire.Error](err)
	return ok && e.Name() == "" && (e.Problem.Status < 500 || e.Problem.Status == http.StatusNotImplemented)
}

// mend does what a Batcher does about an error of a request. It fails the entry that was refused for its content,
// begins another stream after one that was forgotten, and makes run end if batches are to go on. It returns nil if the
// next request may do better.
func (a *appender) mend(err error) error {
	if a.reopen == nil {
		return err
	}
	if refused, ok := errors.AsType[*refusedEntry](err); ok && refusedForContent(refused.err) {
		a.skip(refused.err)
		return nil
	}
	certain := a.unknown <= a.answered // what has no answer was not appended
	if !errors.Is(err, wire.ErrTooManyStreams) {
		a.reopen.full = 0
	} else if a.reopen.full++; certain && a.reopen.full >= len(a.client.masters) {
		a.reopen.batches = true
		return err
	}
	if !errors.Is(err, wire.ErrUnknownStream) || !certain || a.reopen.opened == maxReopened {
		return err
	}
	opened, err := a.client.OpenAppendStream(a.ctx)
	if err != nil {
		a.reopen.batches = hasNoStreams(err)
		return err
	}
	a.reopen.opened++
	a.renumber(opened)
	return nil
}

// maxReopened is how many streams a Batcher begins for the same entries.
const maxReopened = 3

// skip answers the first entry without an answer with the error for which it was refused. The next one gets its number.
func (a *appender) skip(err error) {
	a.mu.Lock()
	g := a.sent[0]
	g.fail(g.done, err)
	g.done++
	for _, g := range a.sent {
		g.number--
	}
	a.taken--
	complete := g.done == len(g.ends)
	if complete {
		a.sent = a.sent[1:]
	}
	a.mu.Unlock()
	if complete {
		a.answer(g)
	}
}

// windowOf returns how many records of a stream have no answer at most.
func windowOf(s wire.AppendStream) uint64 { return min(max(s.Window, streamWindow), mostWindow) }

// renumber makes the entries without an answer the first ones of another stream.
func (a *appender) renumber(opened wire.AppendStream) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.sent {
		g.number -= a.answered
	}
	a.taken -= a.answered
	a.id, a.window, a.answered, a.unknown = opened.Stream, windowOf(opened), 0, 0
}

// sendBatches sends one group after the other until the queue is closed and none is left.
func (b *Batcher) sendBatches() {
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
		g.failFrom(i, err)
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
