package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
)

// requestTimeout bounds one try of a request, reading the response included.
const requestTimeout = 30 * time.Second

// Tries of a request, and the pauses between them. Each pause is twice the one before.
const (
	maxTries     = 6
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// statusError is a response with a status other than 200.
type statusError struct {
	url    string
	status int
	detail string // of the body, its beginning
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%s answers %d %s%s", e.url, e.status, http.StatusText(e.status), e.detail)
}

// hasStatus reports whether err is a response with one of these statuses.
func hasStatus(err error, statuses ...int) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && slices.Contains(statuses, answer.status)
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
		final := errors.Is(err, exchange.ErrAnswer) || answered && answer.status != http.StatusTooManyRequests &&
			answer.status < http.StatusInternalServerError
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
	beginning, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
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
		return a.Body, 0, nil
	}
	answer := &statusError{url: f.base + "/" + path, status: a.Status}
	text := string(a.Body)
	if f.token != "" {
		text = strings.ReplaceAll(text, f.token, "…") // the server may repeat the request
	}
	if text = strings.TrimSpace(text); text != "" {
		answer.detail = fmt.Sprintf(": %q", text)
	}
	return nil, min(exchange.RetryAfter(a.Header.Get("Retry-After"), time.Now()), time.Minute), answer
}
