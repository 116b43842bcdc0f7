package chain

import (
	"encoding/hex"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// HashSize is the size of every hash of the chain, in bytes (SHA-256, FIPS 180-4).
const HashSize = 32

// Hash is a SHA-256 value. In text and JSON it is 64 lower-case hex digits.
type Hash [HashSize]byte

// String returns the 64 lower-case hex digits of h.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h is the zero hash, which means "no block before this one".
func (h Hash) IsZero() bool { return h == Hash{} }

// MarshalText implements [encoding.TextMarshaler]: 64 lower-case hex digits.
func (h Hash) MarshalText() ([]byte, error) {
	return hex.AppendEncode(make([]byte, 0, 2*HashSize), h[:]), nil
}

// UnmarshalText implements [encoding.TextUnmarshaler]: exactly 64 hex digits.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*HashSize {
		return fmt.Errorf("chain: a hash has %d hex digits, not %d", 2*HashSize, len(text))
	}
	var parsed Hash
	if _, err := hex.Decode(parsed[:], text); err != nil {
		return fmt.Errorf("chain: not a hash: %w", err)
	}
	*h = parsed
	return nil
}

// NodeHash is the hash of an inner node of the tree: SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1.
func NodeHash(left, right Hash) Hash {
	return Hash(tlog.NodeHash(tlog.Hash(left), tlog.Hash(right)))
}
