package masterstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// Master is what a master answers to other masters. A *masternode.Node is one.
type Master interface {
	Member() wire.Member
	Announce(ctx context.Context, m wire.Member, forwarded bool) (wire.Announced, error)
	Submit(ctx context.Context, submission []byte) ([]byte, error)
	ReadIndex(ctx context.Context) (wire.ReadIndex, error)
	LeaderCluster(ctx context.Context) (wire.Cluster, error)
	LeaderIntegrity(ctx context.Context) (wire.Integrity, error)
	Suspect(ctx context.Context, s wire.Suspicion) error
	Register(ctx context.Context, r wire.Registration, forwarded bool) (wire.Registered, error)
	ReportFailedSync(ctx context.Context, f wire.FailedSync, forwarded bool) error
}

// Follower is a master that does not lead and forwards nothing. A test embeds it in a master that answers some calls.
type Follower struct{ Self wire.Member }

func (f Follower) Member() wire.Member { return f.Self }

func (Follower) Announce(context.Context, wire.Member, bool) (wire.Announced, error) {
	return wire.Announced{}, wire.ErrNotLeader
}

func (Follower) Submit(context.Context, []byte) ([]byte, error) { return nil, wire.ErrNotLeader }

func (Follower) ReadIndex(context.Context) (wire.ReadIndex, error) {
	return wire.ReadIndex{}, wire.ErrNotLeader
}

func (Follower) LeaderCluster(context.Context) (wire.Cluster, error) {
	return wire.Cluster{}, wire.ErrNotLeader
}

func (Follower) LeaderIntegrity(context.Context) (wire.Integrity, error) {
	return wire.Integrity{}, wire.ErrNotLeader
}

func (Follower) Suspect(context.Context, wire.Suspicion) error { return wire.ErrNotLeader }

func (Follower) Register(context.Context, wire.Registration, bool) (wire.Registered, error) {
	return wire.Registered{}, wire.ErrNotLeader
}

func (Follower) ReportFailedSync(context.Context, wire.FailedSync, bool) error {
	return wire.ErrNotLeader
}

// ErrNoMaster is the error of a call to a URL at which there is no master.
var ErrNoMaster = fmt.Errorf("%w: no such master", wire.ErrNoAnswer)

// Masters are the masters that a master can call, by URL. Arguments and answers are copied as they are on the wire, and
// the error of a master becomes the problem that its API answers with. Its methods may be called by many goroutines.
type Masters struct {
	// Network makes a call to a URL; nil makes it at once. It may lose the call or its answer, and returns the error of
	// the call unchanged.
	Network func(ctx context.Context, url string, call func() error) error

	mu sync.Mutex // guards at
	at map[string]Master
}

// NewMasters returns a network with no master.
func NewMasters() *Masters { return &Masters{at: map[string]Master{}} }

// Set puts a master at a URL. nil removes the one that is there.
func (m *Masters) Set(url string, master Master) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if master == nil {
		delete(m.at, url)
		return
	}
	m.at[url] = master
}

// masterAt returns the master at a URL, nil if there is none.
func (m *Masters) masterAt(url string) Master {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at[url]
}

// ask makes a call to the master at a URL. The answer is a copy.
func ask[T any](ctx context.Context, m *Masters, url string, call func(Master) (T, error)) (answer T, _ error) {
	attempt := func() error {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", wire.ErrNoAnswer, context.Cause(ctx))
		}
		master := m.masterAt(url)
		if master == nil {
			return ErrNoMaster
		}
		given, err := call(master)
		switch {
		case err == nil:
			answer, err = copied(given)
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", wire.ErrNoAnswer, context.Cause(ctx))
		default:
			return asAnswered(url, err)
		}
	}
	err := error(nil)
	if m.Network == nil {
		err = attempt()
	} else {
		err = m.Network(ctx, url, attempt)
	}
	if err != nil {
		var none T
		return none, err
	}
	return answer, nil
}

// copied returns a value as it is after it was sent as JSON.
func copied[T any](v T) (sent T, _ error) {
	data, err := json.Marshal(v)
	if err != nil {
		return sent, err
	}
	return sent, json.Unmarshal(data, &sent)
}

// asAnswered returns what the caller learns of an error of the master at a URL: the problem with which the API of the
// master answers, and its data.
func asAnswered(url string, err error) error {
	t := wire.ProblemOf(err)
	switch {
	case t != nil:
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		t = wire.ErrUnavailable
	default:
		t = wire.ErrInternal
		if answer, ok := errors.AsType[*wire.Error](err); ok && answer.Problem.Status/100 == 4 {
			t = answer.Type()
		}
	}
	answered := &wire.Error{URL: url, Problem: t.Problem(err)}
	if t.Retry {
		answered.RetryAfter = time.Second
	}
	if other, ok := errors.AsType[*wire.OtherStartError](err); ok {
		return &wire.OtherStartError{Start: other.Start, Err: answered}
	}
	if removed, ok := errors.AsType[*wire.RemovedError](err); ok {
		signed := *removed
		signed.Err = answered
		return &signed
	}
	return answered
}

func (m *Masters) Member(ctx context.Context, url string) (wire.Member, error) {
	return ask(ctx, m, url, func(at Master) (wire.Member, error) {
		if node, ok := at.(interface{ Itself() wire.Member }); ok {
			return node.Itself(), nil
		}
		return at.Member(), nil
	})
}

func (m *Masters) Announce(
	ctx context.Context, url string, member wire.Member, forwarded bool,
) (wire.Announced, error) {
	return ask(ctx, m, url, func(at Master) (wire.Announced, error) { return at.Announce(ctx, member, forwarded) })
}

func (m *Masters) Submit(ctx context.Context, url string, submission []byte, _ bool) ([]byte, error) {
	return ask(ctx, m, url, func(at Master) ([]byte, error) { return at.Submit(ctx, bytes.Clone(submission)) })
}

func (m *Masters) ReadIndex(ctx context.Context, url string) (wire.ReadIndex, error) {
	return ask(ctx, m, url, func(at Master) (wire.ReadIndex, error) { return at.ReadIndex(ctx) })
}

func (m *Masters) Cluster(ctx context.Context, url string) (wire.Cluster, error) {
	return ask(ctx, m, url, func(at Master) (wire.Cluster, error) { return at.LeaderCluster(ctx) })
}

func (m *Masters) Integrity(ctx context.Context, url string) (wire.Integrity, error) {
	return ask(ctx, m, url, func(at Master) (wire.Integrity, error) { return at.LeaderIntegrity(ctx) })
}

func (m *Masters) Suspect(ctx context.Context, url string, s wire.Suspicion) error {
	_, err := ask(ctx, m, url, func(at Master) (struct{}, error) { return struct{}{}, at.Suspect(ctx, s) })
	return err
}

func (m *Masters) Register(
	ctx context.Context, url string, r wire.Registration, forwarded bool,
) (wire.Registered, error) {
	return ask(ctx, m, url, func(at Master) (wire.Registered, error) { return at.Register(ctx, r, forwarded) })
}

func (m *Masters) ReportFailedSync(ctx context.Context, url string, f wire.FailedSync, forwarded bool) error {
	_, err := ask(ctx, m, url, func(at Master) (struct{}, error) {
		return struct{}{}, at.ReportFailedSync(ctx, f, forwarded)
	})
	return err
}
