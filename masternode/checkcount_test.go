package masternode

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestEarlyEndsUnderManyLeaders checks that checks which end early are counted across changes of the leader: a node
// that cannot be checked does not count as a copy, even if no leader lasts for two of its checks. A check that looks at
// everything ends the count.
func TestEarlyEndsUnderManyLeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, func(c *Config, _ *rig) { c.CheckInterval = 0 })
		defer r.stop()
		fail := func() {
			r.on("http://s1", func(s *masterstest.Storage) {
				s.Report = func(wire.CheckOrder) wire.CheckStatus {
					return wire.CheckStatus{Error: "read index: input/output error"}
				}
			})
		}
		node := func() (n masterfsm.Storage) {
			for _, s := range r.table().Storages {
				if s.URL == "http://s1" {
					n = s
				}
			}
			return n
		}
		// endOfCheck waits for the end of the next check, after which the leader is another one.
		endOfCheck := func(before uint64, want masterfsm.NodeState) {
			t.Helper()
			err := r.waitFor(t.Context(), func(s *masterfsm.State) bool {
				nodes := s.Storages()
				for i := range nodes {
					if n := &nodes[i]; n.URL == "http://s1" {
						return n.Version >= before+2 && n.State != masterfsm.Validating // begun and ended
					}
				}
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
			r.ledger.CutLeadership()
			if n := node(); n.State != want {
				t.Errorf("its state is %s, want %s: %+v", n.State, want, n)
			}
		}
		for range 2 {
			fail()
			version := node().Version
			if _, err := r.CheckStorage(t.Context(), "http://s1"); err != nil {
				t.Fatal(err)
			}
			// It stays due, so each leader checks it.
			endOfCheck(version, masterfsm.Valid)
			endOfCheck(node().Version, masterfsm.Valid)
			endOfCheck(node().Version, masterfsm.Invalid)
			r.on("http://s1", func(s *masterstest.Storage) { s.Report = nil })
			r.allValid(t, time.Minute)
		}
	})
}
