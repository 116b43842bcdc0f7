package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"sync"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

const (
	// streamWindow is the number of records of an append stream without an answer, and mostWindow the number for a
	// stream of which a master has said that it has the positions of more. So the positions of all unanswered records
	// can be requested again.
	streamWindow, mostWindow = 1024, 4096
	// streamGroup and streamGroupBytes bound a group of an append stream: the window has several of them.
	streamGroup, streamGroupBytes = 128, 256 << 10
	// halfDuplexFor is how long requests are ended after what is there, when a proxy has sent no answer before the end.
	halfDuplexFor = 10 * time.Minute
)

// AppendStreamConfig configures an [AppendStream].
type AppendStreamConfig struct {
	// ID names the stream in its project: see [wire.CheckStreamID]. That of a new stream does not begin with "_", or is
	// from [Client.OpenAppendStream].
	ID string
	// First is the number of the first entry that is added, 0 for 1. A stream continues with the number that
	// [Client.AppendStreamState] returns.
	First uint64
	// MaxBuffered bounds the bytes of the unanswered entries, of which each counts for at least 64. The default, for 0,
	// is 16 MiB, and the minimum [wire.MaxBatchBytes].
	MaxBuffered int
}

// AppendStream appends records through a stream of the cluster, which numbers them: the first entry that is added has
// the number First of the configuration, and each later one the next number. A number is appended once, and the records
// are appended in the order of their numbers, whatever fails and whichever masters the requests go to.
//
// So a program that was interrupted can add the same entries again, with the same numbers, under the same ID. Records
// that the stream has already get their first positions, if they are among its newest 4,096 (1,024 before protocol
// level 7). Another record under such a number ends the stream with [wire.ErrStreamContent]. Older ones are refused
// with [wire.ErrStreamPassed], and a number behind the next one with [wire.ErrStreamGap]. A project has 64 streams:
// [wire.ErrTooMany]. One that was not used for 7 days may be forgotten for another. Its numbers begin with 1 again, and
// only that number is accepted ([wire.ErrUnknownStream]).
//
// One stream must have one writer at a time. At most 1,024 records are sent without an answer. Requests continue at
// the next master when one fails, and wait while all masters are dead, have no leader or have no room, as bounded by
// [Config].RetryFor since the last answer. Masters wait for a project's quota.
//
// Any goroutine may call its methods. It stops at the first error that is not a temporary one: then the unanswered
// and all later entries fail with that error, or an [*UnknownOutcomeError] for those that may have been appended. Close
// must be called in any case.
type AppendStream struct {
	id    string
	queue *queue
	work  sync.WaitGroup
}

// NewAppendStream starts an append stream, or continues one. No request is made before the first entry is added. The
// error wraps [wire.ErrBadRequest]. When ctx ends every unanswered entry fails, and may or may not have been appended.
func (c *Client) NewAppendStream(ctx context.Context, cfg AppendStreamConfig) (*AppendStream, error) {
	if err := wire.CheckStreamID(cfg.ID); err != nil {
		return nil, err
	}
	if cfg.MaxBuffered <= 0 {
		cfg.MaxBuffered = 4 * wire.MaxBatchBytes
	}
	q := newQueue(max(cfg.MaxBuffered, wire.MaxBatchBytes), wire.MaxBatchBytes, streamGroup, streamGroupBytes)
	a := newAppender(ctx, c, q, cfg)
	s := &AppendStream{id: cfg.ID, queue: q}
	s.work.Go(a.run)
	return s, nil
}

// ID returns the id of the stream.
func (s *AppendStream) ID() string { return s.id }

// Add adds the next entry, and waits while too many are unanswered. The payload is copied. Entries of several
// goroutines get their numbers in the order of the calls. The error is that of an entry that no cluster accepts (see
// [Client.Append]; it takes no number), that of ctx, the one that stopped the stream, or [ErrClosed].
func (s *AppendStream) Add(ctx context.Context, e Entry) (Future, error) { return s.queue.add(ctx, &e) }

// Flush waits until every entry that was added before it is answered. It returns the first error of any entry.
func (s *AppendStream) Flush(ctx context.Context) error { return s.queue.flush(ctx) }

// Close waits until all entries are answered, and returns the first error of any of them. No entry can be added after
// it. The stream can be continued by another AppendStream. Close may be called again.
func (s *AppendStream) Close() error {
	s.queue.close()
	s.work.Wait()
	return s.queue.firstError()
}

// AppendStreamState returns where an append stream of the token's project continues. It includes every record that was
// answered before the call. Errors: [wire.ErrUnknownStream] for a stream that has no record or was forgotten, and
// [wire.ErrNoStreams] before the group's protocol level has streams.
func (c *Client) AppendStreamState(ctx context.Context, id string) (wire.AppendStream, error) {
	if err := wire.CheckStreamID(id); err != nil {
		return wire.AppendStream{}, err
	}
	return read(ctx, c, "/v1/streams/"+url.PathEscape(id), exchange.MaxSmall, func(s *wire.AppendStream) error {
		if s.Stream != id || s.Oldest == 0 || s.Next < s.Oldest {
			return fmt.Errorf("%w: it is not the state of the append stream %q", ErrAnswer, id)
		}
		return nil
	})
}

// OpenAppendStream begins an append stream whose id a master makes. An [AppendStream] with that ID sends its records. A
// project has 1,024 such streams ([wire.ErrTooMany]). One that was not used for a minute may be forgotten for another.
// What is sent to it then is not appended ([wire.ErrUnknownStream]). The error wraps [wire.ErrNoStreams] before the
// group's protocol level has streams.
func (c *Client) OpenAppendStream(ctx context.Context) (wire.AppendStream, error) {
	return command[wire.AppendStream](ctx, c, http.MethodPost, "/v1/streams", nil, false,
		func(s *wire.AppendStream) error {
			if wire.CheckStreamID(s.Stream) != nil || s.Next != 1 || s.Oldest != 1 {
				return fmt.Errorf("%w: it is not the state of a new append stream", ErrAnswer)
			}
			return nil
		})
}

// AppendStreams reads a page of the append streams of the token's project, in the order of their ids. limit is at most
// [wire.MaxPage], and 0 for the master's default. cursor is that of the page before, "" for the first page.
func (c *Client) AppendStreams(ctx context.Context, cursor string, limit int) (wire.AppendStreams, error) {
	path := "/v1/streams?" + pageValues(cursor, limit).Encode()
	return read(ctx, c, path, exchange.MaxMedium, func(page *wire.AppendStreams) error {
		for i := range page.Streams {
			if s := &page.Streams[i]; s.Stream == "" || s.Kind == "" {
				return needs(false, "stream and kind")
			}
		}
		return checkPage(page.Streams, "streams", limit)
	})
}

// RemoveAppendStream makes the cluster forget an append stream of the token's project. Its records stay. A new stream
// may have its id, so end all uses of the stream first. The error wraps [wire.ErrUnknownStream] if there is no such
// stream, and no earlier try of this call may have removed it.
func (c *Client) RemoveAppendStream(ctx context.Context, id string) error {
	if err := wire.CheckStreamID(id); err != nil {
		return err
	}
	return c.remove(ctx, "/v1/streams/"+url.PathEscape(id), false)
}

// appender sends the groups of a queue through an append stream, one request after the other.
type appender struct {
	*queue
	ctx    context.Context
	client *Client
	id     string
	// The queue's lock guards these fields.
	window   uint64   // how many records have no answer at most
	sent     []*group // taken from the queue and not completely answered, oldest first
	taken    uint64   // number of the newest record that was taken from the queue
	answered uint64   // number of the newest record with a position
	index    uint64   // leaf index after that position

	// Only run uses these fields.
	unknown uint64    // requests may have appended the records up to this number
	most    uint64    // records in a request, 0 for no limit
	half    time.Time // until then, requests end after what is there
	reopen  *reopening
}

// reopening is the state of an appender for a [Batcher], which does more than one for an [AppendStream]. Only run uses
// it, but the queue's lock guards duplex.
type reopening struct {
	duplex  bool // an answer has come before the end of a body
	opened  int  // streams since the last answer
	full    int  // consecutive requests that were refused because the master serves too many streams
	batches bool // the rest is to be sent in batches
}

func newAppender(ctx context.Context, c *Client, q *queue, cfg AppendStreamConfig) *appender {
	before := max(cfg.First, 1) - 1
	return &appender{
		queue: q, ctx: ctx, client: c, id: cfg.ID, window: streamWindow,
		taken: before, answered: before, unknown: before,
	}
}

// run sends groups until the queue is closed and nothing is left.
func (a *appender) run() {
	at := a.client.good.Load()
	backoff := minBackoff
	var failing time.Time // since when requests fail without progress; zero if the last one did not
	var asked time.Duration
	tried, hopeless := 0, 0
	for a.more() {
		before := a.answered
		err := a.request(a.client.masters[at])
		if a.answered != before {
			a.client.good.Store(at)
			failing, backoff, asked, tried, hopeless = time.Time{}, minBackoff, 0, 0, 0
			if a.reopen != nil {
				a.reopen.opened, a.reopen.full = 0, 0
			}
		}
		if err == nil {
			continue
		}
		if a.ctx.Err() != nil {
			a.fail(ended(a.ctx, err))
			return
		}
		if errors.Is(err, errProbe) {
			continue
		}
		if err = a.mend(err); err == nil {
			continue
		}
		if a.reopen != nil && a.reopen.batches {
			return
		}
		v := a.judge(err)
		hopeless++
		if v != tryOthers {
			hopeless = 0
		}
		if v == final || hopeless == len(a.client.masters) {
			a.fail(err)
			return
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if e, ok := errors.AsType[*wire.Error](err); ok && e.RetryAfter > 0 && (asked == 0 || e.RetryAfter < asked) {
			asked = e.RetryAfter
		}
		if tried++; v == tryLater {
			tried = len(a.client.masters)
		} else {
			next := (at + 1) % uint32(len(a.client.masters))
			a.client.good.CompareAndSwap(at, next)
			at = next
		}
		if tried < len(a.client.masters) {
			continue
		}
		if end := a.client.pause(a.ctx, max(backoff, asked), failing, err); end != nil {
			a.fail(end)
			return
		}
		backoff, tried, asked = min(2*backoff, maxBackoff), 0, 0
	}
}

// more waits for a record to send. It returns false if the queue is closed and none is left.
func (a *appender) more() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.sent) == 0 && len(a.waiting) == 0 && !a.closed {
		a.wake.Wait()
	}
	return len(a.sent) > 0 || len(a.waiting) > 0
}

var (
	// errProbe: an entry was refused for its content, and the next request finds out which.
	errProbe = errors.New("the request ended at an entry that is refused")
	// errRefused: an entry was refused for its content, and it was alone.
	errRefused = errors.New("the entry was refused")
)

// refusedEntry is an error that wraps errRefused and the master's answer.
type refusedEntry struct {
	number uint64
	err    error
}

func (e *refusedEntry) Error() string { return fmt.Sprintf("number %d: %v", e.number, e.err) }

func (e *refusedEntry) Unwrap() []error { return []error{errRefused, e.err} }

// judge says what to do after a request that did not end well.
func (a *appender) judge(err error) verdict {
	switch {
	case errors.Is(err, errRefused):
		return final
	case errors.Is(err, wire.ErrSlowBody), errors.Is(err, wire.ErrUnreadAnswers):
		return tryNext // the request is over, and its records are sent again
	}
	return judge(err)
}

// request makes one request at a master and remembers what is not known after it.
func (a *appender) request(base string) error {
	b := a.newBody()
	err := a.exchange(base, b)
	a.mu.Lock()
	b.over = true
	sent, answered := b.next-1, a.answered
	a.wake.Broadcast()
	a.mu.Unlock()
	if b.late || errors.Is(err, wire.ErrUnreadAnswers) {
		a.half = time.Now().Add(halfDuplexFor)
	}
	if err == nil {
		if a.most > 0 {
			if a.most *= 2; a.most > a.window {
				a.most = 0
			}
		}
		return nil
	}
	if !withoutEffect(err) {
		a.unknown = max(a.unknown, sent)
	}
	if !refusedForContent(err) && !errors.Is(err, wire.ErrStreamContent) || sent <= answered {
		return err
	}
	if sent > answered+1 { // it may be any of them
		a.most = 1
		return errProbe
	}
	if sent <= a.unknown { // an earlier request may have appended it, at a master with other limits
		state, stateErr := a.client.AppendStreamState(a.ctx, a.id)
		if errors.Is(stateErr, wire.ErrUnknownStream) {
			state.Next, stateErr = 1, nil
		}
		if stateErr != nil || state.Next > sent {
			return err
		}
	}
	// It is not appended, so no later number is.
	a.unknown = answered
	return &refusedEntry{number: sent, err: err}
}

// withoutEffect reports whether a request that failed has appended no record without an answer.
func withoutEffect(err error) bool {
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return exchange.NotSent(err)
	}
	if refusedForContent(err) {
		return true
	}
	switch e.Type() {
	case wire.ErrNoStreams, wire.ErrNoSuchRoute, wire.ErrMethod, wire.ErrUnknownStream, wire.ErrStreamGap,
		wire.ErrStreamContent, wire.ErrStreamPassed, wire.ErrEncoding, wire.ErrTooManyStreams, wire.ErrTooMany:
		return true
	}
	return false // also if the right to append was lost: the master may have sent records on before
}

// fail ends the queue with an error.
func (a *appender) fail(err error) {
	a.mu.Lock()
	sent := a.sent
	a.sent = nil
	for _, g := range sent {
		g.err = err
		for i := g.done; i < len(g.ends); i++ {
			if number := g.number + uint64(i); number > a.unknown {
				g.fail(i, err)
			} else {
				g.fail(i, &UnknownOutcomeError{Stream: a.id, Number: number, Err: err})
			}
		}
	}
	a.failed = err
	a.mu.Unlock()
	for _, g := range sent {
		a.answer(g)
	}
	a.refuse()
}

// find returns the group of a record that was taken from the queue and is not answered. The lock is held.
func (a *appender) find(number uint64) *group {
	// The first number of a group may be negative: the entries before it were refused.
	i := sort.Search(len(a.sent), func(i int) bool { return int64(a.sent[i].number-number) > 0 })
	return a.sent[i-1]
}
