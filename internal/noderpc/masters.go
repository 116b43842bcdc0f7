package noderpc

import (
	"context"
	"net/http"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// Masters are the calls between masters, from workers to masters, and of a recovery. Each goes to one URL,
// once, and lasts as long as its context. It may be used by many goroutines at once.
//
// Every call may be repeated safely. So when a kept connection turns out to be closed, the transport repeats the call
// on another connection, unless it had sent part of a large body.
//
// A forwarded call is marked as one that a master received from another node. The receiver does not forward it again.
type Masters struct {
	auth      nodeauth.Credential
	transport *Transport
	caller    func() wire.Caller // nil for a worker and a tool
	sign      func(message []byte) string
}

// NewMasters returns the calls of a node with that credential.
func NewMasters(t *Transport, auth nodeauth.Credential) *Masters {
	return &Masters{auth: auth, transport: t}
}

// From makes calls of a leader, and forwarded calls, name the caller, as the leader's group requires of masters. It
// must be set before the first call.
func (m *Masters) From(caller func() wire.Caller) { m.caller = caller }

// Sign makes forwarded calls have the signature of this master. It must be set before the first call.
func (m *Masters) Sign(sign func(message []byte) string) { m.sign = sign }

// CloseIdle closes the idle connections of the transport.
func (m *Masters) CloseIdle() { m.transport.CloseIdle() }

// Member asks a master for its identity.
func (m *Masters) Member(ctx context.Context, url string) (wire.Member, error) {
	t, way := m.at(url, false).watched()
	member, err := decode[wire.Member](t.get(ctx, wire.PathMember, exchange.MaxSmall))
	way.check(member.TLS, member.Certificate)
	return member, err
}

// Adopt makes a new master part of a group.
func (m *Masters) Adopt(ctx context.Context, url string, adoption wire.Adoption) error {
	_, err := m.at(url, false).post(ctx, wire.PathAdopt, adoption, exchange.MaxSmall)
	return err
}

// Submit sends a submission to the leader, as a forwarded call, and returns its answer; both are binary. The caller may
// reuse the submission when Submit has returned. With fresh the call uses a connection of its own: kept connections may
// be dead and not yet closed.
func (m *Masters) Submit(ctx context.Context, url string, submission []byte, fresh bool) ([]byte, error) {
	leader := m.leader(url, true)
	if fresh {
		leader.send = m.transport.freshAs(m.auth)
	}
	a, err := leader.octets(ctx, http.MethodPost, wire.PathSubmissions, submission, exchange.MaxMedium)
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}

// ReadIndex asks the leader for its commit index, confirmed by a majority.
func (m *Masters) ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error) {
	return decode[wire.ReadIndex](m.leader(url, false).get(ctx, wire.PathReadIndex, exchange.MaxSmall))
}

// TLS asks a master for the step of TLS that the table of its leader has. Only the leader answers a forwarded call.
func (m *Masters) TLS(ctx context.Context, url string, forwarded bool) (wire.CommittedTLS, error) {
	return decode[wire.CommittedTLS](m.at(url, forwarded).get(ctx, wire.PathTLS, exchange.MaxSmall))
}

// ProbeTLS makes a master try TLS with other nodes.
func (m *Masters) ProbeTLS(ctx context.Context, url string, p wire.TLSProbe) (wire.TLSProbed, error) {
	return decode[wire.TLSProbed](m.leader(url, false).post(ctx, wire.PathTLS, p, exchange.MaxMedium))
}

// Cluster asks the leader for its view of the cluster, including liveness.
func (m *Masters) Cluster(ctx context.Context, url string) (wire.Cluster, error) {
	return decode[wire.Cluster](m.leader(url, false).get(ctx, wire.PathLeaderStatus, exchange.MaxMedium))
}

// Integrity asks the leader for its view of the storage nodes' integrity.
func (m *Masters) Integrity(ctx context.Context, url string) (wire.Integrity, error) {
	return decode[wire.Integrity](m.leader(url, false).get(ctx, wire.PathLeaderIntegrity, exchange.MaxMedium))
}

// Announce announces a master to another one, which lets it join if it is new. The error wraps [wire.ErrRemoved] if the
// group has removed the announced master, [wire.ErrOtherGroup] if it belongs to another group, and
// [wire.ErrTooFewMasters] if it cannot replace another master now.
func (m *Masters) Announce(
	ctx context.Context, url string, member wire.Member, forwarded bool,
) (wire.Announced, error) {
	return decode[wire.Announced](m.at(url, forwarded).post(ctx, wire.PathMasters, member, exchange.MaxSmall))
}

// State asks a master for the hash of its state.
func (m *Masters) State(ctx context.Context, url string) (wire.StateHash, error) {
	return decode[wire.StateHash](m.at(url, false).get(ctx, wire.PathState, exchange.MaxSmall))
}

// Profile takes a profile of a master's process.
func (m *Masters) Profile(ctx context.Context, url string, q wire.ProfileRequest) ([]byte, error) {
	return profileOf(m.at(url, false).post(ctx, wire.PathProfile, q, exchange.MaxMedium))
}

// Suspect reports a storage node that gave a wrong answer to the leader.
func (m *Masters) Suspect(ctx context.Context, url string, s wire.Suspicion) error {
	_, err := m.leader(url, false).post(ctx, wire.PathSuspects, s, exchange.MaxSmall)
	return err
}

// Register registers a worker through a master, which need not be the leader unless the call is forwarded. The error
// wraps [wire.ErrRemoved] if the cluster has removed the worker, and is a [*wire.OtherStartError] if another start of
// the worker is registered.
func (m *Masters) Register(
	ctx context.Context, url string, r wire.Registration, forwarded bool,
) (wire.Registered, error) {
	t := m.at(url, forwarded)
	send, proven := t.send, false
	t.send = func(r *http.Request) (*http.Response, error) {
		resp, err := send(r)
		// The answer to a request with a proof is read only if it has one.
		proven = err == nil && resp.Request != nil && resp.Request.Header.Get(wire.HeaderAuth) != ""
		return resp, err
	}
	answer, err := decode[wire.Registered](t.post(ctx, wire.PathWorkers, r, exchange.MaxSmall))
	if !proven {
		answer.Level, answer.TLS = 0, wire.TLSState{} // anything in the path may have set them
	}
	return answer, err
}

// ReportFailedSync reports a failed sync of a node's data folder through a master, which need not be the leader unless
// the call is forwarded.
func (m *Masters) ReportFailedSync(ctx context.Context, url string, f wire.FailedSync, forwarded bool) error {
	_, err := m.at(url, forwarded).post(ctx, wire.PathFailedSyncs, f, exchange.MaxSmall)
	return err
}

// at returns the target of a call to a node. Only the leader answers a forwarded one.
func (m *Masters) at(url string, forwarded bool) target {
	if forwarded {
		return m.leader(url, true)
	}
	return newTarget(m.transport, url, m.auth)
}

// leader returns the target of a call that only the leader of the caller's group may answer.
func (m *Masters) leader(url string, forwarded bool) target {
	t := newTarget(m.transport, url, m.auth)
	if forwarded {
		t.header[wire.HeaderHops] = oneHop
		t.sign = m.sign
	}
	if m.caller != nil {
		t.header[wire.HeaderCaller] = []string{m.caller().String()}
	}
	return t
}

var oneHop = []string{"1"}
