package masterfsm

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

const origin = "example.com/log"

// addKey is the command that adds a key of a seed.
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
	b.refused(addKey(1, false), ErrStale) // there is nothing to succeed
	first := b.ok(addKey(1, true)).(*LogKey)
	v, err := note.NewVerifier(b.Log().VerifierKey(first))
	if err != nil || v.Name() != origin || fmt.Sprintf("%08x", v.KeyHash()) != first.ID || first.Since != startTime+1 ||
		!first.Signs() {
		t.Fatalf("%+v, %v", first, err)
	}
	b.refused(addKey(1, true), ErrStale) // a leader that was deposed while it founded the same, or another
	b.refused(addKey(2, true), ErrStale)
	kept := b.Log()
	second := b.ok(addKey(2, false)).(*LogKey)
	if l := b.Log(); len(l.Keys) != 2 || l.Keys[0].ID != first.ID || l.Keys[1].ID != second.ID ||
		len(l.Signing()) != 2 || len(kept.Keys) != 1 {
		t.Fatalf("%+v; what was handed out before has %d keys", l, len(kept.Keys))
	}

	// Another seal of a key that signs: nothing else about it changes.
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
	b.ok(&RetireLogKey{ID: first.ID, Time: startTime + 9}) // to say so twice does nothing
	if k := b.Log().Keys[0]; k.Retired != startTime+5 {
		t.Errorf("retired again: %+v", k)
	}
	b.refused(again, ErrStale) // it does not come back
	b.refused(&RetireLogKey{ID: second.ID, Time: startTime}, wire.ErrLastKey)
	for seed := byte(3); seed < 2+MaxLogKeys; seed++ {
		b.ok(addKey(seed, false))
	}
	b.refused(addKey(99, false), wire.ErrTooMany)
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

// However many keys follow, one that is retired does not come back; in the end no more are taken, so that the table
// stays small.
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
	b.ok(again) // one that signs may still be sealed again
	if l := b.Log(); len(l.Keys) != maxKnownKeys || len(l.Signing()) != 1 || l.Signing()[0].ID != last.ID {
		t.Errorf("%d keys, of which %d sign", len(l.Keys), len(l.Signing()))
	}
}
