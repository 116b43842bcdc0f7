package masternode

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// verifiers returns the verifiers of the signing keys.
func verifiers(t *testing.T, l masterfsm.Log) []note.Verifier {
	t.Helper()
	var all []note.Verifier
	for _, k := range l.Signing() {
		v, err := note.NewVerifier(l.VerifierKey(&k))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// table returns a value of the state.
func table[T any](r *rig, read func(*masterfsm.State) T) (v T) {
	r.ledger.Read(func(s *masterfsm.State) { v = read(s) })
	return v
}

// checked returns the rig's checkpoint after verifying its note with both libraries and the signing keys.
func (r *rig) checked(t *testing.T) Checkpoint {
	t.Helper()
	c, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys := table(r, (*masterfsm.State).Log)
	known := verifiers(t, keys)
	n, err := note.Open(c.Note, note.VerifierList(known...))
	if err != nil || len(n.Sigs) != len(known) {
		t.Fatalf("%v: of %d keys\n%s", err, len(known), c.Note)
	}
	for _, v := range known {
		p, rest, _, err := log.ParseCheckpoint(c.Note, keys.Origin, v)
		if err != nil || len(rest) > 0 || p.Size != c.Boundary.Size || string(p.Hash) != string(c.Boundary.Root[:]) {
			t.Fatalf("%+v, %q, %v: want %+v\n%s", p, rest, err, c.Boundary, c.Note)
		}
	}
	return c
}

// store appends a record and waits until it is stored.
func (r *rig) store(t *testing.T) {
	t.Helper()
	if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * time.Second) // virtual time in which it is cut, mined and stored
}

func TestCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		empty := r.checked(t)
		if empty.Boundary.Size != 0 {
			t.Errorf("an empty chain has a checkpoint of %+v", empty.Boundary)
		}
		if origin := table(r, (*masterfsm.State).Log).Origin; origin != "chainstore/cs-test" {
			t.Errorf("origin %q", origin)
		}
		r.store(t)
		c := r.checked(t)
		if want := table(r, (*masterfsm.State).Boundary); c.Boundary != want || c.Boundary.Size != 2 {
			t.Errorf("%+v, the chain ends at %+v", c.Boundary, want)
		}
		// Another master of the group, and the next leader, sign exactly the same bytes.
		other, err := New(r.cfg)
		if err != nil {
			t.Fatal(err)
		}
		if same, err := other.checkpointHere(); err != nil || string(same.Note) != string(c.Note) {
			t.Errorf("another master signs %q, %v", same.Note, err)
		}
		r.ledger.CutLeadership()
		time.Sleep(time.Second)
		if same := r.checked(t); string(same.Note) != string(c.Note) {
			t.Errorf("the next leader signs %q", same.Note)
		}
	})
}

// TestNoOlderCheckpointAfterARecovery checks that after a recovery no checkpoint is served that may be older than one
// served before it. Everything else continues, and checkpoints are served again once enough storage nodes have the
// chain.
func TestNoOlderCheckpointAfterARecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 2, nil)
		defer r.stop()
		second := r.workers.Storages["http://s1"]
		down := func(is bool) {
			second.Mu.Lock()
			defer second.Mu.Unlock()
			second.Down = is
		}
		down(true)
		r.store(t) // on one of the two nodes that a block needs
		r.checked(t)
		r.ledger.Mu.Lock()
		_, err := r.ledger.State.Recover(masterfsm.Group{ID: "cs-test", Epoch: 2}).Finish(0, nil)
		r.ledger.Mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := r.Checkpoint(t.Context()); !errors.Is(err, signing.ErrNoCheckpoint) ||
			errors.Is(err, signing.ErrNoLogKey) || c.Note != nil || !strings.Contains(err.Error(), "recovered") {
			t.Errorf("%s, %v", c.Note, err)
		}
		if m := r.notice(wire.CodeCheckpointWaits); m.Args["needed"] != uint64(1) || m.Args["blocks"] != uint64(0) {
			t.Errorf("%+v", m)
		}
		if _, err := r.AddLogKey(t.Context()); err != nil { // a key may be replaced meanwhile
			t.Error(err)
		}
		down(false)
		r.store(t)
		if c := r.checked(t); c.Boundary != table(r, (*masterfsm.State).Boundary) {
			t.Errorf("%+v", c.Boundary)
		}
	})
}
