package chain

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// MaxDifficulty is the highest difficulty that a block may ask for, in leading zero bits: about 2^40 tries, hours on
// one machine. The cap keeps a typing mistake from stopping the chain.
const MaxDifficulty = 40

// BlockHash is the hash of a block: SHA-256(inner ‖ nonce u64, big endian), where inner is [Header.Inner]. The 40 bytes
// are one SHA-256 block, so a try costs one compression.
func BlockHash(inner Hash, nonce uint64) Hash {
	var buf [HashSize + 8]byte
	copy(buf[:], inner[:])
	binary.BigEndian.PutUint64(buf[HashSize:], nonce)
	return sha256.Sum256(buf[:])
}

// Mined reports whether a block hash has at least difficulty leading zero bits.
func Mined(hash Hash, difficulty uint8) bool {
	return LeadingZeros(hash) >= int(difficulty)
}

// LeadingZeros counts the leading zero bits of a hash.
func LeadingZeros(hash Hash) int {
	for i, b := range hash {
		if b != 0 {
			return 8*i + bits.LeadingZeros8(b)
		}
	}
	return 8 * HashSize
}

// Solve tries the tries nonces from start on, and returns the first that mines a block of that inner hash. Nonces wrap
// around at 2^64. A miner calls it in slices and can stop between them.
func Solve(inner Hash, difficulty uint8, start, tries uint64) (nonce uint64, found bool) {
	var buf [HashSize + 8]byte
	copy(buf[:], inner[:])
	for i := range tries {
		binary.BigEndian.PutUint64(buf[HashSize:], start+i)
		if Mined(sha256.Sum256(buf[:]), difficulty) {
			return start + i, true
		}
	}
	return 0, false
}
