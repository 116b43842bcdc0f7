package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/fakecluster"
	"github.com/chainstore/chainstore/wire"
)

const testToken = "s3cret-project-token"

// handlers is a cluster without a network: one handler for each host. A nil handler represents a host without a
// listener.
type handlers map[string]http.HandlerFunc

func (h handlers) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	serve := h[r.URL.Host]
	if serve == nil {
		return nil, dialError()
	}
	w := httptest.NewRecorder()
	serve(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// newClient returns a client of the hosts m0, m1, …, each with its handler.
func newClient(t *testing.T, retryFor time.Duration, masters ...http.HandlerFunc) *Client {
	t.Helper()
	cfg := Config{Token: testToken, RetryFor: retryFor}
	h := make(handlers)
	for i, serve := range masters {
		host := fmt.Sprintf("m%d", i)
		h[host] = serve
		cfg.Masters = append(cfg.Masters, "http://"+host)
	}
	cfg.HTTP = &http.Client{Transport: h}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func problem(w http.ResponseWriter, status int, name string) {
	w.Header().Set("Content-Type", wire.TypeProblem)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(wire.Problem{Type: wire.ProblemBase + name, Title: "title of " + name, Status: status,
		Detail: "detail of " + name})
}

func refuse(status int, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { problem(w, status, name) }
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// calls collects the values that a handler got, in order.
type calls[T any] struct {
	mu   sync.Mutex
	seen []T
}

func (l *calls[T]) add(v T) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, v)
	return len(l.seen)
}

func (l *calls[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.seen...)
}

// sealed returns a record as an honest master sends it.
func sealed(block uint64, offset uint32, payload string) wire.Record {
	cluster := fakecluster.New()
	cluster.Now = func() uint64 { return 1_700_000_000_000 }
	r := cluster.Envelope(cluster.Append(cluster.Projects[0], "k", "text/plain", []byte(payload)))
	r.Block, r.Offset, r.Index, r.State = block, offset, 40+uint64(offset), wire.StateStored
	return r
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
