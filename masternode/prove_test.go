package masternode

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// withoutHeader makes all nodes unable to read a header, as a storage node answers then: its lists end before it.
func (r *rig) withoutHeader(block uint64) {
	for url := range r.workers.storages {
		r.on(url, func(s *fakeStorage) {
			s.bad[block] = true
			s.lieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
				for i := range list {
					if list[i].Header.Block == block {
						return list[:i]
					}
				}
				return list
			}
		})
	}
}

// A header that nobody has takes no other block of its page with it, and who says so of himself is no liar.
func TestRecordsBehindALostHeader(t *testing.T) {
	for _, lost := range []uint64{0, 3, 4, 6} {
		synctest.Test(t, func(t *testing.T) {
			r, payloads := newDamageRig(t, nil)
			defer r.stop()
			r.withoutHeader(lost)
			time.Sleep(time.Minute) // a check finds it on all nodes
			p := newProver(r.cfg)
			for _, block := range []uint64{5, 1, 19} {
				if _, err := p.header(t.Context(), block); err != nil {
					t.Errorf("block %d, where block %d is lost: %v", block, lost, err)
				}
			}
			if _, err := p.header(t.Context(), lost); !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("block %d, which is lost: %v", lost, err)
			}
			if len(p.suspects) > 0 || len(p.unwell) > 0 {
				t.Errorf("block %d is lost: %d nodes are suspect, %d passed over", lost, len(p.suspects), len(p.unwell))
			}
			got, err := r.Record(t.Context(), r.access, 5, 2)
			if err != nil || string(got.Payload) != string(payloads[5*16+2]) {
				t.Errorf("a record behind it: %v", err)
			}
			if _, err := r.ConfirmLost(t.Context(), lost); err != nil {
				t.Fatal(err)
			}
			if _, err := r.Record(t.Context(), r.access, lost, 2); !errors.Is(err, wire.ErrLost) {
				t.Errorf("a record of it: %v", err)
			}
		})
	}
}

// A node that cannot read a header which others have is told of, and asked last.
func TestHeaderThatOneNodeCannotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		p := newProver(r.cfg)
		first := p.candidates(func(masterfsm.Storage) bool { return true })[0]
		r.on(first.URL, func(s *fakeStorage) {
			s.lieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader { return list[:min(len(list), 5)] }
		})
		if _, err := p.header(t.Context(), 4); err != nil || len(p.suspects) != 0 {
			t.Errorf("a header that it has: %v, %d suspects", err, len(p.suspects))
		}
		r.on(first.URL, func(s *fakeStorage) {
			s.lieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
				if list[0].Header.Block == 0 {
					return list[:5]
				}
				return nil
			}
		})
		if _, err := p.header(t.Context(), 5); err != nil || len(p.suspects) != 1 {
			t.Errorf("one that it cannot read: %v, %d suspects", err, len(p.suspects))
		}
	})
}

// That the reader's own time is over says nothing of the nodes, which are not asked any more then.
func TestTheReadersTimeIsNoFaultOfTheNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		calls, workers, cfg := 0, *r.workers, r.cfg
		workers.delay = func(string) time.Duration { calls++; return time.Second }
		cfg.Workers = &workers // that no other part of the master calls
		for name, read := range map[string]func(context.Context, *tree) error{
			"a proof": func(ctx context.Context, tr *tree) error { _, err := tr.inclusion(ctx, 3, 300); return err },
			"entries": func(ctx context.Context, tr *tree) error {
				_, err := tr.bundles.entries(ctx, 0, make([]byte, 32))
				return err
			},
			"headers": func(ctx context.Context, tr *tree) error { return tr.prover.fetchHeaders(ctx, 0, 3) },
			"a leaf":  func(ctx context.Context, tr *tree) error { _, err := tr.prover.locate(ctx, 3); return err },
			"a hash":  func(ctx context.Context, tr *tree) error { tr.prover.findHash(ctx, chain.Hash{}, 1); return ctx.Err() },
			"a record": func(ctx context.Context, tr *tree) error {
				tr.prover.readBatch(ctx, []*pendingRead{{done: make(chan struct{})}})
				return ctx.Err()
			},
			"a key": func(ctx context.Context, tr *tree) error {
				return (&walk{n: &Node{prover: tr.prover}, limit: 1}).stored(ctx, 3)
			},
			"consistency": func(ctx context.Context, tr *tree) error { _, err := tr.consistency(ctx, 3, 300); return err },
		} {
			for _, wait := range []time.Duration{0, time.Millisecond} {
				tr := newTree(newProver(cfg))
				ctx, cancel := context.WithTimeout(t.Context(), wait)
				before := calls
				if err := read(ctx, tr); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%s: %v", name, err)
				}
				cancel()
				if asked := calls - before; asked != int(min(wait, 1)) {
					t.Errorf("%s: %d nodes were asked in %v", name, asked, wait)
				}
				if n := len(tr.prover.unwell); n > 0 {
					t.Errorf("%s: %d nodes are passed over", name, n)
				}
			}
		}
	})
}
