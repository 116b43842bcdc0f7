package oidc

import (
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	oidclib "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/chainstore/chainstore/wire"
)

const (
	// leeway is how much the clocks of the issuer and of this master may differ.
	leeway = 30 * time.Second
	// maxLifetime bounds the time from iat to exp.
	maxLifetime = 24 * time.Hour
)

// refuse returns the refusal of a token.
func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: the token of the OIDC issuer %w", wire.ErrUnauthorized, fmt.Errorf(format, args...))
}

func expired(at time.Time) error {
	return refuse("has expired at %s: get another one", at.UTC().Format(time.RFC3339))
}

// standardClaims are the claims that decide whether a token is accepted. The pointers show a claim that is missing.
type standardClaims struct {
	Issuer     string           `json:"iss"`
	Audience   audience         `json:"aud"`
	Type       any              `json:"typ"` // of Keycloak
	Authorised string           `json:"azp"`
	Expires    *float64         `json:"exp"`
	Issued     *float64         `json:"iat"`
	NotBefore  *float64         `json:"nbf"`
	Nonce      any              `json:"nonce"`
	AccessHash any              `json:"at_hash"`
	CodeHash   any              `json:"c_hash"`
	Confirmed  *json.RawMessage `json:"cnf"`
	Events     *json.RawMessage `json:"events"`
}

// verify checks a token that is not remembered. mayAsk is called before the work begins that costs time.
func (i *Issuer) verify(ctx context.Context, token string, mayAsk func() error) (verified, error) {
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return verified{}, refuse("is not a JWT with one signature of RS, PS, ES or EdDSA")
	}
	header := jws.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !acceptedType(typ) {
		return verified{}, refuse("has the type %.100q, and must be an ID token or an access token", typ)
	}
	// This saves work for a token that is refused anyway. The checks that count follow the signature.
	if _, err := i.checkClaims(jws.UnsafePayloadWithoutVerification(), time.Now()); err != nil {
		return verified{}, err
	}
	if err := mayAsk(); err != nil {
		return verified{}, err
	}
	k, err := i.keys.find(ctx, header.KeyID, jose.SignatureAlgorithm(header.Algorithm))
	if err != nil {
		return verified{}, err
	}
	verifier := oidclib.NewVerifier(i.options.Issuer, &oidclib.StaticKeySet{PublicKeys: []crypto.PublicKey{k.public}},
		&oidclib.Config{
			SkipClientIDCheck: true, // there may be several audiences: checked below
			SkipExpiryCheck:   true, // without a leeway for exp, and with a large one for nbf: checked below
			// The algorithm is one of algorithms, and find has compared it with the key.
			SupportedSigningAlgs: []string{header.Algorithm},
		})
	checked, err := verifier.Verify(ctx, token)
	if err != nil {
		return verified{}, refuse("is not valid: %w", short(err))
	}
	var payload json.RawMessage
	if err := checked.Claims(&payload); err != nil {
		return verified{}, refuse("has claims that cannot be read: %w", short(err))
	}
	expires, err := i.checkClaims(payload, time.Now())
	if err != nil {
		return verified{}, err
	}
	var all map[string]any
	if err := json.Unmarshal(payload, &all); err != nil {
		return verified{}, refuse("has claims that cannot be read: %w", short(err))
	}
	if name, ok := disguised(all); ok {
		return verified{}, refuse("has the claim %.100q, which differs from a standard one in case only", name)
	}
	id, err := i.identity(checked.Subject, expires, all)
	return verified{id: id, thumbprint: k.thumbprint}, err
}

// standard are the claims that decide whether a token is accepted.
var standard = []string{
	"iss", "sub", "aud", "exp", "iat", "nbf", "azp", "typ", "nonce", "at_hash", "c_hash", "cnf", "events",
}

// disguised returns a claim that encoding/json takes for a standard one, although it has another name: it ignores case.
func disguised(claims map[string]any) (string, bool) {
	for name := range claims {
		for _, s := range standard {
			if name != s && strings.EqualFold(name, s) {
				return name, true
			}
		}
	}
	return "", false
}

// acceptedType reports whether the header typ is that of an ID token or of an access token (RFC 9068). Other tokens of
// an issuer, such as logout tokens, have a type of their own.
func acceptedType(typ string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "" || typ == "jwt" || typ == "at+jwt"
}

// sameIssuer compares the issuer of a token. Google's tokens may leave the scheme out.
func sameIssuer(token, configured string) bool {
	return token == configured || configured == "https://accounts.google.com" && token == "accounts.google.com"
}

// audience is the claim aud: one text, or a list.
type audience []string

// UnmarshalJSON implements [json.Unmarshaler].
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// checkClaims checks the claims that decide whether a token is accepted, and returns the time from which on it is
// refused.
func (i *Issuer) checkClaims(payload []byte, now time.Time) (time.Time, error) {
	var c standardClaims
	if err := json.Unmarshal(payload, &c); err != nil {
		return time.Time{}, refuse("has claims that cannot be read: %w", short(err))
	}
	if !sameIssuer(c.Issuer, i.options.Issuer) {
		return time.Time{}, refuse("is of another issuer, %.200q", c.Issuer)
	}
	ours := func(a string) bool { return slices.Contains(i.options.Audiences, a) }
	typ, _ := c.Type.(string)
	idToken := c.Nonce != nil || c.AccessHash != nil || c.CodeHash != nil || typ == "ID"
	switch {
	case !slices.ContainsFunc(c.Audience, ours):
		return time.Time{}, refuse("is for another audience: aud is %.300q", c.Audience)
	case c.Type != nil && typ != "ID" && typ != "Bearer":
		return time.Time{}, refuse("has the claim typ %.100q, and must be an ID token or an access token",
			fmt.Sprint(c.Type))
	case idToken && c.Authorised != "" && !ours(c.Authorised):
		return time.Time{}, refuse("is an ID token for another client: azp is %.100q", c.Authorised)
	case c.Events != nil:
		return time.Time{}, refuse("is about an event, such as a logout")
	case c.Confirmed != nil:
		return time.Time{}, refuse("is bound to a key of its holder (cnf), so it is not a bearer token")
	case c.Expires == nil || c.Issued == nil:
		return time.Time{}, refuse("lacks exp or iat")
	}
	return c.checkTimes(now)
}

// checkTimes is the part of checkClaims about times.
func (c *standardClaims) checkTimes(now time.Time) (time.Time, error) {
	expires, expOK := timeOf(*c.Expires)
	issued, iatOK := timeOf(*c.Issued)
	begins := issued
	nbfOK := true
	if c.NotBefore != nil {
		begins, nbfOK = timeOf(*c.NotBefore)
	}
	switch {
	case !expOK || !iatOK || !nbfOK:
		return time.Time{}, refuse("has an exp, iat or nbf that is not a time")
	case !now.Before(expires.Add(leeway)):
		return time.Time{}, expired(expires)
	case now.Before(begins.Add(-leeway)):
		return time.Time{}, refuse("is not valid before %s (check the clock of this master)",
			begins.UTC().Format(time.RFC3339))
	case now.Before(issued.Add(-leeway)):
		return time.Time{}, refuse("was issued at %s, in the future (check the clock of this master)",
			issued.UTC().Format(time.RFC3339))
	case expires.Sub(issued) > maxLifetime+leeway:
		return time.Time{}, refuse("is valid for %v, and at most %v are accepted", expires.Sub(issued), maxLifetime)
	}
	return expires.Add(leeway), nil
}

// timeOf returns the time of a NumericDate (RFC 7519).
func timeOf(seconds float64) (time.Time, bool) {
	const most = 1 << 40 // far from an overflow
	return time.Unix(int64(min(max(seconds, 0), most)), 0), seconds > 0 && seconds < most
}
