// Package oidctest has an OpenID Connect issuer for tests. Unlike a real one it signs whatever a test asks for.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Audience is the audience of the tokens that [Issuer.Token] returns.
const Audience = "chainstore"

// Issuer is an issuer that serves its discovery document and its keys.
type Issuer struct {
	t      testing.TB
	server *httptest.Server

	Requests atomic.Int64 // for its keys
	Hangs    atomic.Bool  // it takes requests and does not answer them
	Fails    atomic.Bool  // it answers 500

	mu        sync.Mutex // guards all below
	signer    crypto.Signer
	kid       string
	published []jose.JSONWebKey
	document  map[string]any
}

// New starts an issuer with one key. It stops at the end of the test.
func New(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		answer(w, i.document)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.Requests.Add(1)
		i.mu.Lock()
		defer i.mu.Unlock()
		answer(w, jose.JSONWebKeySet{Keys: i.published})
	})
	stopped := make(chan struct{})
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case i.Hangs.Load():
			select {
			case <-r.Context().Done():
			case <-stopped:
			}
		case i.Fails.Load():
			http.Error(w, "out of order", http.StatusInternalServerError)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		close(stopped)
		i.server.Close()
	})
	i.document = map[string]any{
		"issuer": i.URL(), "jwks_uri": i.URL() + "/keys", "authorization_endpoint": i.URL() + "/authorize",
		"token_endpoint": i.URL() + "/token",
	}
	i.Rotate("first")
	return i
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client sees the broken answer
}

// URL returns the issuer's URL.
func (i *Issuer) URL() string { return i.server.URL }

// Stop makes the issuer refuse connections.
func (i *Issuer) Stop() { i.server.Close() }

// Rotate replaces the issuer's key by a new one with a kid.
func (i *Issuer) Rotate(kid string) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	i.Publish(signer, kid)
}

// Publish makes a key the issuer's only one.
func (i *Issuer) Publish(signer crypto.Signer, kid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.signer, i.kid = signer, kid
	i.published = []jose.JSONWebKey{{Key: signer.Public(), KeyID: kid, Use: "sig"}}
}

// Document changes the issuer's discovery document.
func (i *Issuer) Document(change map[string]any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	maps.Copy(i.document, change)
}

// Key returns the issuer's key and its kid.
func (i *Issuer) Key() (signer crypto.Signer, kid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.signer, i.kid
}

// Claims returns good claims with some changes. The value nil removes a claim.
func (i *Issuer) Claims(changes map[string]any) map[string]any {
	now := time.Now().Unix()
	claims := map[string]any{
		"iss": i.URL(), "sub": "u-1", "aud": Audience, "iat": now, "exp": now + 3600, "preferred_username": "ada",
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// Token returns a token with good claims and some changes, signed with the issuer's key.
func (i *Issuer) Token(changes map[string]any) string {
	i.t.Helper()
	signer, kid := i.Key()
	return Sign(i.t, jose.ES256, signer, map[jose.HeaderKey]any{"kid": kid, "typ": "JWT"}, i.Claims(changes))
}

// Sign returns claims, signed with a key under some headers. A nil header is left out.
func Sign(
	t testing.TB, alg jose.SignatureAlgorithm, key any, headers map[jose.HeaderKey]any, claims any,
) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return SignBytes(t, alg, key, headers, payload)
}

// SignBytes is [Sign] for a payload that need not be JSON.
func SignBytes(
	t testing.TB, alg jose.SignatureAlgorithm, key any, headers map[jose.HeaderKey]any, payload []byte,
) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: headers}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(fmt.Errorf("serialize a token: %w", err))
	}
	return token
}
