package oidc

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chainstore/chainstore/wire"
)

const (
	// maxToken bounds a token, in bytes. The head of a request may have 16 KiB.
	maxToken = 12 << 10
	// maxVerified bounds the tokens whose verification is remembered.
	maxVerified = 10_000
)

// Issuer verifies the tokens of an issuer. Its methods may be called by many goroutines.
type Issuer struct {
	options  Options
	mapping  mapping
	keys     *keySet
	verified *lru.Cache[[sha256.Size]byte, verified]
	refused  atomic.Uint64
}

// Identity is the holder of a token.
type Identity struct {
	Issuer  string
	Subject string // unique at the issuer
	Name    string // for people; not unique, and chosen by the user at some issuers
	Role    string // one of wire.AdminRoles, "" for none
	Grants  []wire.Grant
	Expires time.Time // the token is not accepted from then on
}

// Status describes the keys of the issuer.
type Status struct {
	Keys     int
	Fetched  time.Time // zero if they were never fetched
	Failures uint64    // fetches that failed
	Refused  uint64    // tokens that were refused
	Error    string    // of the newest fetch, "" where it succeeded
}

// New returns the issuer of valid options. [Issuer.Run] must run for it to accept tokens.
func New(o Options, log hclog.Logger) (*Issuer, error) {
	m, err := o.parse()
	if err != nil {
		return nil, err
	}
	client, err := newClient(o.CA)
	if err != nil {
		return nil, err
	}
	return newIssuer(o, m, log, func(ctx context.Context) (published, error) {
		return fetchPublished(ctx, client, o.Issuer)
	})
}

func newIssuer(
	o Options, m mapping, log hclog.Logger, fetch func(ctx context.Context) (published, error),
) (*Issuer, error) {
	known, err := lru.New[[sha256.Size]byte, verified](maxVerified)
	if err != nil {
		return nil, err
	}
	return &Issuer{options: o, mapping: m, verified: known, keys: newKeySet(fetch, log.Named("oidc"))}, nil
}

// Run fetches the keys of the issuer until ctx ends.
func (i *Issuer) Run(ctx context.Context) error { return i.keys.run(ctx) }

// Status returns the state of the keys.
func (i *Issuer) Status() Status {
	i.keys.mu.Lock()
	defer i.keys.mu.Unlock()
	s := Status{
		Keys: len(i.keys.known.keys), Fetched: i.keys.fetched, Failures: i.keys.failures, Refused: i.refused.Load(),
	}
	if i.keys.err != nil {
		s.Error = i.keys.err.Error()
	}
	return s
}

// Failure returns why the newest fetch of the keys failed, "" if it succeeded or is the first one.
func (i *Issuer) Failure() string {
	s := i.Status()
	if s.Failures == 0 {
		return ""
	}
	return s.Error
}

// Issues reports whether a token has the form of a JWT in the compact serialization, which no other token has.
func (i *Issuer) Issues(token string) bool {
	return i != nil && strings.HasPrefix(token, "eyJ") && strings.Count(token, ".") == 2
}

// Identify returns the holder of a token. mayAsk is called before the signature of a token is verified that was not
// verified before; its error is returned instead. Errors: wire.ErrUnauthorized, wire.ErrForbidden for a good token that
// gives no rights, and wire.ErrUnavailable.
func (i *Issuer) Identify(ctx context.Context, token string, mayAsk func() error) (Identity, error) {
	id, err := i.identify(ctx, token, mayAsk)
	if err != nil {
		i.refused.Add(1)
	}
	return id, err
}

func (i *Issuer) identify(ctx context.Context, token string, mayAsk func() error) (Identity, error) {
	if len(token) > maxToken {
		return Identity{}, refuse("has %d bytes, and at most %d are accepted: have the issuer put fewer claims into it",
			len(token), maxToken)
	}
	hash := sha256.Sum256([]byte(token))
	if v, known := i.verified.Get(hash); known {
		trusted, err := i.keys.trusts(v.thumbprint)
		switch {
		case err != nil:
			return Identity{}, err
		case !time.Now().Before(v.id.Expires):
			i.verified.Remove(hash)
			return Identity{}, expired(v.id.Expires)
		case trusted:
			return v.id, nil
		}
		i.verified.Remove(hash) // the key was removed or replaced
	}
	v, err := i.verify(ctx, token, mayAsk)
	if err != nil {
		return Identity{}, err
	}
	i.verified.Add(hash, v)
	return v.id, nil
}

// verified is a token whose signature was verified.
type verified struct {
	id         Identity
	thumbprint string // of the key: the token is good while the issuer has it
}

// SignIn returns how the console signs in. Available is false without --oidc-console-client. The error wraps
// wire.ErrUnavailable.
func (i *Issuer) SignIn() (wire.SignIn, error) {
	if i == nil || i.options.ConsoleClient == "" {
		return wire.SignIn{}, nil
	}
	p, known := i.keys.endpoints()
	if !known {
		return wire.SignIn{}, fmt.Errorf("%w: it has not answered yet", errNoIssuer)
	}
	for what, url := range map[string]string{
		"the issuer's authorization endpoint": p.authorisation, "the issuer's token endpoint": p.token,
	} {
		if err := checkURL(what, url); err != nil {
			return wire.SignIn{}, fmt.Errorf("%w: %w", errNoIssuer, err)
		}
	}
	if originOf(p.token) != i.Origin() {
		return wire.SignIn{}, fmt.Errorf("%w: its token endpoint is at %s, and the console sends requests to the "+
			"issuer's own origin only", errNoIssuer, originOf(p.token))
	}
	return wire.SignIn{
		Available: true, Issuer: i.options.Issuer, Client: i.options.ConsoleClient, Scopes: i.options.ConsoleScopes,
		Authorization: p.authorisation, Token: p.token,
	}, nil
}

// Origin returns the origin to which the console sends requests when it signs in, "" for none.
func (i *Issuer) Origin() string {
	if i == nil || i.options.ConsoleClient == "" {
		return ""
	}
	return originOf(i.options.Issuer)
}
