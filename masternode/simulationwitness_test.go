package masternode

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// TestWitnessSimulation runs three witnesses with faults by a seed. Two of them must cosign. Calls and responses are
// lost, and witnesses hang, forget their state, claim wrong sizes and do not know the key. Leaders are deposed, some in
// the middle of a command. Served checkpoints must never go back, and must always have their cosignatures. Once the
// faults stop, the newest checkpoint must be served with the cosignatures of all, and no witness may be reported as
// failing.
func TestWitnessSimulation(t *testing.T) {
	forEachSeed(t, simulationSeeds/20, simulateWitnesses)
}

func simulateWitnesses(t *testing.T, seed uint64) {
	d := &dice{seed: seed, streams: map[string]*rand.Rand{}}
	var calm atomic.Bool
	calm.Store(true)
	names := []string{"w1", "w2", "w3"}
	f := &fakeWitnesses{t: t, list: map[string]*fakeWitness{}}
	r := newRig(t, 2, func(cfg *Config, r *rig) {
		cfg.WitnessCalls, cfg.Settings.WitnessQuorum = f, 2
		for _, name := range names {
			cfg.Witnesses = append(cfg.Witnesses, f.add(name))
		}
		r.ledger.Delay = func() time.Duration { return d.within("delay", 5*time.Millisecond) }
		r.ledger.Fate = func() masterstest.Fate {
			if calm.Load() || !d.once("fate", 30) {
				return masterstest.Committed
			}
			return masterstest.Fate(1 + d.draw("fate", 2))
		}
	})
	defer r.stop()
	f.know(r)
	origin := r.origin()
	for _, name := range names {
		f.change(name, func(w *fakeWitness) {
			w.before = func(ctx context.Context) error { return f.mishap(ctx, d, w, name, origin, &calm) }
			w.after = func(lines []byte) ([]byte, error) {
				if !calm.Load() && d.once(name, 5) {
					return nil, fmt.Errorf("%w: the answer is lost", wire.ErrNoAnswer)
				}
				return lines, nil
			}
		})
	}
	calm.Store(false)
	shown := uint64(0)
	look := func() {
		c, signers := cosigners(t, r)
		if c.Boundary.Size < shown || c.Boundary.Size > 0 && len(signers) < 2 {
			t.Fatalf("%d leaves are shown after %d, cosigned by %v", c.Boundary.Size, shown, signers)
		}
		shown = c.Boundary.Size
	}
	for range 150 {
		// An append may end without an outcome, so the result is ignored.
		_, _ = r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, "")
		time.Sleep(d.within("pause", time.Second))
		if d.once("cut", 40) {
			r.ledger.CutLeadership()
			time.Sleep(time.Second)
		}
		look()
	}
	calm.Store(true)
	f.know(r)
	time.Sleep(3 * time.Minute) // virtual time: longer than any pause
	look()
	if c, signers := cosigners(t, r); c.Boundary.Size != stored(r) || len(signers) != len(names) {
		t.Errorf("%d leaves of %d are shown when all is calm, cosigned by %v", c.Boundary.Size, stored(r), signers)
	}
	for _, name := range names {
		if s := r.statusOf(t, name); s.Error != "" {
			t.Errorf("%+v", s)
		}
	}
}

// mishap applies a random fault to a call to a witness.
func (f *fakeWitnesses) mishap(ctx context.Context, d *dice, w *fakeWitness, name, origin string,
	calm *atomic.Bool) error {
	time.Sleep(d.within(name, 300*time.Millisecond))
	if calm.Load() {
		return nil
	}
	switch d.draw(name, 12) {
	case 0:
		return fmt.Errorf("%w: lost", wire.ErrNoAnswer)
	case 1:
		<-ctx.Done()
		return fmt.Errorf("%w: %w", wire.ErrNoAnswer, ctx.Err())
	case 2:
		w.Forget(origin)
	case 3:
		return &wire.WitnessConflict{Size: w.Size(origin) + uint64(d.draw(name, 9))}
	case 4:
		return &wire.WitnessRefusal{Status: 403 + d.draw(name, 2)}
	case 5:
		return &wire.WitnessRefusal{Status: 503, RetryAfter: d.within(name, 5*time.Second)}
	}
	return nil
}
