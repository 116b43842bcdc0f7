package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// fakeIssuer is an issuer whose fetches take no time unless it hangs.
type fakeIssuer struct {
	mu      sync.Mutex // guards all below
	kids    []string
	err     error
	hang    time.Duration
	fetches int
}

func (f *fakeIssuer) fetch(ctx context.Context) (published, error) {
	f.mu.Lock()
	f.fetches++
	kids, err, hang := f.kids, f.err, f.hang
	f.mu.Unlock()
	if hang > 0 {
		select {
		case <-time.After(hang):
		case <-ctx.Done():
			return published{}, ctx.Err()
		}
	}
	p := published{keys: map[string]key{}}
	for _, kid := range kids {
		p.keys[kid] = key{thumbprint: kid, fits: []jose.SignatureAlgorithm{jose.ES256}}
	}
	return p, err
}

// set changes the issuer.
func (f *fakeIssuer) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// count returns how many fetches have begun.
func (f *fakeIssuer) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fetches
}

// inBubble runs a key set in a synctest bubble, in which time passes while all goroutines wait.
func inBubble(t *testing.T, f *fakeIssuer, test func(t *testing.T, s *keySet)) {
	synctest.Test(t, func(t *testing.T) {
		s := newKeySet(f.fetch, hclog.NewNullLogger())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.run(ctx) }()
		synctest.Wait()
		test(t, s)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// outcome returns what find returns, and how long it took.
func (s *keySet) outcome(kid string) (time.Duration, error) {
	began := time.Now()
	_, err := s.find(context.Background(), kid, jose.ES256)
	return time.Since(began), err
}

// TestKeysAreTrustedForADay: known keys go on for KeyTrust after the issuer has stopped.
func TestKeysAreTrustedForADay(t *testing.T) {
	f := &fakeIssuer{kids: []string{"a"}}
	inBubble(t, f, func(t *testing.T, s *keySet) {
		f.set(func() { f.err = errors.New("down") })
		time.Sleep(KeyTrust)
		if took, err := s.outcome("a"); err != nil || took != 0 {
			t.Errorf("after a day: %v in %v", err, took)
		}
		if f.count() < 1000 || f.count() > 1600 { // once a minute
			t.Errorf("%d fetches in a day without an issuer", f.count())
		}
		time.Sleep(time.Second)
		if _, err := s.outcome("a"); !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "24h") {
			t.Errorf("after more than a day: %v", err)
		}
		if _, err := s.trusts("a"); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("for tokens that were verified before: %v", err)
		}
		f.set(func() { f.err = nil })
		time.Sleep(retryMost)
		synctest.Wait()
		if _, err := s.outcome("a"); err != nil {
			t.Errorf("once the issuer is back: %v", err)
		}
	})
}

// TestUnknownKeysAreFetched: an unknown key causes a fetch, as long as the budget lasts. Then it is refused at once.
func TestUnknownKeysAreFetched(t *testing.T) {
	f := &fakeIssuer{kids: []string{"a"}}
	inBubble(t, f, func(t *testing.T, s *keySet) {
		for range 20 {
			if took, err := s.outcome("x"); !errors.Is(err, wire.ErrUnauthorized) || took != 0 {
				t.Fatalf("%v in %v", err, took)
			}
		}
		if f.count() != 1+unknownFetches {
			t.Errorf("%d fetches", f.count())
		}
		f.set(func() { f.kids = []string{"a", "x"} })
		if _, err := s.outcome("x"); !errors.Is(err, wire.ErrUnauthorized) {
			t.Errorf("without a budget: %v", err)
		}
		time.Sleep(unknownPause)
		if _, err := s.outcome("x"); err != nil {
			t.Errorf("after the pause: %v", err)
		}
		time.Sleep(refreshEvery)
		synctest.Wait()
		if f.count() != 3+unknownFetches {
			t.Errorf("%d fetches, with that of the schedule", f.count())
		}
	})
}

// TestUnknownKeyWaitsForAHungIssuer: it waits for unknownWait, several at a time share one fetch, and requests with a
// known key do not wait.
func TestUnknownKeyWaitsForAHungIssuer(t *testing.T) {
	f := &fakeIssuer{kids: []string{"a"}}
	inBubble(t, f, func(t *testing.T, s *keySet) {
		f.set(func() { f.hang = time.Hour })
		const callers = 10
		results := make(chan error, callers)
		for range callers {
			go func() {
				took, err := s.outcome("x")
				if took != unknownWait {
					t.Errorf("it took %v", took)
				}
				results <- err
			}()
		}
		synctest.Wait()
		if took, err := s.outcome("a"); err != nil || took != 0 {
			t.Errorf("a known key: %v in %v", err, took)
		}
		for range callers {
			if err := <-results; !errors.Is(err, wire.ErrUnavailable) {
				t.Errorf("got %v", err)
			}
		}
		if f.count() > 3 {
			t.Errorf("%d fetches", f.count())
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("the client is gone")
		cancel(gone)
		if _, err := s.find(ctx, "y", jose.ES256); !errors.Is(err, gone) && !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// TestKeyOfOtherAlgorithm: a key is used for the algorithms of its type only, and only for its own if it names one.
func TestKeyOfOtherAlgorithm(t *testing.T) {
	inBubble(t, &fakeIssuer{kids: []string{"a"}}, func(t *testing.T, s *keySet) {
		if _, err := s.find(t.Context(), "a", jose.RS256); !errors.Is(err, wire.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
		s.mu.Lock()
		s.known.keys["a"] = key{algorithm: jose.ES384, fits: []jose.SignatureAlgorithm{jose.ES256, jose.ES384}}
		s.mu.Unlock()
		if _, err := s.find(t.Context(), "a", jose.ES256); !errors.Is(err, wire.ErrUnauthorized) {
			t.Errorf("got %v", err)
		}
	})
}

// TestOnlyKey: a token without a kid is accepted if the issuer has one key.
func TestOnlyKey(t *testing.T) {
	f := &fakeIssuer{kids: []string{"a"}}
	inBubble(t, f, func(t *testing.T, s *keySet) {
		if _, err := s.outcome(""); err != nil {
			t.Errorf("with one key: %v", err)
		}
		f.set(func() { f.kids = append(f.kids, "b") })
		time.Sleep(refreshEvery)
		synctest.Wait()
		if _, err := s.outcome(""); !errors.Is(err, wire.ErrUnauthorized) {
			t.Errorf("with two keys: %v", err)
		}
	})
}

func TestParseKeys(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	jwk := func(k any, kid, use string) string {
		data, err := json.Marshal(jose.JSONWebKey{Key: k, KeyID: kid, Use: use})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	good, other := jwk(signer.Public(), "a", "sig"), jwk(signer.Public(), "b", "")
	secret := jwk([]byte(strings.Repeat("s", 32)), "s", "sig")
	for name, c := range map[string]struct {
		set    string
		keys   int
		detail string
	}{
		"two keys":                  {`{"keys":[` + good + `,` + other + `]}`, 2, ""},
		"a secret beside":           {`{"keys":[` + secret + `,` + good + `]}`, 1, ""},
		"an unknown type beside":    {`{"keys":[{"kty":"AKP","kid":"q"},` + good + `]}`, 1, ""},
		"a key for encryption only": {`{"keys":[` + jwk(signer.Public(), "a", "enc") + `]}`, 0, "no public key"},
		"a secret only":             {`{"keys":[` + secret + `]}`, 0, "no public key"},
		"a private key":             {`{"keys":[` + jwk(signer, "a", "sig") + `]}`, 0, "no public key"},
		"none":                      {`{"keys":[]}`, 0, "no public key"},
		"an object":                 {`{}`, 0, "no public key"},
		"no JSON":                   {`<html>`, 0, "not JSON"},
		"one kid twice":             {`{"keys":[` + good + `,` + good + `]}`, 0, "two keys"},
		"too many":                  {`{"keys":[` + strings.Repeat(good+",", maxKeys) + good + `]}`, 0, "101 keys"},
	} {
		keys, err := parseKeys([]byte(c.set))
		if len(keys) != c.keys || (err == nil) != (c.detail == "") ||
			err != nil && !strings.Contains(err.Error(), c.detail) {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		}
	}
}

// TestRemovedKey: when a key was removed, the tokens that are signed with it are verified again, and no others. So a
// rotation does not count the others against the limit of unknown tokens.
func TestRemovedKey(t *testing.T) {
	f := &fakeIssuer{kids: []string{"a", "b"}}
	synctest.Test(t, func(t *testing.T) {
		i, err := newIssuer(Options{}, mapping{}, hclog.NewNullLogger(), f.fetch)
		if err != nil {
			t.Fatal(err)
		}
		i.keys.refresh(t.Context())
		for _, kid := range f.kids {
			i.verified.Add(sha256.Sum256([]byte(kid)),
				verified{id: Identity{Subject: kid, Expires: time.Now().Add(time.Hour)}, thumbprint: kid})
		}
		f.set(func() { f.kids = []string{"b"} })
		i.keys.refresh(t.Context())
		mayAsk := func() error { return errors.New("it is verified again") }
		if id, err := i.Identify(t.Context(), "b", mayAsk); err != nil || id.Subject != "b" {
			t.Errorf("the key that is left: %v, %v", id, err)
		}
		if id, err := i.Identify(t.Context(), "a", mayAsk); err == nil {
			t.Errorf("the removed key: %v", id)
		}
		if i.verified.Len() != 1 {
			t.Errorf("%d tokens are remembered", i.verified.Len())
		}
	})
}
