// Package atresttest makes at-rest keys for tests.
package atresttest

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
)

// BothWays runs a test in clear, without keys, and with a key.
func BothWays(t *testing.T, test func(t *testing.T, keys *atrest.Ring)) {
	t.Run("in clear", func(t *testing.T) { test(t, nil) })
	t.Run("encrypted", func(t *testing.T) { test(t, Ring(t, 1)) })
}

// Write writes a file with the keys of some numbers. A number always has the same key. The file appears as a whole.
func Write(t testing.TB, path string, numbers ...byte) {
	t.Helper()
	lines := make([]string, len(numbers))
	for i, n := range numbers {
		key := sha256.Sum256([]byte{n})
		lines[i] = hex.EncodeToString(key[:])
	}
	WriteLines(t, path, lines...)
}

// WriteLines writes a file with keys, one a line. It appears as a whole.
func WriteLines(t testing.TB, path string, lines ...string) {
	t.Helper()
	if err := durable.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Load returns a ring with the keys in a file.
func Load(t testing.TB, path string) *atrest.Ring {
	t.Helper()
	ring, err := atrest.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// Ring returns a ring with the keys of some numbers, the first of which encrypts.
func Ring(t testing.TB, numbers ...byte) *atrest.Ring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "at-rest.keys")
	Write(t, path, numbers...)
	return Load(t, path)
}

// RingOf returns a ring with the keys of lines, the first of which encrypts.
func RingOf(t testing.TB, lines ...string) *atrest.Ring {
	t.Helper()
	path := filepath.Join(t.TempDir(), "at-rest.keys")
	WriteLines(t, path, lines...)
	return Load(t, path)
}
