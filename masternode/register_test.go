package masternode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// following is the ledger of a master that follows m2.
type following struct{ *masterstest.Ledger }

func (following) Leader() string { return "m2" }

// registrar is a leader that registers every worker.
type registrar struct{ masterstest.Follower }

func (registrar) Register(context.Context, wire.Registration, bool) (wire.Registered, error) {
	return wire.Registered{ID: "s-1"}, nil
}

// TestRegisterThroughFollower checks that a registration through a follower survives a change of leader, within the
// request timeout, and that a refusal returns at once.
func TestRegisterThroughFollower(t *testing.T) {
	refusal := errors.New("a refusal")
	dead := fmt.Errorf("%w: connection refused", wire.ErrNoAnswer)
	for _, c := range []struct {
		name  string
		errs  []error
		want  error
		asked int
	}{
		{"well", nil, nil, 1},
		{"the leader is dead, another leads", []error{dead, dead}, nil, 3},
		{"the leader is deposed meanwhile", []error{wire.ErrNotLeader, wire.ErrUnknownOutcome}, nil, 3},
		{"refused", []error{dead, refusal}, refusal, 2},
		{"nobody leads", make([]error, 1000), wire.ErrNoLeader, int(leaderWait / retryPause)},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for i := range c.errs {
					if c.errs[i] == nil {
						c.errs[i] = dead
					}
				}
				ledger := following{masterstest.NewLedger(t)}
				_, err := ledger.State.Apply(masterfsm.Encode(&masterfsm.BeginTerm{
					Term: 1, Member: "m2", URL: "http://m2", Group: "cs-test", Settings: masterfsm.DefaultSettings(),
				}))
				if err != nil {
					t.Fatal(err)
				}
				masters, asked := masterAt("http://m2", registrar{}), 0
				masters.Network = func(_ context.Context, _ string, call func() error) error {
					if asked++; asked <= len(c.errs) {
						return c.errs[asked-1]
					}
					return call()
				}
				n, err := New(Config{
					Member: wire.Member{ID: "m1", URL: "http://m1"}, Boot: 1,
					Ledger: ledger, Membership: masterstest.NewMembership(), Masters: masters,
					Workers: masterstest.NewWorkers(t, 0), Limits: DefaultLimits(), Logger: hclog.NewNullLogger(),
					Options: leader.Options{
						Settings: masterfsm.DefaultSettings(),
						Log:      signing.LogConfig{Secret: signing.Fixed("cluster token")},
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				_, err = n.Register(t.Context(), wire.Registration{Role: "storage", URL: "http://s", MasterToken: "x",
					Boot: "1"}, false)
				if !errors.Is(err, c.want) || (err != nil) != (c.want != nil) || asked < c.asked ||
					asked > c.asked+1 {
					t.Errorf("%v after %d calls; want %v after %d", err, asked, c.want, c.asked)
				}
			})
		})
	}
}

// TestDeadMinersInTheWay checks that miners that do not answer are not asked all the time, are marked as dead, and make
// room for a new one, and that a person can remove one.
func TestDeadMinersInTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		calls := map[string]int{}
		r := newRig(t, 2, func(_ *Config, r *rig) {
			r.workers.Flaky = func(url string) error {
				if strings.HasPrefix(url, "http://dead") {
					mu.Lock()
					defer mu.Unlock()
					calls[url]++
					return masterstest.ErrDown
				}
				return nil
			}
		})
		defer r.stop()
		time.Sleep(5 * time.Second) // until the level is raised
		for i := range 255 {
			r.registerWorker(t, masterfsm.RoleMiner, fmt.Sprintf("http://dead%d", i))
		}
		register := func() error {
			_, err := r.Register(t.Context(), wire.Registration{
				Role: "miner", URL: "http://fresh", MasterToken: "t", Boot: "1",
			}, false)
			return err
		}
		if err := register(); !errors.Is(err, masterfsm.ErrBadCommand) || !strings.Contains(err.Error(), "remove one") {
			t.Errorf("into a full table: %v", err)
		}
		for range 100 {
			if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		mu.Lock()
		if n := calls["http://dead0"]; n > 30 {
			t.Errorf("%d calls of a dead miner in 105 s", n)
		}
		mu.Unlock()
		if err := register(); err != nil {
			t.Errorf("once the others are dead: %v", err)
		}
		if err := r.RemoveMiner(t.Context(), "http://dead7", false); err != nil {
			t.Error(err)
		}
		if err := r.RemoveMiner(t.Context(), "dead7", false); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		var v masterfsm.View
		r.ledger.Read(func(s *masterfsm.State) { v = s.View() })
		if len(v.Miners) != 255 || v.Miner("miner").Dead || !v.Miner("dead200").Dead {
			t.Errorf("%d miners, %+v", len(v.Miners), v.Miner("miner"))
		}
		if !hasEvent(r.Integrity(t.Context()), "removed") {
			t.Error("the removal is not recorded")
		}
	})
}

// TestRegisterAtTheURLOfAnother checks that a worker cannot register at the URL of another one that is alive, and that
// it replaces one whose process it has replaced.
func TestRegisterAtTheURLOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		time.Sleep(time.Second)
		for _, c := range []struct {
			role, url, replaced string
		}{{"storage", "http://s1", "s1"}, {"miner", "http://miner", "miner"}, {"miner", "http://s0", ""}} {
			r.workers.SetToken(func(url string) string { return "x" }) // that of the registered ones
			registration := wire.Registration{Role: c.role, URL: c.url, MasterToken: "mine", Boot: "b"}
			before := r.Cluster(t.Context())
			_, err := r.Register(t.Context(), registration, false)
			if !errors.Is(err, wire.ErrBadRequest) || !strings.Contains(err.Error(), "is registered at "+c.url) {
				t.Errorf("%s at %s: %v", c.role, c.url, err)
			}
			after := r.Cluster(t.Context())
			if len(after.Storages) != len(before.Storages) || len(after.Miners) != len(before.Miners) {
				t.Errorf("%s at %s: %+v", c.role, c.url, after)
			}
			if c.replaced == "" {
				continue
			}
			r.workers.SetToken(func(url string) string {
				if url == c.url {
					return "mine"
				}
				return "x"
			})
			if _, err := r.Register(t.Context(), registration, false); err != nil {
				t.Errorf("%s at %s, where it answers: %v", c.role, c.url, err)
			}
			var v masterfsm.View
			r.ledger.Read(func(s *masterfsm.State) { v = s.View() })
			if v.Storage(c.replaced).ID != "" || v.Miner(c.replaced).ID != "" {
				t.Errorf("%s is still in the table", c.replaced)
			}
		}
	})
}
