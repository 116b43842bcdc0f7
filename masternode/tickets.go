package masternode

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

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

// RevokeTicket removes a join ticket. A master that it has admitted stays. This master must lead. Errors:
// wire.ErrNotLeader, wire.ErrUnavailable, masterfsm.ErrUnknownTicket.
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
		ID: t.ID, Name: t.Name, By: t.By, Created: t.Created, Expires: t.Expires, State: t.StateAt(now), Member: t.Member,
	}
}
