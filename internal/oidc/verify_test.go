package oidc_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/oidc/oidctest"
	"github.com/chainstore/chainstore/wire"
)

// free allows all verifications.
func free() error { return nil }

// options returns options that map some values of the claim groups.
func options(url string) oidc.Options {
	return oidc.Options{
		Issuer: url, Audiences: []string{oidctest.Audience, "another"},
		ClaimRoles: "groups", Roles: []string{"admins=admin", "ops=operator", "readers=auditor", "a=b=auditor"},
		ClaimProjects: "realm.projects",
		Projects:      []string{"lab=lab:read,append", "lab-readers=lab:read", "both=lab:append", "both=7:read"},
	}
}

// start runs an issuer's verifier until the test ends, and waits until it has the keys.
func start(t *testing.T, o oidc.Options) *oidc.Issuer {
	t.Helper()
	i := run(t, o)
	await(t, "the keys", func() bool { return i.Status().Keys > 0 })
	return i
}

func run(t *testing.T, o oidc.Options) *oidc.Issuer {
	t.Helper()
	if err := o.Validate(false); err != nil {
		t.Fatal(err)
	}
	i, err := oidc.New(o, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return i
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func grant(project string, rights ...string) wire.Grant {
	return wire.Grant{Project: project, Rights: rights}
}

type claims = map[string]any

// projects returns claims with values of the claim realm.projects.
func projects(values ...string) claims { return claims{"realm": claims{"projects": values}} }

func TestAccepted(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	now := time.Now().Unix()
	ops := claims{"groups": "ops"}
	with := func(more claims) claims {
		all := claims{"groups": "ops"}
		for name, value := range more {
			all[name] = value
		}
		return all
	}
	for _, c := range []struct {
		name   string
		claims claims
		role   string
		grants []wire.Grant
	}{
		{"a role", ops, "operator", nil},
		{"a list", claims{"groups": []string{"unknown", "readers"}}, "auditor", nil},
		{"two roles: the stronger counts", claims{"groups": []string{"readers", "admins", "ops"}}, "admin", nil},
		{"a value with =", claims{"groups": "a=b"}, "auditor", nil},
		{"a project", projects("lab"), "", []wire.Grant{grant("lab", "append", "read")}},
		{"one right", projects("lab-readers"), "", []wire.Grant{grant("lab", "read")}},
		{"rights add up", projects("lab-readers", "both"), "",
			[]wire.Grant{grant("7", "read"), grant("lab", "append", "read")}},
		{"several audiences", with(claims{"aud": []string{"else", "another"}}), "operator", nil},
		{"an access token for another client", with(claims{"azp": "cli"}), "operator", nil},
		{"an ID token", with(claims{"azp": oidctest.Audience, "nonce": "n", "typ": "ID"}), "operator", nil},
		{"a clock that is behind", with(claims{"nbf": now + 20, "iat": now + 20}), "operator", nil},
		{"a clock that is ahead", with(claims{"exp": now - 20}), "operator", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := i.Identify(t.Context(), server.Token(c.claims), free)
			equal := func(a, b wire.Grant) bool { return a.Project == b.Project && slices.Equal(a.Rights, b.Rights) }
			if err != nil || id.Role != c.role || !slices.EqualFunc(id.Grants, c.grants, equal) {
				t.Errorf("got %+v, %v", id, err)
			}
			if id.Issuer != server.URL() || id.Subject != "u-1" || id.Name != "ada" {
				t.Errorf("got %s", id)
			}
		})
	}
}

func TestAlgorithms(t *testing.T) {
	server := oidctest.New(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve := func(c elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for alg, signer := range map[jose.SignatureAlgorithm]crypto.Signer{
		jose.RS256: rsaKey, jose.RS512: rsaKey, jose.PS256: rsaKey, jose.EdDSA: edKey,
		jose.ES256: curve(elliptic.P256()), jose.ES384: curve(elliptic.P384()), jose.ES512: curve(elliptic.P521()),
	} {
		server.Publish(signer, string(alg))
		i := start(t, options(server.URL()))
		token := oidctest.Sign(t, alg, signer, map[jose.HeaderKey]any{"kid": string(alg)},
			server.Claims(claims{"groups": "ops"}))
		if _, err := i.Identify(t.Context(), token, free); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

// TestRefused sends hostile tokens.
func TestRefused(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	good := claims{"groups": "admins"}
	if _, err := i.Identify(t.Context(), server.Token(good), free); err != nil {
		t.Fatalf("the token that the others differ from: %v", err)
	}
	signer, kid := server.Key()
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	type headers = map[jose.HeaderKey]any
	changed := func(changes claims) string {
		all := claims{"groups": "admins"}
		for name, value := range changes {
			all[name] = value
		}
		return server.Token(all)
	}
	under := func(h headers) string {
		return oidctest.Sign(t, jose.ES256, signer, h, server.Claims(good))
	}
	hmac := func(key []byte) string {
		return oidctest.Sign(t, jose.HS256, key, headers{"kid": kid}, server.Claims(good))
	}
	now := time.Now().Unix()
	valid := server.Token(good)
	head, rest, _ := strings.Cut(valid, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	encode := base64.RawURLEncoding.EncodeToString
	unsigned := encode(fmt.Appendf(nil, `{"alg":"none","kid":%q}`, kid)) + "." + payload
	other := server.Token(claims{"groups": "admins", "sub": "u-2"})
	ownKey := jose.JSONWebKey{Key: stranger.Public(), KeyID: kid}
	signatureBytes, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token string
		want        error
		detail      string
	}{
		{"of another issuer", changed(claims{"iss": "https://evil.example"}), wire.ErrUnauthorized, "another issuer"},
		{"with a longer issuer", changed(claims{"iss": server.URL() + "/"}), wire.ErrUnauthorized, "another issuer"},
		{"without an issuer", changed(claims{"iss": nil}), wire.ErrUnauthorized, "another issuer"},
		{"for another audience", changed(claims{"aud": "else"}), wire.ErrUnauthorized, "another audience"},
		{"for a similar audience", changed(claims{"aud": "chainstore2"}), wire.ErrUnauthorized, "another audience"},
		{"without an audience", changed(claims{"aud": nil}), wire.ErrUnauthorized, "another audience"},
		{"an audience that is a number", changed(claims{"aud": 7}), wire.ErrUnauthorized, "cannot be read"},
		{"expired", changed(claims{"exp": now - 31, "iat": now - 100}), wire.ErrUnauthorized, "has expired"},
		{"without an end", changed(claims{"exp": nil}), wire.ErrUnauthorized, "lacks exp"},
		{"without a beginning", changed(claims{"iat": nil}), wire.ErrUnauthorized, "lacks exp or iat"},
		{"an end that is a text", changed(claims{"exp": "tomorrow"}), wire.ErrUnauthorized, "cannot be read"},
		{"an end that overflows", changed(claims{"exp": 1e300}), wire.ErrUnauthorized, ""},
		{"a negative end", changed(claims{"exp": -1}), wire.ErrUnauthorized, "not a time"},
		{"not yet valid", changed(claims{"nbf": now + 40}), wire.ErrUnauthorized, "not valid before"},
		{"of the future", changed(claims{"iat": now + 40}), wire.ErrUnauthorized, "before"},
		{"of the future, valid now", changed(claims{"iat": now + 40, "nbf": now}), wire.ErrUnauthorized, "future"},
		{"valid for too long", changed(claims{"exp": now + 25*3600}), wire.ErrUnauthorized, "valid for 25h"},
		{"an ID token for another client", changed(claims{"aud": []string{"evil", oidctest.Audience}, "azp": "evil",
			"nonce": "n"}), wire.ErrUnauthorized, "another client"},
		{"a party of a wrong type", changed(claims{"azp": []string{"evil"}}), wire.ErrUnauthorized, "cannot be read"},
		{"a refresh token of Keycloak", changed(claims{"typ": "Refresh"}), wire.ErrUnauthorized, "claim typ"},
		{"a claim typ of a wrong type", changed(claims{"typ": 7}), wire.ErrUnauthorized, "claim typ"},
		{"a logout token", changed(claims{"events": claims{
			"http://schemas.openid.net/event/backchannel-logout": claims{}}}), wire.ErrUnauthorized, "event"},
		{"a logout token by its header", under(headers{"kid": kid, "typ": "logout+jwt"}), wire.ErrUnauthorized, "type"},
		{"a token that needs a proof", changed(claims{"cnf": claims{"jkt": "x"}}), wire.ErrUnauthorized, "bearer"},
		{"a claim in capitals", changed(claims{"EXP": now + 9999}), wire.ErrUnauthorized, "case"},
		{"without a subject", changed(claims{"sub": nil}), wire.ErrUnauthorized, "subject"},
		{"a long subject", changed(claims{"sub": strings.Repeat("s", 256)}), wire.ErrUnauthorized, "subject"},
		{"a subject with a line feed", changed(claims{"sub": "u\n1"}), wire.ErrUnauthorized, "subject"},

		{"an unknown kid", under(headers{"kid": "other"}), wire.ErrUnauthorized, `the key "other"`},
		{"a key of its own", oidctest.Sign(t, jose.ES256, stranger, headers{"kid": kid, "jwk": ownKey},
			server.Claims(good)), wire.ErrUnauthorized, "not valid"},
		{"a URL of keys", oidctest.Sign(t, jose.ES256, stranger,
			headers{"kid": kid, "jku": "https://evil.example/keys"}, server.Claims(good)),
			wire.ErrUnauthorized, "not valid"},
		{"an extension that must be understood", "", wire.ErrUnauthorized, ""},
		{"alg none", unsigned + ".", wire.ErrUnauthorized, "not a JWT"},
		{"alg none with a signature", unsigned + "." + signature, wire.ErrUnauthorized, "not a JWT"},
		{"HS256 with the public key", hmac(publicPEM), wire.ErrUnauthorized, "not a JWT"},
		{"HS256 with the public key in DER", hmac(public), wire.ErrUnauthorized, "not a JWT"},
		{"HS256 with the kid", hmac([]byte(strings.Repeat(kid, 10))), wire.ErrUnauthorized, "not a JWT"},
		{"the signature of another token",
			valid[:strings.LastIndex(valid, ".")] + other[strings.LastIndex(other, "."):],
			wire.ErrUnauthorized, "not valid"},
		{"no signature", head + "." + payload + ".", wire.ErrUnauthorized, ""},
		{"a signature of zeros", head + "." + payload + "." + encode(make([]byte, 64)), wire.ErrUnauthorized,
			"not valid"},
		{"half of the signature", head + "." + payload + "." + encode(signatureBytes[:32]), wire.ErrUnauthorized, ""},
		{"truncated", valid[:len(valid)/2] + ".", wire.ErrUnauthorized, ""},
		{"no payload", head + ".." + signature, wire.ErrUnauthorized, ""},
		{"a payload that is not JSON", oidctest.SignBytes(t, jose.ES256, signer, headers{"kid": kid}, []byte("x")),
			wire.ErrUnauthorized, "claims"},
		{"a payload that is a list", oidctest.SignBytes(t, jose.ES256, signer, headers{"kid": kid}, []byte("[]")),
			wire.ErrUnauthorized, "claims"},
		{"huge", changed(claims{"filler": strings.Repeat("x", 12<<10)}), wire.ErrUnauthorized, "at most 12288"},

		{"no rights", changed(claims{"groups": "unknown"}), wire.ErrForbidden, "no role and no project"},
		{"a claim that is null", server.Token(claims{"realm": claims{"projects": nil}}), wire.ErrForbidden,
			"no role and no project"},
		{"no claims of rights", changed(claims{"groups": nil}), wire.ErrForbidden, "no role and no project"},
		{"a claim that is an object", changed(claims{"groups": claims{"admins": true}}), wire.ErrForbidden,
			"groups"},
		{"a claim that is a number", changed(claims{"groups": 1}), wire.ErrForbidden, "groups"},
		{"a list with a number", changed(claims{"groups": []any{"admins", 1}}), wire.ErrForbidden, "groups"},
		{"a path through a text", changed(claims{"realm": "projects"}), wire.ErrForbidden, "realm.projects"},
		{"a role instead of its value", changed(claims{"groups": "admin"}), wire.ErrForbidden, "no role and no proj"},
		{"a value in other letters", changed(claims{"groups": "Admins"}), wire.ErrForbidden, "no role and no project"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.token == "" {
				c.token = critical(t, signer, kid, server.Claims(good))
			}
			id, err := i.Identify(t.Context(), c.token, free)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.detail) {
				t.Fatalf("got %+v, %v", id, err)
			}
			if id.Subject != "" || len(c.token) > 20 && strings.Contains(err.Error(), c.token[len(c.token)-20:]) {
				t.Errorf("the refusal has the holder or a part of the token: %+v, %v", id, err)
			}
			if _, again := i.Identify(t.Context(), c.token, free); !errors.Is(again, c.want) {
				t.Errorf("at the second time: %v", again)
			}
		})
	}
	if _, err := i.Identify(t.Context(), valid, free); err != nil {
		t.Errorf("a good token after these: %v", err)
	}
}

// critical returns a token whose header has an extension that its receiver must understand (RFC 7515, section 4.1.11).
func critical(t *testing.T, signer crypto.Signer, kid string, claims any) string {
	t.Helper()
	token := oidctest.Sign(t, jose.ES256, signer, map[jose.HeaderKey]any{"kid": kid}, claims)
	header, err := json.Marshal(map[string]any{"alg": "ES256", "kid": kid, "crit": []string{"x"}, "x": true})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(token, ".")
	payload, _, _ := strings.Cut(rest, ".")
	input := base64.RawURLEncoding.EncodeToString(header) + "." + payload
	digest := crypto.SHA256.New()
	digest.Write([]byte(input))
	r, s, err := ecdsa.Sign(rand.Reader, signer.(*ecdsa.PrivateKey), digest.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// TestEmailMustBeVerified: at some issuers a user can enter any address.
func TestEmailMustBeVerified(t *testing.T) {
	server := oidctest.New(t)
	o := options(server.URL())
	o.ClaimRoles, o.Roles = "email", []string{"ada@example.com=admin"}
	i := start(t, o)
	for verified, accepted := range map[any]bool{true: true, false: false, nil: false, "true": false, 1: false} {
		token := server.Token(claims{"email": "ada@example.com", "email_verified": verified})
		_, err := i.Identify(t.Context(), token, free)
		if (err == nil) != accepted || err != nil && !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("email_verified %v: %v", verified, err)
		}
	}
}

// TestVerifiedOnce: a token is verified once, and its holder is asked for its turn once.
func TestVerifiedOnce(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	token := server.Token(claims{"groups": "ops"})
	asked := 0
	for range 3 {
		if _, err := i.Identify(t.Context(), token, func() error { asked++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	full := errors.New("too many")
	if _, err := i.Identify(t.Context(), server.Token(claims{"groups": "ops", "sub": "u-2"}), func() error {
		return full
	}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

// TestRememberedTokenExpires: a token that was verified is refused once it has expired.
func TestRememberedTokenExpires(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	token := server.Token(claims{"groups": "ops", "exp": time.Now().Unix() - 28})
	if _, err := i.Identify(t.Context(), token, free); err != nil {
		t.Fatal(err)
	}
	await(t, "the refusal", func() bool {
		_, err := i.Identify(t.Context(), token, free)
		return errors.Is(err, wire.ErrUnauthorized) && strings.Contains(err.Error(), "has expired")
	})
}

// TestRotation: a token that is signed with a new key is accepted, and one with the removed key is not, although it was
// verified before.
func TestRotation(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	old := server.Token(claims{"groups": "ops"})
	if _, err := i.Identify(t.Context(), old, free); err != nil {
		t.Fatal(err)
	}
	server.Rotate("second")
	if _, err := i.Identify(t.Context(), server.Token(claims{"groups": "ops"}), free); err != nil {
		t.Errorf("with the new key: %v", err)
	}
	if _, err := i.Identify(t.Context(), old, free); !errors.Is(err, wire.ErrUnauthorized) {
		t.Errorf("with the removed key: %v", err)
	}
}

// TestUnknownKidsAreLimited: a stranger cannot make a master send many requests to the issuer.
func TestUnknownKidsAreLimited(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	signer, _ := server.Key()
	before, began := server.Requests.Load(), time.Now()
	for n := range 50 {
		token := oidctest.Sign(t, jose.ES256, signer, map[jose.HeaderKey]any{"kid": fmt.Sprint("x", n)},
			server.Claims(nil))
		if _, err := i.Identify(t.Context(), token, free); !errors.Is(err, wire.ErrUnauthorized) {
			t.Fatal(err)
		}
	}
	allowed := 3 + int64(time.Since(began)/(10*time.Second)) + 1
	if got := server.Requests.Load() - before; got < 1 || got > allowed {
		t.Errorf("%d requests for 50 unknown keys, at most %d are allowed", got, allowed)
	}
}

// TestIssuerStops: known keys go on, and an unknown key is not refused for good.
func TestIssuerStops(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	token := server.Token(claims{"groups": "ops"})
	server.Rotate("second")
	unknown := server.Token(claims{"groups": "ops"})
	server.Stop()
	if _, err := i.Identify(t.Context(), token, free); err != nil {
		t.Errorf("with a known key: %v", err)
	}
	if _, err := i.Identify(t.Context(), unknown, free); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("with an unknown key: %v", err)
	}
	if s := i.Status(); s.Error == "" || s.Failures == 0 || s.Keys != 1 {
		t.Errorf("the status is %+v", s)
	}
}

// TestIssuerIsDownAtStart: tokens are judged once the issuer answers.
func TestIssuerIsDownAtStart(t *testing.T) {
	server := oidctest.New(t)
	server.Fails.Store(true)
	i := run(t, options(server.URL()))
	token := server.Token(claims{"groups": "ops"})
	await(t, "a failure", func() bool { return i.Status().Failures > 0 })
	if _, err := i.Identify(t.Context(), token, free); !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if s := i.Status(); !s.Fetched.IsZero() || !strings.Contains(s.Error, "500") {
		t.Errorf("the status is %+v", s)
	}
	server.Fails.Store(false)
	await(t, "the token is accepted", func() bool {
		_, err := i.Identify(t.Context(), token, free)
		return err == nil
	})
}

// TestIssuerHangs: a request with a known key does not wait for the issuer, one with an unknown key waits a bounded
// time.
func TestIssuerHangs(t *testing.T) {
	server := oidctest.New(t)
	i := start(t, options(server.URL()))
	known := server.Token(claims{"groups": "ops"})
	server.Rotate("second")
	server.Hangs.Store(true)
	hung := make(chan error, 1)
	go func() {
		_, err := i.Identify(context.Background(), server.Token(claims{"groups": "ops"}), free)
		hung <- err
	}()
	if _, err := i.Identify(t.Context(), known, free); err != nil {
		t.Errorf("with a known key: %v", err)
	}
	if err := <-hung; !errors.Is(err, wire.ErrUnavailable) {
		t.Errorf("with an unknown key: %v", err)
	}
}

// TestBadDocuments: what an issuer publishes is refused if it would weaken the checks.
func TestBadDocuments(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this version of Go makes no short keys: ", err)
	}
	for name, c := range map[string]struct {
		change claims
		key    crypto.Signer
		detail string
	}{
		"another issuer":      {claims{"issuer": "https://evil.example"}, nil, "issuer"},
		"keys without TLS":    {claims{"jwks_uri": "http://keys.example/keys"}, nil, "https://"},
		"keys from a file":    {claims{"jwks_uri": "file:///etc/passwd"}, nil, ""},
		"a huge document":     {claims{"filler": strings.Repeat("x", 1<<20)}, nil, "bytes"},
		"only a short key":    {nil, weak, "no public key"},
		"keys at a dead port": {claims{"jwks_uri": "http://127.0.0.1:1/keys"}, nil, "its keys"},
	} {
		t.Run(name, func(t *testing.T) {
			server := oidctest.New(t)
			server.Document(c.change)
			if c.key != nil {
				server.Publish(c.key, "weak")
			}
			i := run(t, options(server.URL()))
			await(t, "a failure", func() bool { return i.Status().Failures > 0 })
			if s := i.Status(); s.Keys != 0 || !strings.Contains(s.Error, c.detail) || len(s.Error) > 400 {
				t.Errorf("the status is %+v", s)
			}
		})
	}
}

func TestIssues(t *testing.T) {
	var none *oidc.Issuer
	server := oidctest.New(t)
	i, err := oidc.New(options(server.URL()), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]bool{
		server.Token(nil): true, "": false, "eyJ": false, "a.b.c": false, `{"payload":"e30"}`: false,
		rand.Text(): false, "eyJ.b.c.d.e": false,
	} {
		if i.Issues(token) != want || none.Issues(token) {
			t.Errorf("%q: %v", token, i.Issues(token))
		}
	}
}

func BenchmarkIdentify(b *testing.B) {
	server := oidctest.New(b)
	i, err := oidc.New(options(server.URL()), hclog.NewNullLogger())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- i.Run(ctx) }()
	defer func() { <-ended }()
	defer cancel()
	for i.Status().Keys == 0 {
		time.Sleep(time.Millisecond)
	}
	token := server.Token(claims{"groups": "ops"})
	for b.Loop() {
		if _, err := i.Identify(ctx, token, free); err != nil {
			b.Fatal(err)
		}
	}
}
