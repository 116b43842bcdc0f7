package masternode

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestCloseLog closes the log at an older checkpoint. The new key signs checkpoints and the statement, the former key
// signs nothing, and witnesses of the new name cosign from nothing.
func TestCloseLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 1, "w1")
		defer r.stop()
		r.ledger.Audited.Store(true)
		if _, err := r.ledger.Propose(t.Context(),
			r.ledger.Encode(&masterfsm.RaiseLevel{Level: masterfsm.LevelClosing})); err != nil {
			t.Fatal(err)
		}
		r.store(t)
		eventually(t, "a cosigned checkpoint", 10*time.Second, func() bool {
			_, signers := cosigners(t, r)
			return slices.Contains(signers, "w1")
		})
		old := r.checked(t)
		former := logKeys(r)
		r.store(t)
		closing := wire.CloseLog{Origin: "example.com/second", Reason: "key stolen", Trusted: string(old.Note)}
		for what, change := range map[string]func(*wire.CloseLog){
			"no reason": func(c *wire.CloseLog) { c.Reason = "" },
			"no note":   func(c *wire.CloseLog) { c.Trusted = "checkpoint" },
			"other key": func(c *wire.CloseLog) {
				c.Trusted = strings.ReplaceAll(c.Trusted, former.Origin, "example.com/x")
			},
		} {
			bad := closing
			change(&bad)
			if _, err := r.CloseLog(t.Context(), bad); !errors.Is(err, wire.ErrBadRequest) {
				t.Errorf("%s: %v", what, err)
			}
		}
		forged := old.Boundary
		forged.Root[0]++
		signed, err := r.signer.Sign(r.cfg.Log.Sealer("cs-test"), former, masterfsm.Cosigned{Boundary: forged})
		if err != nil {
			t.Fatal(err)
		}
		closing.Trusted = string(signed)
		if _, err := r.CloseLog(t.Context(), closing); !errors.Is(err, wire.ErrBadRequest) ||
			!strings.Contains(err.Error(), "evidence") {
			t.Errorf("a checkpoint by the thief of the key: %v", err)
		}
		closing.Trusted = string(old.Note)
		key, err := r.CloseLog(t.Context(), closing)
		if err != nil {
			t.Fatal(err)
		}
		f.know(r) // the operator of the witness gives it the new key
		eventually(t, "a checkpoint that the witness has cosigned under the new name", time.Minute, func() bool {
			_, signers := cosigners(t, r)
			return slices.Contains(signers, "w1")
		})
		c := r.checked(t)
		v, err := note.NewVerifier(key.VerifierKey)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := note.Open(c.Note, note.VerifierList(v)); err != nil || n.Sigs[0].Name != "example.com/second" {
			t.Errorf("%v\n%s", err, c.Note)
		}
		if _, err := note.Open(c.Note, note.VerifierList(verifiers(t, former)...)); err == nil {
			t.Errorf("the former key has signed\n%s", c.Note)
		}
		l, err := r.Log(t.Context())
		if err != nil || len(l.Closed) != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
		n, err := note.Open([]byte(l.Closed[0].Statement), note.VerifierList(v))
		if err != nil {
			t.Fatal(err)
		}
		said, err := wire.ParseClosing(n.Text)
		want := wire.Closing{
			Origin: former.Origin, Size: old.Boundary.Size, Root: old.Boundary.Root, Reason: "key stolen",
		}
		if err != nil || said != want || len(l.Closed[0].VerifierKeys) != 1 {
			t.Errorf("%+v, %v, want %+v", said, err, want)
		}
		if table(r, (*masterfsm.State).Published).Boundary.Size < old.Boundary.Size {
			t.Error("the tree begins anew")
		}
	})
}
