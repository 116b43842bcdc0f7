package signing

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/chainstore/chainstore/masterfsm"
)

// newKey returns a key, and its row in the table when it is sealed with a secret.
func newKey(t *testing.T, origin string, secret Sealer) (*Key, masterfsm.LogKey) {
	t.Helper()
	k, err := NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := secret.Seal(k)
	if err != nil {
		t.Fatal(err)
	}
	return k, masterfsm.LogKey{ID: "0123abcd", Public: k.Public(), Sealed: sealed}
}

// leaks reports whether data contains the private part of a key, in any form in which keys are written.
func leaks(data []byte, k *Key) bool {
	for _, form := range []string{
		string(k.seed[:]), hex.EncodeToString(k.seed[:]), base64.StdEncoding.EncodeToString(k.seed[:]),
		base64.StdEncoding.EncodeToString(append([]byte{1}, k.seed[:]...)), fmt.Sprint(k.seed[:]),
		fmt.Sprint(k.seed[:4])[1:], "PRIVATE+KEY",
	} {
		if bytes.Contains(data, []byte(strings.TrimSuffix(form, "]"))) {
			return true
		}
	}
	return false
}

func TestSealedKeys(t *testing.T) {
	secret := Sealer{Values: []string{"cluster token"}, Group: "cs-1"}
	k, sealed := newKey(t, "example.com/log", secret)
	if len(sealed.Sealed) != masterfsm.SealedLogKey || leaks(sealed.Sealed, k) {
		t.Fatalf("%d bytes", len(sealed.Sealed))
	}
	opened, err := secret.Open("example.com/log", &sealed)
	if err != nil || *opened != *k {
		t.Fatalf("opened: %v", err)
	}
	if again, _ := secret.Seal(k); bytes.Equal(again, sealed.Sealed) {
		t.Error("the nonce is always the same")
	}
	for name, open := range map[string]func(masterfsm.LogKey) error{
		"another token": func(s masterfsm.LogKey) error {
			_, err := Sealer{Values: []string{"cluster toke"}, Group: "cs-1"}.Open("example.com/log", &s)
			return err
		},
		"another group": func(s masterfsm.LogKey) error {
			_, err := Sealer{Values: []string{"cluster token"}, Group: "cs-2"}.Open("example.com/log", &s)
			return err
		},
		"another origin": func(s masterfsm.LogKey) error {
			_, err := secret.Open("example.com/lo", &s)
			return err
		},
		"another public key": func(s masterfsm.LogKey) error {
			s.Public[3] ^= 1
			_, err := secret.Open("example.com/log", &s)
			return err
		},
		"cut short": func(s masterfsm.LogKey) error {
			s.Sealed = s.Sealed[1:]
			_, err := secret.Open("example.com/log", &s)
			return err
		},
		"none": func(s masterfsm.LogKey) error {
			s.Sealed = nil
			_, err := secret.Open("example.com/log", &s)
			return err
		},
	} {
		if err := open(sealed); !errors.Is(err, ErrSealed) || leaks([]byte(err.Error()), k) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for bit := range 8 * len(sealed.Sealed) {
		bad := sealed
		bad.Sealed = bytes.Clone(sealed.Sealed)
		bad.Sealed[bit/8] ^= 1 << (bit % 8)
		if _, err := secret.Open("example.com/log", &bad); !errors.Is(err, ErrSealed) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
}

// TestOpenLogKeys checks that of several keys those with the right seal are opened.
func TestOpenLogKeys(t *testing.T) {
	const origin = "example.com/log"
	a, first := newKey(t, origin, Sealer{Values: []string{"now"}, Group: "g"})
	_, other := newKey(t, origin, Sealer{Values: []string{"before"}, Group: "g"})
	other.ID = "89abcdef"
	l := masterfsm.Log{Origin: origin, Keys: []masterfsm.LogKey{other, first}}
	keys, err := OpenKeys([]string{"now"}, "g", l)
	if len(keys) != 1 || *keys[0] != *a || !errors.Is(err, ErrSealed) || !strings.Contains(err.Error(), other.ID) {
		t.Errorf("%v, %v", keys, err)
	}
	l.Keys = l.Keys[1:]
	if keys, err := OpenKeys([]string{"now"}, "g", l); len(keys) != 1 || err != nil {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestLogKeyText checks that a key survives formatting and parsing, and that golang.org/x/mod/sumdb/note reads the same
// key.
func TestLogKeyText(t *testing.T) {
	skey, vkey, err := note.GenerateKey(nil, "example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // some keys have a plus in their text
		k, err := ParseKey(" " + skey + "\n")
		if err != nil || k.Text() != skey || k.VerifierKey() != vkey || k.Origin() != "example.com/log" {
			t.Fatalf("%s: %v", vkey, err)
		}
		own, err := NewKey("example.com/own")
		if err != nil {
			t.Fatal(err)
		}
		skey, vkey = own.Text(), own.VerifierKey()
		signer, err := note.NewSigner(skey)
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		if sig, err := signer.Sign([]byte("text")); err != nil || !verifier.Verify([]byte("text"), sig) {
			t.Fatalf("%s does not verify: %v", vkey, err)
		}
		if back, err := ParseKey(skey); err != nil || *back != *own {
			t.Fatalf("%v", err)
		}
		skey, vkey, err = note.GenerateKey(nil, "example.com/log")
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogKeyTextThatIsNone(t *testing.T) {
	k, err := NewKey("example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	good := k.Text()
	seed := strings.SplitN(good, "+", 5)[4]
	cosigner := base64.StdEncoding.EncodeToString(append([]byte{4}, k.seed[:]...))
	for name, text := range map[string]string{
		"empty":          "",
		"a verifier key": k.VerifierKey(),
		"two keys":       good + "\n" + good,
		"another name":   strings.Replace(good, "/log+", "/lag+", 1),
		"another id":     strings.Replace(good, "/log+", "/log+0", 1),
		"cut short":      good[:len(good)-4],
		"another public": strings.Replace(good, "PRIVATE+KEY", "PUBLIC+KEY", 1),
		"another type":   strings.Replace(good, seed, cosigner, 1),
	} {
		if _, err := ParseKey(text); err == nil || leaks([]byte(err.Error()), k) &&
			!strings.Contains(err.Error(), "PRIVATE+KEY+name") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewKey("two words"); !errors.Is(err, masterfsm.ErrBadCommand) {
		t.Errorf("an origin that is none: %v", err)
	}
}

// TestLogKeyIsNotPrinted checks that printing a key, or a value that contains it, shows only its name.
func TestLogKeyIsNotPrinted(t *testing.T) {
	k, err := NewKey("example.com/log")
	if err != nil {
		t.Fatal(err)
	}
	c := LogConfig{Key: k}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
		for _, what := range []any{k, *k, []any{k}, &c, c} {
			if shown := fmt.Sprintf(verb, what); leaks([]byte(shown), k) {
				t.Errorf("%s of a %T shows %s", verb, what, shown)
			}
		}
	}
	for _, what := range []any{k, *k} {
		if data, err := json.Marshal(what); err != nil || leaks(data, k) {
			t.Errorf("JSON: %s, %v", data, err)
		}
	}
}
