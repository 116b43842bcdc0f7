package masternode

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// holds verifies a proof, and checks that it is for a given boundary.
func holds(t *testing.T, p *wire.Proof, at masterfsm.Boundary) {
	t.Helper()
	leaf, err := chain.ParseLeaf(p.LeafData)
	h := p.Header.Header()
	record := chain.Proof{Index: p.Index, Size: h.Seal(), Path: p.RecordPath}
	seal := chain.Proof{Index: p.SealIndex, Size: p.Size, Path: p.SealPath}
	if err := errors.Join(err, record.Check(leaf.Hash(), h.Root), seal.Check(h.SealHash(), p.Root)); err != nil ||
		leaf.Hash() != p.Leaf {
		t.Errorf("%v: %+v", err, p)
	}
	if p.Size != at.Size || p.Root != at.Root {
		t.Errorf("a proof as of %d, want %d", p.Size, at.Size)
	}
}

// TestProofsBeforeACheckpoint checks that a record can be proven before a checkpoint covers it, and that no signed
// statement includes it yet.
func TestProofsBeforeACheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1, nil) // fewer than replicas: nothing is stored
		defer r.stop()
		a, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		open, err := r.Record(t.Context(), r.access, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Prove(t.Context(), open); !errors.Is(err, wire.ErrNotSealed) {
			t.Errorf("the proof of an open block: %v", err)
		}
		if _, err := r.Receipt(t.Context(), open); !errors.Is(err, wire.ErrNotSealed) {
			t.Errorf("the receipt of an open block: %v", err)
		}
		time.Sleep(5 * time.Second)
		p, err := r.Prove(t.Context(), open) // as it was read before the block was mined
		if err != nil {
			t.Fatal(err)
		}
		holds(t, &p, table(r, (*masterfsm.State).Boundary))
		if p.Checkpoint != "" {
			t.Errorf("a checkpoint that covers nothing: %s", p.Checkpoint)
		}
		if _, err := r.LogProof(t.Context(), open); !errors.Is(err, wire.ErrNotCovered) {
			t.Errorf("a proof for others: %v", err)
		}
		if _, err := r.Receipt(t.Context(), open); !errors.Is(err, wire.ErrNotCovered) {
			t.Errorf("a receipt: %v", err)
		}
		if _, err := r.Tile(t.Context(), 0, 0, 1); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("a tile: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := r.WaitReceipt(ctx, a.Positions[0]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waiting for a receipt: %v", err)
		}
	})
}

func TestReceiptComesWithTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		a, err := r.Append(t.Context(), r.project, []Entry{{Key: "k", Type: "t", Payload: []byte("payload")}}, "")
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := r.WaitReceipt(t.Context(), a.Positions[0])
		if err != nil {
			t.Fatal(err)
		}
		c := r.checked(t)
		if receipt.Checkpoint != string(c.Note) || receipt.TreeSize != c.Boundary.Size ||
			receipt.Origin != table(r, (*masterfsm.State).Log).Origin || receipt.Size != 7 {
			t.Errorf("%+v", receipt)
		}
		record, err := r.Record(t.Context(), r.access, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := r.Prove(t.Context(), record)
		if err != nil {
			t.Fatal(err)
		}
		holds(t, &p, c.Boundary)
	})
}

// TestWaitReceiptGoesOnWaiting checks that a request for a receipt waits while the storage nodes or the leader are
// temporarily unavailable.
func TestWaitReceiptGoesOnWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProofRig(t, 300)
		defer r.stop()
		place := wire.Position{Block: 1}
		r.onAll(func(s *masterstest.Storage) { s.Down = true })
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.WaitReceipt(short, place); !errors.Is(err, context.DeadlineExceeded) ||
			!errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("until the time is over: %v", err)
		}
		go func() { time.Sleep(2 * time.Second); r.onAll(func(s *masterstest.Storage) { s.Down = false }) }()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		began := time.Now()
		got, err := r.WaitReceipt(ctx, place)
		if err != nil || got.Block != 1 || time.Since(began) > 4*time.Second {
			t.Errorf("nodes that come back: %v after %v", err, time.Since(began))
		}
	})
}

// TestNoCheckpointIsTheLeadersWord checks that a master that knows no checkpoint for a record asks the leader before it
// reports that there is none.
func TestNoCheckpointIsTheLeadersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		r.on("http://s1", func(s *masterstest.Storage) { s.Down = true }) // nothing is stored then
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		record, err := r.Record(t.Context(), r.access, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
		if _, err := r.Prove(t.Context(), record); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("without a leader: %v", err)
		}
		r.ledger.SetConfirm(func() error {
			// The block is stored while the leader is asked.
			r.on("http://s1", func(s *masterstest.Storage) { s.Down = false })
			r.ledger.SetConfirm(func() error { return nil })
			time.Sleep(leaderWait - time.Second)
			return nil
		})
		p, err := r.Prove(t.Context(), record)
		if err != nil || p.Checkpoint == "" {
			t.Errorf("as the leader knows it: %v, %+v", err, p)
		}
	})
}

// TestBeyondTheCheckpointIsTheLeadersWord checks that only the leader may report that a tile or a tree is beyond the
// newest checkpoint. Any master serves those within it.
func TestBeyondTheCheckpointIsTheLeadersWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		r.store(t)
		size := table(r, (*masterfsm.State).Checkpoint).Size
		beyond := size + 1
		if _, err := r.Tile(t.Context(), 0, 0, int(beyond)); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("a tile: %v", err)
		}
		if _, err := r.Entries(t.Context(), 1<<63, 256); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("entries: %v", err)
		}
		if _, err := r.Consistency(t.Context(), 1, &beyond); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("consistency: %v", err)
		}
		if _, err := r.PublishedBlock(t.Context(), 1); !errors.Is(err, wire.ErrNotFound) {
			t.Errorf("a header: %v", err)
		}
		r.ledger.Mu.Lock()
		r.ledger.Leads = false
		r.ledger.Mu.Unlock()
		if _, err := r.Tile(t.Context(), 0, 0, int(size)); err != nil {
			t.Errorf("a tile that is there: %v", err)
		}
		if _, err := r.Consistency(t.Context(), 1, nil); err != nil {
			t.Errorf("consistency up to what is there: %v", err)
		}
		if _, err := r.PublishedBlock(t.Context(), 0); err != nil {
			t.Errorf("a header that is there: %v", err)
		}
		for name, ask := range map[string]func() error{
			"a tile":      func() error { _, err := r.Tile(t.Context(), 0, 0, int(beyond)); return err },
			"a level":     func() error { _, err := r.Tile(t.Context(), 63, 1<<63, 256); return err },
			"entries":     func() error { _, err := r.Entries(t.Context(), 1, 1); return err },
			"consistency": func() error { _, err := r.Consistency(t.Context(), 1, &beyond); return err },
			"a header":    func() error { _, err := r.PublishedBlock(t.Context(), 1); return err },
		} {
			if err := ask(); !errors.Is(err, wire.ErrNoLeader) {
				t.Errorf("%s: %v", name, err)
			}
		}
		r.stop()
	})
}

// TestEntriesOfALostBlock checks that the entries of a lost block are not available, and are reported as gone once an
// administrator has confirmed the loss. The hashes are still there, and so are all other entries and all proofs.
func TestEntriesOfALostBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) { s.Bad[3] = true })
		}
		time.Sleep(time.Minute)
		size := table(r, (*masterfsm.State).Checkpoint).Size
		width := int(min(size, wire.TileWidth))
		if _, err := r.Entries(t.Context(), 0, width); !errors.Is(err, wire.ErrUnavailable) ||
			errors.Is(err, wire.ErrLost) {
			t.Errorf("before a loss is confirmed: %v", err)
		}
		if _, err := r.ConfirmLost(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Entries(t.Context(), 0, width); !errors.Is(err, wire.ErrLost) {
			t.Errorf("the entries of a lost block: %v", err)
		}
		if _, err := r.Entries(t.Context(), 0, 3*17); err != nil {
			t.Errorf("the entries before it: %v", err)
		}
		if _, err := r.Tile(t.Context(), 0, 0, width); err != nil {
			t.Errorf("the hashes: %v", err)
		}
		if _, err := r.Consistency(t.Context(), 3*17+5, nil); err != nil {
			t.Errorf("consistency: %v", err)
		}
	})
}

// TestPublishedBlocks checks that PublishedBlock has the blocks that the newest checkpoint covers. Its error for blocks
// that are not published is the one for blocks that do not exist.
func TestPublishedBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 1, "w1")
		defer r.stop()
		r.store(t)
		f.change("w1", func(w *fakeWitness) {
			w.before = func(context.Context) error { return wire.ErrNoAnswer }
		})
		r.store(t) // stored, and not cosigned
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("not mined")}}, ""); err != nil {
			t.Fatal(err)
		}
		published := table(r, (*masterfsm.State).Published).Boundary
		if height := table(r, (*masterfsm.State).Boundary).Height; published.Height != 1 || height != 2 {
			t.Fatalf("%d of %d blocks are published", published.Height, height)
		}
		want, err := r.Block(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := r.PublishedBlock(t.Context(), 0); err != nil || h != want || h.Count != 1 {
			t.Errorf("the published block: %+v, %v, want %+v", h, err, want)
		}
		if _, err := r.Block(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		_, absent := r.PublishedBlock(t.Context(), 1<<40)
		for _, number := range []uint64{1, 2, 3, math.MaxUint64} {
			h, err := r.PublishedBlock(t.Context(), number)
			if !errors.Is(err, wire.ErrNotFound) || err.Error() != absent.Error() || h != (chain.Header{}) {
				t.Errorf("block %d: %+v, %v, want %v", number, h, err, absent)
			}
		}
		f.change("w1", func(w *fakeWitness) { w.before = nil })
		time.Sleep(time.Hour) // virtual time in which the witness is asked again
		if h, err := r.PublishedBlock(t.Context(), 1); err != nil || h.Block != 1 {
			t.Errorf("once it is cosigned: %+v, %v", h, err)
		}
	})
}

// TestHeaderOfALostBlock checks that the header of a lost block is served while a storage node can prove it. If none
// can, a person's confirmation makes the answer final: an audit must be able to go on without that header.
func TestHeaderOfALostBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := newDamageRig(t, nil)
		defer r.stop()
		for url := range r.workers.Storages {
			r.on(url, func(s *masterstest.Storage) {
				s.Bad[3], s.Bad[5] = true, true
				s.LieHeaders = func(list []wire.ProvenHeader) []wire.ProvenHeader {
					at := slices.IndexFunc(list, func(h wire.ProvenHeader) bool { return h.Header.Block == 5 })
					if at >= 0 {
						return list[:at]
					}
					return list
				}
			})
		}
		time.Sleep(time.Minute)
		read := func(block uint64) map[string]error {
			_, any := r.Block(t.Context(), block)
			_, published := r.PublishedBlock(t.Context(), block)
			_, page := r.Blocks(t.Context(), block+1, 1)
			return map[string]error{"any": any, "published": published, "page": page}
		}
		for name, err := range read(5) {
			if !errors.Is(err, wire.ErrUnavailable) || errors.Is(err, wire.ErrLost) {
				t.Errorf("%s: before the loss is confirmed: %v", name, err)
			}
		}
		for _, block := range []uint64{3, 5} {
			if _, err := r.ConfirmLost(t.Context(), block); err != nil {
				t.Fatal(err)
			}
		}
		for name, err := range read(5) {
			if !errors.Is(err, wire.ErrLost) {
				t.Errorf("%s: the header of a lost block: %v", name, err)
			}
		}
		r.on("http://s1", func(s *masterstest.Storage) { s.Down = true }) // one that answers is enough
		for name, err := range read(5) {
			if !errors.Is(err, wire.ErrLost) {
				t.Errorf("%s: while a node is down: %v", name, err)
			}
		}
		r.onAll(func(s *masterstest.Storage) { s.Down = true })
		for name, err := range read(5) {
			if !errors.Is(err, wire.ErrUnavailable) || errors.Is(err, wire.ErrLost) {
				t.Errorf("%s: while all nodes are down: %v", name, err)
			}
		}
		r.onAll(func(s *masterstest.Storage) { s.Down = false })
		for _, block := range []uint64{3, 4, 6} {
			for name, err := range read(block) {
				if err != nil {
					t.Errorf("%s: block %d: %v", name, block, err)
				}
			}
		}
	})
}
