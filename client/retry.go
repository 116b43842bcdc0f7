package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// verdict is what follows from a failed try.
type verdict int

const (
	final     verdict = iota // it is the cluster's answer
	tryNext                  // another master may do better, or this one later
	tryOthers                // another master may do better; if all of them fail in this way it is final
	tryLater                 // every master would give this answer now
)

// judge says what to do after a failed try.
func judge(err error) verdict {
	if errors.Is(err, wire.ErrNoAnswer) {
		return tryNext
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return tryOthers
	}
	switch e.Type() {
	case wire.ErrBacklog, wire.ErrQuota:
		return tryLater
	}
	switch e.Problem.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return tryNext
	case http.StatusInternalServerError:
		return tryOthers
	}
	if e.Name() == "" {
		return tryOthers // not ChainStore's answer: a proxy's, or another program's
	}
	return final
}

// mayBeDone reports whether a failed try may have been carried out.
func mayBeDone(err error) bool {
	if errors.Is(err, wire.ErrNoAnswer) {
		return !exchange.NotSent(err)
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return true
	}
	switch e.Type() {
	case wire.ErrUnknownOutcome, wire.ErrInternal:
		return true
	case nil:
		return e.Problem.Status >= 500
	}
	return false
}

// do sends a query until it gets a good answer, which it passes to take. An error of take counts as the master's.
func (c *Client) do(ctx context.Context, q *query, take func(*exchange.Answer) error) (err error) {
	var (
		begin    = time.Now()
		at       = c.good.Load()
		backoff  = minBackoff
		asked    time.Duration // the shortest Retry-After of this round
		tried    int           // masters in this round
		hopeless int           // consecutive masters that failed in a way that waiting does not repair
	)
	for {
		if ctx.Err() != nil {
			return ended(ctx, err)
		}
		err = c.try(ctx, c.masters[at], q, take)
		if err == nil {
			c.good.Store(at)
			q.answered = c.masters[at]
			return nil
		}
		done := mayBeDone(err)
		q.maybeDone = q.maybeDone || done
		v := judge(err)
		if v == final || done && q.once {
			return err
		}
		hopeless++
		if v != tryOthers {
			hopeless = 0
		}
		if hopeless == len(c.masters) {
			return err
		}
		if e, ok := errors.AsType[*wire.Error](err); ok && e.RetryAfter > 0 && (asked == 0 || e.RetryAfter < asked) {
			asked = e.RetryAfter
		}
		tried++
		if v == tryLater {
			tried = len(c.masters)
		} else {
			next := (at + 1) % uint32(len(c.masters))
			c.good.CompareAndSwap(at, next)
			at = next
		}
		if tried < len(c.masters) {
			continue
		}
		if end := c.pause(ctx, max(backoff, asked), begin, err); end != nil {
			return end
		}
		backoff = min(2*backoff, maxBackoff)
		tried, asked = 0, 0
	}
}

// try asks one master.
func (c *Client) try(ctx context.Context, base string, q *query, take func(*exchange.Answer) error) error {
	limit := tryFor + q.patience + time.Duration(len(q.body))*time.Second/slowest
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it took longer than %v", limit))
	defer cancel()
	header := q.header
	if c.own == nil {
		header = header.Clone() // a caller's http.Client may add its cookies to it
	}
	a, err := exchange.Do(ctx, c.send, &exchange.Request{
		Method: q.method, Base: base, Path: q.path, Header: header, Body: q.body, Limit: q.limit,
	})
	if err != nil {
		return err
	}
	if err := a.Problem(); err != nil {
		return err
	}
	return take(a)
}

// ended returns the error of a call whose context ended, or is about to, after the last try failed with err.
func ended(ctx context.Context, err error) error {
	why := ctx.Err()
	if why == nil {
		why = context.DeadlineExceeded
	}
	if err == nil {
		return why
	}
	return fmt.Errorf("%w; the last try: %w", why, err)
}

// pause waits before the next round through the masters, for least or up to half longer. If the wait would end after
// the deadline of ctx, or more than Config.RetryFor after begin, it returns the call's error at once. err is the error
// of the last try.
func (c *Client) pause(ctx context.Context, least time.Duration, begin time.Time, err error) error {
	wait := least + rand.N(least/2+1)
	if time.Since(begin)+wait > max(0, c.retryFor) {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return ended(ctx, err)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ended(ctx, err)
	}
}
