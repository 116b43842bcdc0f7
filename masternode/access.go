package masternode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// maxSilence is how long a master that has heard from no leader still trusts its table of tokens.
const maxSilence = 5 * time.Second

// Holder returns who holds a token: a client of a project, or an administrator with a named token. If this master does
// not know the token, it confirms that with the leader, unless the token has a form that none has. A master that has
// not heard from a leader for 5 s refuses, since it may have missed a revocation. mayAsk is called before the leader is
// asked; its error is returned instead. Errors: wire.ErrUnauthorized, also for a token that has expired, and
// wire.ErrNoLeader.
func (n *Node) Holder(ctx context.Context, token string, mayAsk func() error) (masterfsm.Holder, error) {
	if err := n.TrustsTable(); err != nil {
		return masterfsm.Holder{}, err
	}
	hash := sha256.Sum256([]byte(token))
	var h masterfsm.Holder
	look := func() error {
		known := false
		n.cfg.Ledger.Read(func(s *masterfsm.State) { h, known = s.Holder(hash) })
		switch {
		case !known:
			return errNotHere
		case h.Expired: // the time that it expired at is committed, so no other master knows better
			return fmt.Errorf("%w: the admin token %q has expired: create another one", wire.ErrUnauthorized,
				h.Admin.Name)
		}
		return nil
	}
	err := look()
	if errors.Is(err, errNotHere) && couldBeToken(token) { // no master knows a token of another form
		if err := mayAsk(); err != nil {
			return masterfsm.Holder{}, err
		}
		err = n.confirmed(ctx, look)
	}
	if errors.Is(err, errNotHere) || errors.Is(err, wire.ErrNotFound) {
		err = wire.ErrUnauthorized
	}
	if err != nil {
		h = masterfsm.Holder{}
	}
	return h, err
}

// TrustsTable returns why this master refuses all tokens except that of its command line, nil where it does not. The
// error wraps wire.ErrNoLeader.
func (n *Node) TrustsTable() error {
	if silence := n.cfg.Ledger.LastContact(); silence > maxSilence {
		return fmt.Errorf(
			"%w: this master has not heard from one for %v, so it cannot tell whether the token still holds",
			wire.ErrNoLeader, silence.Round(time.Second))
	}
	return nil
}

// Granted returns what the holder of a token that has no entry in the table may do, in the project that named says, or
// in the only one of grants if named is empty. That a project does not exist is confirmed with the leader. Errors:
// wire.ErrForbidden, wire.ErrBadRequest for a choice that is missing, and wire.ErrNoLeader.
func (n *Node) Granted(ctx context.Context, grants []wire.Grant, named string) (masterfsm.Access, error) {
	if len(grants) > 1 && named == "" {
		return masterfsm.Access{}, fmt.Errorf("%w: the token gives access to %d projects: add as=PROJECT to the "+
			"query, with the id or name of one", wire.ErrBadRequest, len(grants))
	}
	var access masterfsm.Access
	err := n.confirmed(ctx, func() (err error) {
		access = masterfsm.Access{}
		n.cfg.Ledger.Read(func(s *masterfsm.State) { err = addGrants(s, &access, grants, named) })
		if err == nil && access.Rights == 0 {
			err = errNotHere
		}
		return err
	})
	if errors.Is(err, wire.ErrNotFound) {
		err = fmt.Errorf("%w: the token gives access to no existing project with the id or name %q", wire.ErrForbidden,
			named)
		if named == "" {
			err = fmt.Errorf("%w: the token gives access to the project %q, which does not exist", wire.ErrForbidden,
				grants[0].Project)
		}
	}
	return access, err
}

// addGrants adds the rights of the grants to access that are of the project that named says, or of any project.
func addGrants(s *masterfsm.State, access *masterfsm.Access, grants []wire.Grant, named string) error {
	for _, g := range grants {
		p, ok := grantedProject(s, g.Project)
		if !ok || named != "" && !IsNamed(&p, named) {
			continue
		}
		rights, err := parseRights(g.Rights)
		if err != nil {
			return err
		}
		access.Project = p
		access.Rights |= rights
	}
	return nil
}

// grantedProject finds the project of a grant. Unlike [masterfsm.State.FindProject] it takes a number as an id only:
// somebody else may give a new project any name, but not choose its id. The audit trail is read with a role, and never
// appended to.
func grantedProject(s *masterfsm.State, project string) (p masterfsm.Project, ok bool) {
	if id, err := strconv.ParseUint(project, 10, 32); err == nil {
		p, ok = s.Project(uint32(id))
	} else {
		p, ok = s.ProjectByName(project)
	}
	return p, ok && p.ID != trail.ProjectID
}

// IsNamed reports whether a text is the id of a project or, if it is no number, its name.
func IsNamed(p *masterfsm.Project, text string) bool {
	if id, err := strconv.ParseUint(text, 10, 32); err == nil {
		return uint32(id) == p.ID
	}
	return text == p.Name
}

// Access returns what a project's token permits. It is [Node.Holder] where no other token is taken.
func (n *Node) Access(ctx context.Context, token string, mayAsk func() error) (masterfsm.Access, error) {
	h, err := n.Holder(ctx, token, mayAsk)
	if err == nil && h.Admin.ID != 0 {
		err = fmt.Errorf("%w: this is an admin token, and a project's token is needed", wire.ErrUnauthorized)
	}
	return h.Access, err
}

// CreateAdmin makes a named admin token. This master must lead. Errors: wire.ErrNotLeader, wire.ErrUnavailable,
// wire.ErrNameTaken, wire.ErrTooMany, masterfsm.ErrBadCommand, wire.ErrBadRequest.
func (n *Node) CreateAdmin(ctx context.Context, a wire.NewAdmin) (wire.CreatedAdmin, error) {
	if err := checkText("the name of an admin token", a.Name); err != nil {
		return wire.CreatedAdmin{}, err
	}
	valid := uint64(wire.DefaultAdminSeconds)
	if a.ValidSeconds != nil {
		valid = *a.ValidSeconds
	}
	switch {
	case !slices.Contains(wire.AdminRoles, a.Role):
		return wire.CreatedAdmin{}, fmt.Errorf("%w: there is no role %q: name %s", wire.ErrBadRequest, a.Role,
			strings.Join(wire.AdminRoles, ", "))
	case valid == 0 || valid > wire.MaxAdminSeconds:
		return wire.CreatedAdmin{}, fmt.Errorf("%w: valid_seconds %d is not within 1 and %d", wire.ErrBadRequest, valid,
			wire.MaxAdminSeconds)
	}
	token := newToken()
	created, err := leader.ProposeFor[*masterfsm.Admin](ctx, n.leader, &masterfsm.CreateAdmin{
		Name: a.Name, Role: a.Role, TokenHash: sha256.Sum256([]byte(token)), Valid: valid * 1000, Time: n.leader.Now(),
	})
	if err != nil {
		return wire.CreatedAdmin{}, err
	}
	n.log.Info("admin token created", "id", created.ID, "name", created.Name, "role", created.Role)
	return wire.CreatedAdmin{Admin: WireAdmin(created, false), Token: token}, nil
}

// RevokeAdmin removes a named admin token. Every master refuses it as soon as it has applied that, or 5 s after it last
// heard from a leader. This master must lead. Errors: wire.ErrNotLeader, wire.ErrUnavailable,
// masterfsm.ErrUnknownAdmin.
func (n *Node) RevokeAdmin(ctx context.Context, id uint32) error {
	revoked, err := leader.ProposeFor[*masterfsm.Admin](ctx, n.leader,
		&masterfsm.RevokeAdmin{ID: id, Time: n.leader.Now()})
	if err == nil {
		n.log.Info("admin token revoked", "id", revoked.ID, "name", revoked.Name, "role", revoked.Role)
	}
	return err
}

// Admins lists the named admin tokens, as the leader knows them. Error: wire.ErrNoLeader.
func (n *Node) Admins(ctx context.Context) (wire.Admins, error) {
	if err := n.confirm(ctx); err != nil {
		return wire.Admins{}, err
	}
	var admins []masterfsm.Admin
	var now uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { admins, now = s.Admins(), s.Now() })
	list := wire.Admins{Admins: make([]wire.Admin, len(admins))}
	for i := range admins {
		list.Admins[i] = WireAdmin(&admins[i], now >= admins[i].Expires)
	}
	return list, nil
}

// WireAdmin returns a named admin token in the form of the API.
func WireAdmin(a *masterfsm.Admin, expired bool) wire.Admin {
	return wire.Admin{
		ID: a.ID, Name: a.Name, Role: a.Role, Created: a.Created, Expires: a.Expires, Expired: expired,
	}
}

// Auditor returns what an admin token may read: the audit trail. ok is false while the group has none.
func (n *Node) Auditor() (a masterfsm.Access, ok bool) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { a.Project, ok = s.Project(trail.ProjectID) })
	a.Rights = masterfsm.MayRead
	return a, ok
}

// newToken returns a new token of a project or an administrator.
func newToken() string { return rand.Text() }

// couldBeToken reports whether a token has the form of those that [newToken] has ever returned: at least 26 characters
// of the alphabet of base32.
func couldBeToken(token string) bool {
	return len(token) >= 26 && strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// MayRead returns the project of an id if a reader may read its records. Every path to a record calls it or readable.
// A refusal is confirmed with the leader: the project may have been made public. Errors: wire.ErrForbidden, which
// reveals only that there is a record, and wire.ErrNoLeader.
func (n *Node) MayRead(ctx context.Context, reader masterfsm.Access, owner uint32) (masterfsm.Project, error) {
	if p, ok := n.readable(reader, owner); ok {
		return p, nil
	}
	if err := n.confirm(ctx); err != nil {
		return masterfsm.Project{}, err
	}
	if p, ok := n.readable(reader, owner); ok {
		return p, nil
	}
	return masterfsm.Project{}, wire.ErrForbidden
}

// readable returns the project of an id if a reader may read its records, as far as this master knows.
func (n *Node) readable(reader masterfsm.Access, owner uint32) (masterfsm.Project, bool) {
	var p masterfsm.Project
	var ok bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) { p, ok = s.Project(owner) })
	if !ok || !reader.MayRead(&p) {
		return masterfsm.Project{}, false
	}
	return p, true
}

// MayAppend checks that a token may append to its project. The error wraps wire.ErrForbidden.
func MayAppend(a masterfsm.Access) error {
	if !a.Rights.Has(masterfsm.MayAppend) {
		return fmt.Errorf("%w: it may not append", wire.ErrForbidden)
	}
	return nil
}

// CreateTicket makes a join ticket for one new master. by is the name of the admin token that asks, "" for the unnamed
// one. This master must lead. Errors: wire.ErrNotLeader, wire.ErrUnavailable, wire.ErrTooMany, masterfsm.ErrBadCommand,
// wire.ErrBadRequest.
func (n *Node) CreateTicket(ctx context.Context, t wire.NewJoinTicket, by string) (wire.CreatedJoinTicket, error) {
	if t.Name != "" {
		if err := checkText("the name of a join ticket", t.Name); err != nil {
			return wire.CreatedJoinTicket{}, err
		}
	}
	valid := uint64(wire.DefaultTicketSeconds)
	if t.ValidSeconds != nil {
		valid = *t.ValidSeconds
	}
	if valid == 0 || valid > wire.MaxTicketSeconds {
		return wire.CreatedJoinTicket{}, fmt.Errorf("%w: valid_seconds %d is not within 1 and %d", wire.ErrBadRequest,
			valid, wire.MaxTicketSeconds)
	}
	text, key := joining.NewTicket()
	hash, err := joining.TicketHash(key.Public())
	if err != nil {
		return wire.CreatedJoinTicket{}, err
	}
	created, err := leader.ProposeFor[*masterfsm.Ticket](ctx, n.leader, &masterfsm.CreateTicket{
		Name: t.Name, By: by, Hash: hash, Valid: valid * 1000, Time: n.leader.Now(),
	})
	if err != nil {
		return wire.CreatedJoinTicket{}, err
	}
	n.log.Info("join ticket created", "id", created.ID, "name", created.Name, "by", created.By)
	return wire.CreatedJoinTicket{JoinTicket: wireTicket(created, created.Created), Ticket: text}, nil
}

// RevokeTicket removes a join ticket that is not used. This master must lead. Errors: wire.ErrNotLeader,
// wire.ErrUnavailable, masterfsm.ErrUnknownTicket, masterfsm.ErrBadCommand for a used one.
func (n *Node) RevokeTicket(ctx context.Context, id uint32) error {
	revoked, err := leader.ProposeFor[*masterfsm.Ticket](ctx, n.leader,
		&masterfsm.RevokeTicket{ID: id, Time: n.leader.Now()})
	if err == nil {
		n.log.Info("join ticket revoked", "id", revoked.ID, "name", revoked.Name)
	}
	return err
}

// Tickets lists the join tickets, as the leader knows them. Error: wire.ErrNoLeader.
func (n *Node) Tickets(ctx context.Context) (wire.JoinTickets, error) {
	if err := n.confirm(ctx); err != nil {
		return wire.JoinTickets{}, err
	}
	var tickets []masterfsm.Ticket
	var now uint64
	n.cfg.Ledger.Read(func(s *masterfsm.State) { tickets, now = s.Tickets(), s.Now() })
	list := wire.JoinTickets{Tickets: make([]wire.JoinTicket, len(tickets))}
	for i := range tickets {
		list.Tickets[i] = wireTicket(&tickets[i], now)
	}
	return list, nil
}

// wireTicket returns a join ticket in the form of the API, as it is at a time of the group.
func wireTicket(t *masterfsm.Ticket, now uint64) wire.JoinTicket {
	return wire.JoinTicket{
		ID: t.ID, Name: t.Name, By: t.By, Created: t.Created, Expires: t.Expires, State: t.StateAt(now),
		Member: t.Member,
	}
}
