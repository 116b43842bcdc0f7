package signing

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/masterfsm"
)

// LogConfig describes how a master takes part in the group's log.
type LogConfig struct {
	// Secret returns the accepted values of the secret under which the log's private keys are sealed in the table, the
	// one to seal with first. They may change.
	Secret func() []string
	// Origin is the name of the log if this master founds its first key: "" for that of Key, or else chainstore/ and
	// the group's id. The name of a log does not change.
	Origin string
	// Key is a private key that the log should have, as its first if it has none. If it is nil, the leader makes the
	// first key.
	Key *Key
}

// Fixed returns values that do not change, for [LogConfig.Secret].
func Fixed(values ...string) func() []string { return func() []string { return values } }

// Check reports what is wrong with the configuration.
func (c *LogConfig) Check() error {
	if c.Secret == nil || len(c.Secret()) == 0 {
		return errors.New("a secret is required, because the log's keys are sealed under it")
	}
	if c.Origin != "" {
		if err := masterfsm.CheckNoteName(c.Origin); err != nil {
			return err
		}
	}
	if c.Key != nil && c.Origin != "" && c.Origin != c.Key.Origin() {
		return fmt.Errorf("%w: the log's key is for the origin %q, and the configured origin is %q: they must be the "+
			"same", masterfsm.ErrBadCommand, c.Key.Origin(), c.Origin)
	}
	return nil
}

// Sealer seals and opens the private keys of a group's log.
func (c *LogConfig) Sealer(group string) Sealer { return Sealer{Values: c.Secret(), Group: group} }

// FirstKey returns the key with which this master founds the log of a group. The default origin differs between the
// epochs of a group: if a group was recovered without its old key, the log under the old origin must not get a key that
// the old one has not introduced.
func (c *LogConfig) FirstKey(group masterfsm.Group) (*Key, error) {
	if c.Key != nil {
		return c.Key, nil
	}
	origin := "chainstore/" + group.ID
	if group.Epoch > 1 {
		origin += fmt.Sprint("/", group.Epoch)
	}
	return NewKey(cmp.Or(c.Origin, origin))
}
