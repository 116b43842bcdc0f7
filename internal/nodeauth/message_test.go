package nodeauth

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// FuzzSession checks that no message without the secret opens a session.
func FuzzSession(f *testing.F) {
	r := NewReceiver(NewProcess(), map[string]Accepted{Masters: {Secret: NewSecret("secret")}})
	h := hello{purpose: Masters, caller: NewProcess(), nonce: fresh()}
	f.Add(h.encode(stepHello))
	challenge, err := r.Open(bytes.NewReader(h.encode(stepHello)), "")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(append(h.encode(stepOpen), challenge...), make([]byte, 1+macSize)...))
	f.Fuzz(func(t *testing.T, message []byte) {
		answer, err := r.Open(bytes.NewReader(message), "")
		if err != nil && !errors.Is(err, wire.ErrBadRequest) && !errors.Is(err, wire.ErrUnauthorized) {
			t.Error(err)
		}
		if err == nil && len(answer) != challengeSize || len(r.sessions) > 0 {
			t.Errorf("%x is answered with %x", message, answer)
		}
	})
}

// FuzzProof checks that a proof that is read is written the same way.
func FuzzProof(f *testing.F) {
	p := proof{counter: 7, covered: true}
	f.Add(p.String())
	f.Add((&proof{counter: 1 << 63}).String())
	f.Add("a 1 - b")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parseProof(text)
		if err != nil {
			return
		}
		if again, err := parseProof(p.String()); err != nil || again != p {
			t.Errorf("%q is read as %+v, and then as %+v, %v", text, p, again, err)
		}
	})
}

// TestSessionIsBoundToTheCertificate checks that the session of one certificate cannot be used under another one, and
// that a recorded message opens no second session.
func TestSessionIsBoundToTheCertificate(t *testing.T) {
	secret := NewSecret("secret")
	r := NewReceiver(NewProcess(), map[string]Accepted{Masters: {Secret: secret}})
	h := hello{purpose: Masters, caller: NewProcess(), nonce: fresh()}
	challenge, err := r.Open(bytes.NewReader(h.encode(stepHello)), "a")
	if err != nil {
		t.Fatal(err)
	}
	message := append(append(h.encode(stepOpen), challenge...), 1, 'n')
	k := keyOf(secret.list()[0].base, Masters, "")
	mac := k.mac(labelOpen, message)
	message = append(message, mac[:]...)
	answer, err := r.Open(bytes.NewReader(message), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Open(bytes.NewReader(message), "a"); !errors.Is(err, ErrNoSession) {
		t.Errorf("the same message again: %v", err)
	}
	if s := r.sessions[[sessionSize]byte(answer)]; len(r.sessions) != 1 || s == nil || s.name != "n" {
		t.Errorf("%d sessions, that of the answer is %+v", len(r.sessions), s)
	}
	p := proof{session: [sessionSize]byte(answer), counter: 1, covered: true, digest: emptyDigest}
	keys := keysOf(k, message, p.session)
	p.mac = p.sign(keys.request, http.MethodGet, "/x", http.Header{})
	request := &http.Request{
		Method: http.MethodGet, RequestURI: "/x", Header: http.Header{wire.HeaderAuth: {p.String()}},
	}
	if _, _, err := r.Check(request, "b", false); !errors.Is(err, ErrNoSession) {
		t.Errorf("under another certificate: %v", err)
	}
	if _, _, err := r.Check(request, "a", false); err != nil {
		t.Error(err)
	}
	if _, _, err := r.Check(request, "a", false); !errors.Is(err, ErrNoSession) {
		t.Errorf("again: %v", err)
	}
}
