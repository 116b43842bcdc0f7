package verify

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/fakecluster"
)

// TestHostileLogs checks that an audit ends in time, takes a bounded amount of memory, fails, and verifies nothing,
// whatever is answered in place of a checkpoint, leaves, hashes or records.
func TestHostileLogs(t *testing.T) {
	const patience, limit = 300 * time.Millisecond, 800 << 20
	l := newTestLog(t, 3, 4)
	_, since, err := l.audit(l.serve(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l.grow("", 5)
	audit := func(name, path string, since *State, answer fakecluster.Answer) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(strings.TrimPrefix(r.URL.Path, "/"), path) {
				l.ServeHTTP(w, r)
				return
			}
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			if answer.Write(conn) == nil && answer.Slow {
				_, _ = conn.Read(make([]byte, 1))
			}
		}))
		defer server.Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		began := time.Now()
		report, err := Log(ctx, Options{URL: server.URL, Trust: l.trust(), Since: since, pause: time.Microsecond,
			Token: "secret"})
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s, answered with %s, took %v", path, name, took)
		}
		if err == nil && len(report.Findings) == 0 || report.SignedHeight > 0 || report.Height == 3 ||
			len(report.Unchecked) > 0 || report.Payloads+report.Hidden > 12 {
			t.Errorf("%s, answered with %s: %+v, %v", path, name, report, err)
		}
	}
	// hostile makes the audits with these answers at the same time, and checks what they take together.
	hostile := func(names ...string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var auditing sync.WaitGroup
		for _, name := range names {
			answer := fakecluster.Hostile[name]
			auditing.Go(func() { audit(name, "checkpoint", nil, answer) })
			auditing.Go(func() { audit(name, "tile/entries/", nil, answer) })
			auditing.Go(func() { audit(name, "tile/0/", since, answer) })
			auditing.Go(func() { audit(name, "v1/blocks/", nil, answer) })
		}
		auditing.Wait()
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(len(names))*limit {
			t.Errorf("answered with %q: %d MiB were allocated, the limit is %d each", names, grown>>20, limit>>20)
		}
	}
	var slow []string
	for name, answer := range fakecluster.Hostile {
		if answer.Slow {
			slow = append(slow, name)
		} else {
			hostile(name)
		}
	}
	hostile(slow...)
}
