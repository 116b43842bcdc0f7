package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// requestTimeout bounds one try of a request, reading the response included.
const requestTimeout = 30 * time.Second

// Tries of a request, and the pauses between them. Each pause is twice the one before.
const (
	maxTries     = 6
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// Bytes that are read of an answer with another status than 200, and those of them that are shown.
const (
	maxProblem = 4096
	maxDetail  = 300
)

// statusError is a response with a status other than 200.
type statusError struct {
	url    string
	status int
	detail string            // of the body, its beginning
	typ    *wire.ProblemType // nil if the answer is not one of ChainStore
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s%s", e.url, e.status, http.StatusText(e.status), e.detail)
}

// hasStatus reports whether err is a response with one of these statuses.
func hasStatus(err error, statuses ...int) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(statuses, answer.status)
}

// isProblem reports whether err is a response of ChainStore with that problem. A proxy may answer with any status.
func isProblem(err error, typ *wire.ProblemType) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && answer.typ == typ
}

// errForeign is the error of an answer that is not one of a log, although its status is 200. It says nothing about the
// log.
var errForeign = errors.New("the answer is not from a log: is there a proxy before it, or another program at its URL?")

// foreign returns an error that wraps [errForeign] for the body of another program: an empty one, a page, or JSON in
// place of bytes. Where a body may be any bytes, as hashes, only its media type counts.
func foreign(path string, a *exchange.Answer) error {
	media, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	bytesOrText := !strings.HasPrefix(path, "v1/")
	what := ""
	switch {
	case len(a.Body) == 0:
		what = "it is empty"
	case media == "text/html", media == "application/xhtml+xml", media == wire.TypeProblem,
		bytesOrText && media == exchange.TypeJSON[0]:
		what = fmt.Sprintf("its type is %q", media)
	case len(a.Body)%chain.HashSize != 0 && isPage(a.Body):
		what = "it is a page"
	default:
		return nil
	}
	return fmt.Errorf("%s/%s: %w (%s)", a.Base, path, errForeign, what)
}

// isPage reports whether a body begins like an HTML page.
func isPage(body []byte) bool {
	begin := bytes.ToLower(bytes.TrimSpace(body[:min(len(body), 256)]))
	return bytes.HasPrefix(begin, []byte("<!doctype html")) || bytes.HasPrefix(begin, []byte("<html"))
}

// fetcher fetches from a log. Several goroutines may use it.
type fetcher struct {
	base   string
	token  string
	client *http.Client
	pause  time.Duration // before the second try
}

func newFetcher(o *Options) (*fetcher, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is not the URL of a log: it begins with http:// or https:// and ends before "+
			"/checkpoint", o.URL)
	}
	f := &fetcher{base: strings.TrimRight(o.URL, "/"), token: o.Token, pause: o.pause}
	if f.pause == 0 {
		f.pause = firstPause
	}
	var client http.Client
	if o.HTTP != nil {
		client = *o.HTTP
	} else if shared, ok := http.DefaultTransport.(*http.Transport); ok {
		own := shared.Clone()
		if o.TLS != nil {
			own.TLSClientConfig = o.TLS.Clone()
		}
		own.MaxIdleConnsPerHost = max(o.Parallel, defaultParallel)
		client.Transport = own
	}
	// Redirects are not followed: the token is for this log only.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	f.client = &client
	return f, nil
}

// close closes the idle connections, except those of a client that the caller supplied.
func (f *fetcher) close(o *Options) {
	if o.HTTP == nil {
		f.client.CloseIdleConnections()
	}
}

// get fetches a path below the log's URL, at most limit bytes. It retries if that may help.
func (f *fetcher) get(ctx context.Context, path string, limit int) ([]byte, error) {
	pause := f.pause
	for try := 1; ; try++ {
		data, wait, err := f.once(ctx, path, limit)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		answer, answered := errors.AsType[*statusError](err)
		final := errors.Is(err, exchange.ErrAnswer) || errors.Is(err, errForeign) ||
			answered && answer.status != http.StatusTooManyRequests && answer.status < http.StatusInternalServerError
		if err == nil || final || try == maxTries {
			return data, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(min(max(pause, wait), longestPause)):
		}
		pause *= 2
	}
}

// send sends a request. Of a response with a status other than 200 it keeps only the beginning of the body: the status
// counts, even if the body is long or breaks off.
func (f *fetcher) send(r *http.Request) (*http.Response, error) {
	resp, err := f.client.Do(r)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	beginning, _ := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	_ = resp.Body.Close() // only read
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(beginning)), int64(len(beginning))
	return resp, nil
}

// once is one try. wait is the pause that the server asks for.
func (f *fetcher) once(ctx context.Context, path string, limit int) (data []byte, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	a, err := exchange.Do(ctx, f.send, &exchange.Request{
		Method: http.MethodGet, Base: f.base, Path: "/" + path, Limit: limit,
		Header: http.Header{"Authorization": exchange.Bearer(f.token)},
	})
	if err != nil {
		return nil, 0, err
	}
	if a.Status == http.StatusOK {
		return a.Body, 0, foreign(path, a)
	}
	answer := &statusError{url: f.base + "/" + path, status: a.Status}
	text, quote := string(a.Body), strconv.Quote
	if problem, ok := errors.AsType[*wire.Error](a.Problem()); ok && problem.Name() != "" {
		answer.typ = problem.Type()
		text = problem.Problem.Title
		if problem.Problem.Detail != "" {
			text += ": " + problem.Problem.Detail
		}
		quote = func(text string) string { return text }
	}
	if f.token != "" {
		text = strings.ReplaceAll(text, f.token, "…") // the server may repeat the request
	}
	if text = strings.TrimSpace(text); text != "" {
		answer.detail = ": " + quote(text[:min(len(text), maxDetail)])
	}
	return nil, min(exchange.RetryAfter(a.Header.Get("Retry-After"), time.Now()), time.Minute), answer
}
