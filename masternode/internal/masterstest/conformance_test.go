package masterstest_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/conformance"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

func TestLedger(t *testing.T) {
	conformance.Ledger(t, func(t *testing.T) masternode.Ledger { return masterstest.NewLedger(t) })
}

func TestLedgerDeposed(t *testing.T) {
	for name, fate := range map[string]masterstest.Fate{
		"between two commands":                masterstest.Committed,
		"in a command that was not committed": masterstest.DeposedForgot,
		"in a command that is committed":      masterstest.DeposedKept,
	} {
		t.Run(name, func(t *testing.T) {
			l := masterstest.NewLedger(t)
			var next atomic.Uint32
			l.Fate = func() masterstest.Fate { return masterstest.Fate(next.Load()) }
			l.Vacancy = func() time.Duration { return time.Hour }
			ctx, cancel := context.WithCancel(t.Context())
			ended, leads := make(chan error), make(chan struct{})
			go func() {
				ended <- l.RunAsLeader(ctx, func(ctx context.Context, term uint64) error {
					_, err := l.Propose(ctx, masterfsm.Encode(&masterfsm.BeginTerm{
						Term: term, Member: "m1", Time: 1, Group: "g", Settings: masterfsm.DefaultSettings(),
					}))
					close(leads)
					<-ctx.Done()
					return err
				})
			}()
			<-leads
			conformance.Deposed(t, l, func() {
				if fate == masterstest.Committed {
					l.CutLeadership()
					return
				}
				next.Store(uint32(fate))
			})
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWorkers(t *testing.T) {
	conformance.Workers(t, func(t *testing.T) (masternode.Workers, wire.Worker, wire.Worker) {
		w := masterstest.NewWorkers(t, 1)
		w.Lossy = true // refused blocks are part of the suite
		return w, wire.Worker{URL: "http://s0"}, wire.Worker{URL: "http://s1"}
	})
}

func TestMasters(t *testing.T) {
	conformance.Masters(t, func(_ *testing.T, leader, follower *masternode.Node) conformance.ServedMasters {
		m := masterstest.NewMasters()
		m.Set("http://leader", leader)
		m.Set("http://follower", follower)
		return conformance.ServedMasters{
			Masters: m, Leader: "http://leader", Follower: "http://follower", Gone: "http://gone",
		}
	})
}
