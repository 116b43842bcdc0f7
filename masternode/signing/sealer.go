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

// Sealer seals and opens the log's private keys with a secret that the masters have and the table does not. It seals
// with the first of the values, and opens with any.
type Sealer struct {
	Values []string
	Group  string
}

// aead is AES-256-GCM under a key that is derived from a value and the group's id (HKDF-SHA256, RFC 5869).
func (s Sealer) aead(value string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(value), []byte(s.Group), "chainstore log key v1", 32)
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
	if len(s.Values) == 0 {
		return nil, errors.New("there is no secret to seal a key of the log under")
	}
	aead, err := s.aead(s.Values[0])
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), masterfsm.SealedLogKey)
	_, _ = rand.Read(nonce) // never fails
	return aead.Seal(nonce, nonce, k.seed[:], boundTo(k.origin, k.Public())), nil
}

// ErrSealed: a key was sealed under another value than those of the sealer, or its sealed bytes are damaged.
var ErrSealed = errors.New("it was sealed under another cluster token, or another --seal-secret-file")

// Open opens a key of the table. The error wraps ErrSealed if the key was sealed under another value.
func (s Sealer) Open(origin string, k *masterfsm.LogKey) (*Key, error) {
	err := fmt.Errorf("key %s of the log: %w", k.ID, ErrSealed)
	for _, value := range s.Values {
		var opened *Key
		if opened, err = s.openWith(value, origin, k); err == nil {
			return opened, nil
		}
	}
	return nil, err
}

// SealedUnderFirst reports whether a key of the table is sealed under the first value.
func (s Sealer) SealedUnderFirst(origin string, k *masterfsm.LogKey) bool {
	_, err := s.openWith(s.Values[0], origin, k)
	return err == nil
}

func (s Sealer) openWith(value, origin string, k *masterfsm.LogKey) (*Key, error) {
	aead, err := s.aead(value)
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

// OpenKeys opens the signing keys of a group's log with the values of a secret. It returns those that open, and an
// error that names the others.
func OpenKeys(values []string, group string, log masterfsm.Log) ([]*Key, error) {
	secret := Sealer{Values: values, Group: group}
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
