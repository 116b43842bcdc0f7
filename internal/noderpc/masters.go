package noderpc

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Masters are the calls between masters, and from workers to masters, under the cluster token. Each goes to one URL, once,
// and lasts as long as its context. It may be used by many goroutines at once.
//
// Every call may be repeated safely. So when a kept connection turns out to be closed, the transport repeats the call on
// another connection, unless it had sent part of a large body. That connection may be a kept one too: see [Masters.Fresh].
type Masters struct {
	auth      []string
	hops      []string // value of the header; nil for a call on behalf of this node
	transport *Transport
	send      exchange.Send
}

// NewMasters returns the calls of a node with that cluster token.
func NewMasters(t *Transport, token string) *Masters {
	return &Masters{auth: exchange.Bearer(token), transport: t, send: t.kept.RoundTrip}
}

// Fresh returns calls that each use a new connection and close it afterwards: for the last try, since kept connections
// may be dead and not yet closed.
func (m *Masters) Fresh() *Masters {
	fresh := *m
	fresh.send = m.transport.fresh.RoundTrip
	return &fresh
}

// Forwarding returns calls that are marked as forwarded by a master. The receiver does not forward them again.
func (m *Masters) Forwarding() *Masters {
	forwarding := *m
	forwarding.hops = oneHop
	return &forwarding
}

// CloseIdle closes the idle connections of the transport.
func (m *Masters) CloseIdle() { m.transport.CloseIdle() }

// Member asks a master who it is.
func (m *Masters) Member(ctx context.Context, url string) (wire.Member, error) {
	return getJSON[wire.Member](ctx, m, url, wire.PathMember, exchange.MaxSmall)
}

// Adopt makes a new master part of a group.
func (m *Masters) Adopt(ctx context.Context, url string, adoption wire.Adoption) error {
	_, err := m.postJSON(ctx, url, wire.PathAdopt, adoption)
	return err
}

// Submit hands a submission to the leader and returns its answer; both are binary. It tells the leader that the request has
// passed one master already. The submission may be reused when Submit has returned.
func (m *Masters) Submit(ctx context.Context, url string, submission []byte) ([]byte, error) {
	header := nodeHeader(m.auth)
	header["Content-Type"] = exchange.TypeOctets
	header[wire.HeaderHops] = oneHop
	a, err := call(ctx, m.send, &exchange.Request{
		Method: http.MethodPost, Base: url, Path: wire.PathSubmissions, Header: header, Body: submission, Limit: exchange.MaxMedium,
	})
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

var oneHop = []string{"1"}

// ReadIndex asks the leader for its commit index, confirmed by a majority.
func (m *Masters) ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error) {
	return getJSON[wire.ReadIndex](ctx, m, url, wire.PathReadIndex, exchange.MaxSmall)
}

// Cluster asks the leader for the cluster as it sees it, liveness included.
func (m *Masters) Cluster(ctx context.Context, url string) (wire.Cluster, error) {
	return getJSON[wire.Cluster](ctx, m, url, wire.PathLeaderStatus, exchange.MaxMedium)
}

// Integrity asks the leader for the integrity of the storage nodes as it sees it.
func (m *Masters) Integrity(ctx context.Context, url string) (wire.Integrity, error) {
	return getJSON[wire.Integrity](ctx, m, url, wire.PathLeaderIntegrity, exchange.MaxMedium)
}

// Announce tells a master who this one is, and has it let in where it is new. The error wraps [wire.ErrRemoved] where the group has
// taken it out, [wire.ErrOtherGroup] where it is of another, and [wire.ErrTooFewMasters] where it cannot take the place of another now.
func (m *Masters) Announce(ctx context.Context, url string, member wire.Member) (wire.Announced, error) {
	a, err := m.postJSON(ctx, url, wire.PathMasters, member)
	if err != nil {
		return wire.Announced{}, err
	}
	return decoded[wire.Announced](a)
}

// State asks a master for the hash of its state.
func (m *Masters) State(ctx context.Context, url string) (wire.StateHash, error) {
	return getJSON[wire.StateHash](ctx, m, url, wire.PathState, exchange.MaxSmall)
}

// Suspect tells the leader of a storage node that answered wrong.
func (m *Masters) Suspect(ctx context.Context, url string, s wire.Suspicion) error {
	_, err := m.postJSON(ctx, url, wire.PathSuspects, s)
	return err
}

// Register registers a worker through a master, which need not be the leader. The error wraps [wire.ErrRemoved] where the
// cluster has taken the worker out, and is an [*wire.OtherStartError] where the masters have another start of it.
func (m *Masters) Register(ctx context.Context, url string, r wire.Registration) (wire.Registered, error) {
	a, err := m.postJSON(ctx, url, wire.PathWorkers, r)
	var e *wire.Error
	if errors.As(err, &e) && errors.Is(e, wire.ErrOtherStart) {
		var other wire.OtherStart
		if err := a.Decode(&other); err != nil {
			return wire.Registered{}, err
		}
		return wire.Registered{}, &wire.OtherStartError{Err: e, Start: other.Start}
	}
	if err != nil {
		return wire.Registered{}, err
	}
	return decoded[wire.Registered](a)
}

func getJSON[T any](ctx context.Context, m *Masters, url, path string, limit int) (T, error) {
	a, err := call(ctx, m.send, &exchange.Request{
		Method: http.MethodGet, Base: url, Path: path, Header: nodeHeader(m.auth), Limit: limit,
	})
	if err != nil {
		var none T
		return none, err
	}
	return decoded[T](a)
}

func (m *Masters) postJSON(ctx context.Context, url, path string, body any) (*exchange.Answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	header := nodeHeader(m.auth)
	header["Content-Type"] = exchange.TypeJSON
	if m.hops != nil {
		header[wire.HeaderHops] = m.hops
	}
	return call(ctx, m.send, &exchange.Request{
		Method: http.MethodPost, Base: url, Path: path, Header: header, Body: data, Limit: exchange.MaxSmall,
	})
}

// nodeHeader starts the header of a call between nodes.
func nodeHeader(auth []string) http.Header {
	header := make(http.Header, 8)
	if auth != nil {
		header["Authorization"] = auth
	}
	// An empty list is net/http's sign that a request may be repeated on another connection; it sends no such header.
	header[wire.HeaderIdempotencyKey] = []string{}
	return header
}

// call is an exchange whose answer must be good; a problem is an [*wire.Error].
func call(ctx context.Context, send exchange.Send, q *exchange.Request) (*exchange.Answer, error) {
	a, err := exchange.Do(ctx, send, q)
	if err != nil {
		return nil, err
	}
	return a, fenced(a, a.Problem())
}

// fenced is the problem, with the newest order that the worker has let in where it is a refusal that names one: a
// [*wire.FencedError].
func fenced(a *exchange.Answer, problem error) error {
	var f wire.Fenced
	if !errors.Is(problem, wire.ErrFenced) || json.Unmarshal(a.Body, &f) != nil || f.Epoch == nil {
		return problem
	}
	return &wire.FencedError{Highest: wire.Order{Epoch: *f.Epoch, Term: f.Term}, Err: problem}
}

func decoded[T any](a *exchange.Answer) (T, error) {
	var v T
	err := a.Decode(&v)
	return v, err
}
