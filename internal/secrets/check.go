package secrets

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// Limits of secrets. A recorded call lets a stranger guess, so a secret must be too long for that: 20 random letters
// and digits have more than 100 bits.
const (
	minLength    = 20 // characters
	maxLength    = 512
	minDifferent = 8 // characters
)

// Check returns what is wrong with a value, without any part of it. The text follows the name of the secret.
func Check(value string) error {
	if n := utf8.RuneCountInString(value); n < minLength || n > maxLength {
		return fmt.Errorf("has %d characters, and must have %d to %d", n, minLength, maxLength)
	}
	different := map[rune]bool{}
	for _, r := range value {
		different[r] = true
	}
	if len(different) < minDifferent {
		return fmt.Errorf("has %d different characters, and must have at least %d", len(different), minDifferent)
	}
	return nil
}

// CheckFile returns an error if other users of the machine may read or change a file. mounted reports whether a
// container platform has mounted it.
func CheckFile(path string) (mounted bool, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return isMounted(path, info.Mode()), checkMode(path, info.Mode())
}

func checkMode(path string, mode os.FileMode) error {
	if mode.IsRegular() && mode.Perm()&0o007 != 0 {
		return fmt.Errorf("%s: other users of this machine may read or change it (mode %04o): chmod 600 it, "+
			"and replace the secret if you do not trust them", path, mode.Perm())
	}
	return nil
}

// IsNodeFolder reports whether a data folder has the identity of a node, so that the node was started before.
func IsNodeFolder(data string) bool {
	for _, name := range []string{"master.json", "identity.json"} {
		if _, err := os.Stat(filepath.Join(data, name)); err == nil {
			return true
		}
	}
	return false
}

// isMounted reports whether a file is a secret that Docker or Kubernetes has mounted, with the mode 0444 or 0644 that
// they give by default. Other users of a container are not those of the machine.
func isMounted(path string, mode os.FileMode) bool {
	if mode.Perm() != 0o444 && mode.Perm() != 0o644 {
		return false
	}
	dir := filepath.Dir(path)
	_, err := os.Lstat(filepath.Join(dir, "..data")) // the link through which Kubernetes replaces all files of a volume
	return err == nil || dir == "/run/secrets" || dir == "/var/run/secrets"
}

// Weak is the fingerprint of a value that [Check] refuses. A fingerprint of its own would help to guess it.
const Weak = "weak"

// Fingerprint identifies a value for operators, in 8 hexadecimal digits. It is derived by HKDF with a label of its own,
// so it helps with no key. 32 bits of a strong value say nothing that helps to guess it.
func Fingerprint(value string) string {
	switch {
	case value == "":
		return ""
	case Check(value) != nil:
		return Weak
	}
	print, err := hkdf.Key(sha256.New, []byte(value), nil, "chainstore secret fingerprint v1", 4)
	if err != nil {
		panic(err) // only a too long key gives an error
	}
	return hex.EncodeToString(print)
}
