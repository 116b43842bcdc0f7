package client

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

const testToken = "s3cret-project-token"

// handlers is a cluster without a network: one handler for each host. A nil handler stands for a host where nobody
// listens.
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

// newClient is a client of hosts m0, m1, …, each with its handler.
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

// log collects what a handler saw, in order.
type log[T any] struct {
	mu   sync.Mutex
	seen []T
}

func (l *log[T]) add(v T) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, v)
	return len(l.seen)
}

func (l *log[T]) all() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]T(nil), l.seen...)
}

// sealed is the envelope of a record as an honest master sends it.
func sealed(block uint64, offset uint32, payload string) wire.Record {
	r := chain.Record{Project: 7, Time: 1_700_000_000_000, Salt: [16]byte{1, 2, 3}, Key: "k", Type: "text/plain",
		Payload: []byte(payload)}
	leaf := r.Leaf()
	return wire.Record{
		Position: wire.Position{Block: block, Offset: offset, Index: 40 + uint64(offset), Time: r.Time,
			Leaf: leaf.Hash(), State: wire.StateStored},
		Project: "default", ProjectID: r.Project, Key: r.Key, Type: r.Type, Size: leaf.Size, Salt: r.Salt[:],
		Commit: leaf.Commit, Payload: r.Payload,
	}
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
