package masternode

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// TestRefusalsOfStorageNodesAreNotPassedOn checks that a master does not forward the problem of a storage node to a
// reader. Only the masters decide whether a record exists, is lost, or may be read. The master replies that it cannot
// serve the record now.
func TestRefusalsOfStorageNodesAreNotPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refusal atomic.Pointer[wire.Error]
		r := newRig(t, 3, func(_ *Config, r *rig) {
			r.workers.Flaky = func(string) error {
				if e := refusal.Load(); e != nil {
					return e
				}
				return nil
			}
		})
		defer r.stop()
		var last wire.Position
		for i := range 40 {
			a, err := r.Append(t.Context(), r.project, []Entry{{Key: "k", Payload: fmt.Append(nil, i)}}, "")
			if err != nil {
				t.Fatal(err)
			}
			last = a.Positions[0]
		}
		if err := r.WaitStored(t.Context(), last.Block); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, p := range []*wire.ProblemType{
			wire.ErrNotFound, wire.ErrSealIndex, wire.ErrLost, wire.ErrRemoved, wire.ErrUnauthorized,
			wire.ErrForbidden, wire.ErrBadRequest, wire.ErrNoLeader,
		} {
			refusal.Store(&wire.Error{URL: "http://s0", Problem: p.Problem(p)})
			ctx, to := t.Context(), uint64(17)
			for name, read := range map[string]func() error{
				"a record":      func() error { _, err := r.Record(ctx, r.access, 0, 3); return err },
				"by its index":  func() error { _, err := r.RecordByIndex(ctx, r.access, 3); return err },
				"a list":        func() error { _, err := r.List(ctx, r.access, Query{Key: "k"}, 5); return err },
				"a block":       func() error { _, _, err := r.BlockRecords(ctx, r.access, 0, 0, 5); return err },
				"a header":      func() error { _, err := r.PublishedBlock(ctx, 0); return err },
				"the entries":   func() error { _, err := r.Entries(ctx, 0, 16); return err },
				"a hash":        func() error { _, err := r.FindHash(ctx, chain.Hash{9}); return err },
				"a tile":        func() error { _, err := r.Tile(ctx, 0, 0, 16); return err },
				"a consistency": func() error { _, err := r.Consistency(ctx, 5, &to); return err },
			} {
				if err := read(); wire.ProblemOf(err) != wire.ErrUnavailable || errors.Is(err, p) {
					t.Errorf("%s, which the storage nodes refuse as %s: %v", name, p.Name, err)
				}
			}
		}
	})
}
