package masterfsm

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

const origin = "example.com/log"

// addKey returns the command that adds a key derived from a seed.
func addKey(seed byte, first bool) *AddLogKey {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	return &AddLogKey{
		Origin: origin, Public: chain.Hash(key.Public().(ed25519.PublicKey)),
		Sealed: bytes.Repeat([]byte{seed}, SealedLogKey), First: first,
		Time: startTime + uint64(seed),
	}
}

func TestLogKeys(t *testing.T) {
	b := newTable(t, smallSettings())
	if l := b.Log(); l.Origin != "" || len(l.Keys) != 0 {
		t.Fatalf("a new log: %+v", l)
	}
	b.refused(addKey(1, false), ErrStale) // there is no previous key
	first := b.ok(addKey(1, true)).(*LogKey)
	v, err := note.NewVerifier(b.Log().VerifierKey(first))
	if err != nil || v.Name() != origin || fmt.Sprintf("%08x", v.KeyHash()) != first.ID || first.Since != startTime+1 ||
		!first.Signs() {
		t.Fatalf("%+v, %v", first, err)
	}
	b.refused(addKey(1, true), ErrStale) // from a deposed leader that founded the same log, or another
	b.refused(addKey(2, true), ErrStale)
	kept := b.Log()
	second := b.ok(addKey(2, false)).(*LogKey)
	if l := b.Log(); len(l.Keys) != 2 || l.Keys[0].ID != first.ID || l.Keys[1].ID != second.ID ||
		len(l.Signing()) != 2 || len(kept.Keys) != 1 {
		t.Fatalf("%+v; what was handed out before has %d keys", l, len(kept.Keys))
	}

	// Another seal of a signing key changes nothing else.
	again := addKey(1, false)
	again.Sealed[0]++
	if k := b.ok(again).(*LogKey); k.ID != first.ID || k.Since != first.Since || !bytes.Equal(k.Sealed, again.Sealed) {
		t.Errorf("sealed again: %+v", k)
	}
	if l := b.Log(); len(l.Keys) != 2 || !bytes.Equal(l.Keys[0].Sealed, again.Sealed) ||
		bytes.Equal(kept.Keys[0].Sealed, again.Sealed) {
		t.Errorf("sealed again: %+v", l)
	}

	b.refused(&RetireLogKey{ID: "01234567", Time: startTime}, ErrUnknownLogKey)
	b.ok(&RetireLogKey{ID: first.ID, Time: startTime + 5})
	l := b.Log()
	if k := l.Keys[0]; k.Signs() || k.Retired != startTime+5 || k.Sealed != nil || len(l.Signing()) != 1 ||
		l.Signing()[0].ID != second.ID {
		t.Errorf("retired: %+v", l)
	}
	b.ok(&RetireLogKey{ID: first.ID, Time: startTime + 9}) // repeating it has no effect
	if k := b.Log().Keys[0]; k.Retired != startTime+5 {
		t.Errorf("retired again: %+v", k)
	}
	b.refused(again, ErrStale) // it cannot be added again
	b.refused(&RetireLogKey{ID: second.ID, Time: startTime}, wire.ErrLastKey)
	for seed := byte(3); seed < 2+MaxLogKeys; seed++ {
		b.ok(addKey(seed, false))
	}
	b.refused(addKey(99, false), wire.ErrTooMany)
}

func closeLog(from, to string, seed byte, of Boundary) *CloseLog {
	key := addKey(seed, false)
	return &CloseLog{
		From: from, Size: of.Size, Root: of.Root, Reason: "key stolen", Origin: to, Public: key.Public,
		Sealed: key.Sealed, Time: startTime + uint64(seed),
	}
}

// TestCloseLog closes a log twice. The same tree goes on under another name and key. Former names and keys never come
// back, and cosignatures for a former name are refused.
func TestCloseLog(t *testing.T) {
	const second, third = "example.com/second", "example.com/third"
	b := witnessed(t, 0)
	b.stores()
	shown := b.stores()
	b.refused(closeLog(origin, second, 2, shown), ErrBadCommand) // below its level
	b.raise()
	b.ok(cosign(shown, "w"))
	older := Boundary{Size: shown.Size - 1, Root: chain.Hash{7}}
	for what, change := range map[string]func(*CloseLog){
		"name of this log":   func(c *CloseLog) { c.Origin = origin },
		"reason of 2 lines":  func(c *CloseLog) { c.Reason = "a\nb" },
		"key of this log":    func(c *CloseLog) { c.Public = addKey(1, false).Public },
		"no key":             func(c *CloseLog) { c.Public = chain.Hash{} },
		"no private key":     func(c *CloseLog) { c.Sealed = nil },
		"no leaves":          func(c *CloseLog) { c.Size = 0 },
		"more than is shown": func(c *CloseLog) { c.Size++ },
		"another log":        func(c *CloseLog) { c.From = second },
		"bad name":           func(c *CloseLog) { c.Origin = "a b" },
	} {
		c := closeLog(origin, second, 2, shown)
		change(c)
		if _, err := b.Apply(b.encode(c)); err == nil {
			t.Errorf("%s: the log is closed", what)
		}
	}
	kept := b.Log()
	k := b.ok(closeLog(origin, second, 2, older)).(*LogKey)
	l := b.Log()
	if l.Origin != second || len(l.Keys) != 1 || l.Keys[0].ID != k.ID || !l.Keys[0].Signs() || len(l.Closed) != 1 {
		t.Fatalf("%+v", l)
	}
	records := b.audited()
	if last := records[len(records)-1]; last.Act != trail.LogClose ||
		valueOf(last.Before, "key") != kept.Keys[0].ID || valueOf(last.After, "key") != k.ID ||
		valueOf(last.After, "retired-keys") != kept.Keys[0].ID ||
		valueOf(last.After, "root") != hex.EncodeToString(older.Root[:]) {
		t.Errorf("the record is %s", last.text())
	}
	closed := l.Closed[0]
	if closed.Origin != origin || closed.Size != older.Size || closed.Root != older.Root ||
		closed.Closed != startTime+2 || len(closed.Keys) != 1 || closed.Keys[0].Signs() ||
		closed.Keys[0].Sealed != nil {
		t.Errorf("closed: %+v", closed)
	}
	if len(kept.Closed) != 0 || !kept.Keys[0].Signs() || kept.Keys[0].Sealed == nil {
		t.Errorf("what was handed out before has changed: %+v", kept)
	}
	if p := b.Published(); p.Boundary != shown || len(p.Cosignatures) != 0 {
		t.Errorf("the same tree is shown, without cosignatures for the former name: %+v", p)
	}
	late := cosign(shown, "w")
	late.Origin = origin
	b.refused(late, ErrStale)
	late.Origin = second
	b.ok(late)
	b.refused(closeLog(origin, third, 3, shown), ErrStale) // a retry, or a deposed leader
	b.refused(closeLog(second, origin, 3, shown), wire.ErrNameTaken)
	b.refused(closeLog(second, third, 1, shown), ErrBadCommand) // the stolen key
	again := addKey(1, false)
	again.Origin = second
	b.refused(again, ErrStale)
	b.ok(closeLog(second, third, 3, shown))
	if back := restored(t, b.State); !reflect.DeepEqual(back.Log(), b.Log()) || len(back.Log().Closed) != 2 {
		t.Errorf("restored: %+v", back.Log())
	}
	b.publishes(b.stores())
}

func TestLogKeysThatAreNone(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(addKey(1, true))
	for name, change := range map[string]func(*AddLogKey){
		"no origin":         func(c *AddLogKey) { c.Origin = "" },
		"long origin":       func(c *AddLogKey) { c.Origin = strings.Repeat("x", MaxOrigin+1) },
		"a plus":            func(c *AddLogKey) { c.Origin = "a+b" },
		"a space":           func(c *AddLogKey) { c.Origin = "a b" },
		"a space at an end": func(c *AddLogKey) { c.Origin = "a " },
		"a wide space":      func(c *AddLogKey) { c.Origin = "a\u3000b" },
		"a new line":        func(c *AddLogKey) { c.Origin = "a\nb" },
		"a control":         func(c *AddLogKey) { c.Origin = "a\x01b" },
		"no UTF-8":          func(c *AddLogKey) { c.Origin = "a\xff" },
		"another origin":    func(c *AddLogKey) { c.Origin = "example.com/other" },
		"no public part":    func(c *AddLogKey) { c.Public = chain.Hash{} },
		"no private part":   func(c *AddLogKey) { c.Sealed = nil },
		"short private":     func(c *AddLogKey) { c.Sealed = c.Sealed[1:] },
		"long private":      func(c *AddLogKey) { c.Sealed = append(c.Sealed, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			c := addKey(2, false)
			change(c)
			b.refused(c, ErrBadCommand)
		})
	}
	if err := CheckNoteName(strings.Repeat("x", MaxOrigin)); err != nil {
		t.Error(err)
	}
}

// TestRetiredKeysAreKept checks that a retired key cannot be added again, however many keys follow. The number of keys
// is limited, so that the table stays small.
func TestRetiredKeysAreKept(t *testing.T) {
	b := newTable(t, smallSettings())
	nth := func(n uint16) *AddLogKey {
		c := addKey(1, n == 0)
		c.Public = chain.Hash{1, byte(n >> 8), byte(n)}
		return c
	}
	last := b.ok(nth(0)).(*LogKey)
	for n := uint16(1); n < maxKnownKeys; n++ {
		next := b.ok(nth(n)).(*LogKey)
		b.ok(&RetireLogKey{ID: last.ID, Time: startTime})
		last = next
	}
	for _, n := range []uint16{1, maxKnownKeys / 2, maxKnownKeys - 2} {
		b.refused(nth(n), ErrStale)
	}
	b.refused(nth(maxKnownKeys), wire.ErrTooMany)
	again := nth(maxKnownKeys - 1)
	again.Sealed[0]++
	b.ok(again) // a signing key may still be sealed again
	if l := b.Log(); len(l.Keys) != maxKnownKeys || len(l.Signing()) != 1 || l.Signing()[0].ID != last.ID {
		t.Errorf("%d keys, of which %d sign", len(l.Keys), len(l.Signing()))
	}
}

// cosignature returns a well-formed cosignature of a witness. Only the form matters here.
func cosignature(witness string) Cosignature {
	return Cosignature{Witness: witness,
		Line: "— " + witness + " " + base64.StdEncoding.EncodeToString([]byte("key and signature of "+witness))}
}

func cosign(of Boundary, witnesses ...string) *Cosign {
	c := &Cosign{Size: of.Size, Root: of.Root, Time: startTime}
	for _, w := range witnesses {
		c.Cosignatures = append(c.Cosignatures, cosignature(w))
	}
	return c
}

// witnessed returns a table with two storage nodes whose checkpoints need a quorum of cosignatures.
func witnessed(t *testing.T, quorum uint8) *table {
	t.Helper()
	settings := smallSettings()
	settings.WitnessQuorum = quorum
	b := newTable(t, settings)
	b.ok(addKey(1, true))
	b.node("a", 0)
	b.node("b", 0)
	return b
}

// stores mines one more block, which both nodes store, and returns the checkpoint.
func (b *table) stores() Boundary {
	b.t.Helper()
	b.fill(4)
	b.mine()
	b.ack("a", b.Head().Height)
	b.ack("b", b.Head().Height)
	if c := b.Checkpoint(); c != b.Boundary() {
		b.t.Fatalf("checkpoint %+v, the chain ends at %+v", c, b.Boundary())
	}
	return b.Checkpoint()
}

// publishes checks the size of the published checkpoint and the witnesses that have cosigned it.
func (b *table) publishes(of Boundary, witnesses ...string) {
	b.t.Helper()
	p := b.Published()
	var have []string
	for _, c := range p.Cosignatures {
		have = append(have, c.Witness)
	}
	if p.Boundary != of || fmt.Sprint(have) != fmt.Sprint(witnesses) {
		b.t.Fatalf("published %+v with %v, want %+v with %v", p.Boundary, have, of, witnesses)
	}
}

func TestPublishedWithoutAQuorum(t *testing.T) {
	b := witnessed(t, 0)
	empty := Boundary{Root: chain.Tree{}.Root()}
	b.publishes(empty)
	first := b.stores()
	b.publishes(first)
	b.ok(cosign(first, "w2", "w1"))
	b.publishes(first, "w1", "w2")
	second := b.stores()
	b.publishes(second)
	if c := b.Cosigned(); len(c) != 1 || c[0].Boundary != first {
		t.Errorf("the newest that is cosigned is forgotten: %+v", c)
	}
	b.ok(cosign(first, "w3")) // it is still the newest cosigned one
	b.ok(cosign(second, "w1"))
	b.refused(cosign(first, "w4"), ErrStale) // it would never be served
	if c := b.Cosigned(); len(c) != 1 || c[0].Boundary != second {
		t.Errorf("cosigned: %+v", c)
	}
}

// TestWitnessedBehindThePublished checks a log that grows faster than its witnesses reply. It publishes its newest
// checkpoint without cosignatures, and also keeps the newest cosigned one.
func TestWitnessedBehindThePublished(t *testing.T) {
	b := witnessed(t, 0)
	if w := b.Witnessed(); w.Boundary != b.Published().Boundary || len(w.Cosignatures) > 0 {
		t.Fatalf("witnessed before anybody has signed: %+v", w)
	}
	for range 20 {
		asked := b.stores()
		newest := b.stores() // while the witness replies
		b.ok(cosign(asked, "w1"))
		b.publishes(newest)
		if w := b.Witnessed(); w.Boundary != asked || len(w.Cosignatures) != 1 {
			t.Fatalf("witnessed %+v, asked for %+v", w, asked)
		}
		if len(b.Cosigned()) != 1 {
			t.Fatalf("%d checkpoints are kept", len(b.Cosigned()))
		}
	}
}

func TestPublishedWithAQuorum(t *testing.T) {
	b := witnessed(t, 2)
	empty := Boundary{Root: chain.Tree{}.Root()}
	first, second, third := b.stores(), b.stores(), b.stores()
	b.publishes(empty)
	b.ok(cosign(first, "w1"))
	b.ok(cosign(third, "w1"))
	b.publishes(empty)
	b.ok(cosign(first, "w1")) // a repeated cosignature counts once
	b.publishes(empty)
	b.ok(cosign(first, "w2"))
	b.publishes(first, "w1", "w2")
	b.ok(cosign(first, "w3")) // more than the quorum are accepted
	b.publishes(first, "w1", "w2", "w3")
	b.ok(cosign(third, "w3"))
	b.publishes(third, "w1", "w3")
	b.refused(cosign(second, "w1", "w2"), ErrStale) // it never goes back
	b.publishes(third, "w1", "w3")

	// Another quorum moves it forward, never back.
	settings := b.Settings()
	settings.WitnessQuorum = 3
	b.ok(&BeginTerm{Term: 2, Member: "m2", URL: "http://m2", Time: startTime, Settings: settings})
	b.publishes(third, "w1", "w3")
	fourth := b.stores()
	b.ok(cosign(fourth, "w1"))
	b.publishes(third, "w1", "w3")
	settings.WitnessQuorum = 1
	b.ok(&BeginTerm{Term: 3, Member: "m2", URL: "http://m2", Time: startTime, Settings: settings})
	b.publishes(fourth, "w1")
	fifth := b.stores()
	settings.WitnessQuorum = 0
	b.ok(&BeginTerm{Term: 4, Member: "m2", URL: "http://m2", Time: startTime, Settings: settings})
	b.publishes(fifth)
	settings.WitnessQuorum = MaxWitnesses + 1
	b.refused(&BeginTerm{Term: 5, Member: "m2", URL: "http://m2", Time: startTime, Settings: settings}, ErrBadCommand)
}

// TestCosignedIsBounded checks that the number of partially cosigned checkpoints is bounded if the witnesses never
// agree.
func TestCosignedIsBounded(t *testing.T) {
	b := witnessed(t, 2)
	var all []Boundary
	for range maxCosigned + 4 {
		all = append(all, b.stores())
		b.ok(cosign(all[len(all)-1], "w1"))
	}
	if c := b.Cosigned(); len(c) != maxCosigned || c[0].Boundary != all[4] {
		t.Errorf("%d are waiting, the oldest of size %d", len(c), c[0].Boundary.Size)
	}
	b.ok(cosign(all[10], "w2"))
	b.publishes(all[10], "w1", "w2")
}

// TestCosignedThatIsForgotten checks that the checkpoint with the fewest cosignatures is dropped first, and never one
// that has just received a cosignature.
func TestCosignedThatIsForgotten(t *testing.T) {
	b := witnessed(t, 3)
	var all []Boundary
	for range maxCosigned {
		all = append(all, b.stores())
		b.ok(cosign(all[len(all)-1], "w1"))
	}
	b.ok(cosign(all[0], "w2"))
	b.ok(cosign(b.stores(), "w1"))
	if c := b.Cosigned(); len(c) != maxCosigned || c[0].Boundary != all[0] || c[1].Boundary != all[2] {
		t.Errorf("%d are waiting, the first of size %d, the next of %d", len(c), c[0].Boundary.Size, c[1].Boundary.Size)
	}
	b.ok(cosign(all[1], "w1"))
	if c := b.Cosigned(); len(c) != maxCosigned || c[1].Boundary != all[1] {
		t.Errorf("what was just cosigned is gone: %d are waiting, the second of size %d", len(c), c[1].Boundary.Size)
	}
}

func TestCosignaturesThatAreNone(t *testing.T) {
	b := witnessed(t, 2)
	at := b.stores()
	line := cosignature("w1").Line
	for name, change := range map[string]func(*Cosign){
		"none":               func(c *Cosign) { c.Cosignatures = nil },
		"too many":           func(c *Cosign) { c.Cosignatures = make([]Cosignature, MaxWitnesses+1) },
		"another root":       func(c *Cosign) { c.Root[0]++ },
		"no name":            func(c *Cosign) { c.Cosignatures[0] = cosignature("") },
		"a name with a plus": func(c *Cosign) { c.Cosignatures[0] = cosignature("a+b") },
		"another's line":     func(c *Cosign) { c.Cosignatures[0].Witness = "w2" },
		"two lines":          func(c *Cosign) { c.Cosignatures[0].Line = line + "\n" + line },
		"with its newline":   func(c *Cosign) { c.Cosignatures[0].Line = line + "\n" },
		"a wrapped line":     func(c *Cosign) { c.Cosignatures[0].Line = line[:20] + "\n" + line[20:] },
		"no base64":          func(c *Cosign) { c.Cosignatures[0].Line = "— w1 !" },
		"only a key id":      func(c *Cosign) { c.Cosignatures[0].Line = "— w1 AAAAAA==" },
		"too long": func(c *Cosign) {
			c.Cosignatures[0].Line = "— w1 " + strings.Repeat("A",
				maxCosignatureLine)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cosign(at, "w1")
			change(c)
			b.refused(c, ErrBadCommand)
		})
	}
	for _, size := range []uint64{1, at.Size - 1, at.Size + 1, 1 << 40} {
		c := cosign(at, "w1")
		c.Size = size
		b.refused(c, ErrStale)
	}
	b.fill(4)
	b.mine() // and no node has it
	b.refused(cosign(b.Boundary(), "w1"), ErrStale)
	for i := range MaxWitnesses {
		b.ok(cosign(at, fmt.Sprint("w", i)))
	}
	b.refused(cosign(at, "one-more"), wire.ErrTooMany)
}
