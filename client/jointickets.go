package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

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
