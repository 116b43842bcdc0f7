package exchange

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// get requests a response of at most limit bytes from a server.
func get(t *testing.T, serve http.HandlerFunc, path string, limit int) (*Answer, error) {
	t.Helper()
	server := httptest.NewServer(serve)
	defer server.Close()
	transport := NewTransport(time.Second, 1)
	defer transport.CloseIdleConnections()
	return Do(t.Context(), transport.RoundTrip,
		&Request{Method: http.MethodGet, Base: server.URL, Path: path, Header: http.Header{}, Limit: limit})
}

func TestAnswersAreBounded(t *testing.T) {
	serve := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" { // otherwise it is detected while reading
			w.Header().Set("Content-Length", "10001")
		}
		w.Write(make([]byte, 10_001))
	}
	for _, path := range []string{"/length", "/chunked"} {
		if _, err := get(t, serve, path, 10_000); !errors.Is(err, ErrAnswer) || errors.Is(err, wire.ErrNoAnswer) {
			t.Errorf("%s: %v", path, err)
		}
		if a, err := get(t, serve, path, 10_001); err != nil || len(a.Body) != 10_001 {
			t.Errorf("%s: %v", path, err)
		}
	}
	// A problem is bounded too, whatever the limit of a successful response is.
	_, err := get(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		w.Write(make([]byte, MaxSmall+1))
	}, "/", MaxMedium)
	if !errors.Is(err, ErrAnswer) {
		t.Error(err)
	}
}

func TestLargeAnswersComeWhole(t *testing.T) {
	for _, size := range []int{0, 1, firstRead, firstRead + 7} {
		want := bytes.Repeat([]byte("an odd number of bytes."), size/23+1)[:size]
		a, err := get(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.Write(want)
		}, "/", MaxMedium)
		if err != nil || !bytes.Equal(a.Body, want) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestReadUpTo(t *testing.T) {
	const most = 100
	for size := range most + 20 {
		for _, first := range []int{1, 8, most + 1} {
			sent := bytes.Repeat([]byte("abc"), size)[:size]
			want := sent[:min(size, most)]
			for _, r := range []io.Reader{bytes.NewReader(sent), iotest.OneByteReader(bytes.NewReader(sent)),
				iotest.DataErrReader(bytes.NewReader(sent))} {
				if got, err := readUpTo(r, most, first); err != nil || !bytes.Equal(got, want) || cap(got) > most {
					t.Errorf("%d bytes, first buffer %d: %d bytes of %d, %v", size, first, len(got), cap(got), err)
				}
			}
		}
	}
	if _, err := readUpTo(iotest.ErrReader(io.ErrUnexpectedEOF), most, 8); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "3": 3 * time.Second, "-1": 0, "soon": 0,
		now.Add(7 * time.Second).Format(http.TimeFormat): 7 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
	} {
		if got := RetryAfter(value, now); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

// TestSentAgainIsNotNotSent: package net/http sends a request that says that it may be repeated again, when a kept
// connection breaks. If nothing listens by then, the error is that of the dial, but the first time the server may have
// carried the request out.
func TestSentAgainIsNotNotSent(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	var taken atomic.Int32
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if taken.Add(1) == 1 {
			return // the connection is kept
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		server.Listener.Close()
		conn.Close()
	})
	server.Start()
	defer server.Close()
	transport := NewTransport(time.Second, 1)
	defer transport.CloseIdleConnections()
	request := &Request{Method: http.MethodPost, Base: server.URL, Path: "/", Limit: MaxSmall,
		Header: http.Header{wire.HeaderIdempotencyKey: {"k"}}, Body: []byte("x")}
	if _, err := Do(t.Context(), transport.RoundTrip, request); err != nil {
		t.Fatal(err)
	}
	_, err := Do(t.Context(), transport.RoundTrip, request)
	if !errors.Is(err, wire.ErrNoAnswer) || NotSent(err) || taken.Load() != 2 {
		t.Errorf("request %d, which was taken: %v, not sent: %v", taken.Load(), err, NotSent(err))
	}
	if _, err = Do(t.Context(), transport.RoundTrip, request); !NotSent(err) {
		t.Errorf("nothing listens: %v", err)
	}
}
