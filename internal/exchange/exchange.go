package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Bounds of answers, in bytes.
const (
	MaxSmall   = 1 << 20   // problems, states, positions of one record
	MaxMedium  = 16 << 20  // pages, the positions of a batch, placements
	MaxRecords = 128 << 20 // records; in base64 this is room for one of 96 MiB
)

// ErrAnswer is the error of an answer that is not from ChainStore, or is damaged or too long.
var ErrAnswer = errors.New("answer is not acceptable")

// ErrBrokenOff is the error of an answer whose head arrived, and not all of its body. It counts as no answer too.
var ErrBrokenOff = errors.New("the answer broke off")

// Header values that never change. No transport writes to them.
var (
	TypeOctets = []string{wire.TypeOctets}
	TypeJSON   = []string{"application/json"}
)

// firstRead bounds the memory that is allocated for an answer before its bytes arrive.
const firstRead = 4 << 20

// copyUpTo is the size up to which a body is copied. Package net/http sends a body that it knows to be in memory in one
// write with the header, and a body of another type in a second write.
const copyUpTo = 16 << 10

// Request is a request to one address.
type Request struct {
	Method string
	Base   string // "http://host:port"
	Path   string // with the query
	Header http.Header
	Body   []byte
	Limit  int // of a good answer, in bytes
	// Part makes a good answer over its limit be cut off there, instead of refused.
	Part bool
}

// Answer is an answer of any status.
type Answer struct {
	Base   string
	Status int
	Header http.Header
	Body   []byte
	Cut    bool // the answer had more than Body: see [Request]
}

// Do sends a request and reads the whole answer. The caller may reuse q.Body when Do has returned. The error wraps
// [wire.ErrNoAnswer], or [ErrAnswer] for an answer over its limit.
func Do(ctx context.Context, send Send, q *Request) (*Answer, error) {
	var copied io.Reader
	if len(q.Body) <= copyUpTo {
		copied = bytes.NewReader(bytes.Clone(q.Body))
	}
	var connected atomic.Bool
	if _, repeats := q.Header[wire.HeaderIdempotencyKey]; repeats {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
		})
	}
	r, err := http.NewRequestWithContext(ctx, q.Method, q.Base+q.Path, copied)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, q.Base, err)
	}
	r.Header = q.Header
	if copied == nil {
		var held sync.WaitGroup
		defer held.Wait()
		r.ContentLength = int64(len(q.Body))
		r.GetBody = func() (io.ReadCloser, error) { return newBody(q.Body, &held), nil }
		r.Body = newBody(q.Body, &held)
	}
	resp, err := send(r)
	if err != nil {
		err = NoAnswer(q.Base, err)
		if connected.Load() && NotSent(err) {
			err = fmt.Errorf("%w: %w", err, errSentBefore)
		}
		return nil, err
	}
	return read(q.Base, resp, q.Limit, q.Part)
}

// Read reads the body of a response of at most limit bytes, or [MaxSmall] bytes if its status is not a good one, and
// closes it. Errors are those of [Do].
func Read(base string, resp *http.Response, limit int) (*Answer, error) {
	return read(base, resp, limit, false)
}

func read(base string, resp *http.Response, limit int, part bool) (*Answer, error) {
	if resp.StatusCode/100 != 2 {
		limit, part = MaxSmall, false
	}
	body, cut, err := readBounded(resp, limit, part)
	_ = resp.Body.Close() // the body was read, or is given up
	if errors.Is(err, ErrAnswer) {
		return nil, fmt.Errorf("%s: %w", base, err)
	}
	if err != nil {
		return nil, NoAnswer(base, err)
	}
	return &Answer{Base: base, Status: resp.StatusCode, Header: resp.Header, Body: body, Cut: cut}, nil
}

// NoAnswer wraps the error of a transport in [wire.ErrNoAnswer]. It drops a [url.Error], which would name the URL
// again.
func NoAnswer(base string, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return fmt.Errorf("%w: %s: %w", wire.ErrNoAnswer, base, explained(err))
}

// errSentBefore is in the error of a request that package net/http has sent again, since its header says that it may be
// repeated. The error is that of the last attempt.
var errSentBefore = errors.New("a connection broke before, on which the request may have been sent")

// tlsKey is the key of a context for [OnlyTLS].
type tlsKey struct{}

// OnlyTLS returns a context whose requests carry a secret of a user, and must not be sent in plain text. See
// [IsOnlyTLS].
func OnlyTLS(ctx context.Context) context.Context { return context.WithValue(ctx, tlsKey{}, true) }

// IsOnlyTLS reports whether a transport must send a request with that context over TLS, or not at all.
func IsOnlyTLS(ctx context.Context) bool { return ctx.Value(tlsKey{}) != nil }

// NoTLS reports whether a call failed because the other side answered, and not with TLS.
func NoTLS(err error) bool {
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// NotSent reports whether the request of a failed call was certainly not sent: there was no connection.
func NotSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !errors.Is(err, errSentBefore)
}

// Silent reports whether a failed call got nothing from the other side: there was no connection, or it was closed or
// timed out before an answer began. A certificate that is not trusted is an answer.
func Silent(err error) bool {
	if !errors.Is(err, wire.ErrNoAnswer) || errors.Is(err, ErrBrokenOff) {
		return false
	}
	timeout, ok := errors.AsType[net.Error](err)
	return NotSent(err) || ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE)
}

// heldBody is the body of a request over bytes of the caller. A transport may read a body even after it has returned,
// but it always closes it. The bytes are in use until then.
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

// Close ends the use of the bytes.
func (b *heldBody) Close() error {
	if !b.closed.Swap(true) {
		b.held.Done()
	}
	return nil
}

// readBounded reads a body of up to limit bytes. If part is set, it reads only that much of a longer one, and cut
// reports that.
func readBounded(resp *http.Response, limit int, part bool) (body []byte, cut bool, err error) {
	n := resp.ContentLength
	if n > int64(limit) && !part {
		return nil, false, tooLong(limit)
	}
	if n >= 0 && n <= firstRead && n <= int64(limit) {
		body := make([]byte, n)
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			return nil, false, fmt.Errorf("%w: %w", ErrBrokenOff, err)
		}
		return body, false, nil
	}
	first := 4 << 10
	if n > 0 {
		first = firstRead
	}
	body, err = readUpTo(resp.Body, limit+1, first)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrBrokenOff, err)
	}
	if len(body) <= limit {
		return body, false, nil
	}
	if !part {
		return nil, false, tooLong(limit)
	}
	return body[:limit], true, nil
}

// readUpTo reads to the end, or most bytes. first is the size of the first buffer. The buffer doubles, and goes to most
// when the next one after it would be larger. So all buffers together have less than three times most, and less than
// eight times what was read, or first.
func readUpTo(r io.Reader, most, first int) ([]byte, error) {
	body := make([]byte, 0, min(first, most))
	for len(body) < most {
		if len(body) == cap(body) {
			size := 2 * cap(body)
			if 2*size > most {
				size = most
			}
			body = append(make([]byte, 0, size), body...)
		}
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return body, nil
}

func tooLong(limit int) error {
	return fmt.Errorf("%w: it has more than %d bytes", ErrAnswer, limit)
}

// Problem returns nil for a good answer. Otherwise it returns the problem that the answer describes, a [*wire.Error].
func (a *Answer) Problem() error {
	if a.Status/100 == 2 {
		return nil
	}
	e := &wire.Error{URL: a.Base, RetryAfter: RetryAfter(a.Header.Get("Retry-After"), time.Now())}
	known := a.media() == wire.TypeProblem && json.Unmarshal(a.Body, &e.Problem) == nil
	if known && e.Type() != nil { // another status means that somebody else has answered
		known = e.Type().Status == a.Status
	}
	if !known {
		e.Problem = wire.Problem{Type: "about:blank", Title: "an answer that is not ChainStore's",
			Detail: http.StatusText(a.Status)}
		if a.speaksTLS() {
			e.Problem.Detail = "it speaks TLS: give its URL with https://, and its authority with --tls-ca"
		}
	}
	e.Problem.Status = a.Status
	return e
}

// RetryAfter parses a Retry-After header (RFC 9110, section 10.2.3), which has seconds or a date. It returns 0 for any
// other value.
func RetryAfter(value string, now time.Time) time.Duration {
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

// media is the media type of the body without its parameters, "" for none.
func (a *Answer) media() string {
	media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return media
}

// Expect returns an error that wraps [ErrAnswer] unless the answer has a body of that media type and the status 200,
// 201 or 202. A proxy, or another program at the address, may answer every request with 200 and a page.
func (a *Answer) Expect(media string) error {
	switch got := a.media(); {
	case a.Status != http.StatusOK && a.Status != http.StatusCreated && a.Status != http.StatusAccepted:
		return fmt.Errorf("%s: %w: its status is %d", a.Base, ErrAnswer, a.Status)
	case got != media:
		return fmt.Errorf("%s: %w: its type is %q, not %q", a.Base, ErrAnswer, got, media)
	}
	return nil
}

// ExpectDone returns an error that wraps [ErrAnswer] unless the answer has the status 204, as those without a body.
func (a *Answer) ExpectDone() error {
	if a.Status != http.StatusNoContent {
		return fmt.Errorf("%s: %w: its status is %d, not %d", a.Base, ErrAnswer, a.Status, http.StatusNoContent)
	}
	return nil
}

// Decode decodes a good answer of JSON. The error wraps [ErrAnswer].
func (a *Answer) Decode(into any) error {
	if err := CheckLists(a.Body); err != nil {
		return fmt.Errorf("%s: %w", a.Base, err)
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return fmt.Errorf("%s: %w: %w", a.Base, ErrAnswer, err)
	}
	return nil
}

// Bearer returns the Authorization header of a token, nil for no token.
func Bearer(token string) []string {
	if token == "" {
		return nil
	}
	return []string{"Bearer " + token}
}
