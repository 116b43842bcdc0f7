package noderpc

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

const (
	clusterToken = "s3cret-cluster-token"
	masterToken  = "s3cret-master-token"
)

// node starts a server and counts the connections that are made to it.
func node(t *testing.T, serve http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var connections atomic.Int32
	server := httptest.NewUnstartedServer(serve)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	return server, &connections
}

func newWorkers(t *testing.T) *Workers {
	c := NewWorkers(NewTransport())
	t.Cleanup(c.CloseIdle)
	return c
}

func newMasters(t *testing.T) *Masters {
	m := NewMasters(NewTransport(), clusterToken)
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
