package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/internal/durable"
)

// Sizes of the format, in bytes.
const (
	NonceSize  = 12
	TagSize    = 16
	Overhead   = NonceSize + TagSize // of a message
	saltSize   = 32
	HeaderSize = len(ID{}) + saltSize + KeySize + TagSize
)

const headerInfo = "chainstore at-rest data key v1"

// DataKey encrypts the messages of one file. Its methods may be called from any goroutine.
type DataKey struct {
	secret []byte
	aead   cipher.AEAD
}

// newAEAD returns AES-256-GCM. The sizes are right, so it cannot fail.
func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// NewKey returns a random data key and its header for a file, whose context names it.
func (r *Ring) NewKey(context []byte) (key *DataKey, header []byte) {
	key = &DataKey{secret: make([]byte, KeySize)}
	_, _ = rand.Read(key.secret) // it never fails
	key.aead = newAEAD(key.secret)
	return key, r.Wrap(key, context)
}

// Wrap returns a header with a data key for a file, encrypted with the current key. The ring must not be nil.
func (r *Ring) Wrap(key *DataKey, context []byte) (header []byte) {
	r.mu.RLock()
	id, secret := r.current, r.keys[r.current]
	r.mu.RUnlock()
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt)
	return wrap(id, secret, salt, key.secret, context)
}

func wrap(id ID, secret, salt, dataKey, context []byte) (header []byte) {
	header = append(append(make([]byte, 0, HeaderSize), id[:]...), salt...)
	additional := append(slices.Clone(context), header...)
	return wrapping(secret, salt).Seal(header, make([]byte, NonceSize), dataKey, additional)
}

// wrapping returns the cipher of a header.
func wrapping(secret, salt []byte) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, secret, salt, headerInfo, KeySize)
	if err != nil {
		panic(err) // the sizes are right
	}
	return newAEAD(key)
}

// IDOf returns the id of the key that a header is encrypted with. The header must have HeaderSize bytes.
func IDOf(header []byte) ID { return ID(header[:len(ID{})]) }

// Unwrap returns the data key of a header. The error wraps ErrNoKey, or [durable.ErrDamaged].
func (r *Ring) Unwrap(header, context []byte) (*DataKey, error) {
	if len(header) != HeaderSize {
		return nil, fmt.Errorf("%w: a key header of %d bytes, %d are due", durable.ErrDamaged, len(header), HeaderSize)
	}
	id := IDOf(header)
	secret, err := r.key(id)
	if err != nil {
		return nil, err
	}
	named := header[:len(id)+saltSize]
	additional := append(slices.Clone(context), named...)
	sealed := header[len(named):]
	dataKey, err := wrapping(secret, named[len(id):]).Open(nil, make([]byte, NonceSize), sealed, additional)
	if err != nil {
		return nil, fmt.Errorf("%w: its data key does not decrypt with the key %v", durable.ErrDamaged, id)
	}
	return &DataKey{secret: dataKey, aead: newAEAD(dataKey)}, nil
}

// Equal reports whether two data keys are the same.
func (k *DataKey) Equal(o *DataKey) bool { return subtle.ConstantTimeCompare(k.secret, o.secret) == 1 }

// Seal appends the message of a plain text to dst.
func (k *DataKey) Seal(dst, plain, additional []byte) []byte {
	dst = slices.Grow(dst, len(plain)+Overhead)
	nonce := dst[len(dst) : len(dst)+NonceSize]
	_, _ = rand.Read(nonce) // it never fails
	return k.aead.Seal(dst[:len(dst)+NonceSize], nonce, plain, additional)
}

// Open decrypts a message in its own memory, which is destroyed even if Open fails. The plain text begins NonceSize
// bytes after the message. The error wraps [durable.ErrDamaged].
func (k *DataKey) Open(message, additional []byte) ([]byte, error) {
	if len(message) < Overhead {
		return nil, fmt.Errorf("%w: %d bytes cannot be an encrypted message", durable.ErrDamaged, len(message))
	}
	body := message[NonceSize:]
	plain, err := k.aead.Open(body[:0], message[:NonceSize], body, additional)
	if err != nil {
		return nil, fmt.Errorf("%w: its encryption does not authenticate", durable.ErrDamaged)
	}
	return plain, nil
}
