package masternode

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// LogKey is a private key of the log. Nothing prints it but Text: fmt shows its name.
type LogKey struct {
	origin string
	seed   [ed25519.SeedSize]byte
	public chain.Hash
}

func newLogKey(origin string, seed [ed25519.SeedSize]byte) *LogKey {
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	return &LogKey{origin: origin, seed: seed, public: chain.Hash(public)}
}

// NewLogKey makes a key of a log.
func NewLogKey(origin string) (*LogKey, error) {
	if err := masterfsm.CheckNoteName(origin); err != nil {
		return nil, err
	}
	var seed [ed25519.SeedSize]byte
	_, _ = rand.Read(seed[:]) // never fails
	return newLogKey(origin, seed), nil
}

// ParseLogKey reads a key as golang.org/x/mod/sumdb/note writes it: PRIVATE+KEY+name+hash+base64. No error tells any of it.
func ParseLogKey(text string) (*LogKey, error) {
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
	return newLogKey(parts[2], [ed25519.SeedSize]byte(raw[1:])), nil
}

// Origin is the name of the log that the key signs for.
func (k *LogKey) Origin() string { return k.origin }

// Public is the public key.
func (k *LogKey) Public() chain.Hash { return k.public }

// VerifierKey is the public key as those write it who check notes.
func (k *LogKey) VerifierKey() string {
	return masterfsm.Log{Origin: k.origin}.VerifierKey(&masterfsm.LogKey{Public: k.Public()})
}

// Text is the key as ParseLogKey reads it: for a backup, and for nothing else.
func (k *LogKey) Text() string {
	id := strings.SplitN(k.VerifierKey(), "+", 3)[1]
	return "PRIVATE+KEY+" + k.origin + "+" + id + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, k.seed[:]...)) // 1: Ed25519
}

// Format shows the key's name, whatever it is asked for.
func (k LogKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "private key of %s", k.origin) }

// signer signs notes.
func (k *LogKey) signer() (note.Signer, error) { return note.NewSigner(k.Text()) }

// logSecret seals the log's private keys, and opens them: with the cluster token, which the masters have and the table does not.
type logSecret struct{ token, group string }

// aead is AES-256-GCM under a key that comes of the cluster token and the group's id (HKDF-SHA256, RFC 5869).
func (s logSecret) aead() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(s.token), []byte(s.group), "chainstore log key v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bound is what a sealed key is bound to: origin ‖ 0 ‖ public key.
func bound(origin string, public chain.Hash) []byte {
	return append(append([]byte(origin), 0), public[:]...)
}

// seal gives a private key the form that it has in the table: nonce[12] ‖ ciphertext of the seed[32] ‖ tag[16].
func (s logSecret) seal(k *LogKey) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), masterfsm.SealedLogKey)
	_, _ = rand.Read(nonce) // never fails
	return aead.Seal(nonce, nonce, k.seed[:], bound(k.origin, k.Public())), nil
}

// errSealed: the cluster token is another than the one that a key was sealed under, or the sealed bytes are not those that were written.
var errSealed = errors.New("it was sealed under another cluster token")

// open opens a key of the table.
func (s logSecret) open(origin string, k *masterfsm.LogKey) (*LogKey, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	if len(k.Sealed) != masterfsm.SealedLogKey {
		return nil, fmt.Errorf("key %s of the log: %w", k.ID, errSealed)
	}
	seed, err := aead.Open(nil, k.Sealed[:aead.NonceSize()], k.Sealed[aead.NonceSize():], bound(origin, k.Public))
	if err != nil {
		return nil, fmt.Errorf("key %s of the log: %w", k.ID, errSealed)
	}
	opened := newLogKey(origin, [ed25519.SeedSize]byte(seed))
	if opened.Public() != k.Public {
		return nil, fmt.Errorf("key %s of the log: the sealed private key belongs to another public key", k.ID)
	}
	return opened, nil
}

// OpenLogKeys opens the keys of a group's log that sign, with the cluster token under which they were sealed: those that open, and an error that
// names the others.
func OpenLogKeys(token, group string, log masterfsm.Log) ([]*LogKey, error) {
	secret := logSecret{token: token, group: group}
	var keys []*LogKey
	var shut error
	for _, k := range log.Signing() {
		opened, err := secret.open(log.Origin, &k)
		if err != nil {
			shut = errors.Join(shut, err)
			continue
		}
		keys = append(keys, opened)
	}
	return keys, shut
}
