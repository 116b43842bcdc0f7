package masternode

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"encoding/json"

	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// cosigners verifies the published checkpoint with the keys of the log and of the witnesses. It returns the names of
// the witnesses that have signed.
func cosigners(t *testing.T, r *rig) (c Checkpoint, names []string) {
	t.Helper()
	c, err := r.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	own := verifiers(t, table(r, (*masterfsm.State).Log))
	all := slices.Clone(own)
	for _, w := range r.cfg.Witnesses {
		v, err := formats.NewVerifierForCosignatureV1(w.VerifierKey)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	n, err := note.Open(c.Note, note.VerifierList(all...))
	if err != nil || len(n.UnverifiedSigs) > 0 {
		t.Fatalf("%v, %v\n%s", err, n, c.Note)
	}
	for _, s := range n.Sigs[len(own):] {
		names = append(names, s.Name)
	}
	return c, names
}

// eventually waits, in virtual time, until a condition is true.
func eventually(t *testing.T, what string, within time.Duration, is func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func stored(r *rig) uint64 { return table(r, (*masterfsm.State).Checkpoint).Size }

func TestWitnessCosigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 0, "w1")
		defer r.stop()
		time.Sleep(5 * time.Second)
		if list := f.asked("w1"); len(list) != 0 {
			t.Errorf("an empty log was submitted: %v", list)
		}
		if s := r.statusOf(t, "w1"); s.State != wire.WitnessNew || s.URL != "http://w1" {
			t.Errorf("status %+v", s)
		}
		for range 3 {
			r.store(t)
			if c, names := cosigners(t, r); c.Boundary.Size != stored(r) || !slices.Equal(names, []string{"w1"}) {
				t.Errorf("the checkpoint of %d leaves, %d are stored, is cosigned by %v", c.Boundary.Size, stored(r),
					names)
			}
		}
		want := [][2]uint64{{0, 2}, {2, 4}, {4, 6}}
		var got [][2]uint64
		for _, a := range f.asked("w1") {
			got = append(got, [2]uint64{a.old, a.size})
		}
		if !slices.Equal(got, want) {
			t.Errorf("submissions %v, want %v: each once, from the size that was cosigned last", got, want)
		}
		if s := r.statusOf(t, "w1"); s.State != wire.WitnessOK || s.Size != 6 || s.Last == 0 || s.Error != "" ||
			s.Failures != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestWitnessOfNextLeader checks that a new leader reads a witness's size from the table, and learns from the witness
// itself what the table lacks.
func TestWitnessOfNextLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 0, "w1")
		defer r.stop()
		r.store(t)
		r.ledger.CutLeadership()
		time.Sleep(time.Second)
		if s := r.statusOf(t, "w1"); s.State != wire.WitnessNew || s.Size != 2 || s.Last == 0 {
			t.Errorf("status of a new leader %+v", s)
		}
		if n := len(f.asked("w1")); n != 1 {
			t.Errorf("%d submissions, and the table has the cosignature", n)
		}
		r.store(t)
		if last := f.asked("w1")[1]; last.old != 2 {
			t.Errorf("the new leader submits from %d", last.old)
		}

		// The next response is lost together with the leader that waits for it.
		f.change("w1", func(w *fakeWitness) {
			w.after = func([]byte) ([]byte, error) {
				r.ledger.CutLeadership()
				return nil, fmt.Errorf("%w: gone", wire.ErrNoAnswer)
			}
		})
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the witness has it", 10*time.Second,
			func() bool { return f.list["http://w1"].Size(r.origin()) == 6 })
		f.change("w1", func(w *fakeWitness) { w.after, w.asked = nil, nil })
		time.Sleep(2 * time.Second)
		list := f.asked("w1")
		if len(list) != 2 || list[0].old != 4 || list[1].old != 6 || list[1].size != 6 || list[1].at != list[0].at {
			t.Errorf("submissions %v: one from what the table has, and at once one from what the witness has", list)
		}
		if c, names := cosigners(t, r); c.Boundary.Size != 6 || len(names) != 1 {
			t.Errorf("size %d, cosigned by %v", c.Boundary.Size, names)
		}
		if s := r.statusOf(t, "w1"); s.State != wire.WitnessOK || s.Failures != 0 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestWitnessIsAhead checks a witness that has cosigned a larger size than the group has. Until the group reaches that
// size, the leader only queries it occasionally, and raises the alarm.
func TestWitnessIsAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 0, "w1")
		defer r.stop()
		claim := func(size uint64) func(context.Context) error {
			return func(context.Context) error { return &wire.WitnessConflict{Size: size} }
		}
		f.change("w1", func(w *fakeWitness) { w.before = claim(6) })
		r.store(t)
		s := r.statusOf(t, "w1")
		if s.State != wire.WitnessBehind || s.Size != 6 ||
			!strings.Contains(s.Error, "has cosigned 6 leaves of this log, and 2 are stored") {
			t.Errorf("status %+v", s)
		}
		if m := r.notice(wire.CodeWitnessDown); m.Args["name"] != "w1" || m.Args["detail"] != s.Error {
			t.Errorf("notices %q", r.Cluster(t.Context()).Notices)
		}
		r.store(t)
		if n := len(f.asked("w1")); n != 1 {
			t.Errorf("%d submissions to a witness that is ahead", n)
		}
		time.Sleep(time.Minute) // the longest pause between two submissions
		if list := f.asked("w1"); len(list) != 2 || list[1].old != 0 {
			t.Errorf("after a minute: %v", list)
		}
		// The witness had claimed a false size: it has cosigned nothing.
		f.change("w1", func(w *fakeWitness) { w.before = nil })
		r.store(t)
		if _, names := cosigners(t, r); len(names) != 1 {
			t.Errorf("the group has 6 leaves, and they are cosigned by %v", names)
		}
		if s := r.statusOf(t, "w1"); s.State != wire.WitnessOK || s.Size != 6 {
			t.Errorf("status %+v", s)
		}
	})
}

// TestWitnessHasALaterOne checks that a witness that has cosigned a stored size that is not nominated yet gets the
// newest checkpoint.
func TestWitnessHasALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 2, "w1", "w2")
		defer r.stop()
		// w2 is down, so the first checkpoint waits for it. Once, w1 reports that it has a later one.
		f.change("w2", func(w *fakeWitness) { w.before = func(context.Context) error { return wire.ErrNoAnswer } })
		r.store(t)
		f.change("w1", func(w *fakeWitness) { w.Forget(r.origin()) })
		r.store(t)
		if n := len(f.asked("w1")); n != 1 {
			t.Errorf("%d submissions to a witness whose cosignature waits for that of another", n)
		}
		f.change("w2", func(w *fakeWitness) {
			w.before = func(context.Context) error { return &wire.WitnessConflict{Size: 4} }
		})
		eventually(t, "the next nominee", 2*time.Minute, func() bool {
			list := f.asked("w1")
			return list[len(list)-1].size == 4
		})
		f.change("w2", func(w *fakeWitness) { w.before = nil })
		eventually(t, "both sign", 2*time.Minute, func() bool { _, names := cosigners(t, r); return len(names) == 2 })
	})
}

// TestWitnessInTrouble has a row for each kind of failure of a witness. Each time the witness is retried after 1, 2, 4
// … seconds, at most a minute, without effect on the rest of the cluster. Once it works again, it cosigns.
func TestWitnessInTrouble(t *testing.T) {
	fail := func(err error) func(*fakeWitness, *rig) {
		return func(w *fakeWitness, _ *rig) { w.before = func(context.Context) error { return err } }
	}
	answer := func(change func([]byte) []byte) func(*fakeWitness, *rig) {
		return func(w *fakeWitness, _ *rig) {
			w.after = func(lines []byte) ([]byte, error) { return change(lines), nil }
		}
	}
	sizes := uint64(0)
	for name, c := range map[string]struct {
		harm  func(*fakeWitness, *rig)
		state wire.WitnessState
		words string
		first time.Duration // from the first to the second submission, 0 means 1 s
	}{
		"down": {harm: fail(fmt.Errorf("%w: refused", wire.ErrNoAnswer)), state: wire.WitnessDown,
			words: "no answer"},
		"too busy": {harm: fail(&wire.WitnessRefusal{Status: 503, Reason: "soon back", RetryAfter: 7 * time.Second}),
			state: wire.WitnessDown, words: "soon back", first: 7 * time.Second},
		"too often": {
			harm: fail(&wire.WitnessRefusal{Status: 429}), state: wire.WitnessDown, words: "429",
		},
		"403": {
			harm:  func(w *fakeWitness, r *rig) { w.Know(r.origin()) },
			state: wire.WitnessRefused, words: "trusts none of the keys",
		},
		"404": {
			harm: func(w *fakeWitness, r *rig) {
				w.before = func(context.Context) error { return &wire.WitnessRefusal{Status: 404} }
			},
			state: wire.WitnessRefused, words: "does not know the origin",
		},
		"422": {harm: fail(&wire.WitnessRefusal{Status: 422, Reason: "proof"}), state: wire.WitnessRefused,
			words: "another history"},
		"400":      {harm: fail(&wire.WitnessRefusal{Status: 400}), state: wire.WitnessRefused, words: "cannot read"},
		"redirect": {harm: fail(&wire.WitnessRefusal{Status: 307}), state: wire.WitnessRefused, words: "307"},
		"nonsense": {harm: fail(errors.New("the answer is none")), state: wire.WitnessRefused, words: "is none"},
		"another size at each try": {
			harm: func(w *fakeWitness, _ *rig) {
				w.before = func(context.Context) error { sizes++; return &wire.WitnessConflict{Size: sizes % 2} }
			},
			state: wire.WitnessRefused, words: "another one at each try",
		},
		"an empty answer": {harm: answer(func([]byte) []byte { return nil }), state: wire.WitnessRefused,
			words: "without a good cosignature"},
		"no note": {harm: answer(func([]byte) []byte { return []byte("yes\n") }),
			state: wire.WitnessRefused, words: "without a good cosignature"},
		"a damaged signature": {harm: answer(damage), state: wire.WitnessRefused, words: "invalid signature"},
		"another text signed": {harm: answer(func(l []byte) []byte { return append([]byte("x\n\n"), l...) }),
			state: wire.WitnessRefused, words: "without a good cosignature"},
		"only an unknown key": {harm: answer(func([]byte) []byte { return foreign(t) }), state: wire.WitnessRefused,
			words: "without a good cosignature"},
		"a name like the real": {harm: answer(
			func(l []byte) []byte { return bytes.Replace(l, []byte("w1"), []byte("w2"), 1) }),
			state: wire.WitnessRefused, words: "without a good"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, f := newWitnessedRig(t, 0, "w1")
				defer r.stop()
				f.change("w1", func(w *fakeWitness) { c.harm(w, r) })
				r.store(t)
				s := r.statusOf(t, "w1")
				if s.State != c.state || !strings.Contains(s.Error, c.words) || s.Failures == 0 {
					t.Errorf("status %+v, want %s with the words %q", s, c.state, c.words)
				}
				if m := r.notice(wire.CodeWitnessDown); m.Args["name"] != "w1" || m.Args["detail"] != s.Error {
					t.Errorf("notices %q", r.Cluster(t.Context()).Notices)
				}
				if p, names := cosigners(t, r); p.Boundary.Size != stored(r) || stored(r) != 2 || len(names) > 0 {
					t.Errorf("the checkpoint of %d leaves is cosigned by %v, %d are stored", p.Boundary.Size, names,
						stored(r))
				}
				time.Sleep(10 * time.Minute)
				var pauses []time.Duration
				list := f.asked("w1")
				for i := range list[1:] {
					// Otherwise the size of the witness was queried.
					if pause := list[i+1].at.Sub(list[i].at); pause >= time.Second {
						pauses = append(pauses, pause)
					}
				}
				want := []time.Duration{max(c.first, time.Second), max(c.first, 2*time.Second),
					max(c.first, 4*time.Second), 8 * time.Second, 16 * time.Second,
					32 * time.Second, time.Minute, time.Minute, time.Minute}
				if got := pauses[:min(len(want), len(pauses))]; !slices.Equal(got, want) {
					t.Errorf("pauses %v, want %v", got, want)
				}
				f.change("w1", func(w *fakeWitness) { w.before, w.after = nil, nil })
				f.know(r)
				time.Sleep(time.Minute + time.Second)
				if _, names := cosigners(t, r); len(names) != 1 {
					t.Errorf("cosigned by %v once the witness is well", names)
				}
				if s := r.statusOf(t, "w1"); s.State != wire.WitnessOK || s.Error != "" {
					t.Errorf("status %+v", s)
				}
			})
		})
	}
}

func damage(lines []byte) []byte {
	lines = bytes.Clone(lines)
	if i := len(lines) - 10; lines[i] == 'A' {
		lines[i] = 'B'
	} else {
		lines[i] = 'A'
	}
	return lines
}

// foreign returns a signature line of an unknown key.
func foreign(t *testing.T) []byte {
	t.Helper()
	skey, _, err := note.GenerateKey(rand.Reader, "stranger")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "x\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed[len("x\n\n"):]
}

// TestWitnessUnknownKeysIgnored checks that a response may contain signatures of unknown keys in addition to that of
// the known key.
func TestWitnessUnknownKeysIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 1, "w1")
		defer r.stop()
		f.change("w1", func(w *fakeWitness) {
			w.after = func(lines []byte) ([]byte, error) {
				return slices.Concat(foreign(t), lines, lines, foreign(t)),
					nil
			}
		})
		r.store(t)
		c, names := cosigners(t, r)
		if c.Boundary.Size != 2 || !slices.Equal(names, []string{"w1"}) ||
			strings.Contains(string(c.Note), "stranger") {
			t.Errorf("%v\n%s", names, c.Note)
		}
	})
}

// TestWitnessHangs checks that a witness that never replies delays neither appends nor storage nor the other witness.
func TestWitnessHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 1, "w1", "w2")
		defer r.stop()
		f.change("w1", func(w *fakeWitness) {
			w.before = func(ctx context.Context) error {
				<-ctx.Done()
				return fmt.Errorf("%w: %w", wire.ErrNoAnswer, ctx.Err())
			}
		})
		for i := range 8 {
			r.store(t)
			if want := uint64(2 * (i + 1)); stored(r) != want {
				t.Errorf("%d leaves stored, want %d", stored(r), want)
			}
			if c, names := cosigners(t, r); c.Boundary.Size != stored(r) || !slices.Equal(names, []string{"w2"}) {
				t.Errorf("round %d: the checkpoint of %d leaves, cosigned by %v", i, c.Boundary.Size, names)
			}
		}
		s := r.statusOf(t, "w1")
		if s.State != wire.WitnessDown {
			t.Errorf("status %+v", s)
		}
		list := f.asked("w1")
		if pause := list[1].at.Sub(list[0].at); pause != 11*time.Second { // 10 s for the response, and the pause
			t.Errorf("asked again after %v", pause)
		}
	})
}

// TestWitnessPace checks that a witness that replies at once gets one submission per second, however often blocks are
// stored.
func TestWitnessPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 0, "w1")
		defer r.stop()
		r.fill(t, 200)
		list := f.asked("w1")
		for i := range list[1:] {
			if pause := list[i+1].at.Sub(list[i].at); pause < time.Second {
				t.Errorf("submissions %v and %v", list[i], list[i+1])
			}
		}
		if len(list) < 15 {
			t.Errorf("%d submissions in 20 seconds", len(list))
		}
	})
}

// fill appends a number of blocks, one every tenth of a second.
func (r *rig) fill(t *testing.T, blocks int) {
	t.Helper()
	entries := make([]Entry, r.cfg.Settings.MaxRecords)
	for i := range entries {
		entries[i].Payload = []byte("x")
	}
	for range blocks {
		if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestWitnessAllAway checks that the nominee stays recent while no witness cosigns, so that the table can accept its
// cosignature when a witness returns.
func TestWitnessAllAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 1, "w1")
		defer r.stop()
		f.change("w1", func(w *fakeWitness) { w.before = func(context.Context) error { return wire.ErrNoAnswer } })
		r.fill(t, 1100) // more blocks than the table keeps boundaries
		if c, _ := cosigners(t, r); c.Boundary.Size != 0 {
			t.Errorf("the checkpoint of %d leaves is shown", c.Boundary.Size)
		}
		f.change("w1", func(w *fakeWitness) { w.before = nil })
		eventually(t, "the newest is shown", 2*time.Minute, func() bool {
			c, names := cosigners(t, r)
			return c.Boundary.Size == stored(r) && len(names) == 1
		})
	})
}

// TestWitnessesSignTheSame checks that witnesses with different response times cosign the same checkpoints under load,
// so that a quorum of all of them is reached repeatedly. No witness gets more than one submission per second.
func TestWitnessesSignTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 3, "w1", "w2", "w3")
		defer r.stop()
		for name, takes := range map[string]time.Duration{"w1": time.Millisecond, "w2": 700 * time.Millisecond,
			"w3": 2300 * time.Millisecond} {
			f.change(name,
				func(w *fakeWitness) { w.before = func(context.Context) error { time.Sleep(takes); return nil } })
		}
		shown := map[uint64]bool{}
		for range 600 { // a minute of continuous appends
			entries := make([]Entry, 20)
			for i := range entries {
				entries[i].Payload = []byte{byte(i)}
			}
			if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			c, names := cosigners(t, r)
			if c.Boundary.Size > 0 && len(names) != 3 {
				t.Fatalf("the checkpoint of %d leaves is shown with the cosignatures of %v", c.Boundary.Size, names)
			}
			shown[c.Boundary.Size] = true
		}
		if len(shown) < 20 {
			t.Errorf("%d checkpoints were shown in a minute", len(shown))
		}
		for _, name := range []string{"w1", "w2", "w3"} {
			list := f.asked(name)
			for i := range list[1:] {
				if pause := list[i+1].at.Sub(list[i].at); pause < time.Second || list[i+1].size <= list[i].size ||
					list[i+1].old != list[i].size {
					t.Errorf("%s: submissions %v and %v", name, list[i], list[i+1])
				}
			}
		}
		time.Sleep(10 * time.Second)
		if c, _ := cosigners(t, r); c.Boundary.Size != stored(r) {
			t.Errorf("the checkpoint of %d leaves is shown when all is quiet, %d are stored", c.Boundary.Size,
				stored(r))
		}
	})
}

// TestWitnessQuorum checks that a checkpoint is not served without enough cosignatures, however long it takes, while
// storage continues. Once the witness returns, the newest checkpoint is served.
func TestWitnessQuorum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 2, "w1", "w2")
		defer r.stop()
		r.store(t)
		f.change("w2", func(w *fakeWitness) { w.before = func(context.Context) error { return wire.ErrNoAnswer } })
		r.fill(t, 1100) // more blocks than the table keeps boundaries
		time.Sleep(10 * time.Second)
		if c, names := cosigners(t, r); c.Boundary.Size != 2 || len(names) != 2 {
			t.Errorf("the checkpoint of %d leaves is shown, cosigned by %v", c.Boundary.Size, names)
		}
		if height := table(r, (*masterfsm.State).Checkpoint).Height; height < 1100 {
			t.Errorf("only %d blocks were stored", height)
		}
		if m := r.notice(wire.CodeTooFewWitnesses); m.Args["count"] != uint64(1) || m.Args["needed"] != uint64(2) {
			t.Errorf("notices %q", r.Cluster(t.Context()).Notices)
		}
		f.change("w2", func(w *fakeWitness) { w.before = nil })
		eventually(t, "the newest is shown", 2*time.Minute, func() bool {
			c, names := cosigners(t, r)
			return c.Boundary.Size == stored(r) && len(names) == 2
		})
		if !r.notice(wire.CodeWitnessDown).IsZero() || !r.notice(wire.CodeTooFewWitnesses).IsZero() {
			t.Errorf("notices %q", r.Cluster(t.Context()).Notices)
		}
	})
}

// notice returns the first notice with a code, if there is one.
func (r *rig) notice(code string) wire.Message { return noticeOf(r.Node, code) }

func noticeOf(n *Node, code string) wire.Message {
	for _, m := range n.Cluster(context.Background()).NoticesCoded {
		var back wire.Message
		if data, err := json.Marshal(m); err != nil || json.Unmarshal(data, &back) != nil ||
			!reflect.DeepEqual(back, m) {
			panic(fmt.Sprintf("an argument of %#v has none of the types", m))
		}
		if m.Code == code {
			return m
		}
	}
	return wire.Message{}
}

// TestWitnessMLDSA checks a witness with an ML-DSA-44 key.
func TestWitnessMLDSA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeWitnesses{t: t, list: map[string]*fakeWitness{}}
		r := newRig(t, 2, func(cfg *Config, _ *rig) {
			w, err := witness.NewMLDSA("w1")
			if err != nil {
				t.Fatal(err)
			}
			cfg.WitnessCalls, cfg.Settings.WitnessQuorum, cfg.Witnesses = f, 1, []signing.Witness{f.join(w, "w1")}
		})
		defer r.stop()
		f.know(r)
		r.store(t)
		if c, names := cosigners(t, r); c.Boundary.Size != 2 || len(names) != 1 {
			t.Errorf("size %d, cosigned by %v", c.Boundary.Size, names)
		}
	})
}

// TestWitnessWithoutProof checks that a failure to prepare a submission is not attributed to the witness.
func TestWitnessWithoutProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeWitnesses{t: t, list: map[string]*fakeWitness{}}
		away := func(r *rig, are bool) {
			for _, s := range r.workers.Storages {
				s.Mu.Lock()
				s.Down = are
				s.Mu.Unlock()
			}
		}
		r := newRig(t, 2, func(cfg *Config, r *rig) {
			cfg.WitnessCalls, cfg.Witnesses = f, []signing.Witness{f.add("w1")}
			died := false
			r.ledger.OnApply = func(s *masterfsm.State) {
				// All nodes die at the moment in which the second block is stored.
				if !died && s.Checkpoint().Size == 4 {
					died = true
					away(r, true)
				}
			}
		})
		defer r.stop()
		f.know(r)
		r.store(t)
		r.store(t)
		s := r.statusOf(t, "w1")
		if s.State != wire.WitnessOK || !strings.Contains(s.Error, "no proof from size 2 to 4") || s.Failures != 0 ||
			len(f.asked("w1")) != 1 {
			t.Errorf("status %+v", s)
		}
		away(r, false)
		time.Sleep(5 * time.Second)
		if _, names := cosigners(t, r); len(names) != 1 {
			t.Errorf("cosigned by %v", names)
		}
		if s := r.statusOf(t, "w1"); s.Size != 4 || s.Error != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// TestReceiptsAreWitnessed checks a log without a quorum that grows faster than its witness replies. Its newest
// checkpoint has no cosignature, but receipts of records that are not very recent use a cosigned one.
func TestReceiptsAreWitnessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := newWitnessedRig(t, 0, "w1")
		defer r.stop()
		f.change("w1", func(w *fakeWitness) {
			w.before = func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil }
		})
		r.fill(t, 100)
		if c, names := cosigners(t, r); c.Boundary.Size != stored(r) || len(names) > 0 {
			t.Errorf("%d leaves are stored, the checkpoint is of %d, cosigned by %v", stored(r), c.Boundary.Size, names)
		}
		record, err := r.Record(t.Context(), r.access, 3, 0)
		if err != nil {
			t.Fatal(err)
		}
		receipt, err := r.Receipt(t.Context(), record)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(receipt.Checkpoint, "\n— w1 ") || receipt.TreeSize >= stored(r) {
			t.Errorf("the receipt is of a tree of %d leaves, %d are stored:\n%s", receipt.TreeSize, stored(r),
				receipt.Checkpoint)
		}
	})
}
