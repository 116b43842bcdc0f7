package verify

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func fetcherOf(t *testing.T, h http.HandlerFunc) *fetcher {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	f, err := newFetcher(&Options{URL: s.URL, pause: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestLongErrorPageIsRetried checks that a 503 with a long page of a proxy is retried like any 503.
func TestLongErrorPageIsRetried(t *testing.T) {
	n := 0
	f := fetcherOf(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n == 1 {
			w.WriteHeader(503)
			_, _ = w.Write([]byte(strings.Repeat("x", 2<<20)))
			return
		}
		_, _ = w.Write([]byte("good"))
	})
	_, err := f.get(t.Context(), "tile/entries/000", 1<<16)
	if err != nil {
		t.Errorf("after %d requests: %v", n, err)
	}
}

// TestLongErrorPageIsNoFinding checks that a long error page does not become a finding against the log.
func TestLongErrorPageIsNoFinding(t *testing.T) {
	f := fetcherOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(503)
		_, _ = w.Write([]byte(strings.Repeat("x", 2<<20)))
	})
	_, err := f.get(t.Context(), "tile/entries/000", 1<<16)
	a := &audit{f: f}
	_ = a.take(&bundle{err: err})
	if len(a.found) > 0 {
		t.Errorf("a 503 is reported as invalid data: %+v", a.found)
	}
	if !hasStatus(err, 503) {
		t.Errorf("status lost: %v", err)
	}
}

// TestBrokenErrorBodyKeepsStatus checks that a 404 of a partial tile leads to the full one if its body breaks off.
func TestBrokenErrorBodyKeepsStatus(t *testing.T) {
	f := fetcherOf(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, ".p/") {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(404)
			_, _ = w.Write([]byte("gone"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write([]byte("full"))
	})
	_, full, err := f.tile(t.Context(), 0, 0, 3, 1<<16)
	if !full || err != nil {
		t.Errorf("the full tile was not fetched: %v", err)
	}
}
