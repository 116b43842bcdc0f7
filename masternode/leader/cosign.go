package leader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// witnessTimeout is how long a submission may take, with the consistency proof.
const witnessTimeout = 10 * time.Second

// errNotSubmitted: the submission could not be made. The witness is not at fault.
var errNotSubmitted = errors.New("the checkpoint could not be submitted")

// cosign submits the nominee to a witness and commits its cosignature.
func (l *leadership) cosign(a action, view masterfsm.View, m *memory) job {
	w, nominee := l.witness(a.node), m.witnesses.nominee
	old := m.witnesses.witness(a.node).from(nominee.Size)
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		asking, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		cosignature, err := l.submit(asking, w, view, nominee, old)
		if err == nil {
			cosign := &masterfsm.Cosign{
				Size: nominee.Size, Root: nominee.Root, Time: l.Now(),
				Cosignatures: []masterfsm.Cosignature{cosignature},
			}
			if view.Level >= masterfsm.LevelClosing {
				cosign.Origin = view.Log.Origin
			}
			_, err = l.Propose(ctx, cosign)
			if err != nil && !errors.Is(err, masterfsm.ErrStale) { // else a newer one is shown already
				err = fmt.Errorf("%w: %w", errNotSubmitted, err)
			} else {
				err = nil
			}
		}
		var stored uint64
		l.cfg.Ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint().Size })
		return func(m *memory, now time.Time) {
			if m.witnesses.origin == view.Log.Origin { // else that log was closed meanwhile
				l.learnCosigning(m.witnesses.witness(w.Name), err, nominee.Size, stored, now)
			}
		}, err
	}
}

// submit sends a checkpoint to a witness with the proof from a size, and verifies the answer.
func (l *leadership) submit(
	ctx context.Context, w signing.Witness, view masterfsm.View, c masterfsm.Boundary, old uint64,
) (masterfsm.Cosignature, error) {
	proof, err := l.cfg.Prover.Consistency(ctx, old, c.Size)
	if err != nil {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: no proof from size %d to %d: %w",
			errNotSubmitted, old, c.Size, err)
	}
	signed, err := l.cfg.Signer.Sign(l.cfg.Log.Sealer(view.Group.ID), view.Log, masterfsm.Cosigned{Boundary: c})
	if err != nil {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: %w", errNotSubmitted, err)
	}
	answer, err := l.cfg.WitnessCalls.AddCheckpoint(ctx, w.URL, old, proof, signed)
	if err != nil {
		return masterfsm.Cosignature{}, err
	}
	return w.Cosignature(signed, answer)
}

// learnCosigning applies the end of a submission to what the leader knows of the witness, and logs changes.
func (l *leadership) learnCosigning(w *knownWitness, err error, size, stored uint64, now time.Time) {
	before, had := w.State, w.Size
	w.learn(err, size, stored, l.pace, now)
	switch {
	case w.State == before:
	case w.State == wire.WitnessOK:
		l.log.Info("witness cosigns", "witness", w.Name, "size", w.Size)
	default:
		l.log.Warn("witness does not cosign", "witness", w.Name, "url", w.URL, "state", w.State, "error", w.Error)
	}
	if w.Size < had {
		l.log.Warn("witness has cosigned less than before", "witness", w.Name, "size", w.Size, "had", had)
	}
}

// witness returns the witness of a name.
func (l *Leader) witness(name string) signing.Witness {
	for i := range l.cfg.Witnesses {
		if l.cfg.Witnesses[i].Name == name {
			return l.cfg.Witnesses[i]
		}
	}
	return signing.Witness{}
}
