package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// How the keys of an issuer are fetched and used.
const (
	// KeyTrust is how long keys are used after they were last fetched, while the issuer does not answer.
	KeyTrust = 24 * time.Hour
	// refreshEvery is the time from one fetch to the next.
	refreshEvery = 15 * time.Minute
	// After a failure the next fetch follows after retryFirst, and each further one after twice the time, up to
	// retryMost.
	retryFirst = time.Second
	retryMost  = time.Minute
	// Unknown keys may cause so many fetches at once, and one more after each unknownPause.
	unknownFetches = 3
	unknownPause   = 10 * time.Second
	// unknownWait is how long a request with an unknown key waits for a fetch.
	unknownWait = 3 * time.Second
)

// algorithms are the accepted ones: signatures with a private key that only the issuer has.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
	jose.EdDSA,
}

// errNoIssuer is the error of a token that cannot be judged.
var errNoIssuer = wire.ErrUnavailable.Variant("the OIDC issuer is not available")

// published is what an issuer publishes.
type published struct {
	keys          map[string]key
	authorisation string // URL of the authorization endpoint
	token         string // URL of the token endpoint
}

// key is one public key.
type key struct {
	public     crypto.PublicKey
	thumbprint string                    // RFC 7638
	algorithm  jose.SignatureAlgorithm   // "" if the issuer does not restrict it
	fits       []jose.SignatureAlgorithm // by the type of the key
}

// keySet has the keys of the issuer. run fetches them; the other methods may be called by many goroutines.
type keySet struct {
	fetch func(ctx context.Context) (published, error)
	log   hclog.Logger
	wake  chan struct{}

	mu       sync.Mutex // guards all below
	known    published
	fetched  time.Time     // when the newest successful fetch ended
	err      error         // of the newest fetch; nil where it succeeded
	failures uint64        // fetches that failed
	next     chan struct{} // closed when the next fetch that begins from now on has ended
	asked    bool          // that fetch was asked for
	budget   int           // fetches for unknown keys that are left
	refilled time.Time
}

func newKeySet(fetch func(ctx context.Context) (published, error), log hclog.Logger) *keySet {
	return &keySet{
		fetch: fetch, log: log, wake: make(chan struct{}, 1), next: make(chan struct{}),
		budget: unknownFetches, refilled: time.Now(), err: errors.New("they were not fetched yet"),
	}
}

// run fetches the keys until ctx ends: at once, then every refreshEvery, sooner after a failure, and when find asks.
func (s *keySet) run(ctx context.Context) error {
	retry := retryFirst
	for {
		pause := refreshEvery
		if s.refresh(ctx) {
			retry = retryFirst
		} else {
			pause = retry
			retry = min(2*retry, retryMost)
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// refresh fetches the keys once.
func (s *keySet) refresh(ctx context.Context) (ok bool) {
	s.mu.Lock()
	ended := s.next
	s.next, s.asked = make(chan struct{}), false
	s.mu.Unlock()
	got, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(ended)
	failed := s.err != nil && !s.fetched.IsZero()
	s.err = err
	if err != nil {
		if ctx.Err() == nil {
			s.failures++
			s.log.Warn("the keys of the OIDC issuer cannot be fetched", "error", err, "keys", len(s.known.keys),
				"used_until", s.fetched.Add(KeyTrust))
		}
		return false
	}
	if failed {
		s.log.Info("the keys of the OIDC issuer can be fetched again", "keys", len(got.keys))
	}
	s.known, s.fetched = got, time.Now()
	return true
}

// endpoints returns the newest endpoints that are known.
func (s *keySet) endpoints() (published, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known, !s.fetched.IsZero()
}

// find returns the key with which a token must be signed. kid may be empty if the issuer has only one key. For an
// unknown kid it has the keys fetched again, if the limit of these fetches allows that. Errors: wire.ErrUnavailable if
// the keys are not known, wire.ErrUnauthorized if there is no such key.
func (s *keySet) find(ctx context.Context, kid string, alg jose.SignatureAlgorithm) (key, error) {
	k, ended, err := s.look(kid, true)
	if ended != nil {
		timer := time.NewTimer(unknownWait)
		defer timer.Stop()
		select {
		case <-ended:
			k, _, err = s.look(kid, false)
		case <-timer.C:
			err = fmt.Errorf("%w: it does not answer, so it is not known whether it has the key %.100q", errNoIssuer,
				kid)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
	}
	switch {
	case err != nil:
		return key{}, err
	case !slices.Contains(k.fits, alg), k.algorithm != "" && k.algorithm != alg:
		return key{}, refuse("is signed with %s, and the issuer's key %.100q is not for that algorithm", alg, kid)
	}
	return k, nil
}

// look finds a key. If it is unknown and ask is true, it asks for a fetch and returns a channel that is closed when
// that has ended.
func (s *keySet) look(kid string, ask bool) (k key, ended <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return key{}, nil, err
	}
	if k, ok := s.known.keys[kid]; ok {
		return k, nil, nil
	}
	if kid == "" && len(s.known.keys) == 1 {
		for _, only := range s.known.keys {
			return only, nil, nil
		}
	}
	if kid != "" && ask && (s.asked || s.mayFetch()) {
		s.asked = true
		select {
		case s.wake <- struct{}{}:
		default:
		}
		return key{}, s.next, nil
	}
	if s.err != nil {
		return key{}, nil, fmt.Errorf("%w: it is not known whether it has the key %.100q: %w", errNoIssuer, kid,
			s.err)
	}
	return key{}, nil, refuse("is signed with the key %.100q, which the issuer does not have", kid)
}

// usable returns why no key may be used, nil where keys may. The caller holds mu.
func (s *keySet) usable() error {
	switch age := time.Since(s.fetched); {
	case s.fetched.IsZero():
		return fmt.Errorf("%w: the keys of the issuer are not known yet: %w", errNoIssuer, s.err)
	case age > KeyTrust:
		return fmt.Errorf("%w: the keys of the issuer were last fetched %v ago, and are used for %v", errNoIssuer,
			age.Round(time.Second), KeyTrust)
	}
	return nil
}

// trusts reports whether the issuer has a key, by its thumbprint. The error says why no key may be used.
func (s *keySet) trusts(thumbprint string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return false, err
	}
	for _, k := range s.known.keys {
		if k.thumbprint == thumbprint {
			return true, nil
		}
	}
	return false, nil
}

// mayFetch takes one fetch from the budget of unknown keys. The caller holds mu.
func (s *keySet) mayFetch() bool {
	if n := int(time.Since(s.refilled) / unknownPause); n > 0 {
		s.budget = min(s.budget+n, unknownFetches)
		s.refilled = s.refilled.Add(time.Duration(n) * unknownPause)
	}
	if s.budget == 0 {
		return false
	}
	s.budget--
	return true
}

// parseKeys reads a JWK set (RFC 7517). Keys of other types and for other uses are left out.
func parseKeys(data []byte) (map[string]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("its JWK set is not JSON: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("its JWK set has %d keys, and at most %d are read", len(set.Keys), maxKeys)
	}
	keys := map[string]key{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if err := json.Unmarshal(raw, &k); err != nil || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
			continue
		}
		usable, ok := usableKey(&k)
		if !ok {
			continue
		}
		if _, twice := keys[k.KeyID]; twice {
			return nil, fmt.Errorf("its JWK set has two keys with the kid %.100q", k.KeyID)
		}
		keys[k.KeyID] = usable
	}
	if len(keys) == 0 {
		return nil, errors.New("its JWK set has no public key for signatures")
	}
	return keys, nil
}

// maxKeys bounds the keys of an issuer.
const maxKeys = 100

// minRSA and maxRSA bound the bits of RSA keys: a short key can be broken, and a long one costs much time.
const (
	minRSA = 2048
	maxRSA = 8192
)

// usableKey returns a key of a type and size that is accepted.
func usableKey(k *jose.JSONWebKey) (key, bool) {
	thumbprint, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return key{}, false
	}
	usable := key{public: k.Key, thumbprint: string(thumbprint), algorithm: jose.SignatureAlgorithm(k.Algorithm)}
	switch public := k.Key.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSA || bits > maxRSA {
			return key{}, false
		}
		usable.fits = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256():
			usable.fits = []jose.SignatureAlgorithm{jose.ES256}
		case elliptic.P384():
			usable.fits = []jose.SignatureAlgorithm{jose.ES384}
		case elliptic.P521():
			usable.fits = []jose.SignatureAlgorithm{jose.ES512}
		}
	case ed25519.PublicKey:
		usable.fits = []jose.SignatureAlgorithm{jose.EdDSA}
	}
	return usable, len(usable.fits) > 0
}
