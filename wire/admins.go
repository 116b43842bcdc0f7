package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// NewAdmin asks for a named admin token.
type NewAdmin struct {
	Name string `json:"name"` // 1 to 64 bytes of UTF-8, as no other admin token has it
	Role string `json:"role"` // RoleAdmin, RoleOperator or RoleAuditor
	// ValidSeconds is how long it is valid, at most MaxAdminSeconds; nil for DefaultAdminSeconds.
	ValidSeconds *uint64 `json:"valid_seconds,omitempty"`
}

// AdminRoles are the roles that a named admin token may have, the most powerful first.
var AdminRoles = []string{RoleAdmin, RoleOperator, RoleAuditor}

// How long an admin token is valid.
const (
	DefaultAdminSeconds = 90 * 24 * 3600
	MaxAdminSeconds     = 10 * 366 * 24 * 3600
)

// Admin is a named admin token without its secret.
type Admin struct {
	ID      uint32 `json:"id"`
	Name    string `json:"name"`
	Role    string `json:"role"`
	Created uint64 `json:"created"` // unix milliseconds
	Expires uint64 `json:"expires"` // unix milliseconds
	Expired bool   `json:"expired"` // by the time of the group
}

// CreatedAdmin is the only answer that shows the token.
type CreatedAdmin struct {
	Admin
	Token string `json:"token"`
}

// Admins are the named admin tokens, in the order of their ids.
type Admins struct {
	Admins []Admin `json:"admins"`
}

// JoinProof is what a master adds to its announcement from protocol level 7 on: it proves its own key, and a new master
// also a join ticket. Keys are Ed25519 public keys, and signatures those of package joining; both in hex.
type JoinProof struct {
	Key       string       `json:"key"`
	Start     uint64       `json:"start"` // number of the master's start, at least 1
	Signature string       `json:"signature"`
	Ticket    *TicketProof `json:"ticket,omitempty"` // of a new master
}

// TicketProof proves a join ticket. It is of no use for another master, key, group or address.
type TicketProof struct {
	Key       string `json:"key"` // of the ticket
	Signature string `json:"signature"`
}

// NewJoinTicket asks for a join ticket.
type NewJoinTicket struct {
	Name string `json:"name,omitempty"` // at most 64 bytes of UTF-8: what the ticket is for
	// ValidSeconds is how long it is valid, at most MaxTicketSeconds; nil for DefaultTicketSeconds.
	ValidSeconds *uint64 `json:"valid_seconds,omitempty"`
}

// How long a join ticket is valid.
const (
	DefaultTicketSeconds = 24 * 3600
	MaxTicketSeconds     = 30 * 24 * 3600
)

// JoinTicketState is the state of a join ticket. Newer versions may add states.
type JoinTicketState string

// The states of a join ticket.
const (
	TicketOpen    JoinTicketState = "open"
	TicketUsed    JoinTicketState = "used"    // it is bound to the master that it has admitted
	TicketExpired JoinTicketState = "expired" // by the time of the group
)

// JoinTicket is a join ticket without its secret.
type JoinTicket struct {
	ID      uint32          `json:"id"`
	Name    string          `json:"name"`
	By      string          `json:"by"`      // name of the admin token that made it, "" for the unnamed one
	Created uint64          `json:"created"` // unix milliseconds
	Expires uint64          `json:"expires"` // unix milliseconds
	State   JoinTicketState `json:"state"`
	Member  string          `json:"member,omitempty"` // id of the master that it has admitted
}

// CreatedJoinTicket is the only answer that shows the ticket.
type CreatedJoinTicket struct {
	JoinTicket
	Ticket string `json:"ticket"`
}

// JoinTickets are the join tickets, in the order of their ids.
type JoinTickets struct {
	Tickets []JoinTicket `json:"tickets"`
}

// KeyFingerprint is the fingerprint of a public key in hex: "SHA256:" and the base64 of its hash, as OpenSSH writes it.
// It is "none" for "".
func KeyFingerprint(key string) string {
	if key == "" {
		return "none"
	}
	raw, err := hex.DecodeString(key)
	if err != nil {
		return "invalid"
	}
	sum := sha256.Sum256(raw)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// OtherKeyError is [ErrOtherKey] with the two keys.
type OtherKeyError struct {
	Member   string // the master that the table has
	Recorded string // its public key, in hex
	Shown    string // that of the announcement
	Address  string // of Member, where another master announced it; "" where Member itself was announced
}

// Error names the fingerprints of both keys, and what to do.
func (e *OtherKeyError) Error() string {
	recorded, shown := KeyFingerprint(e.Recorded), KeyFingerprint(e.Shown)
	if e.Address != "" {
		return fmt.Sprintf("%v: %s is an address of master %s with the key %s, and a master with the key %s announces "+
			"it: give the new master addresses of its own (--advertise, --raft, --raft-advertise), or remove the old "+
			"one first: chainstore master remove %s", ErrOtherKey, e.Address, e.Member, recorded, shown, e.Member)
	}
	return fmt.Sprintf("%v: master %s has the key %s, and the announcement has %s: start it with its own data folder; "+
		"if that is lost, remove it (chainstore master remove %s) and join with an empty folder and a join ticket",
		ErrOtherKey, e.Member, recorded, shown, e.Member)
}

// Unwrap is [ErrOtherKey].
func (e *OtherKeyError) Unwrap() error { return ErrOtherKey }
