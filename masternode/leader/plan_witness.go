package leader

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// witnessMemory is what a leader knows of the witnesses, and the checkpoint that it asks them to cosign. It begins
// empty in each term.
//
// All witnesses are asked for the same checkpoint, the nominee. If each got the newest at its own pace, a growing log
// would never have the cosignatures of several witnesses for one size. The newest checkpoint replaces the nominee when
// enough witnesses have signed it, and the others are failing or too slow.
type witnessMemory struct {
	origin    string             // of the log that they sign
	list      []*knownWitness    // as the configuration has them
	nominee   masterfsm.Boundary // zero before the first
	nominated time.Time
}

// knownWitness is what a leader knows of one witness.
type knownWitness struct {
	wire.Witness           // Size is 0 if it is not known, Failures are those of this term
	signed       uint64    // size that it last cosigned for this leader
	conflicts    int       // submissions in a row from another size than it had
	failedInRow  int       // submissions in a row that failed
	notBefore    time.Time // the next submission
}

// newWitnessMemory begins with what the table has of the witnesses.
func newWitnessMemory(list []signing.Witness, view masterfsm.View) witnessMemory {
	m := witnessMemory{origin: view.Log.Origin}
	for i := range list {
		w := &knownWitness{Witness: wire.Witness{
			Name: list[i].Name, URL: list[i].URL, VerifierKey: list[i].VerifierKey, State: wire.WitnessNew,
		}}
		for _, c := range view.Cosigned { // the newest is the last
			if line := cosignatureOf(c.Cosignatures, w.Name); line != nil {
				w.Size, w.Last = c.Boundary.Size, signing.CosignedAt(*line)
			}
		}
		m.list = append(m.list, w)
	}
	return m
}

// witness returns the witness of a name, which must exist.
func (m *witnessMemory) witness(name string) *knownWitness {
	at := slices.IndexFunc(m.list, func(w *knownWitness) bool { return w.Name == name })
	return m.list[at]
}

// nominate replaces the nominee by the newest stored checkpoint when it may be replaced.
func (m *witnessMemory) nominate(view masterfsm.View, p pace, now time.Time) {
	m.follow(view.Log.Origin)
	newest := view.Checkpoint
	if len(m.list) == 0 || len(view.Log.Keys) == 0 || newest.Size <= m.nominee.Size || !m.replaceable(view, p, now) {
		return
	}
	m.nominee, m.nominated = newest, now
}

// follow forgets what witnesses have signed of a log that is closed. They know nothing of the one that continues it.
func (m *witnessMemory) follow(origin string) {
	if origin == m.origin {
		return
	}
	closed := m.origin != "" // else the log has just got its first key
	m.origin = origin
	if !closed {
		return
	}
	m.nominee, m.nominated = masterfsm.Boundary{}, time.Time{}
	for i, w := range m.list {
		m.list[i] = &knownWitness{Witness: wire.Witness{
			Name: w.Name, URL: w.URL, VerifierKey: w.VerifierKey, State: wire.WitnessNew,
		}}
	}
}

// replaceable reports whether another checkpoint may replace the nominee.
func (m *witnessMemory) replaceable(view masterfsm.View, p pace, now time.Time) bool {
	if m.nominee.Size == 0 {
		return true
	}
	if now.Before(m.nominated.Add(p.witness)) {
		return false
	}
	signed := cosignatures(view, m.nominee.Size)
	waiting := false
	for _, w := range m.list {
		if w.Size > m.nominee.Size && w.Size <= view.Checkpoint.Size {
			return true // it can no longer cosign the nominee
		}
		waiting = waiting || cosignatureOf(signed, w.Name) == nil && w.signed < m.nominee.Size && w.failedInRow == 0
	}
	// A nominee that some witnesses have signed is kept until enough have: each signs it when it can. One without a
	// signature is not.
	if n := len(signed); n > 0 && n < int(view.Settings.WitnessQuorum) {
		return false
	}
	return !waiting || !now.Before(m.nominated.Add(p.patience))
}

// cosignatures returns those that the table has for the checkpoint of a size.
func cosignatures(view masterfsm.View, size uint64) []masterfsm.Cosignature {
	for i := range view.Cosigned {
		if view.Cosigned[i].Boundary.Size == size {
			return view.Cosigned[i].Cosignatures
		}
	}
	return nil
}

// cosignatureOf returns the cosignature of a witness, nil if there is none.
func cosignatureOf(list []masterfsm.Cosignature, name string) *masterfsm.Cosignature {
	for i := range list {
		if list[i].Witness == name {
			return &list[i]
		}
	}
	return nil
}

// from returns the size from which a submission goes. It is 0 if nothing is known, or if the witness has more than that
// checkpoint. Then the witness answers with the size that it has.
func (w *knownWitness) from(size uint64) uint64 {
	if w.Size > size {
		return 0
	}
	return w.Size
}

// cosigning asks every witness for its cosignature of the nominee, with one submission at a time.
func (w *planner) cosigning() {
	m := &w.memory.witnesses
	if m.nominee.Size == 0 {
		return
	}
	signed := cosignatures(w.view, m.nominee.Size)
	for _, one := range m.list {
		switch {
		case w.inFlight(actCosign, one.Name) || cosignatureOf(signed, one.Name) != nil || one.signed == m.nominee.Size:
		case one.Size > m.nominee.Size && one.State != wire.WitnessBehind: // it waits for the next nominee
		case w.now.Before(one.notBefore) && !one.reached(m.nominee.Size):
			w.wakeAt(one.notBefore)
		default:
			w.want(action{kind: actCosign, node: one.Name, block: m.nominee.Height})
		}
	}
	if w.view.Checkpoint.Size > m.nominee.Size {
		for _, due := range []time.Time{m.nominated.Add(w.pace.witness), m.nominated.Add(w.pace.patience)} {
			if w.now.Before(due) {
				w.wakeAt(due)
			}
		}
	}
}

// reached reports whether the nominee has reached the size of a witness that was ahead. Then there is no pause.
func (w *knownWitness) reached(size uint64) bool {
	return w.State == wire.WitnessBehind && w.Size <= size
}

// learn applies the end of a submission of a size. stored is the size that the group has stored.
func (w *knownWitness) learn(err error, size, stored uint64, p pace, now time.Time) {
	var conflict *wire.WitnessConflict
	var refusal *wire.WitnessRefusal
	switch {
	case err == nil:
		w.Size, w.signed = size, size
		w.Last, _ = wallMillis(now)
		w.conflicts, w.failedInRow, w.notBefore, w.State, w.Error = 0, 0, time.Time{}, wire.WitnessOK, ""
	case errors.As(err, &conflict) && conflict.Size > stored:
		w.Size = conflict.Size
		w.fail(wire.WitnessBehind, fmt.Errorf(
			"the witness has cosigned %d leaves of this log, and %d are stored here: "+
				"the group has lost some of its past, or another log signs with its key",
			conflict.Size, stored), p.witnessMost, p, now)
	case errors.As(err, &conflict):
		w.Size = conflict.Size
		w.conflicts++
		if w.conflicts > maxConflicts {
			w.fail(wire.WitnessRefused, fmt.Errorf("%w, and another one at each try", err), 0, p, now)
		}
	case errors.As(err, &refusal) && refusal.Status != 429 && refusal.Status < 500:
		w.fail(wire.WitnessRefused, err, refusal.RetryAfter, p, now)
	case errors.As(err, &refusal):
		w.fail(wire.WitnessDown, err, refusal.RetryAfter, p, now)
	case errors.Is(err, wire.ErrNoAnswer):
		w.fail(wire.WitnessDown, err, 0, p, now)
	case errors.Is(err, errNotSubmitted):
		w.notBefore, w.Error = now.Add(p.witness), clip(err.Error())
	default:
		w.fail(wire.WitnessRefused, err, 0, p, now)
	}
}

// maxConflicts is how many submissions in a row may find another size than the witness had last. A leader that knows
// nothing finds one, and a second one if a submission of its predecessor was in flight.
const maxConflicts = 2

// maxRetryAfter bounds how long a witness may delay the next submission.
const maxRetryAfter = time.Hour

// fail records a failed submission and delays the next one, twice as long each time.
func (w *knownWitness) fail(state wire.WitnessState, err error, least time.Duration, p pace, now time.Time) {
	w.failedInRow++
	w.Failures++
	pause := p.witnessMost
	if w.failedInRow < 16 {
		pause = min(p.witness<<(w.failedInRow-1), p.witnessMost)
	}
	w.notBefore = now.Add(max(pause, min(least, maxRetryAfter)))
	w.State, w.Error = state, clip(err.Error())
}
