package masternode

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// fencedBy returns the error of a worker that has accepted an order of another leader.
func fencedBy(epoch, term uint64) error {
	return &wire.FencedError{Highest: wire.Order{Epoch: epoch, Term: term}, Err: errors.New("order of a deposed " +
		"leader refused")}
}

// endedBy waits until a master has exited by itself.
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

// answers holds the responses of workers by URL; a nil map means that all succeed.
type answers struct {
	atomic.Pointer[map[string]error]
}

func (a *answers) set(m map[string]error) { a.Store(&m) }

func (a *answers) flaky(url string) error {
	if m := a.Load(); m != nil {
		return (*m)[url]
	}
	return nil
}

// append appends one record with a timeout.
func (r *rig) append(t *testing.T, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, err := r.Append(ctx, r.project, []Entry{{Payload: []byte("x")}}, "")
	return err
}

// term returns the current term of the ledger.
func (r *rig) term() uint64 {
	r.ledger.Mu.RLock()
	defer r.ledger.Mu.RUnlock()
	return r.ledger.Term
}

// laterEpoch returns the notice about a worker with a later epoch, if there is one.
func (r *rig) laterEpoch() wire.Message {
	if m := r.notice(wire.CodeLaterEpoch); !m.IsZero() {
		return m
	}
	return r.notice(wire.CodeLaterEpochSuspended)
}

// TestLeaderMeetsALaterEpoch checks that the leader exits with a reason once most storage nodes report a later epoch.
// From the first such response on it acknowledges nothing, including records whose commit is in progress.
func TestLeaderMeetsALaterEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said answers
		var slow atomic.Bool
		r := newRig(t, 3, func(_ *Config, r *rig) {
			r.workers.Flaky = said.flaky
			r.ledger.Delay = func() time.Duration {
				if slow.Load() {
					return 5 * time.Second // so that the workers are contacted meanwhile
				}
				return 0
			}
		})
		if err := r.append(t, time.Minute); err != nil {
			t.Fatal(err)
		}
		slow.Store(true)
		under := make(chan error, 1)
		go func() {
			_, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("under way")}}, "")
			under <- err
		}()
		synctest.Wait()
		said.set(map[string]error{"http://s1": fencedBy(2, 0), "http://s2": fencedBy(2, 0)})
		err := r.endedBy(t)
		if !errors.Is(err, leader.ErrLaterEpoch) || !strings.Contains(err.Error(), "s1 at epoch 2, s2 at epoch 2") {
			t.Errorf("ended by %v", err)
		}
		if r.members.Retired {
			t.Error("the workers' word has taken the master out for good")
		}
		if err := <-under; !errors.Is(err, wire.ErrUnknownOutcome) {
			t.Errorf("an append that was under way: %v", err)
		}
		if err := r.append(t, time.Minute); err == nil {
			t.Error("an append was acknowledged after that")
		}
		if _, err := r.Submit(t.Context(), nil); err == nil {
			t.Error("a submission was taken after that")
		}
	})
}

// TestOneWorkerOfALaterEpoch checks that a single worker stops no master, whatever and whenever it responds. Appends
// continue, and a notice names the worker until it is removed or responds normally.
func TestOneWorkerOfALaterEpoch(t *testing.T) {
	for name, c := range map[string]struct {
		storages int
		worker   string
	}{
		"one of three": {3, "http://s2"}, "one of two": {2, "http://s1"},
		"a miner": {3, "http://miner"}, "a miner, no storage node": {0, "http://miner"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var said answers
				r := newRig(t, c.storages, func(_ *Config, r *rig) { r.workers.Flaky = said.flaky })
				defer r.stop()
				if err := r.append(t, time.Second); err != nil {
					t.Fatal(err)
				}
				said.set(map[string]error{c.worker: fencedBy(1<<64-1, 0)})
				goesOn := func(when string) {
					t.Helper()
					time.Sleep(1500 * time.Millisecond) // a ping, and the responses of the others
					for range 100 {
						if err := r.append(t, 50*time.Millisecond); err != nil {
							t.Fatalf("%s: %v", when, err)
						}
						time.Sleep(100 * time.Millisecond)
					}
					if got := r.laterEpoch(); got.Code != wire.CodeLaterEpoch ||
						got.Args["node"] != strings.TrimPrefix(c.worker, "http://") {
						t.Errorf("%s: the notice is %+v", when, got)
					}
					if err := r.Ready(); err != nil {
						t.Errorf("%s: %v", when, err)
					}
				}
				goesOn("in a term")
				r.ledger.CutLeadership()
				goesOn("in the next term")
				said.set(nil)
				time.Sleep(acceptedFor + 5*time.Second)
				if got := r.laterEpoch(); !got.IsZero() {
					t.Errorf("it is well again, and the notice is %+v", got)
				}
				said.set(map[string]error{c.worker: fencedBy(7, 0)})
				goesOn("again")
				id := strings.TrimPrefix(c.worker, "http://")
				if c.worker != "http://miner" {
					if err := r.RemoveStorage(t.Context(), id, true); err != nil {
						t.Fatal(err)
					}
					time.Sleep(3 * time.Second)
					if got := r.laterEpoch(); !got.IsZero() {
						t.Errorf("it is removed, and the notice is %+v", got)
					}
				}
			})
		})
	}
}

// TestFirstLaterEpochSuspends checks that after the first response with a later epoch nothing is acknowledged until
// other storage nodes have accepted an order that was sent after it.
func TestFirstLaterEpochSuspends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ill atomic.Bool
		var met atomic.Pointer[time.Time]
		const late = 800 * time.Millisecond
		r := newRig(t, 3, func(_ *Config, r *rig) {
			r.workers.Flaky = func(url string) error {
				if ill.Load() && url == "http://s2" {
					now := time.Now()
					met.CompareAndSwap(nil, &now)
					return fencedBy(2, 0)
				}
				return nil
			}
			r.workers.Delay = func(url string) time.Duration {
				if ill.Load() && url != "http://s2" {
					return late
				}
				return time.Millisecond
			}
		})
		defer r.stop()
		ill.Store(true)
		var first time.Duration // from the response to the first acknowledgement after it
		for first == 0 {
			if err := r.append(t, 10*time.Second); err != nil {
				t.Fatal(err)
			}
			if m := met.Load(); m != nil && time.Now().After(*m) {
				first = time.Since(*m)
			}
			time.Sleep(time.Millisecond)
		}
		if first < late || first > late+200*time.Millisecond {
			t.Errorf("acknowledged %v after the answer", first)
		}
	})
}

// TestLaterEpochUndecided checks that the leader neither acknowledges anything nor exits, in this term and the next,
// while too few storage nodes reply to decide whether the group was recovered. It continues when they return.
func TestLaterEpochUndecided(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said answers
		r := newRig(t, 3, func(_ *Config, r *rig) { r.workers.Flaky = said.flaky })
		defer r.stop()
		undecided := map[string]error{"http://s0": masterstest.ErrDown, "http://s1": fencedBy(2, 0),
			"http://s2": masterstest.ErrDown}
		for _, when := range []string{"in its term", "in the next term"} {
			said.set(undecided)
			if when == "in the next term" {
				r.ledger.CutLeadership()
			}
			time.Sleep(3 * time.Second)
			term := r.term()
			for range 5 {
				if err := r.append(t, 10*time.Second); err == nil {
					t.Fatalf("%s: an append was acknowledged", when)
				}
			}
			if got := r.laterEpoch(); got.Code != wire.CodeLaterEpochSuspended || got.Args["node"] != "s1" {
				t.Errorf("%s: the notice is %+v", when, got)
			}
			if err := r.Ready(); !errors.Is(err, wire.ErrNoLeader) {
				t.Errorf("%s: ready: %v", when, err)
			}
			if r.term() != term {
				t.Errorf("%s: %d more terms", when, r.term()-term)
			}
			said.set(map[string]error{"http://s1": fencedBy(2, 0)})
			time.Sleep(1500 * time.Millisecond)
			if err := r.append(t, time.Second); err != nil {
				t.Errorf("%s: the others are back: %v", when, err)
			}
		}
		// Orders that the others accepted before they became unreachable count for a limited time.
		said.set(undecided)
		if err := r.append(t, time.Second); err != nil {
			t.Errorf("just after two fell silent: %v", err)
		}
		time.Sleep(acceptedFor + 2*time.Second)
		if err := r.append(t, 10*time.Second); err == nil {
			t.Error("long after two fell silent an append was acknowledged")
		}
	})
}

// stuckMaster does not answer announcements.
type stuckMaster struct{ masterstest.Follower }

func (stuckMaster) Announce(ctx context.Context, _ wire.Member, _ bool) (wire.Announced, error) {
	<-ctx.Done()
	return wire.Announced{}, ctx.Err()
}

// TestFencedMasterEndsAtOnce checks that a master that must exit does so at once, even while it waits for another
// master, and does not begin one term after the other until then.
func TestFencedMasterEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said answers
		var silent atomic.Bool
		r := newRig(t, 3, func(c *Config, r *rig) {
			c.Masters = masterAt("http://m2", stuckMaster{masterstest.Follower{Self: member("m2")}})
			c.Peers = []string{"http://m2"}
			r.workers.Flaky = said.flaky
			r.ledger.Vacancy = func() time.Duration { return 5 * time.Millisecond }
			r.ledger.Silence = func() time.Duration {
				if silent.Load() {
					return time.Hour
				}
				return 0
			}
		})
		silent.Store(true) // so that it announces itself
		time.Sleep(time.Second)
		r.ledger.CutLeadership()
		term := r.term()
		said.set(map[string]error{"http://s0": fencedBy(2, 0), "http://s1": fencedBy(2, 0),
			"http://s2": fencedBy(2, 0)})
		began := time.Now()
		if err := r.endedBy(t); !errors.Is(err, leader.ErrLaterEpoch) {
			t.Errorf("ended by %v", err)
		}
		if took, terms := time.Since(began), r.term()-term; took > time.Second || terms >= 5 {
			t.Errorf("it ended after %v and %d terms", took, terms)
		}
	})
}

// TestLeaderMeetsALaterTerm checks that another leader of the same epoch, and a worker that does not report its epoch,
// do not make the leader exit.
func TestLeaderMeetsALaterTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 3, func(_ *Config, r *rig) {
			r.workers.Flaky = func(url string) error {
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

// TestNewLeaderAsksBeforeItAcknowledges checks that a new leader queries the storage nodes before it acknowledges
// anything. It waits for slow ones, but only for a limited time.
func TestNewLeaderAsksBeforeItAcknowledges(t *testing.T) {
	for name, c := range map[string]struct {
		answers map[string]error         // by storage node
		late    map[string]time.Duration // by storage node: its response time
		fenced  bool
		within  time.Duration // from the election to the first acknowledged append
	}{
		"all are well": {nil, nil, false, 200 * time.Millisecond},
		"one is of a later epoch": {map[string]error{"http://s0": fencedBy(2, 0), "http://s1": masterstest.ErrDown},
			map[string]time.Duration{"http://s2": time.Hour}, true, 0},
		"two are of a later epoch": {map[string]error{"http://s0": fencedBy(2, 0), "http://s1": fencedBy(2, 0)},
			nil, true, 0},
		"two hang": {nil, map[string]time.Duration{"http://s1": time.Hour,
			"http://s2": time.Hour}, false, fenceWait + 200*time.Millisecond},
		"two are down": {map[string]error{"http://s0": masterstest.ErrDown, "http://s1": masterstest.ErrDown}, nil,
			false, 200 * time.Millisecond},
		"one hangs, most have let it in": {nil, map[string]time.Duration{"http://s2": time.Hour}, false,
			200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ill atomic.Bool
				r := newRig(t, 3, func(_ *Config, r *rig) {
					r.ledger.Vacancy = func() time.Duration { return 0 }
					r.workers.Flaky = func(url string) error {
						if ill.Load() {
							return c.answers[url]
						}
						return nil
					}
					r.workers.Delay = func(url string) time.Duration {
						if ill.Load() {
							return max(time.Millisecond, c.late[url])
						}
						return time.Millisecond
					}
				})
				ill.Store(true)
				r.ledger.CutLeadership()
				began := time.Now()
				_, err := r.Append(context.WithoutCancel(t.Context()), r.project, []Entry{{Payload: []byte("x")}}, "")
				if len(c.late) > 0 && c.fenced { // too few responses to exit
					if err == nil {
						t.Error("it was acknowledged")
					}
					r.stop()
					return
				}
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
				if err := r.endedBy(t); !errors.Is(err, leader.ErrLaterEpoch) {
					t.Errorf("ended by %v", err)
				}
			})
		})
	}
}
