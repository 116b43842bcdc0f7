package masterfsm

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Admin is a named token for administration. The plain text is known to its holder alone.
type Admin struct {
	ID      uint32     `json:"id"`      // from 1, never given out again
	Name    string     `json:"name"`    // no two tokens of the table have the same
	Role    string     `json:"role"`    // wire.RoleAdmin, wire.RoleOperator or wire.RoleAuditor
	Hash    chain.Hash `json:"hash"`    // SHA-256 of the plain text
	Created uint64     `json:"created"` // unix milliseconds
	Expires uint64     `json:"expires"` // unix milliseconds: it is refused from then on
}

// Limits of named admin tokens. What is over one of the first two wraps [ErrBadCommand], what does not fit any more
// [wire.ErrTooMany].
const (
	MaxAdminName     = 64                       // bytes
	MaxAdminValidity = 10 * 366 * 24 * 3600_000 // milliseconds
	MaxAdmins        = 1000                     // at a time, the expired ones among them
)

// CreateAdmin makes a named admin token, which expires Valid milliseconds after the time that the command commits. The
// result is the [Admin]. Known from protocol level 5 on, as the two others are.
type CreateAdmin struct {
	Name      string     `json:"name"`
	Role      string     `json:"role"`
	TokenHash chain.Hash `json:"token_hash"`
	Valid     uint64     `json:"valid"` // milliseconds
	Time      uint64     `json:"time"`
}

// RevokeAdmin takes a named admin token from the table. The result is the [Admin].
type RevokeAdmin struct {
	ID   uint32 `json:"id"`
	Time uint64 `json:"time"`
}

// ExpireAdmins moves the table's time to one at which a named admin token expires. The leader proposes it, because no
// other command may bring that time in a group that is idle. It is refused with [ErrStale] where no token expires.
type ExpireAdmins struct {
	Time uint64 `json:"time"`
}

func (c *CreateAdmin) apply(s *State) (any, error) {
	if err := s.knowsAdmins(); err != nil {
		return nil, err
	}
	switch {
	case c.Name == "" || len(c.Name) > MaxAdminName || !utf8.ValidString(c.Name):
		return nil, fmt.Errorf("%w: the name of an admin token has 1 to %d bytes of UTF-8", ErrBadCommand, MaxAdminName)
	case c.Role != wire.RoleAdmin && c.Role != wire.RoleOperator && c.Role != wire.RoleAuditor:
		return nil, fmt.Errorf("%w: there is no role %q", ErrBadCommand, c.Role)
	case c.Valid == 0 || c.Valid > MaxAdminValidity:
		return nil, fmt.Errorf("%w: an admin token is valid for 1 to %d ms", ErrBadCommand, uint64(MaxAdminValidity))
	case c.TokenHash == (chain.Hash{}) || s.tokenInUse(c.TokenHash):
		return nil, fmt.Errorf("%w: that token is in use", ErrBadCommand)
	case slices.ContainsFunc(s.admins, func(a Admin) bool { return a.Name == c.Name }):
		return nil, fmt.Errorf("%w: an admin token has the name %q: choose another, or revoke that token first",
			wire.ErrNameTaken, c.Name)
	case len(s.admins) >= MaxAdmins || s.lastAdmin == 1<<32-1:
		return nil, fmt.Errorf("%w: there are %d admin tokens already: revoke one first", wire.ErrTooMany,
			len(s.admins))
	}
	s.tick(c.Time)
	s.lastAdmin++
	a := Admin{ID: s.lastAdmin, Name: c.Name, Role: c.Role, Hash: c.TokenHash, Created: s.now, Expires: s.now + c.Valid}
	s.admins = append(slices.Clone(s.admins), a)
	return &a, nil
}

func (c *RevokeAdmin) apply(s *State) (any, error) {
	if err := s.knowsAdmins(); err != nil {
		return nil, err
	}
	at, found := search(s.admins, c.ID, adminID)
	if !found {
		return nil, fmt.Errorf("%w: %d", ErrUnknownAdmin, c.ID)
	}
	s.tick(c.Time)
	a := s.admins[at]
	s.admins = slices.Delete(slices.Clone(s.admins), at, at+1)
	return &a, nil
}

func (c *ExpireAdmins) apply(s *State) (any, error) {
	if err := s.knowsAdmins(); err != nil {
		return nil, err
	}
	if next := s.adminExpiry(); next == 0 || s.timeOf(c.Time) < next {
		return nil, fmt.Errorf("%w: no admin token expires up to %d", ErrStale, c.Time)
	}
	s.tick(c.Time)
	return nil, nil
}

func (s *State) knowsAdmins() error {
	if s.level < LevelAdmins {
		return fmt.Errorf("%w: admin tokens have names from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelAdmins, s.level)
	}
	return nil
}

func adminID(a *Admin) uint32 { return a.ID }

// Admins lists the named admin tokens in the order of their ids, the expired ones among them. The list may be kept, and
// must not be changed.
func (s *State) Admins() []Admin { return s.admins }

// adminOf finds the named admin token of a hash.
func (s *State) adminOf(hash chain.Hash) (Admin, bool) {
	return find(s.admins, func(a *Admin) bool { return a.Hash == hash })
}

// adminExpiry is when the next named admin token expires, 0 if none does.
func (s *State) adminExpiry() (next uint64) {
	for i := range s.admins {
		if at := s.admins[i].Expires; at > s.now && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

// Holder is the holder of a token: an administrator if Admin has an id, and else a project's client.
type Holder struct {
	Admin   Admin
	Expired bool // of Admin: it opens nothing any more
	Access  Access
}

// Holder finds the holder of a token, given its SHA-256.
func (s *State) Holder(hash chain.Hash) (Holder, bool) {
	if access, ok := s.Access(hash); ok {
		return Holder{Access: access}, true
	}
	a, ok := s.adminOf(hash)
	return Holder{Admin: a, Expired: ok && s.now >= a.Expires}, ok
}

// restoreAdmins takes the named admin tokens of a snapshot.
func (s *State) restoreAdmins(admins []Admin, last uint32) error {
	before := uint32(0)
	for i := range admins {
		if id := admins[i].ID; id <= before || id > last {
			return fmt.Errorf("admin token %d stands behind %d, the newest is %d", id, before, last)
		}
		before = admins[i].ID
	}
	s.admins, s.lastAdmin = admins, last
	return nil
}

func aboutAdmin(id uint32) subject {
	return subject{target: numberedTarget(trail.OfAdmin, id), values: func(s *State) []trail.Value {
		a, ok := find(s.admins, func(a *Admin) bool { return a.ID == id })
		if !ok {
			return nil
		}
		return pairs("name", a.Name, "role", a.Role, "expires", a.Expires)
	}}
}
