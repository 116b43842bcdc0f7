package masterfsm

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Log is the identity under which the group signs its checkpoints.
type Log struct {
	// name of the log and of its keys, "" until the first key is founded; fixed from then on
	Origin string   `json:"origin"`
	Keys   []LogKey `json:"keys"` // the oldest first; never changed in place
}

// LogKey is an Ed25519 key of the log.
type LogKey struct {
	ID     string     `json:"id"`     // 8 hex digits: the key's hash in a signed note (C2SP signed-note)
	Public chain.Hash `json:"public"` // the public key's 32 bytes
	// Sealed is the private key under a secret that the table does not have: SealedLogKey bytes, none once the key is
	// retired.
	Sealed  []byte `json:"sealed,omitempty"`
	Since   uint64 `json:"since"`             // unix milliseconds
	Retired uint64 `json:"retired,omitempty"` // when it stopped signing, unix milliseconds; 0 while it signs
}

// Limits of the log's identity.
const (
	MaxOrigin    = 255          // bytes
	MaxLogKeys   = 8            // keys that sign at a time
	SealedLogKey = 12 + 32 + 16 // bytes: nonce, seed and tag of AES-256-GCM
	// keys that the log ever has: the table keeps the retired ones, so that none of them signs again
	maxKnownKeys = 1024
)

// CheckNoteName reports why a text cannot name keys of signed notes, and with them a log, whose origin it is, or a
// witness (C2SP signed-note, tlog-checkpoint). The error wraps [ErrBadCommand].
func CheckNoteName(name string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	switch {
	case name == "" || len(name) > MaxOrigin:
		return fmt.Errorf("%w: the name of a log or a witness has 1 to %d bytes", ErrBadCommand, MaxOrigin)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, bad):
		return fmt.Errorf("%w: the name of a log or a witness is UTF-8 without spaces, control characters and '+', "+
			"such as example.com/log: %q is not", ErrBadCommand, name)
	}
	return nil
}

// Signs reports whether the key signs checkpoints.
func (k *LogKey) Signs() bool { return k.Retired == 0 }

// VerifierKey is a key of the log in the form for verifiers (C2SP signed-note, "vkey").
func (l Log) VerifierKey(k *LogKey) string {
	vkey, err := note.NewEd25519VerifierKey(l.Origin, ed25519.PublicKey(k.Public[:]))
	if err != nil {
		panic(fmt.Sprintf("masterfsm: key %s: %v", k.ID, err)) // 32 bytes are a key: cannot happen
	}
	return vkey
}

// Known is the key with a public part.
func (l Log) Known(public chain.Hash) (LogKey, bool) {
	at := slices.IndexFunc(l.Keys, func(k LogKey) bool { return k.Public == public })
	if at < 0 {
		return LogKey{}, false
	}
	return l.Keys[at], true
}

// Signing are the keys that sign.
func (l Log) Signing() []LogKey {
	return slices.DeleteFunc(slices.Clone(l.Keys), func(k LogKey) bool { return !k.Signs() })
}

// AddLogKey gives the log one more key that signs, or a key that signs another seal. The first of all fixes the origin;
// where First is set and there is a key already, it is refused with [ErrStale], and so is one that is retired. The
// result is the [LogKey].
type AddLogKey struct {
	Origin string     `json:"origin"`
	Public chain.Hash `json:"public"`
	Sealed []byte     `json:"sealed"`
	First  bool       `json:"first,omitempty"`
	Time   uint64     `json:"time"`
}

// RetireLogKey ends a key: it signs no more, and its private part leaves the table; log entries and snapshots of before
// keep it, sealed, until they are dropped. The last that signs is refused with [wire.ErrLastKey].
type RetireLogKey struct {
	ID   string `json:"id"`
	Time uint64 `json:"time"`
}

func (*AddLogKey) kind() kind    { return kindAddLogKey }
func (*RetireLogKey) kind() kind { return kindRetireLogKey }

func (c *AddLogKey) apply(s *State) (any, error) {
	if err := CheckNoteName(c.Origin); err != nil {
		return nil, err
	}
	k := LogKey{Public: c.Public, Sealed: c.Sealed, Since: max(s.now, c.Time)}
	if len(c.Sealed) != SealedLogKey || c.Public.IsZero() {
		return nil, fmt.Errorf("%w: a log key has a public part and %d sealed bytes, %d came", ErrBadCommand,
			SealedLogKey, len(c.Sealed))
	}
	// A vkey is name+id+key, and the key may hold a plus.
	k.ID = strings.SplitN(Log{Origin: c.Origin}.VerifierKey(&k), "+", 3)[1]
	at := slices.IndexFunc(s.log.Keys, func(o LogKey) bool { return o.ID == k.ID })
	switch {
	case c.First && len(s.log.Keys) > 0:
		return nil, fmt.Errorf("%w: the log has a key already", ErrStale)
	case !c.First && len(s.log.Keys) == 0:
		return nil, fmt.Errorf("%w: the log has no first key yet", ErrStale)
	case !c.First && c.Origin != s.log.Origin:
		return nil, fmt.Errorf("%w: the log's origin is %q for good, the key is one of %q", ErrBadCommand, s.log.Origin,
			c.Origin)
	case at >= 0 && s.log.Keys[at].Public != k.Public:
		return nil, fmt.Errorf("%w: another key of the log has the id %s: make another", ErrBadCommand, k.ID)
	case at >= 0 && !s.log.Keys[at].Signs():
		return nil, fmt.Errorf("%w: the key %s is retired", ErrStale, k.ID)
	case at < 0 && len(s.log.Signing()) >= MaxLogKeys:
		return nil, fmt.Errorf("%w: %d keys sign already: retire one first", wire.ErrTooMany, MaxLogKeys)
	case at < 0 && len(s.log.Keys) >= maxKnownKeys:
		return nil, fmt.Errorf("%w: the log has had %d keys and takes no more: stay with those that sign",
			wire.ErrTooMany, maxKnownKeys)
	}
	s.tick(c.Time)
	keys := slices.Clone(s.log.Keys)
	if at >= 0 {
		k.Since = keys[at].Since
		keys[at] = k
	} else {
		keys = append(keys, k)
	}
	s.log = Log{Origin: c.Origin, Keys: keys}
	s.advanceCheckpoint() // which waited for the first key
	s.publish()
	return &k, nil
}

func (c *RetireLogKey) apply(s *State) (any, error) {
	at := slices.IndexFunc(s.log.Keys, func(k LogKey) bool { return k.ID == c.ID })
	switch {
	case at < 0:
		return nil, fmt.Errorf("%w: the log has no key %q", ErrUnknownLogKey, c.ID)
	case !s.log.Keys[at].Signs():
		return nil, nil // it was asked for twice
	case len(s.log.Signing()) == 1:
		return nil, fmt.Errorf("%w: %s; add its successor first", wire.ErrLastKey, c.ID)
	}
	s.tick(c.Time)
	keys := slices.Clone(s.log.Keys)
	keys[at].Retired, keys[at].Sealed = max(s.now, 1), nil
	s.log.Keys = keys
	return nil, nil
}

// Log is the identity under which the group signs. What it holds may be kept, and must not be changed.
func (s *State) Log() Log { return s.log }
