package noderpc

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

const (
	clusterToken = "s3cret-cluster-token"
	masterToken  = "s3cret-master-token"
)

// connKey is the key of a request's context for whether its connection was counted.
type connKey struct{}

// node starts a server that knows no sessions, as of an older version, and counts the connections that are made to it.
func node(t *testing.T, serve http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			refuse(http.StatusNotFound, wire.ErrNoSuchRoute.Name)(w, r)
			return
		}
		if !r.Context().Value(connKey{}).(*atomic.Bool).Swap(true) {
			connections.Add(1)
		}
		serve(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, new(atomic.Bool))
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, &connections
}

// toOlder returns a transport whose calls send tokens to nodes that know no sessions.
func toOlder() *Transport {
	t := NewTransport()
	t.Identify(nodeauth.NewProcess(), func() string { return "test" }, func() bool { return true })
	return t
}

// testSecrets are those of all nodes of the tests.
var testSecrets = nodeauth.Shared(clusterToken)

// olderWorker is a worker that gets its master token with each call.
func olderWorker(url string) wire.Worker {
	return wire.Worker{URL: url, Token: masterToken, Older: true}
}

func newWorkers(t *testing.T) *Workers {
	c := NewWorkers(toOlder(), testSecrets)
	c.ToOlder(func() bool { return true })
	t.Cleanup(c.CloseIdle)
	return c
}

func newMasters(t *testing.T) *Masters {
	m := NewMasters(toOlder(), testSecrets.For(nodeauth.Masters))
	t.Cleanup(m.CloseIdle)
	return m
}

func refuse(status int, name string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", wire.TypeProblem)
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(wire.Problem{Type: wire.ProblemBase + name, Title: "title of " + name,
			Status: status})
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

// record collects what a handler saw, in order.
type record[T any] struct {
	mu   sync.Mutex
	seen []T
}

func (r *record[T]) add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, v)
}

func (r *record[T]) all() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]T(nil), r.seen...)
}
