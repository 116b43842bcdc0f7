package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"unicode/utf8"
)

// Limits of the secrets of nodes. A recorded call lets a stranger guess, so a secret must be too long for that:
// 20 random letters and digits have more than 100 bits.
const (
	minSecret       = 20 // characters
	maxSecret       = 512
	minSecretLetter = 8 // different characters
)

// ReadNodeSecret is ReadSecret for the cluster token and the admin token of a node that starts. what names the secret.
// It refuses a file that other users of the machine may read or change, and a secret that is too short or simple. If
// the data folder is in use already, and for files of secrets that a container platform mounts for all users to read,
// warn is called instead: the secret of a cluster cannot be replaced while it is upgraded.
func ReadNodeSecret(what, file, variable, data string, warn func(message string, args ...any)) (string, error) {
	if err := checkMode(file); err != nil {
		if !isNodeFolder(data) && !isMounted(file) {
			return "", err
		}
		warn("a file with a secret is not private", "secret", what, "error", err)
	}
	secret, err := ReadSecret(file, variable)
	if err != nil || secret == "" {
		return "", err
	}
	if err := checkSecret(secret); err != nil {
		err = fmt.Errorf("the %s %w; make another one: head -c 24 /dev/urandom | base64 | tr -d '+/='", what, err)
		if !isNodeFolder(data) {
			return "", err
		}
		warn("a secret is weak: recorded calls let a stranger guess it; replace it when all nodes can be stopped",
			"secret", what, "error", err)
	}
	return secret, nil
}

// isNodeFolder reports whether a data folder has the identity of a node, so that the node was started before.
func isNodeFolder(data string) bool {
	for _, name := range []string{"master.json", "identity.json"} {
		if _, err := os.Stat(filepath.Join(data, name)); err == nil {
			return true
		}
	}
	return false
}

// isMounted reports whether a file is a secret that Docker or Kubernetes has mounted, with the mode 0444 or 0644 that
// they give by default. Other users of a container are not those of the machine.
func isMounted(file string) bool {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o444 && info.Mode().Perm() != 0o644 {
		return false
	}
	dir := filepath.Dir(file)
	_, err = os.Lstat(filepath.Join(dir, "..data")) // the link through which Kubernetes replaces all files of a volume
	return err == nil || dir == "/run/secrets" || dir == "/var/run/secrets"
}

// ReadPrivateSecret is ReadSecret for a secret whose file other users of the machine must not be able to read.
func ReadPrivateSecret(file, variable string) (string, error) {
	if err := checkMode(file); err != nil && !isMounted(file) {
		return "", err
	}
	return ReadSecret(file, variable)
}

// checkMode returns an error if other users of the machine may read or change a file. file may be "".
func checkMode(file string) error {
	if file == "" {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o007 != 0 {
		return fmt.Errorf("%s: other users of this machine may read or change it (mode %04o): chmod 600 it, "+
			"and replace the secret if you do not trust them", file, mode.Perm())
	}
	return nil
}

// checkSecret returns what is wrong with a secret, without any part of it.
func checkSecret(secret string) error {
	if n := utf8.RuneCountInString(secret); n < minSecret || n > maxSecret {
		return fmt.Errorf("has %d characters, and must have %d to %d", n, minSecret, maxSecret)
	}
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	if len(different) < minSecretLetter {
		return fmt.Errorf("has %d different characters, and must have at least %d", len(different), minSecretLetter)
	}
	return nil
}
