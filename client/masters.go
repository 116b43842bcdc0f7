package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/chainstore/chainstore/wire"
)

const (
	// nodeDialTimeout bounds a connection's set-up between nodes, which stand near each other.
	nodeDialTimeout = 2 * time.Second
	// keptNodes is how many idle connections a node keeps to each other node.
	keptNodes = 64
)

// Masters are the calls of masters on each other, and of workers on masters, under the cluster token. Each goes to one
// URL, once, and lasts as long as its context lets it. It may be used by many goroutines at once.
//
// Every call may be repeated safely. So when a kept connection turns out to be closed the transport sends the call once more
// on another connection, unless it was in the middle of a large body; and that other one may be a kept one too: see
// [Masters.Fresh].
type Masters struct {
	auth      []string
	hops      []string // the header's value, nil where a call comes from who makes it
	transport *http.Transport
	fresh     *http.Transport
}

// NewMasters makes the calls of a node that has that cluster token.
func NewMasters(token string) *Masters {
	m := &Masters{
		auth:      bearer(token),
		transport: newTransport(nodeDialTimeout, keptNodes),
		fresh:     newTransport(nodeDialTimeout, 0),
	}
	m.fresh.DisableKeepAlives = true
	return m
}

// Fresh gives calls that each dial a connection of their own and close it afterwards: for the last try, when kept
// connections may be dead without having said so.
func (m *Masters) Fresh() *Masters {
	return &Masters{auth: m.auth, hops: m.hops, transport: m.fresh, fresh: m.fresh}
}

// Forwarding gives calls that say that they have passed one master already: whom they reach does not send them on.
func (m *Masters) Forwarding() *Masters {
	return &Masters{auth: m.auth, hops: oneHop, transport: m.transport, fresh: m.fresh}
}

// CloseIdle closes the connections that no call uses at the moment.
func (m *Masters) CloseIdle() {
	m.transport.CloseIdleConnections()
	m.fresh.CloseIdleConnections()
}

// Member asks a master who it is.
func (m *Masters) Member(ctx context.Context, url string) (wire.Member, error) {
	return getJSON[wire.Member](ctx, m, url, wire.PathMember, maxSmall)
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
	header["Content-Type"] = typeOctets
	header[wire.HeaderHops] = oneHop
	a, err := call(ctx, m.transport, &request{
		method: http.MethodPost, base: url, path: wire.PathSubmissions, header: header, body: submission, limit: maxMedium,
	})
	if err != nil {
		return nil, err
	}
	return a.body, nil
}

var oneHop = []string{"1"}

// ReadIndex asks the leader for its commit index, confirmed by a majority.
func (m *Masters) ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error) {
	return getJSON[wire.ReadIndex](ctx, m, url, wire.PathReadIndex, maxSmall)
}

// Cluster asks the leader for the cluster as it sees it, liveness included.
func (m *Masters) Cluster(ctx context.Context, url string) (wire.Cluster, error) {
	return getJSON[wire.Cluster](ctx, m, url, wire.PathLeaderStatus, maxMedium)
}

// Integrity asks the leader for the integrity of the storage nodes as it sees it.
func (m *Masters) Integrity(ctx context.Context, url string) (wire.Integrity, error) {
	return getJSON[wire.Integrity](ctx, m, url, wire.PathLeaderIntegrity, maxMedium)
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
	return getJSON[wire.StateHash](ctx, m, url, wire.PathState, maxSmall)
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
		if err := a.decode(&other); err != nil {
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
	a, err := call(ctx, m.transport, &request{
		method: http.MethodGet, base: url, path: path, header: nodeHeader(m.auth), limit: limit,
	})
	if err != nil {
		var none T
		return none, err
	}
	return decoded[T](a)
}

func (m *Masters) postJSON(ctx context.Context, url, path string, body any) (*answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	header := nodeHeader(m.auth)
	header["Content-Type"] = typeJSON
	if m.hops != nil {
		header[wire.HeaderHops] = m.hops
	}
	return call(ctx, m.transport, &request{
		method: http.MethodPost, base: url, path: path, header: header, body: data, limit: maxSmall,
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
func call(ctx context.Context, transport *http.Transport, q *request) (*answer, error) {
	a, err := exchange(ctx, transport.RoundTrip, q)
	if err != nil {
		return nil, err
	}
	if e := a.problem(); e != nil {
		return a, a.fenced(e)
	}
	return a, nil
}

// fenced is the problem, with the newest order that the worker has let in where it is a refusal that names one: a
// [*wire.FencedError].
func (a *answer) fenced(e *wire.Error) error {
	var f wire.Fenced
	if !errors.Is(e, wire.ErrFenced) || json.Unmarshal(a.body, &f) != nil || f.Epoch == nil {
		return e
	}
	return &wire.FencedError{Highest: wire.Order{Epoch: *f.Epoch, Term: f.Term}, Err: e}
}

func decoded[T any](a *answer) (T, error) {
	var v T
	err := a.decode(&v)
	return v, err
}
