package cli

import (
	"fmt"
	"os"
	"unicode/utf8"
)

// Limits of the secrets of nodes. A recorded call lets a stranger guess, so a secret must be too long for that:
// 20 random letters and digits have more than 100 bits.
const (
	minSecret       = 20 // characters
	maxSecret       = 512
	minSecretLetter = 8 // different characters
)

// ReadNodeSecret is ReadSecret for the cluster token and the admin token of a node that starts. It refuses a file that
// other users of the machine may read, and a secret that is too short or simple. what names the secret.
func ReadNodeSecret(what, file, variable string) (string, error) {
	secret, err := ReadPrivateSecret(file, variable)
	if err != nil || secret == "" {
		return "", err
	}
	if err := checkSecret(secret); err != nil {
		return "", fmt.Errorf("the %s %w; make another one: head -c 24 /dev/urandom | base64 | tr -d '+/='", what, err)
	}
	return secret, nil
}

// ReadPrivateSecret is ReadSecret for a secret whose file other users of the machine must not be able to read.
func ReadPrivateSecret(file, variable string) (string, error) {
	if file != "" {
		info, err := os.Stat(file)
		if err != nil {
			return "", err
		}
		if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o007 != 0 {
			return "", fmt.Errorf("%s: other users of this machine may read or change it (mode %04o): chmod 600 it, "+
				"and replace the secret if you do not trust them", file, mode.Perm())
		}
	}
	return ReadSecret(file, variable)
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
