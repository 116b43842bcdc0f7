package raftstore

import (
	"testing"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/conformance"
	"github.com/chainstore/chainstore/wire"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	conformance.Ledger(t, func(t *testing.T) masternode.Ledger {
		s := openStore(t, testConfig(t, t.TempDir()))
		if err := s.Found("group-1", []wire.Member{s.Member()}); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

func TestLedgerDeposed(t *testing.T) {
	t.Parallel()
	t.Run("hands over", func(t *testing.T) {
		nodes := testGroup(t, 3, nil)
		leader := leaderOf(t, nodes...)
		conformance.Deposed(t, leader, func() {
			if err := leader.TransferLeadership(""); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("without a majority", func(t *testing.T) {
		nodes := testGroup(t, 3, nil)
		leader := leaderOf(t, nodes...)
		conformance.Deposed(t, leader, func() {
			for _, n := range nodes {
				if n != leader {
					n.stop()
				}
			}
		})
	})
}
