package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
)

// Sealer seals and opens the log's private keys with the cluster token, which the masters have and the table does not.
type Sealer struct{ Token, Group string }

// aead is AES-256-GCM under a key that is derived from the cluster token and the group's id (HKDF-SHA256, RFC 5869).
func (s Sealer) aead() (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(s.Token), []byte(s.Group), "chainstore log key v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// boundTo is the additional data that a sealed key is bound to: origin ‖ 0 ‖ public key.
func boundTo(origin string, public chain.Hash) []byte {
	return append(append([]byte(origin), 0), public[:]...)
}

// Seal returns a private key in the form that the table has: nonce[12] ‖ ciphertext of the seed[32] ‖ tag[16].
func (s Sealer) Seal(k *Key) ([]byte, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), masterfsm.SealedLogKey)
	_, _ = rand.Read(nonce) // never fails
	return aead.Seal(nonce, nonce, k.seed[:], boundTo(k.origin, k.Public())), nil
}

// ErrSealed: a key was sealed under a different cluster token, or its sealed bytes are damaged.
var ErrSealed = errors.New("it was sealed under another cluster token")

// Open opens a key of the table. The error wraps ErrSealed if the key was sealed under a different cluster token.
func (s Sealer) Open(origin string, k *masterfsm.LogKey) (*Key, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	if len(k.Sealed) != masterfsm.SealedLogKey {
		return nil, fmt.Errorf("key %s of the log: %w", k.ID, ErrSealed)
	}
	seed, err := aead.Open(nil, k.Sealed[:aead.NonceSize()], k.Sealed[aead.NonceSize():], boundTo(origin, k.Public))
	if err != nil {
		return nil, fmt.Errorf("key %s of the log: %w", k.ID, ErrSealed)
	}
	opened := newKeyOf(origin, [ed25519.SeedSize]byte(seed))
	if opened.Public() != k.Public {
		return nil, fmt.Errorf("key %s of the log: the sealed private key belongs to another public key", k.ID)
	}
	return opened, nil
}

// OpenKeys opens the signing keys of a group's log with a cluster token. It returns those that open, and an error that
// names the others.
func OpenKeys(token, group string, log masterfsm.Log) ([]*Key, error) {
	secret := Sealer{Token: token, Group: group}
	var keys []*Key
	var failed error
	for _, k := range log.Signing() {
		opened, err := secret.Open(log.Origin, &k)
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		keys = append(keys, opened)
	}
	return keys, failed
}
