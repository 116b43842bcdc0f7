package signing

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// Key is a private key of the log. Only Text returns it; fmt prints its name instead.
type Key struct {
	origin string
	seed   [ed25519.SeedSize]byte
	public chain.Hash
}

func newKeyOf(origin string, seed [ed25519.SeedSize]byte) *Key {
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	return &Key{origin: origin, seed: seed, public: chain.Hash(public)}
}

// NewKey makes a key for the log of a name.
func NewKey(origin string) (*Key, error) {
	if err := masterfsm.CheckNoteName(origin); err != nil {
		return nil, err
	}
	var seed [ed25519.SeedSize]byte
	_, _ = rand.Read(seed[:]) // never fails
	return newKeyOf(origin, seed), nil
}

// ParseKey reads a key in the form of golang.org/x/mod/sumdb/note, PRIVATE+KEY+name+hash+base64. Errors contain no part
// of it.
func ParseKey(text string) (*Key, error) {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "\n") {
		return nil, errors.New("more than one line: give one private key")
	}
	if _, err := note.NewSigner(text); err != nil {
		return nil, fmt.Errorf("not a private key of a signed note, PRIVATE+KEY+name+hash+base64: %w", err)
	}
	parts := strings.SplitN(text, "+", 5) // the last may hold a plus
	raw, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(raw) != 1+ed25519.SeedSize {
		return nil, errors.New("not an Ed25519 key of 32 bytes")
	}
	if err := masterfsm.CheckNoteName(parts[2]); err != nil {
		return nil, err
	}
	return newKeyOf(parts[2], [ed25519.SeedSize]byte(raw[1:])), nil
}

// Origin is the name of the log that the key signs for.
func (k *Key) Origin() string { return k.origin }

// Public is the public key.
func (k *Key) Public() chain.Hash { return k.public }

// VerifierKey is the public key in the form of verifiers of signed notes.
func (k *Key) VerifierKey() string {
	return masterfsm.Log{Origin: k.origin}.VerifierKey(&masterfsm.LogKey{Public: k.Public()})
}

// Text is the key in the form that ParseKey reads, for a backup only.
func (k *Key) Text() string {
	id := strings.SplitN(k.VerifierKey(), "+", 3)[1]
	return "PRIVATE+KEY+" + k.origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1},
		k.seed[:]...)) // 1: Ed25519
}

// Format prints the key's name for every verb.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "private key of %s", k.origin) }
