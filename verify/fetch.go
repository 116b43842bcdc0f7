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
	"strconv"
	"strings"
	"time"
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

// errSize: a response is over its size limit.
var errSize = errors.New("answers more")

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
func (f *fetcher) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	pause := f.pause
	for try := 1; ; try++ {
		data, wait, err := f.once(ctx, path, limit)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		answer, answered := errors.AsType[*statusError](err)
		final := errors.Is(err, errSize) || answered && answer.status != http.StatusTooManyRequests &&
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

// once is one try. wait is the pause that the server asks for.
func (f *fetcher) once(ctx context.Context, path string, limit int64) (data []byte, wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	at := f.base + "/" + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, 0, err
	}
	if f.token != "" {
		req.Header.Set("Authorization", "Bearer "+f.token)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	if resp.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		beginning, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		if f.token != "" { // the text may repeat the request
			beginning = bytes.ReplaceAll(beginning, []byte(f.token), []byte("…"))
		}
		answer := &statusError{url: at, status: resp.StatusCode}
		if text := bytes.TrimSpace(beginning); len(text) > 0 {
			answer.detail = fmt.Sprintf(": %q", text)
		}
		return nil, time.Duration(max(0, min(seconds, 60))) * time.Second, answer
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s %w than %d bytes", at, errSize, limit)
	}
	return data, 0, err
}
