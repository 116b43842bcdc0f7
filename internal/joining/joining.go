// Package joining has the keys of masters, join tickets, and the proofs of both in announcements.
//
// Every master has an Ed25519 key, which never leaves its data folder. The table of the group records the public half
// with the first announcement, and accepts other addresses of the master with a signature under it only. A join ticket
// is the seed of such a key too, so the table has nothing that admits a master: not the ticket, and not the key of a
// MAC. The holder of a ticket signs with it, and never sends it.
//
// Both keys sign the same bytes:
//
//	"chainstore announcement v1" ‖ part(group) ‖ part(id) ‖ part(URL) ‖ part(raft address) ‖
//	part(group of the master, empty of a new one) ‖ epoch of the master u64 ‖ start u64 ‖ key[32] ‖
//	part(key of the ticket, empty without one)
//	part(x) = length u32 ‖ x, all numbers big endian
//
// So a proof admits one master, with one key, at one pair of addresses, to one group. The start is the number of the
// master's start, which only grows: the table takes no announcement of an older start.
package joining

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

const (
	label        = "chainstore announcement v1"
	ticketPrefix = "join-"
)

// Key is a private key of a master or a ticket. The zero Key signs nothing.
type Key struct{ private ed25519.PrivateKey }

// NewKey returns a new key.
func NewKey() Key {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // it never fails
	return Key{ed25519.NewKeyFromSeed(seed)}
}

// KeyOf returns the key of a seed.
func KeyOf(seed []byte) (Key, error) {
	if len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("the seed of a key has %d bytes, not %d", ed25519.SeedSize, len(seed))
	}
	return Key{ed25519.NewKeyFromSeed(seed)}, nil
}

// Seed returns the seed of the key, which is secret.
func (k Key) Seed() []byte { return k.private.Seed() }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.private == nil }

// Public returns the public key in hex, "" for the zero Key.
func (k Key) Public() string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(k.private[ed25519.SeedSize:])
}

// Sign returns the signature of a message, in base64 without padding; "" for the zero Key. The message begins with a
// label of its own, which no announcement has.
func (k Key) Sign(message []byte) string {
	if k.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.private, message))
}

// Signed reports whether a signature is what [Key.Sign] returns with the key of a public key in hex.
func Signed(key string, message []byte, signature string) bool {
	public, err := publicKey(key)
	if err != nil {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	return err == nil && ed25519.Verify(public, message, raw)
}

// Format writes the fingerprint of the public key, so that no log has the private one.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, wire.KeyFingerprint(k.Public())) }

var ticketText = base32.StdEncoding.WithPadding(base32.NoPadding)

// NewTicket returns the text of a new join ticket, which is secret, and its key.
func NewTicket() (text string, key Key) {
	key = NewKey()
	return ticketPrefix + strings.ToLower(ticketText.EncodeToString(key.Seed())), key
}

// ErrNoTicket: a text is not a join ticket.
var ErrNoTicket = errors.New("not a join ticket: 'chainstore master ticket create' prints one")

// ParseTicket returns the key of a join ticket. The error wraps [ErrNoTicket] and has no part of the text.
func ParseTicket(text string) (Key, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), ticketPrefix)
	seed, err := ticketText.DecodeString(strings.ToUpper(encoded))
	if !ok || err != nil || len(seed) != ed25519.SeedSize {
		return Key{}, ErrNoTicket
	}
	return KeyOf(seed)
}

// Removal returns the bytes with which a master signs that the group has removed another one:
//
//	"chainstore removal v1" ‖ part(group) ‖ epoch of the group u64 ‖ part(id of the master that signs) ‖
//	part(id of the removed master) ‖ epoch of the removed master u64
//
// The last epoch is that of the announcement which is refused. So what is said of a master of before a recovery does
// not hold for one that has joined since.
//
// An id that was removed is never admitted again, except by a recovery, which raises the epoch. So a recorded removal
// says nothing that is not true.
func Removal(group string, epoch uint64, master, removed string, before uint64) []byte {
	b := binary.BigEndian.AppendUint64(appendPart([]byte("chainstore removal v1"), []byte(group)), epoch)
	return binary.BigEndian.AppendUint64(appendPart(appendPart(b, []byte(master)), []byte(removed)), before)
}

// TicketHash returns what the table keeps of a ticket: the SHA-256 of its public key, given in hex.
func TicketHash(public string) ([sha256.Size]byte, error) {
	raw, err := publicKey(public)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	return sha256.Sum256(raw), nil
}

// Prove returns the proof for an announcement of a master to a group. ticket is zero for a member.
func Prove(group string, m wire.Member, start uint64, key, ticket Key) *wire.JoinProof {
	p := &wire.JoinProof{Key: key.Public(), Start: start}
	if !ticket.IsZero() {
		p.Ticket = &wire.TicketProof{Key: ticket.Public()}
	}
	message, err := announcement(group, m, p)
	if err != nil {
		return nil // no key
	}
	p.Signature = hex.EncodeToString(ed25519.Sign(key.private, message))
	if p.Ticket != nil {
		p.Ticket.Signature = hex.EncodeToString(ed25519.Sign(ticket.private, message))
	}
	return p
}

// ErrBadProof: an announcement has no proof, or the proof is not of this announcement to this group.
var ErrBadProof = wire.ErrBadRequest.Variant("the announcement of the master is not proven")

// Verify checks the proof in an announcement of a master to a group. Whether the group takes the keys is another
// question. The error wraps [ErrBadProof].
func Verify(group string, m wire.Member) error {
	p := m.Proof
	if p == nil {
		return fmt.Errorf("%w: it has no signature; start master %s with the version of ChainStore of the others",
			ErrBadProof, m.ID)
	}
	message, err := announcement(group, m, p)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadProof, err)
	}
	if err := verify(p.Key, message, p.Signature); err != nil {
		return fmt.Errorf("%w: the key %s of master %s: %w", ErrBadProof, wire.KeyFingerprint(p.Key), m.ID, err)
	}
	if p.Ticket == nil {
		return nil
	}
	if err := verify(p.Ticket.Key, message, p.Ticket.Signature); err != nil {
		return fmt.Errorf("%w: the join ticket of master %s: %w", ErrBadProof, m.ID, err)
	}
	return nil
}

// announcement returns the bytes that are signed.
func announcement(group string, m wire.Member, p *wire.JoinProof) ([]byte, error) {
	key, err := publicKey(p.Key)
	if err != nil {
		return nil, err
	}
	var ticket []byte
	if p.Ticket != nil {
		if ticket, err = publicKey(p.Ticket.Key); err != nil {
			return nil, err
		}
	}
	b := []byte(label)
	for _, text := range []string{group, m.ID, m.URL, m.Raft, m.Group} {
		b = appendPart(b, []byte(text))
	}
	b = binary.BigEndian.AppendUint64(b, m.Epoch)
	b = binary.BigEndian.AppendUint64(b, p.Start)
	return appendPart(append(b, key...), ticket), nil
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

func verify(key string, message []byte, signature string) error {
	public, err := publicKey(key)
	if err != nil {
		return err
	}
	raw, err := hex.DecodeString(signature)
	if err != nil || !ed25519.Verify(public, message, raw) {
		return errors.New("the signature does not fit the addresses, the group, the epoch and the start")
	}
	return nil
}

// publicKey reads a public key in hex. Another spelling of the same key is refused.
func publicKey(key string) (ed25519.PublicKey, error) {
	raw, err := hex.DecodeString(key)
	if err != nil || len(raw) != ed25519.PublicKeySize || hex.EncodeToString(raw) != key {
		return nil, fmt.Errorf("%q is not an Ed25519 public key of 64 hex digits", key[:min(len(key), 80)])
	}
	return raw, nil
}
