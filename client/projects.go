package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// CreateProject creates a project. It needs the admin token, unless the cluster's registration is open. The project's
// token is shown only in this answer, so the client does not try again after a try that may have been carried out. Then
// a second call fails with [wire.ErrNameTaken], and [Client.CreateToken] creates another token.
func (c *Client) CreateProject(ctx context.Context, p wire.NewProject) (wire.CreatedProject, error) {
	return command[wire.CreatedProject](ctx, c, http.MethodPost, "/v1/projects", p, true,
		func(created *wire.CreatedProject) error {
			if created.Name != p.Name {
				return fmt.Errorf("%w: it is about the project %q", ErrAnswer, created.Name)
			}
			return needs(created.Token != "", "token")
		})
}

// Projects reads a page of the projects, in the order of their ids. limit is at most [wire.MaxProjectsPage], and 0 for
// the master's default. cursor is that of the page before, "" for the first page.
func (c *Client) Projects(ctx context.Context, cursor string, limit int) (wire.Projects, error) {
	path := "/v1/projects?" + pageValues(cursor, limit).Encode()
	return read(ctx, c, path, exchange.MaxMedium, func(page *wire.Projects) error {
		return checkPage(page.Projects, "projects", limit)
	})
}

// Project reads a project, named by its name or id. The error wraps [wire.ErrNotFound] where there is none.
func (c *Client) Project(ctx context.Context, nameOrID string) (wire.Project, error) {
	return read(ctx, c, projectPath(nameOrID), exchange.MaxMedium, isProject(nameOrID))
}

// ChangeProject changes a project's access or its quota, or closes it; it needs the admin token.
func (c *Client) ChangeProject(ctx context.Context, nameOrID string, change wire.ProjectChange) (wire.Project, error) {
	return command(ctx, c, http.MethodPatch, projectPath(nameOrID), change, false, isProject(nameOrID))
}

// Tokens lists the tokens of a project, without the secrets themselves. It needs the admin token.
func (c *Client) Tokens(ctx context.Context, nameOrID string) ([]wire.ProjectToken, error) {
	list, err := read(ctx, c, projectPath(nameOrID)+"/tokens", exchange.MaxMedium, func(l *wire.ProjectTokens) error {
		return needs(l.Tokens != nil, "tokens")
	})
	return list.Tokens, err
}

// CreateToken creates another token of a project. It needs the admin token. The token is shown only in this answer, so
// the client does not try again after a try that may have been carried out. The list of tokens shows whether it was; an
// unknown token can be revoked.
func (c *Client) CreateToken(ctx context.Context, nameOrID string, t wire.NewToken) (wire.CreatedToken, error) {
	return command(ctx, c, http.MethodPost, projectPath(nameOrID)+"/tokens", t, true,
		func(created *wire.CreatedToken) error {
			return needs(created.Token != "", "token")
		})
}

// RevokeToken revokes a project's token, named by its id. It needs the admin token. The error wraps [wire.ErrNotFound]
// if the project has no such token, and no earlier try of this call may have revoked it.
func (c *Client) RevokeToken(ctx context.Context, nameOrID string, token uint32) error {
	path := projectPath(nameOrID) + "/tokens/" + strconv.FormatUint(uint64(token), 10)
	return c.remove(ctx, path, false)
}

// CreateAdmin creates a named admin token. It needs an admin token with the role admin. The token is shown only in this
// answer, so the client does not try again after a try that may have been carried out. The list shows whether it was;
// an unknown token can be revoked. The error wraps [wire.ErrNameTaken] if another token has the name.
func (c *Client) CreateAdmin(ctx context.Context, a wire.NewAdmin) (wire.CreatedAdmin, error) {
	return command[wire.CreatedAdmin](ctx, c, http.MethodPost, "/v1/admins", a, true,
		func(created *wire.CreatedAdmin) error {
			if created.Name != a.Name || created.Role != a.Role {
				return fmt.Errorf("%w: it is about the admin token %q with the role %q", ErrAnswer, created.Name,
					created.Role)
			}
			return needs(created.Token != "", "token")
		})
}

// Admins lists the named admin tokens, without their secrets. It needs an admin token of any role.
func (c *Client) Admins(ctx context.Context) ([]wire.Admin, error) {
	list, err := read(ctx, c, "/v1/admins", exchange.MaxMedium, func(l *wire.Admins) error {
		return needs(l.Admins != nil, "admins")
	})
	return list.Admins, err
}

// RevokeAdmin revokes a named admin token. It needs an admin token with the role admin. The error wraps
// [wire.ErrNotFound] if there is no such token, and no earlier try of this call may have revoked it.
func (c *Client) RevokeAdmin(ctx context.Context, id uint32) error {
	return c.remove(ctx, "/v1/admins/"+strconv.FormatUint(uint64(id), 10), false)
}

// Me returns what the client's token gives access to.
func (c *Client) Me(ctx context.Context) (wire.Me, error) {
	return read(ctx, c, "/v1/me", exchange.MaxMedium, func(m *wire.Me) error { return needs(m.Role != "", "role") })
}

func projectPath(nameOrID string) string { return "/v1/projects/" + url.PathEscape(nameOrID) }

// CreateJoinTicket creates a ticket that admits one new master. It needs an admin token with the role admin. The ticket
// is shown only in this answer, so the client does not try again after a try that may have been carried out. The list
// shows whether it was; a ticket that nobody has can be revoked.
func (c *Client) CreateJoinTicket(ctx context.Context, t wire.NewJoinTicket) (wire.CreatedJoinTicket, error) {
	return command[wire.CreatedJoinTicket](ctx, c, http.MethodPost, "/v1/join-tickets", t, true,
		func(created *wire.CreatedJoinTicket) error {
			if created.Name != t.Name {
				return fmt.Errorf("%w: it is about the join ticket %q", ErrAnswer, created.Name)
			}
			return needs(created.Ticket != "", "ticket")
		})
}

// JoinTickets lists the join tickets, without their secrets. It needs an admin token of any role.
func (c *Client) JoinTickets(ctx context.Context) ([]wire.JoinTicket, error) {
	list, err := read(ctx, c, "/v1/join-tickets", exchange.MaxMedium, func(l *wire.JoinTickets) error {
		return needs(l.Tickets != nil, "tickets")
	})
	return list.Tickets, err
}

// RevokeJoinTicket revokes a join ticket. A master that it has admitted stays. It needs an admin token with the role
// admin. The error wraps [wire.ErrNotFound] if there is no such ticket, and no earlier try of this call may have
// revoked it.
func (c *Client) RevokeJoinTicket(ctx context.Context, id uint32) error {
	return c.remove(ctx, "/v1/join-tickets/"+strconv.FormatUint(uint64(id), 10), false)
}
