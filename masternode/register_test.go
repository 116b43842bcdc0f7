package masternode

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

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
						Settings: masterfsm.DefaultSettings(), Log: signing.LogConfig{Secret: "cluster token"},
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
