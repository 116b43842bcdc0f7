package masternode

import (
	"bytes"
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// hangingLeader does not reply, except with a commit index if confirms is set.
type hangingLeader struct {
	masterstest.Follower
	confirms bool
}

func (m hangingLeader) ReadIndex(ctx context.Context) (wire.ReadIndex, error) {
	if m.confirms {
		return wire.ReadIndex{Index: 1, Term: 1}, nil
	}
	<-ctx.Done()
	return wire.ReadIndex{}, context.Cause(ctx)
}

func (hangingLeader) LeaderCluster(ctx context.Context) (wire.Cluster, error) {
	<-ctx.Done()
	return wire.Cluster{}, context.Cause(ctx)
}

func (hangingLeader) Submit(ctx context.Context, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestNoGoroutineOutlivesRun checks that no goroutine of the master is left when Run has returned, whatever its callers
// were waiting for.
func TestNoGoroutineOutlivesRun(t *testing.T) {
	for name, confirms := range map[string]bool{"a leader that hangs": false, "a leader that confirms": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newProofRig(t, 300)
				workers := *r.workers
				workers.Delay = func(string) time.Duration { return time.Hour }
				cfg := r.cfg
				cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
				cfg.Ledger, cfg.Workers = masterstest.Following{Ledger: r.ledger}, &workers
				cfg.Masters = masterAt("http://m1", hangingLeader{confirms: confirms})
				cfg.Membership = masterstest.NewMembership()
				n, err := New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				var running, callers sync.WaitGroup
				running.Go(func() { _ = n.Run(ctx) })
				header, err := r.Block(t.Context(), 0)
				if err != nil {
					t.Fatal(err)
				}
				for call, f := range map[string]func(context.Context) error{
					"a header": func(ctx context.Context) error { _, err := n.prover.Header(ctx, 0); return err },
					"a record": func(ctx context.Context) error {
						_,
							err := n.prover.Record(ctx, header, 0)
						return err
					},
					"a tile":  func(ctx context.Context) error { _, err := n.prover.Tile(ctx, 0, 0, 256); return err },
					"entries": func(ctx context.Context) error { _, err := n.prover.Entries(ctx, 0, 256); return err },
					"an append": func(ctx context.Context) error {
						_, err := n.Append(ctx, r.project, []Entry{{Payload: []byte("x")}}, "")
						return err
					},
					"an unknown hash": func(ctx context.Context) error {
						_,
							err := n.FindHash(ctx, header.Prev)
						return err
					},
					"the log":      func(ctx context.Context) error { _, err := n.Log(ctx); return err },
					"a checkpoint": func(ctx context.Context) error { _, err := n.Checkpoint(ctx); return err },
				} {
					callers.Go(func() {
						if err := f(t.Context()); err == nil && call != "the log" && call != "a checkpoint" {
							t.Errorf("%s: no error", call)
						}
					})
					callers.Go(func() { // a caller that gives up
						short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						defer cancel()
						_ = f(short)
					})
				}
				time.Sleep(10 * time.Millisecond)
				r.stop()
				stop()
				running.Wait()
				synctest.Wait()
				if left := goroutines(); len(left) > 0 {
					t.Errorf("left running:\n%s", left)
				}
				callers.Wait()
			})
		})
	}
}

// goroutines returns the stacks of all goroutines in this package and its subpackages, except those that run a test and
// its callers.
func goroutines() []byte {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []byte
	for _, s := range bytes.Split(stacks, []byte("\n\n")) {
		if bytes.Contains(s, []byte("chainstore/masternode")) && !bytes.Contains(s, []byte("masternode.Test")) {
			left = append(append(left, s...), "\n\n"...)
		}
	}
	return left
}
