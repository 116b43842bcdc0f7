package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Bounds of what is read of an answer, in bytes.
const (
	maxSmall   = 1 << 20   // problems, states, positions of one record
	maxMedium  = 16 << 20  // pages, the positions of a batch, placements
	maxRecords = 128 << 20 // records; in base64 this is room for one of 96 MiB
)

// firstRead is how much memory an answer gets on its word alone; the rest comes as its bytes do.
const firstRead = 4 << 20

// copyUpTo is the size of a body up to which it is copied rather than held: net/http sends what it knows to be in memory
// in one write with the header, and a body of any other type in a second one.
const copyUpTo = 16 << 10

// sendFunc is [http.Client.Do] or [http.Transport.RoundTrip].
type sendFunc func(*http.Request) (*http.Response, error)

// newTransport makes a transport that keeps up to perHost idle connections to each address. Peers that vanish without a
// word are found by keep-alive probes within about 15 seconds.
func newTransport(dial time.Duration, perHost int) *http.Transport {
	dialer := &net.Dialer{
		Timeout:         dial,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3},
	}
	return &http.Transport{
		DialContext:           dialer.DialContext,
		TLSHandshakeTimeout:   5 * time.Second,
		MaxIdleConnsPerHost:   perHost,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
	}
}

// request is what one exchange sends.
type request struct {
	method string
	base   string // "http://host:port"
	path   string // with the query
	header http.Header
	body   []byte
	limit  int // of the answer, where it is no problem
}

// answer is what came back, of whatever status.
type answer struct {
	base   string
	status int
	header http.Header
	body   []byte
}

// exchange sends a request and reads the answer whole. When it returns, q.body is the caller's again. The error wraps
// [wire.ErrNoAnswer], or [ErrAnswer] for an answer over its limit.
func exchange(ctx context.Context, send sendFunc, q *request) (*answer, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, q.base+q.path, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, q.base, err)
	}
	r.Header = q.header
	switch n := len(q.body); {
	case n == 0:
	case n <= copyUpTo:
		r.ContentLength = int64(n)
		body := bytes.Clone(q.body)
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		r.Body = io.NopCloser(bytes.NewReader(body))
	default:
		var held sync.WaitGroup
		defer held.Wait()
		r.ContentLength = int64(n)
		r.GetBody = func() (io.ReadCloser, error) { return newBody(q.body, &held), nil }
		r.Body = newBody(q.body, &held)
	}
	resp, err := send(r)
	if err != nil {
		return nil, unreachable(q.base, err)
	}
	limit := q.limit
	if resp.StatusCode/100 != 2 {
		limit = maxSmall
	}
	body, err := readBounded(resp, limit)
	// The body was read to its end or is given up: closing it can only tell what the read told already.
	_ = resp.Body.Close()
	if errors.Is(err, ErrAnswer) {
		return nil, fmt.Errorf("%s: %w", q.base, err)
	}
	if err != nil {
		return nil, unreachable(q.base, err)
	}
	return &answer{base: q.base, status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// unreachable wraps what a transport says. A [url.Error] would name the URL a second time.
func unreachable(base string, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, base, err)
}

// notSent reports whether a request surely never left: the connection was not made.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// heldBody is the body of a request over bytes that belong to the caller. A transport may go on reading a body after it has
// returned, but closes it in the end: that is when the bytes are let go.
type heldBody struct {
	bytes.Reader
	held   *sync.WaitGroup
	closed atomic.Bool
}

func newBody(data []byte, held *sync.WaitGroup) *heldBody {
	b := &heldBody{held: held}
	b.Reset(data)
	held.Add(1)
	return b
}

// Close lets go of the bytes.
func (b *heldBody) Close() error {
	if !b.closed.Swap(true) {
		b.held.Done()
	}
	return nil
}

// readBounded reads an answer of at most limit bytes.
func readBounded(resp *http.Response, limit int) ([]byte, error) {
	n := resp.ContentLength
	if n > int64(limit) {
		return nil, tooLong(limit)
	}
	if n >= 0 && n <= firstRead {
		body := make([]byte, n)
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			return nil, fmt.Errorf("the answer broke off: %w", err)
		}
		return body, nil
	}
	var buf bytes.Buffer
	if n > 0 {
		buf.Grow(firstRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, int64(limit)+1)); err != nil {
		return nil, fmt.Errorf("the answer broke off: %w", err)
	}
	if buf.Len() > limit {
		return nil, tooLong(limit)
	}
	return buf.Bytes(), nil
}

func tooLong(limit int) error {
	return fmt.Errorf("%w: it has more than %d bytes", ErrAnswer, limit)
}

// problem is nil for a good answer, else what it says is wrong.
func (a *answer) problem() *wire.Error {
	if a.status/100 == 2 {
		return nil
	}
	e := &wire.Error{URL: a.base, RetryAfter: retryAfter(a.header.Get("Retry-After"), time.Now())}
	media, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if err != nil || media != wire.TypeProblem || json.Unmarshal(a.body, &e.Problem) != nil {
		e.Problem = wire.Problem{Type: "about:blank", Title: "an answer that is not ChainStore's", Detail: http.StatusText(a.status)}
	}
	e.Problem.Status = a.status
	return e
}

// retryAfter reads the header of that name, RFC 9110 section 10.2.3: seconds or a date. It is 0 where there is none.
func retryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// decode reads a good answer of JSON.
func (a *answer) decode(into any) error {
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("%s: %w: %w", a.base, ErrAnswer, err)
	}
	return nil
}

// checkBase takes a node's URL apart and puts it into the form that paths are added to.
func checkBase(base string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w: %w", ErrConfig, err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%w: %q is no URL of a master: give one like http://127.0.0.1:8000", ErrConfig, u.Redacted())
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%w: %q: a master's URL has no user, query or fragment", ErrConfig, u.Redacted())
	}
	return strings.TrimRight(base, "/"), nil
}

// bearer is the Authorization header of a token, nil for none.
func bearer(token string) []string {
	if token == "" {
		return nil
	}
	return []string{"Bearer " + token}
}
