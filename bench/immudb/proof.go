package immudb

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrProof is wrapped by errors of values that the server did not prove.
var ErrProof = errors.New("the proof is not valid")

// First bytes of what is hashed (RFC 6962), and of the keys and values that are stored.
const (
	leafPrefix, nodePrefix = 0, 1
	keyPrefix, valuePrefix = 0, 0
)

// headerVersionKnown is the only version of headers that is verified.
const headerVersionKnown = 1

// sum returns the hash of a transaction:
//
//	inner = SHA-256( time u64 ‖ version u16 ‖ len16(metadata) = 0 ‖ entries u32 ‖ entryRoot ‖
//	                 treeSize u64 ‖ treeRoot )
//	sum   = SHA-256( ID u64 ‖ previous ‖ inner )
func (h *Header) sum() hash {
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint64(b, h.time)
	b = binary.BigEndian.AppendUint16(b, uint16(h.version))
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(h.entries))
	b = append(b, h.entryRoot[:]...)
	b = binary.BigEndian.AppendUint64(b, h.treeSize)
	b = append(b, h.treeRoot[:]...)
	inner := sha256.Sum256(b)
	b = binary.BigEndian.AppendUint64(b[:0], h.ID)
	b = append(b, h.previous[:]...)
	b = append(b, inner[:]...)
	return sha256.Sum256(b)
}

// entryDigest returns the digest of an entry without metadata:
//
//	SHA-256( len16(metadata) = 0 ‖ len16(key) ‖ key ‖ SHA-256(value) )
//
// Key and value begin with their prefixes.
func entryDigest(key, value []byte) hash {
	v := sha256.New()
	v.Write([]byte{valuePrefix})
	v.Write(value)
	b := make([]byte, 0, 128)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(key)+1))
	b = append(b, keyPrefix)
	b = append(b, key...)
	return sha256.Sum256(v.Sum(b))
}

func leafHash(of hash) hash {
	b := [1 + len(of)]byte{leafPrefix}
	copy(b[1:], of[:])
	return sha256.Sum256(b[:])
}

func nodeHash(left, right hash) hash {
	b := [1 + len(left) + len(right)]byte{nodePrefix}
	copy(b[1:], left[:])
	copy(b[1+len(left):], right[:])
	return sha256.Sum256(b[:])
}

// included verifies an inclusion proof by RFC 9162, section 2.1.3.2. The index is from 0 on.
func included(leaf hash, index, size uint64, proof []hash, root hash) bool {
	if index >= size {
		return false
	}
	node, last := index, size-1
	got := leafHash(leaf)
	for _, p := range proof {
		if last == 0 {
			return false
		}
		if node&1 == 1 || node == last {
			got = nodeHash(p, got)
			for node&1 == 0 && node != 0 {
				node >>= 1
				last >>= 1
			}
		} else {
			got = nodeHash(got, p)
		}
		node >>= 1
		last >>= 1
	}
	return last == 0 && got == root
}

// verify checks that the value was set under the key before the trusted transaction.
func (a *answer) verify(key []byte, trusted *Header) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%w: key %x: %s", ErrProof, key, fmt.Sprintf(format, args...))
	}
	s, t := &a.source, &a.target
	switch {
	case s.version != headerVersionKnown || t.version != headerVersionKnown:
		return fail("headers of versions %d and %d, only %d is known", s.version, t.version, headerVersionKnown)
	case t.ID != trusted.ID || t.sum() != trusted.sum():
		return fail("transaction %d is not the trusted transaction %d", t.ID, trusted.ID)
	case s.ID != a.tx || s.ID == 0:
		return fail("transaction %d is proven, and %d has set the value", s.ID, a.tx)
	case a.width != s.entries:
		return fail("the proof is of %d entries, the transaction has %d", a.width, s.entries)
	case !included(entryDigest(key, a.value), a.leaf, a.width, a.inEntries, s.entryRoot):
		return fail("it is not an entry of transaction %d", s.ID)
	case !included(s.sum(), s.ID-1, t.treeSize, a.inTree, t.treeRoot):
		return fail("transaction %d is not in the tree of transaction %d", s.ID, t.ID)
	}
	return nil
}
