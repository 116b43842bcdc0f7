package atrest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/chainstore/chainstore/internal/durable"
)

// KeySize is the size of an operator's key and of a data key, in bytes.
const KeySize = 32

// ID names an operator's key. It follows from the key.
type ID [8]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// idOf returns the first bytes of SHA-256("chainstore at-rest key id" ‖ key).
func idOf(key []byte) ID {
	h := sha256.Sum256(append([]byte("chainstore at-rest key id"), key...))
	return ID(h[:])
}

// ErrNoKey: a file is encrypted with a key that the ring does not have. Nothing is known about its content, so it is
// neither damaged nor missing.
var ErrNoKey = errors.New("encrypted with a key that is not in the file of --at-rest-keys")

// noKey returns the error for a missing key. It wraps ErrNoKey.
func noKey(id ID) error {
	return fmt.Errorf("%w: the id of the key is %v; add the line with that key to the file", ErrNoKey, id)
}

// maxKeys bounds the keys of a file.
const maxKeys = 64

// minDifferent is the number of different bytes that a key must have. A random key has 30; fewer than 16 occur once in
// 10^15 keys.
const minDifferent = 16

// Ring holds the keys of an operator. A nil Ring has none: nothing is encrypted, and no encrypted file can be read. Its
// methods may be called from any goroutine.
type Ring struct {
	path string

	mu      sync.RWMutex // guards all below
	file    []byte       // SHA-256 of the file as it was read last
	current ID           // of the first key
	keys    map[ID][]byte
}

// Load reads a file of keys. Each line is a key of 64 hex digits; what follows after a space is a comment, as are lines
// that begin with #. The first key encrypts, all keys decrypt. Other users must not be able to read the file, nor its
// group to change it, and a key must not be weak.
func Load(path string) (*Ring, error) {
	r := &Ring{path: path, keys: map[ID][]byte{}}
	if _, err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the file again, and reports whether it has changed. Keys that are not in the file any more stay in the
// ring. After an error the ring is as before.
func (r *Ring) Reload() (changed bool, err error) {
	if r == nil {
		return false, nil
	}
	data, err := readPrivate(r.path)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(data)
	r.mu.Lock()
	defer r.mu.Unlock()
	if bytes.Equal(sum[:], r.file) {
		return false, nil
	}
	keys, err := parseKeys(data)
	if err != nil {
		return false, fmt.Errorf("keys in %s: %w", r.path, err)
	}
	r.file, r.current = sum[:], idOf(keys[0])
	for _, key := range keys {
		r.keys[idOf(key)] = key
	}
	return true, nil
}

// readPrivate reads a file that other users may not read, and only its owner may change. Its group may read it: so a
// volume of Kubernetes has it for a process that does not run as root.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w but %s", path, durable.ErrNotFile, durable.KindOf(info.Mode()))
	}
	if info.Mode().Perm()&0o027 != 0 {
		return nil, fmt.Errorf("%s: other users may read or change it (mode %04o): chmod 600 it, and replace the keys "+
			"if you do not trust them", path, info.Mode().Perm())
	}
	return os.ReadFile(path)
}

// parseKeys returns the keys of a file in their order, at least one. The error has no part of a key.
func parseKeys(data []byte) (keys [][]byte, err error) {
	seen := map[ID]bool{}
	for number, line := range strings.Split(string(data), "\n") {
		text, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if text == "" || text[0] == '#' {
			continue
		}
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != KeySize {
			return nil, fmt.Errorf("line %d is not a key of %d hex digits: make one with 'openssl rand -hex %d'",
				number+1, 2*KeySize, KeySize)
		}
		if isWeak(key) {
			return nil, fmt.Errorf("the key in line %d is not random: make one with 'openssl rand -hex %d'",
				number+1, KeySize)
		}
		id := idOf(key)
		if seen[id] {
			return nil, fmt.Errorf("the key in line %d is there twice", number+1)
		}
		seen[id] = true
		if keys = append(keys, key); len(keys) > maxKeys {
			return nil, fmt.Errorf("more than %d keys: remove those that no file needs any more", maxKeys)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("there is no key: make one with 'openssl rand -hex %d'", KeySize)
	}
	return keys, nil
}

// isWeak reports whether a key is evidently not random: few different bytes, text, or bytes in a row.
func isWeak(key []byte) bool {
	different := map[byte]bool{}
	printable, steps := true, map[byte]int{}
	for i, b := range key {
		different[b] = true
		printable = printable && b >= ' ' && b <= '~'
		if i > 0 {
			steps[b-key[i-1]]++
		}
	}
	for _, n := range steps {
		if n > KeySize/2 {
			return true
		}
	}
	return printable || len(different) < minDifferent
}

// Has reports whether the ring has a key that encrypts.
func (r *Ring) Has() bool { return r != nil }

// HasKey reports whether the ring has the key of an id.
func (r *Ring) HasKey(id ID) bool { return r.CheckKey(id) == nil }

// CheckKey returns an error that wraps ErrNoKey unless the ring has the key of an id.
func (r *Ring) CheckKey(id ID) error {
	_, err := r.key(id)
	return err
}

// Current returns the id of the key that encrypts. It is zero for a nil Ring.
func (r *Ring) Current() ID {
	if r == nil {
		return ID{}
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.current
}

// key returns the key of an id. The error wraps ErrNoKey.
func (r *Ring) key(id ID) ([]byte, error) {
	if r != nil {
		r.mu.RLock()
		defer r.mu.RUnlock()
		if key := r.keys[id]; key != nil {
			return key, nil
		}
	}
	return nil, noKey(id)
}
