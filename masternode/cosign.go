package masternode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// witnessTimeout is how long a witness may take for a cosignature, the consistency proof for it included.
const witnessTimeout = 10 * time.Second

// errOurs: the submission could not be made. The witness has nothing to do with it.
var errOurs = errors.New("nothing could be submitted")

// cosign has a witness cosign the checkpoint that is nominated, and commits the cosignature.
func (l *leadership) cosign(a action, view masterfsm.View, m *memory) job {
	w, nominee := l.node.witness(a.node), m.witnesses.nominee
	old := m.witnesses.of(a.node).from(nominee.Size)
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		asking, cancel := context.WithTimeout(ctx, witnessTimeout)
		defer cancel()
		cosignature, err := l.submit(asking, w, view, nominee, old)
		if err == nil {
			_, err = l.node.propose(ctx, &masterfsm.Cosign{
				Size: nominee.Size, Root: nominee.Root, Cosignatures: []masterfsm.Cosignature{cosignature}, Time: l.node.now(),
			})
			if err != nil && !errors.Is(err, masterfsm.ErrStale) { // a newer one is shown already: this one came late
				err = fmt.Errorf("%w: %w", errOurs, err)
			} else {
				err = nil
			}
		}
		var stored uint64
		l.node.cfg.Ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint().Size })
		return func(m *memory, now time.Time) { l.witnessed(m.witnesses.of(w.Name), err, nominee.Size, stored, now) }, err
	}
}

// submit hands the witness a checkpoint with the proof from a size, and verifies what it answers.
func (l *leadership) submit(ctx context.Context, w Witness, view masterfsm.View, c masterfsm.Boundary, old uint64) (masterfsm.Cosignature, error) {
	proof, err := l.node.consistency(ctx, old, c.Size)
	if err != nil {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: no proof from size %d to %d: %w", errOurs, old, c.Size, err)
	}
	signed, err := l.node.notary.sign(l.node.logSecret(view.Group.ID), view.Log, masterfsm.Cosigned{Boundary: c})
	if err != nil {
		return masterfsm.Cosignature{}, fmt.Errorf("%w: %w", errOurs, err)
	}
	answer, err := l.node.cfg.WitnessCalls.AddCheckpoint(ctx, w.URL, old, proof, signed)
	if err != nil {
		return masterfsm.Cosignature{}, err
	}
	return w.cosignature(signed, answer)
}

// witnessed takes the end of a submission into what the leader knows of the witness, and tells the log what changed.
func (l *leadership) witnessed(w *witnessed, err error, size, stored uint64, now time.Time) {
	before, had := w.state, w.size
	w.learn(err, size, stored, l.node.pace, now)
	switch {
	case w.state == before:
	case w.state == wire.WitnessOK:
		l.node.log.Info("the witness cosigns", "witness", w.name, "size", w.size)
	default:
		l.node.log.Warn("the witness does not cosign", "witness", w.name, "url", w.url, "state", w.state, "error", w.trouble)
	}
	if w.size < had {
		l.node.log.Warn("the witness has gone back: it had cosigned more", "witness", w.name, "size", w.size, "had", had)
	}
}

// witness is that of a name.
func (n *Node) witness(name string) Witness {
	for i := range n.cfg.Witnesses {
		if n.cfg.Witnesses[i].Name == name {
			return n.cfg.Witnesses[i]
		}
	}
	return Witness{}
}

// cosigners are the witnesses as the leader sees them; none where it cannot be asked. Outsiders ask for them without a token: those who ask
// another master at the same time share one question to the leader.
func (n *Node) cosigners(ctx context.Context) []wire.Witness {
	if l := n.leadership.Load(); l != nil {
		return l.cosigners()
	}
	leader, url := n.leader()
	if leader == "" || url == "" || leader == n.cfg.Member.ID {
		return nil
	}
	// Without an answer the log's keys are shown without witnesses.
	list, _ := n.cosigned.Do(ctx, struct{}{}, statusTimeout, func(ctx context.Context) ([]wire.Witness, error) {
		c, err := n.cfg.Masters.Cluster(ctx, url)
		return c.Witnesses, err
	})
	return list
}

// cosigners copies what is told of the witnesses; nothing where this master does not lead.
func (l *leadership) cosigners() []wire.Witness {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.witnesses)
}

// witnessNotices are what somebody must know of the witnesses.
func witnessNotices(list []wire.Witness, quorum int) []string {
	var notices []string
	well := len(list)
	for i := range list {
		if w := &list[i]; w.Error != "" {
			notices = append(notices, fmt.Sprintf("witness %s at %s does not cosign (%s): %s", w.Name, w.URL, w.State, w.Error))
			well--
		}
	}
	if len(list) > 0 && well < quorum {
		notices = append(notices, fmt.Sprintf("%d of %d witnesses that a checkpoint needs cosign: the one that is shown stays until more do", well, quorum))
	}
	return notices
}
