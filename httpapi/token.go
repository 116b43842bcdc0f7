package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// errUnauthorized is the refusal of a request without a usable token.
var errUnauthorized = fmt.Errorf("%w: send the header Authorization: Bearer TOKEN", wire.ErrUnauthorized)

// Secret is a token that is compared and never shown: its SHA-256. The zero Secret matches nothing.
type Secret struct {
	hash [sha256.Size]byte
	set  bool
}

// NewSecret is the secret of a token; that of an empty token matches nothing.
func NewSecret(token string) Secret {
	return Secret{hash: sha256.Sum256([]byte(token)), set: token != ""}
}

// Matches compares in constant time.
func (s Secret) Matches(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return s.set && subtle.ConstantTimeCompare(s.hash[:], hash[:]) == 1
}

// Bearer is the token of a request. It is read from the Authorization header only: a query string may be logged on its
// way.
func Bearer(r *http.Request) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", errUnauthorized
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fmt.Errorf("%w, and nothing else in it", errUnauthorized)
	}
	return strings.TrimSpace(token), nil
}

// strangers limits what is logged about requests without the token of the nodes. Its methods may be called by many
// goroutines.
type strangers struct {
	mu     sync.Mutex // guards the fields below
	since  time.Time
	logged map[string]bool // addresses that were logged since then
}

// A stranger is logged once in strangerPause, and at most maxStrangers are.
const (
	strangerPause = 10 * time.Minute
	maxStrangers  = 16
)

// newOne reports whether a request from an address should be logged.
func (s *strangers) newOne(address string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.since) >= strangerPause {
		s.since, s.logged = now, map[string]bool{}
	}
	if s.logged[address] || len(s.logged) >= maxStrangers {
		return false
	}
	s.logged[address] = true
	return true
}
