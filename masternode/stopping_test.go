package masternode

import (
	"context"
	"errors"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

type readRequest func(context.Context, *Node) (any, error)

// reads are requests for what exists, and requests for what does not. access may read the records, size is the size of
// the tree, and leaf the hash of a record's leaf.
func reads(access masterfsm.Access, header chain.Header, size uint64, leaf chain.Hash) map[string]readRequest {
	return map[string]readRequest{
		"a header":       func(ctx context.Context, n *Node) (any, error) { return n.Block(ctx, 0) },
		"an open header": func(ctx context.Context, n *Node) (any, error) { return n.PublishedBlock(ctx, 0) },
		"no open header": func(ctx context.Context, n *Node) (any, error) { return n.PublishedBlock(ctx, 1000) },
		"a page":         func(ctx context.Context, n *Node) (any, error) { return n.Blocks(ctx, math.MaxUint64, 2) },
		"a record":       func(ctx context.Context, n *Node) (any, error) { return n.Record(ctx, access, 0, 3) },
		"a leaf index":   func(ctx context.Context, n *Node) (any, error) { return n.RecordByIndex(ctx, access, 3) },
		"a tile":         func(ctx context.Context, n *Node) (any, error) { return n.Tile(ctx, 0, 0, 256) },
		"part of a tile": func(ctx context.Context, n *Node) (any, error) { return n.Tile(ctx, 0, 1, 3) },
		"entries":        func(ctx context.Context, n *Node) (any, error) { return n.Entries(ctx, 0, 256) },
		"consistency":    func(ctx context.Context, n *Node) (any, error) { return n.Consistency(ctx, 1, &size) },
		"a hash":         func(ctx context.Context, n *Node) (any, error) { return n.FindHash(ctx, leaf) },
		"a checkpoint":   func(ctx context.Context, n *Node) (any, error) { return n.Checkpoint(ctx) },
		"a proof": func(ctx context.Context, n *Node) (any, error) {
			r, err := n.Record(ctx, access, 0, 3)
			if err != nil {
				return nil, err
			}
			return n.Prove(ctx, r)
		},
		"a stored header": func(ctx context.Context, n *Node) (any, error) { return n.prover.Header(ctx, 1) },
		"a stored record": func(ctx context.Context, n *Node) (any, error) { return n.prover.Record(ctx, header, 0) },
		"a stored tile":   func(ctx context.Context, n *Node) (any, error) { return n.prover.Tile(ctx, 0, 0, 256) },
		"stored entries":  func(ctx context.Context, n *Node) (any, error) { return n.prover.Entries(ctx, 0, 256) },
		"a stored proof":  func(ctx context.Context, n *Node) (any, error) { return n.prover.Inclusion(ctx, 3, size) },

		"no header":      func(ctx context.Context, n *Node) (any, error) { return n.Block(ctx, 1000) },
		"no record":      func(ctx context.Context, n *Node) (any, error) { return n.Record(ctx, access, 1000, 0) },
		"no leaf index":  func(ctx context.Context, n *Node) (any, error) { return n.RecordByIndex(ctx, access, 1000) },
		"no tile":        func(ctx context.Context, n *Node) (any, error) { return n.Tile(ctx, 0, 1000, 1) },
		"no entries":     func(ctx context.Context, n *Node) (any, error) { return n.Entries(ctx, 1000, 1) },
		"no consistency": func(ctx context.Context, n *Node) (any, error) { return n.Consistency(ctx, 1000, nil) },
		"no hash":        func(ctx context.Context, n *Node) (any, error) { return n.FindHash(ctx, header.Prev) },
	}
}

// readAnswers are requests and the answers of a healthy leader to them, by name. There is no answer to a request for
// what does not exist.
type readAnswers struct {
	requests map[string]readRequest
	answers  map[string]any
}

func newReadAnswers(t *testing.T, r *rig) readAnswers {
	t.Helper()
	header, err := r.Block(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.Record(t.Context(), r.access, 0, 3)
	if err != nil {
		t.Fatal(err)
	}
	at, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := readAnswers{reads(r.access, header, at.Boundary.Size, found.Leaf), map[string]any{}}
	for name, request := range a.requests {
		answer, err := request(t.Context(), r.Node)
		switch {
		case err == nil:
			a.answers[name] = answer
		case !errors.Is(err, wire.ErrNotFound):
			t.Fatalf("%s: %v", name, err)
		}
	}
	return a
}

// all makes all requests at once on a master, and checks that each gets the leader's answer or an error that a client
// may retry. With confirmed the leader answers the master, so "not found" is right for what does not exist. It returns
// the number of requests that were answered.
func (a *readAnswers) all(t *testing.T, when string, n *Node, confirmed bool) (answered int) {
	t.Helper()
	var mu sync.Mutex
	var callers sync.WaitGroup
	for name, request := range a.requests {
		callers.Go(func() {
			got, err := request(t.Context(), n)
			want, exists := a.answers[name]
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				answered++
			}
			if err == nil && (!exists || !reflect.DeepEqual(got, want)) {
				t.Errorf("%s, %s: %+v, want %+v", when, name, got, want)
			}
			if err != nil && !mayRetry(err) && (!confirmed || exists || !errors.Is(err, wire.ErrNotFound)) {
				t.Errorf("%s, %s: %v, which is not an error to retry", when, name, err)
			}
		})
	}
	callers.Wait()
	return answered
}

// mayRetry reports whether the API answers an error as a problem that a client may retry.
func mayRetry(err error) bool {
	if p := wire.ProblemOf(err); p != nil {
		return p.Retry
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// TestReadsOfAStoppingMaster checks that reads that wait while a master stops, and reads after that, end with an error
// that a client may retry or with the right answer. They never report that something does not exist.
func TestReadsOfAStoppingMaster(t *testing.T) {
	for name, warm := range map[string]bool{"nothing read before": false, "everything read before": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newProofRig(t, 300)
				defer r.stop()
				a := newReadAnswers(t, r)
				workers := *r.workers
				var hang atomic.Bool
				workers.Delay = func(string) time.Duration {
					if hang.Load() {
						return time.Hour
					}
					return time.Millisecond
				}
				leader := masterAt("http://m1", r.Node)
				cfg := r.cfg
				cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
				cfg.Ledger, cfg.Workers, cfg.Masters = masterstest.Following{Ledger: r.ledger}, &workers, leader
				cfg.Membership = masterstest.NewMembership()
				n, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var running, waiting sync.WaitGroup
				running.Go(func() { _ = n.Run(ctx) })
				if warm {
					if answered := a.all(t, "before", n, true); answered != len(a.answers) {
						t.Errorf("%d of %d requests were answered before", answered, len(a.answers))
					}
				}
				synctest.Wait()
				hang.Store(true)
				leader.Set("http://m1", hangingLeader{})
				waiting.Go(func() { a.all(t, "during the stop", n, false) })
				time.Sleep(10 * time.Millisecond)
				began := time.Now()
				cancel()
				running.Wait()
				if took := time.Since(began); took > time.Second {
					t.Errorf("it stopped after %v", took)
				}
				waiting.Wait()
				a.all(t, "after the stop", n, false)
				hang.Store(false)
				leader.Set("http://m1", r.Node)
				a.all(t, "after the stop, when the others answer", n, true)
			})
		})
	}
}

// TestReadsOfADeposedMaster checks that a master that lost the leadership, and knows no other leader, reports only what
// does not change.
func TestReadsOfADeposedMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProofRig(t, 300)
		defer r.stop()
		a := newReadAnswers(t, r)
		confirming := make(chan struct{})
		r.ledger.Mu.Lock()
		r.ledger.SetConfirm(func() error { // it leads while the requests begin, and no longer when they are confirmed
			<-confirming
			return nil
		})
		r.ledger.Vacancy = func() time.Duration { return time.Hour }
		r.ledger.Mu.Unlock()
		var waiting sync.WaitGroup
		waiting.Go(func() { a.all(t, "during the change", r.Node, false) })
		synctest.Wait()
		r.ledger.CutLeadership()
		close(confirming)
		waiting.Wait()
		answered := a.all(t, "afterwards", r.Node, false)
		if want := len(a.answers) - 1; answered != want { // another master may show a newer checkpoint
			t.Errorf("%d requests were answered, want %d", answered, want)
		}
	})
}
