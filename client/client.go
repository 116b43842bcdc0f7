package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Config names a cluster and the token of its user.
type Config struct {
	// Masters are the URLs of the cluster's masters, all or some, as in http://127.0.0.1:8000. The first is tried
	// first.
	Masters []string
	// Token is the project's, or the admin token for administration; "" for what needs none.
	Token string
	// HTTP is what requests go through; nil for one of the client's own, which keeps connections and finds proxies in
	// the environment.
	HTTP *http.Client
	// RetryFor is how long a call retries while every master is dead, has no leader or refuses for its
	// backlog or the project's quota: 30 seconds where it is 0, one round through the masters where it is negative. The
	// context may end it sooner.
	RetryFor time.Duration
}

const (
	defaultRetryFor = 30 * time.Second
	dialTimeout     = 3 * time.Second
	// tryFor is how long one master may take for an answer: longer than it waits for a leader itself.
	tryFor = 15 * time.Second
	// slowest is the slowest upload that is not taken for a dead master, bytes per second.
	slowest = 64 << 10
	// The wait after each round through the masters doubles from minBackoff up to maxBackoff.
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// keptUsers is how many idle connections a user's client keeps to each master.
	keptUsers = 512
)

// Client is a user's view of a cluster. It may be used by many goroutines at once.
//
// A call goes to the master that answered last. When that one is dead, broken or has no leader the call continues with
// the next; after a round through all of them it waits, a little longer each time, with jitter, and at least as long as
// a Retry-After asked for. It ends with an answer, with the context, or when Config.RetryFor is over; the error is then
// that of the last try.
type Client struct {
	masters  []string
	auth     []string
	send     exchange.Send
	own      *http.Transport // nil where the caller gave Config.HTTP
	retryFor time.Duration
	good     atomic.Uint32 // index of the master that answered last
}

// New makes a client. It makes no connection yet. The error wraps [ErrConfig].
func New(cfg Config) (*Client, error) {
	if len(cfg.Masters) == 0 {
		return nil, fmt.Errorf("%w: no master is named: give the URL of at least one", ErrConfig)
	}
	c := &Client{auth: exchange.Bearer(cfg.Token), retryFor: cfg.RetryFor}
	if c.retryFor == 0 {
		c.retryFor = defaultRetryFor
	}
	for i := range len(cfg.Token) {
		if cfg.Token[i] <= ' ' || cfg.Token[i] > '~' {
			return nil, fmt.Errorf("%w: the token holds a space, a line break or another byte that no token has",
				ErrConfig)
		}
	}
	for _, m := range cfg.Masters {
		base, err := checkBase(m)
		if err != nil {
			return nil, err
		}
		c.masters = append(c.masters, base)
	}
	if cfg.HTTP != nil {
		c.send = cfg.HTTP.Do
		return c, nil
	}
	c.own = exchange.NewTransport(dialTimeout, keptUsers)
	c.own.Proxy = http.ProxyFromEnvironment
	c.send = c.own.RoundTrip // follows no redirect: masters send none, and a token goes to no other address
	return c, nil
}

// CloseIdle closes the connections that no call uses at the moment. The client can be used afterwards. It does nothing
// where Config.HTTP was given.
func (c *Client) CloseIdle() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// verdict is what follows from a failed try.
type verdict int

const (
	final     verdict = iota // it is the cluster's answer
	tryNext                  // another master may do better, or this one later
	tryOthers                // another master may do better; when all of them fail so it is final
	tryLater                 // it is the whole cluster's answer for the moment
)

// judge says what to do after a failed try.
func judge(err error) verdict {
	if errors.Is(err, wire.ErrNoAnswer) {
		return tryNext
	}
	var e *wire.Error
	if !errors.As(err, &e) {
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
	var e *wire.Error
	if !errors.As(err, &e) {
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
		hopeless int           // masters in a row that failed in a way that waiting does not mend
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
		var e *wire.Error
		if errors.As(err, &e) && e.RetryAfter > 0 && (asked == 0 || e.RetryAfter < asked) {
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
		wait := max(backoff, asked)
		wait += rand.N(wait/2 + 1)
		if time.Since(begin)+wait > max(0, c.retryFor) {
			return err
		}
		if !sleep(ctx, wait) {
			return ended(ctx, err)
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

// ended is the error of a call whose context ended, or is about to, after the last try failed with err or before there
// was one.
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

// sleep waits and reports whether it came to the end of the wait. It does not begin a wait that the context's deadline
// cuts short.
func sleep(ctx context.Context, wait time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// checkBase takes a node's URL apart and puts it into the form that paths are added to.
func checkBase(base string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrConfig, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%w: %q is not the URL of a master: give one like http://127.0.0.1:8000", ErrConfig,
			u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%w: %q: a master's URL has no user, query or fragment", ErrConfig, u.Redacted())
	}
	return strings.TrimRight(base, "/"), nil
}
