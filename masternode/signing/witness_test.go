package signing

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/e2e/witness"
	"github.com/chainstore/chainstore/masterfsm"
)

// vkey returns a verifier key of a given type with the correct id.
func vkey(name string, kind byte, material []byte) string {
	key := append([]byte{kind}, material...)
	id := sha256.Sum256(append([]byte(name+"\n"), key...))
	return fmt.Sprintf("%s+%x+%s", name, id[:4], base64.StdEncoding.EncodeToString(key))
}

func TestParseWitness(t *testing.T) {
	public := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	good := vkey("witness.example/w1", 4, public)
	pq, err := witness.NewMLDSA("witness.example/pq")
	if err != nil {
		t.Fatal(err)
	}
	const url = " https://witness.example/w1"
	for _, text := range []string{good + url, "  " + good + " \t" + url + "/ ", good + " http://[::1]:7000//"} {
		w, err := ParseWitness(text)
		if err != nil || w.Name != "witness.example/w1" || w.VerifierKey != good || strings.HasSuffix(w.URL, "/") {
			t.Errorf("%q: %+v, %v", text, w, err)
		}
	}
	if w, err := ParseWitness(pq.VKey() + url); err != nil || w.Name != "witness.example/pq" {
		t.Errorf("a key of ML-DSA-44: %v", err)
	}
	for text, words := range map[string]string{
		"":                      "give its verifier key and its URL",
		good:                    "give its verifier key and its URL",
		good + url + " more":    "give its verifier key and its URL",
		"witness.example" + url: "NAME+ID+KEY",
		"w+00000000+!" + url:    "no base64",
		"w+00000000+" + url:     "no base64",
		strings.Replace(good, "+e", "+f", 1) + url:   "has the id",
		vkey("witness.example/w1", 1, public) + url:  "it is written " + good,
		strings.Replace(good, "w1", "w2", 1) + url:   "a character of the verifier key is wrong",
		vkey("w", 4, public[:31]) + url:              "cannot be used",
		vkey("w", 5, public) + url:                   "type 0x05 are not supported",
		vkey("w", 6, public) + url:                   "cannot be used",
		vkey("", 4, public) + url:                    "its name cannot be used",
		vkey("w\x01", 4, public) + url:               "its name cannot be used",
		good + " witness.example":                    "must begin with http",
		good + " ftp://witness.example":              "must begin with http",
		good + " http://":                            "must begin with http",
		good + " http://user:secret@witness.example": "no user, query or fragment",
		good + " http://witness.example/?q=1":        "no user, query or fragment",
		good + " http://witness.example/#f":          "no user, query or fragment",
		good + " http://[witness":                    "cannot be read",
	} {
		if _, err := ParseWitness(text); err == nil || !errors.Is(err, masterfsm.ErrBadCommand) ||
			!strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want the words %q", text, err, words)
		}
	}
}

func TestCheckWitnesses(t *testing.T) {
	one, two := ed25519.NewKeyFromSeed(make([]byte, 32)), ed25519.NewKeyFromSeed([]byte(strings.Repeat("2", 32)))
	parse := func(name string, key ed25519.PrivateKey) Witness {
		w, err := ParseWitness(vkey(name, 4, key.Public().(ed25519.PublicKey)) + " http://" + name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	a, b := parse("a", one), parse("b", two)
	for i, c := range []struct {
		list   []Witness
		quorum uint8
		words  string
	}{
		{nil, 0, ""},
		{nil, 1, "no checkpoint would ever be shown"},
		{[]Witness{a, b}, 0, ""},
		{[]Witness{a, b}, 2, ""},
		{[]Witness{a, b}, 3, "no checkpoint would ever be shown"},
		{[]Witness{a, parse("a", two)}, 1, "named twice"},
		{[]Witness{a, parse("b", one)}, 1, "named twice"},
		{make([]Witness, masterfsm.MaxWitnesses+1), 0, "are possible"},
		{[]Witness{{Name: "a"}}, 0, "ParseWitness"},
	} {
		err := CheckWitnesses(c.list, c.quorum)
		if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
			t.Errorf("row %d: %v, want the words %q", i, err, c.words)
		}
	}
}

// TestWitnessErrorsTellNoURL checks that errors do not contain the URL of a witness, which may contain a password.
func TestWitnessErrorsTellNoURL(t *testing.T) {
	for _, text := range []string{"foo+1+AA== http://user:secret@host", "http://user:secret@host",
		"foo http://user:secret@host", "foo+1+!! http://user:secret@host x"} {
		if _, err := ParseWitness(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestTimesOfCosignatures checks that a witness cannot bring an absurd time with a good signature.
func TestTimesOfCosignatures(t *testing.T) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	public := append([]byte{4}, private.Public().(ed25519.PublicKey)...)
	const name = "witness.example/w1"
	w, err := ParseWitness(vkey(name, 4, public[1:]) + " http://witness.example")
	if err != nil {
		t.Fatal(err)
	}
	id := sha256.Sum256(append([]byte(name+"\n"), public...))
	const text = "example.com/log\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
	for at, good := range map[uint64]bool{
		0: false, 1: true, 1_900_000_000: true, masterfsm.MaxTime / 1000: true, masterfsm.MaxTime/1000 + 1: false,
		1 << 62: false, 1 << 63: false, 1<<64 - 1: false,
	} {
		signature := ed25519.Sign(private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at, text))
		line := binary.BigEndian.AppendUint64(id[:4:4], at)
		answer := "— " + name + " " + base64.StdEncoding.EncodeToString(append(line, signature...)) + "\n"
		c, err := w.Cosignature([]byte(text+"\n— log x\n"), []byte(answer))
		if (err == nil) != good || good && CosignedAt(c) != at*1000 || !good && !errors.Is(err, errCosignature) {
			t.Errorf("at %d s: %+v, %v", at, c, err)
		}
	}
}
