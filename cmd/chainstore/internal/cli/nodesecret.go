package cli

import (
	"fmt"

	"github.com/chainstore/chainstore/internal/secrets"
)

// ReadNodeSecret is ReadSecret for a secret of a node that starts, whose file is not read again. what names the secret.
// It refuses a file that other users of the machine may read or change, and a secret that is too short or simple. If
// the data folder is in use already, and for files of secrets that a container platform mounts for all users to read,
// warn is called instead.
func ReadNodeSecret(what, file, variable, data string, warn func(message string, args ...any)) (string, error) {
	if file != "" {
		if mounted, err := secrets.CheckFile(file); err != nil {
			if !secrets.IsNodeFolder(data) && !mounted {
				return "", err
			}
			warn("a file with a secret is not private", "secret", what, "error", err)
		}
	}
	secret, err := ReadSecret(file, variable)
	if err != nil || secret == "" {
		return "", err
	}
	if err := secrets.Check(secret); err != nil {
		err = fmt.Errorf("the %s %w; make another one: chainstore secret new", what, err)
		if !secrets.IsNodeFolder(data) {
			return "", err
		}
		warn("a secret is weak: recorded calls let a stranger guess it; replace it", "secret", what, "error", err)
	}
	return secret, nil
}

// ReadValues returns the values of a secret of nodes from a file that other users of the machine may not read, or the
// one of an environment variable if no file is named. It returns none if neither is set.
func ReadValues(file, variable string) ([]string, error) {
	if file == "" {
		value, err := ReadSecret("", variable)
		if err != nil || value == "" {
			return nil, err
		}
		return []string{value}, nil
	}
	v, err := secrets.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return v.Accepted(), nil
}

// ReadPrivateSecret is ReadSecret for a secret whose file other users of the machine must not be able to read.
func ReadPrivateSecret(file, variable string) (string, error) {
	if file != "" {
		if mounted, err := secrets.CheckFile(file); err != nil && !mounted {
			return "", err
		}
	}
	return ReadSecret(file, variable)
}
