package masternode

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// administration lists the operations that can report that a node does not exist.
var administration = map[string]func(t *testing.T, r *rig, id string) error{
	"check a storage node": func(t *testing.T, r *rig, id string) error {
		_,
			err := r.CheckStorage(t.Context(), id)
		return err
	},
	"remove a storage node": func(t *testing.T, r *rig,
		id string) error {
		return r.RemoveStorage(t.Context(), id, true)
	},
	"suspect a storage node": func(t *testing.T, r *rig, id string) error {
		return r.Suspect(t.Context(), wire.Suspicion{ID: id, Cause: "x"})
	},
	"remove a master": func(t *testing.T, r *rig, id string) error { return r.RemoveMaster(t.Context(), id, true) },
	"hand over to a master": func(t *testing.T, r *rig, id string) error {
		_, err := r.TransferLeadership(t.Context(), id)
		return err
	},
}

// TestNotFoundIsConfirmed checks that a leader that cannot confirm its leadership, because it was stopped or is cut
// off, does not report that a node does not exist.
func TestNotFoundIsConfirmed(t *testing.T) {
	for name, act := range administration {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newGroup(t)
				defer r.stop()
				if err := act(t, r, "nobody"); !errors.Is(err, wire.ErrNotFound) {
					t.Errorf("confirmed: %v", err)
				}
				r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
				if err := act(t, r, "nobody"); !errors.Is(err, wire.ErrNoLeader) || errors.Is(err, wire.ErrNotFound) {
					t.Errorf("not confirmed: %v", err)
				}
			})
		})
	}
}

// TestFoundWhileConfirming checks that a leader whose state catches up during the confirmation finds the node.
func TestFoundWhileConfirming(t *testing.T) {
	for name, act := range administration {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := newGroup(t)
				defer r.stop()
				r.ledger.SetConfirm(func() error {
					r.ledger.SetConfirm(func() error { return nil })
					r.registerWorker(t, masterfsm.RoleStorage, "http://late")
					if _, err := r.leader.Propose(t.Context(),
						&masterfsm.AdmitMaster{ID: "m9", URL: "http://late", Raft: "m9:1",
							Key: keyOf("m9").Public(), Start: 1, Founder: true, Time: r.leader.Now()}); err != nil {
						t.Error(err)
					}
					return nil
				})
				err := act(t, r, "http://late")
				if errors.Is(err, masterfsm.ErrUnknownNode) {
					return // it was found, but the state machine rejected the operation
				}
				if errors.Is(err, wire.ErrNotFound) || errors.Is(err, wire.ErrNoLeader) {
					t.Error(err)
				}
			})
		})
	}
}

// TestSilenceClosesTokens checks that a master that has had no contact with a leader for 5 s serves no reads that need
// a token, because it may have missed a revocation.
func TestSilenceClosesTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "q"})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			silence time.Duration
			want    error
		}{{0, nil}, {maxSilence, nil}, {maxSilence + 1, wire.ErrNoLeader}, {time.Hour, wire.ErrNoLeader},
			{maxSilence - 1, nil}} {
			r.ledger.Silence = func() time.Duration { return c.silence }
			if _, err := r.Access(t.Context(), created.Token, mayAsk); !errors.Is(err, c.want) {
				t.Errorf("after %v: %v, want %v", c.silence, err, c.want)
			}
			if _, err := r.Access(t.Context(), "no token", mayAsk); c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("a token that is not known, after %v: %v", c.silence, err)
			}
		}
	})
}

// TestConfirmIsShared checks that callers that arrive during a confirmation share the next one. A caller must not use a
// confirmation that began before it arrived.
func TestConfirmIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		asked := 0
		r.ledger.SetConfirm(func() error {
			asked++
			time.Sleep(time.Second)
			return nil
		})
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				began := time.Now()
				if err := r.confirm(t.Context()); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took < time.Second || took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := r.confirm(ctx); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("who does not wait: %v", err)
		}
		callers.Wait()
		if asked != 2 {
			t.Errorf("the leader was asked %d times", asked)
		}
		// A caller that gives up while it waits for the previous round returns at once, and does not affect others.
		callers.Go(func() {
			if err := r.confirm(t.Context()); err != nil {
				t.Errorf("the round before: %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if err := r.confirm(ctx); !errors.Is(err, wire.ErrNoLeader) || time.Since(began) > time.Millisecond {
				t.Errorf("who begins a round and goes away: %v after %v", err, time.Since(began))
			}
		})
		synctest.Wait()
		callers.Go(func() {
			if err := r.confirm(t.Context()); err != nil {
				t.Errorf("who is left in that round: %v", err)
			}
		})
		callers.Wait()
		if asked != 4 {
			t.Errorf("the leader was asked %d times", asked)
		}
		r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
		if err := r.confirm(t.Context()); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("nobody leads: %v", err)
		}
		r.ledger.SetConfirm(func() error { return nil })
		if err := r.confirm(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}
