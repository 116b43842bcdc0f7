package masternode

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// fencedBy is what a worker answers that has let in an order of another leader.
func fencedBy(epoch, term uint64) error {
	return &wire.FencedError{Highest: wire.Order{Epoch: epoch, Term: term}, Err: errors.New("order of a deposed " +
		"leader refused")}
}

// endedBy waits until a master has ended by itself.
func (r *rig) endedBy(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it goes on")
		return nil
	}
}

// A leader that meets one worker of a later epoch acknowledges nothing from then on, what is being committed
// included, and ends with a reason.
func TestLeaderMeetsALaterEpoch(t *testing.T) {
	for _, worker := range []string{"http://s2", "http://miner"} {
		synctest.Test(t, func(t *testing.T) {
			var met, slow atomic.Bool
			r := newRig(t, 3, func(_ *Config, r *rig) {
				r.workers.flaky = func(url string) error {
					if met.Load() && url == worker {
						return fencedBy(2, 0)
					}
					return nil
				}
				r.ledger.delay = func() time.Duration {
					if slow.Load() {
						return 5 * time.Second // so that the worker is met meanwhile
					}
					return 0
				}
			})
			if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("before")}}, ""); err != nil {
				t.Fatal(err)
			}
			slow.Store(true)
			under := make(chan error, 1)
			go func() {
				_, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("under way")}}, "")
				under <- err
			}()
			synctest.Wait()
			met.Store(true)
			err := r.endedBy(t)
			if !errors.Is(err, ErrLaterEpoch) || !strings.Contains(err.Error(), "epoch 2") ||
				!strings.Contains(err.Error(), strings.TrimPrefix(worker, "http://")) {
				t.Errorf("ended by %v", err)
			}
			if r.members.retired {
				t.Error("a worker's word has taken the master out for good")
			}
			if err := <-under; !errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("an append that was under way: %v", err)
			}
			if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("after")}}, ""); err == nil {
				t.Error("an append was acknowledged after that")
			}
			if _, err := r.Submit(t.Context(), nil); err == nil {
				t.Error("a submission was taken after that")
			}
		})
	}
}

// Another leader of the same epoch, and a worker that does not say of which it is, are no reason to end.
func TestLeaderMeetsALaterTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(_ *Config, r *rig) {
			r.workers.flaky = func(url string) error {
				switch url {
				case "http://s1":
					return fencedBy(1, 1<<40)
				case "http://s2":
					return errors.New("order of a deposed leader refused")
				}
				return nil
			}
		})
		defer r.stop()
		time.Sleep(10 * time.Second)
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
			t.Error(err)
		}
	})
}

// A new leader asks the storage nodes before it acknowledges anything, and waits for one that may have something to
// say; not for long.
func TestNewLeaderAsksBeforeItAcknowledges(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string]error         // by storage node
		late    map[string]time.Duration // by storage node, how long it takes to answer
		fenced  bool
		within  time.Duration // the first append is acknowledged, counted from the election
	}{
		"all are well": {nil, nil, false, 200 * time.Millisecond},
		"one is of a later epoch": {map[string]error{"http://s0": fencedBy(2, 0), "http://s1": errDown},
			map[string]time.Duration{"http://s2": time.Hour}, true, 0},
		"two hang": {nil, map[string]time.Duration{"http://s1": time.Hour,
			"http://s2": time.Hour}, false, fenceWait + 200*time.Millisecond},
		"two are down": {map[string]error{"http://s0": errDown, "http://s1": errDown}, nil, false,
			200 * time.Millisecond},
		"one hangs, most have let it in": {nil, map[string]time.Duration{"http://s2": time.Hour}, false,
			200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ill atomic.Bool
				r := newRig(t, 3, func(_ *Config, r *rig) {
					r.ledger.vacancy = func() time.Duration { return 0 }
					r.workers.flaky = func(url string) error {
						if ill.Load() {
							return c.answers[url]
						}
						return nil
					}
					r.workers.delay = func(url string) time.Duration {
						if ill.Load() {
							return max(time.Millisecond, c.late[url])
						}
						return time.Millisecond
					}
				})
				ill.Store(true)
				r.ledger.cutLeadership()
				began := time.Now()
				_, err := r.Append(context.WithoutCancel(t.Context()), r.project, []Entry{{Payload: []byte("x")}}, "")
				if !c.fenced {
					if took := time.Since(began); err != nil || took > c.within {
						t.Errorf("%v after %v", err, took)
					}
					r.stop()
					return
				}
				if err == nil {
					t.Error("it was acknowledged")
				}
				if err := r.endedBy(t); !errors.Is(err, ErrLaterEpoch) {
					t.Errorf("ended by %v", err)
				}
			})
		})
	}
}
