package masternode

import (
	"context"
	"crypto/sha256"
	"slices"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// keyOf returns the key of the master with an id.
func keyOf(id string) joining.Key {
	seed := sha256.Sum256([]byte(id))
	key, err := joining.KeyOf(seed[:])
	if err != nil {
		panic(err)
	}
	return key
}

// Announce announces a master as its program does: signed with its key, with a start of its own for each address, and
// with a ticket if it is new to the table. A group below the level of tickets takes no new master. So raft has the
// master of a group cs-test there, as one that has founded the group with the leader.
func (r *rig) Announce(ctx context.Context, m wire.Member, forwarded bool) (wire.Announced, error) {
	if m.Group != "" && r.table().Level < masterfsm.LevelJoining && r.leader.Leads() {
		r.found(m)
	}
	return r.Node.Announce(ctx, r.signed(m), forwarded)
}

// found adds a master to raft's configuration, unless it has the master.
func (r *rig) found(m wire.Member) {
	r.members.Mu.Lock()
	defer r.members.Mu.Unlock()
	if !slices.ContainsFunc(r.members.List, func(in wire.Master) bool { return in.ID == m.ID }) {
		r.members.List = append(r.members.List, wire.Master{ID: m.ID, Raft: m.Raft})
	}
}

func (r *rig) signed(m wire.Member) wire.Member {
	v := r.table()
	if v.Level < masterfsm.LevelJoining {
		return m
	}
	var ticket joining.Key
	row := v.Master(m.ID)
	if row.ID == "" {
		ticket = r.openTicket()
	}
	start := max(1, row.Start)
	if row.Start > 0 && (row.URL != m.URL || row.Raft != m.Raft) {
		start++
	}
	m.Proof = joining.Prove(r.Node.Member().Group, m, start, keyOf(m.ID), ticket)
	return m
}

// openTicket returns a ticket that is not used, and makes one if there is none.
func (r *rig) openTicket() joining.Key {
	var err error
	if !r.ticket.IsZero() {
		hash, _ := joining.TicketHash(r.ticket.Public())
		r.ledger.Read(func(s *masterfsm.State) { err = s.CheckTicket(hash, "m", s.Now()) })
	}
	if err == nil && !r.ticket.IsZero() {
		return r.ticket
	}
	created, err := r.CreateTicket(context.Background(), wire.NewJoinTicket{}, "")
	if err != nil {
		return joining.Key{} // it does not lead: the announcement goes nowhere
	}
	if r.ticket, err = joining.ParseTicket(created.Ticket); err != nil {
		panic(err)
	}
	return r.ticket
}
