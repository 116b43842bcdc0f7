package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"a","use":"sig","crv":"P-256","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for kid, k := range keys {
			if k.public == nil || len(k.fits) == 0 {
				t.Fatalf("the key %q is %+v", kid, k)
			}
		}
	})
}

// FuzzIdentify gives an issuer tokens with any claims, first without its signature, then with it.
func FuzzIdentify(f *testing.F) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: private}, nil)
	if err != nil {
		f.Fatal(err)
	}
	o := Options{
		Issuer: "https://login.example", Audiences: []string{"a"}, ClaimRoles: "r.s", Roles: []string{"x=admin"},
	}
	m, err := o.parse()
	if err != nil {
		f.Fatal(err)
	}
	issuer, err := newIssuer(o, m, hclog.NewNullLogger(), func(context.Context) (published, error) {
		k, ok := usableKey(&jose.JSONWebKey{Key: private.Public()})
		if !ok {
			return published{}, errors.New("the key is not usable")
		}
		return published{keys: map[string]key{"": k}}, nil
	})
	if err != nil {
		f.Fatal(err)
	}
	if !issuer.keys.refresh(f.Context()) {
		f.Fatal("no keys")
	}
	f.Add([]byte(`{"iss":"https://login.example","aud":["a"],"exp":1,"iat":1,"sub":"s","r":{"s":["x"]}}`))
	f.Add([]byte(`{"iss":"https://login.example","aud":"a","exp":99999999999,"iat":99999999999,"r":1}`))
	f.Add([]byte(`{"aud":[[]]}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		free := func() error { return nil }
		if _, err := issuer.identify(t.Context(), string(payload), free); err == nil {
			t.Fatalf("accepted without a signature: %q", payload)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Skip(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Skip(err)
		}
		id, err := issuer.identify(t.Context(), token, free)
		switch {
		case err == nil && (id.Subject == "" || id.Role == ""):
			t.Fatalf("%q: accepted as %+v", payload, id)
		case err != nil && wire.ProblemOf(err) == nil:
			t.Fatalf("%q: %v", payload, err)
		}
	})
}
