package prover

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// fixture is a stored chain and provers that read it.
type fixture struct {
	*masterstest.Chain
	t *testing.T
}

// newFixture stores records in blocks of 100, so that the tree has tiles of several levels.
func newFixture(t *testing.T, records int) *fixture {
	t.Helper()
	return &fixture{masterstest.NewChain(t, 3, records, 100), t}
}

// newBlocks stores 20 blocks of 16 records.
func newBlocks(t *testing.T) *fixture {
	t.Helper()
	return &fixture{masterstest.NewChain(t, 3, 20*16, 16), t}
}

// newProver returns a prover with empty caches whose suspicions are not consumed.
func (f *fixture) newProver() *Prover { return f.proverOn(f.Workers) }

func (f *fixture) proverOn(w *masterstest.Workers) *Prover {
	return New(Config{Self: "m1", Ledger: f.Ledger, Storages: w, Logger: hclog.NewNullLogger(), Clock: time.Now})
}

// candidates returns the storage nodes in the order in which a new prover reads from them.
func (f *fixture) candidates() []masterfsm.Storage { return f.newProver().candidates(0, nil) }

// lie changes the first storage nodes in the order of reads, and makes the others honest.
func (f *fixture) lie(first int, change func(*masterstest.Storage)) {
	for i, n := range f.candidates() {
		f.On(n.URL, func(s *masterstest.Storage) {
			s.LieTiles, s.LieEntries, s.Down = nil, nil, false
			if i < first {
				change(s)
			}
		})
	}
}

// whole returns a storage node with the whole chain.
func (f *fixture) whole() *masterstest.Storage { return f.Workers.Storages["http://s0"] }

// treeReads returns how many reads of tiles and of entries the storage nodes received.
func (f *fixture) treeReads() (tiles, entries int) {
	for url := range f.Workers.Storages {
		f.On(url, func(s *masterstest.Storage) { tiles, entries = tiles+s.TileReads, entries+s.EntryReads })
	}
	return tiles, entries
}

// withoutHeader makes the header of a block unreadable on all nodes. A storage node's list of headers then ends before
// it.
func (f *fixture) withoutHeader(block uint64) {
	f.Lose(block)
	for url := range f.Workers.Storages {
		f.On(url, func(s *masterstest.Storage) {
			s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
				at := slices.IndexFunc(list, func(h wire.ProvenHeader) bool { return h.Header.Block == block })
				if at >= 0 {
					return list[:at]
				}
				return list
			}
		})
	}
}
