package joining

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

func announced() wire.Member {
	return wire.Member{ID: "m4", URL: "http://m4:8000", Raft: "m4:8010"}
}

func seeded(t *testing.T, b byte) Key {
	t.Helper()
	key, err := KeyOf([]byte(strings.Repeat(string(b), 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestProof checks that a proof is of one announcement to one group only, whatever is changed.
func TestProof(t *testing.T) {
	key, ticket := NewKey(), NewKey()
	m := announced()
	m.Proof = Prove("g", m, 3, key, ticket)
	if err := Verify("g", m); err != nil {
		t.Fatal(err)
	}
	if err := Verify("other", m); !errors.Is(err, ErrBadProof) {
		t.Errorf("to another group: %v", err)
	}
	other := Prove("g", announced(), 3, NewKey(), NewKey())
	for name, change := range map[string]func(*wire.Member){
		"id":                   func(m *wire.Member) { m.ID = "m5" },
		"URL":                  func(m *wire.Member) { m.URL = "http://thief:8000" },
		"raft address":         func(m *wire.Member) { m.Raft = "thief:8010" },
		"bytes moved":          func(m *wire.Member) { m.ID, m.URL = "m4h", "ttp://m4:8000" },
		"own group":            func(m *wire.Member) { m.Group = "g" },
		"epoch":                func(m *wire.Member) { m.Epoch = 999 },
		"start":                func(m *wire.Member) { m.Proof.Start++ },
		"key":                  func(m *wire.Member) { m.Proof.Key = other.Key },
		"key and signature":    func(m *wire.Member) { m.Proof.Key, m.Proof.Signature = other.Key, other.Signature },
		"signature":            func(m *wire.Member) { m.Proof.Signature = other.Signature },
		"no signature":         func(m *wire.Member) { m.Proof.Signature = "" },
		"key in upper case":    func(m *wire.Member) { m.Proof.Key = strings.ToUpper(m.Proof.Key) },
		"ticket":               func(m *wire.Member) { m.Proof.Ticket = other.Ticket },
		"no ticket":            func(m *wire.Member) { m.Proof.Ticket = nil },
		"signature of ticket":  func(m *wire.Member) { m.Proof.Ticket.Signature = m.Proof.Signature },
		"no ticket signature":  func(m *wire.Member) { m.Proof.Ticket.Signature = "" },
		"key of the ticket":    func(m *wire.Member) { m.Proof.Ticket.Key = m.Proof.Key },
		"no key of the ticket": func(m *wire.Member) { m.Proof.Ticket.Key = "" },
		"no proof":             func(m *wire.Member) { m.Proof = nil },
	} {
		bad, proof, used := m, *m.Proof, *m.Proof.Ticket
		proof.Ticket, bad.Proof = &used, &proof
		change(&bad)
		if err := Verify("g", bad); !errors.Is(err, ErrBadProof) {
			t.Errorf("changed %s: %v", name, err)
		}
	}
	// The ticket of a recorded proof admits no other key: its signature covers the key.
	stolen := announced()
	stolen.Proof = Prove("g", stolen, 3, NewKey(), Key{})
	stolen.Proof.Ticket = m.Proof.Ticket
	if err := Verify("g", stolen); !errors.Is(err, ErrBadProof) {
		t.Errorf("a recorded proof of a ticket with another key: %v", err)
	}
}

// TestFrozenProof checks the bytes that are signed: members of all versions must agree on them.
func TestFrozenProof(t *testing.T) {
	m := announced()
	m.Group, m.Epoch = "cs-group", 3
	p := Prove("cs-group", m, 258, seeded(t, 'k'), seeded(t, 't'))
	message, err := announcement("cs-group", m, p)
	if err != nil {
		t.Fatal(err)
	}
	const want = "636861696e73746f726520616e6e6f756e63656d656e74207631" + // the label
		"0000000863732d67726f7570" + "000000026d34" + "0000000e687474703a2f2f6d343a38303030" +
		"000000076d343a38303130" + "0000000863732d67726f7570" + "0000000000000003" + "0000000000000102"
	if got := hex.EncodeToString(message); got != want+p.Key+"00000020"+p.Ticket.Key {
		t.Errorf("the message is %s", got)
	}
}

func TestTicketText(t *testing.T) {
	text, key := NewTicket()
	back, err := ParseTicket(text + "\n")
	if err != nil || back.Public() != key.Public() || !strings.HasPrefix(text, "join-") {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "join-", text[:len(text)-1], text + "a", strings.TrimPrefix(text, "join-"),
		"join-" + strings.Repeat("1", 52)} {
		_, err := ParseTicket(bad)
		if !errors.Is(err, ErrNoTicket) || bad != "" && len(bad) > 5 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := TicketHash("xyz"); err == nil {
		t.Error("a hash of no key")
	}
}

// TestKeyIsNotPrinted checks that no verb of fmt writes a private key.
func TestKeyIsNotPrinted(t *testing.T) {
	key := seeded(t, 'k')
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := fmt.Sprintf(verb, key) + fmt.Sprintf(verb, struct{ K Key }{key})
		if strings.Contains(text, "6b6b6b") || strings.Contains(text, "kkk") || strings.Contains(text, "107 107") {
			t.Errorf("%s writes %s", verb, text)
		}
	}
	if _, err := KeyOf([]byte("short")); err == nil {
		t.Error("a short seed is a key")
	}
	if p := Prove("g", announced(), 1, Key{}, Key{}); p != nil {
		t.Errorf("without a key: %+v", p)
	}
}
