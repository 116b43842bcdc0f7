package nodeauth

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"sync/atomic"
)

// Secret has the tokens of one secret. All are accepted, and the first is used. The zero Secret accepts none. Its
// methods may be called by many goroutines.
type Secret struct {
	tokens atomic.Pointer[[]token]
}

// token is one value of a secret, with what is derived from it.
type token struct {
	text string
	hash [sha256.Size]byte // of the text, for a comparison in constant time
	base [sha256.Size]byte // from which the keys of all purposes are derived
}

// NewSecret returns the secret with these tokens. Empty ones are left out.
func NewSecret(tokens ...string) *Secret {
	s := &Secret{}
	s.Set(tokens...)
	return s
}

// Set replaces the tokens. Sessions under tokens that are no longer there end.
func (s *Secret) Set(tokens ...string) {
	var list []token
	for _, text := range tokens {
		if text == "" {
			continue
		}
		base, err := hkdf.Key(sha256.New, []byte(text), nil, "chainstore node calls v1", sha256.Size)
		if err != nil {
			panic(err) // only a too long key gives an error
		}
		list = append(list, token{text: text, hash: sha256.Sum256([]byte(text)), base: [sha256.Size]byte(base)})
	}
	s.tokens.Store(&list)
}

// list returns the tokens in order. A nil Secret has none.
func (s *Secret) list() []token {
	if s == nil {
		return nil
	}
	if list := s.tokens.Load(); list != nil {
		return *list
	}
	return nil
}

// First returns the token that is used, "" for none.
func (s *Secret) First() string {
	if list := s.list(); len(list) > 0 {
		return list[0].text
	}
	return ""
}

// Tokens returns all tokens, the one that is used first.
func (s *Secret) Tokens() []string {
	var all []string
	for _, t := range s.list() {
		all = append(all, t.text)
	}
	return all
}

// Matches reports whether a bearer token is one of the tokens. It compares in constant time.
func (s *Secret) Matches(bearer string) bool {
	hash, found := sha256.Sum256([]byte(bearer)), 0
	for _, t := range s.list() {
		found |= subtle.ConstantTimeCompare(t.hash[:], hash[:])
	}
	return found == 1
}

// position returns where the token of a base is in the list, -1 if it is not there.
func (s *Secret) position(base [sha256.Size]byte) int {
	return slices.IndexFunc(s.list(), func(t token) bool { return t.base == base })
}

// Format prints no token, for every verb.
func (s *Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "secret") }

// Secrets are those of a cluster. Each may be the same.
type Secrets struct {
	Masters  *Secret // of masters only
	Storage  *Secret // of masters and storage nodes
	Miner    *Secret // of masters and miners
	Recovery *Secret // of storage nodes, and of a recovery of the masters
}

// Shared returns the secrets of a cluster that has only one, with its tokens.
func Shared(tokens ...string) Secrets {
	s := NewSecret(tokens...)
	return Secrets{Masters: s, Storage: s, Miner: s, Recovery: s}
}

// For returns the credential with which a node proves a purpose to a master or a storage node. It is not for [Orders].
func (s Secrets) For(purpose string) Credential {
	c := Credential{Purpose: purpose}
	switch purpose {
	case Masters:
		c.Secret = s.Masters
	case Storage:
		c.Secret = s.Storage
	case Miner:
		c.Secret = s.Miner
	case Recovery:
		c.Secret = s.Recovery
	}
	return c
}

// ForWorker returns the credential with which a master proves itself to a storage node or a miner.
func (s Secrets) ForWorker(miner bool, masterToken string) Credential {
	c := Credential{Purpose: Orders, Bound: masterToken, Secret: s.Storage}
	if miner {
		c.Secret = s.Miner
	}
	return c
}
