package masterfsm

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Ticket is a join ticket: it admits one new master.
type Ticket struct {
	ID      uint32     `json:"id"`   // from 1, never given out again
	Name    string     `json:"name"` // what it is for; may be ""
	By      string     `json:"by"`   // name of the admin token that made it, "" for the unnamed one
	Hash    chain.Hash `json:"hash"` // SHA-256 of its public key
	Created uint64     `json:"created"`
	Expires uint64     `json:"expires"` // unix milliseconds: it admits nothing from then on
	// Member is the master that it has admitted, "" while it is open. Of a used ticket the other fields are history.
	Member string `json:"member,omitempty"`
}

// Limits of join tickets. What is over one of the first two wraps [ErrBadCommand], what does not fit any more
// [wire.ErrTooMany].
const (
	MaxTicketName     = 64                    // bytes
	MaxTicketValidity = 30 * 24 * 3600 * 1000 // milliseconds
	MaxTickets        = 100                   // at a time; the oldest that is used or expired makes room
)

// CreateTicket makes a join ticket, which expires Valid milliseconds after the time that the command commits. The
// result is the [Ticket]. Known from protocol level 7 on, as RevokeTicket is.
type CreateTicket struct {
	Name  string     `json:"name,omitempty"`
	By    string     `json:"by,omitempty"`
	Hash  chain.Hash `json:"hash"`
	Valid uint64     `json:"valid"` // milliseconds
	Time  uint64     `json:"time"`
}

// RevokeTicket takes a join ticket from the table. A master that it has admitted stays. The result is the [Ticket].
type RevokeTicket struct {
	ID   uint32 `json:"id"`
	Time uint64 `json:"time"`
}

func (c *CreateTicket) apply(s *State) (any, error) {
	if err := s.knowsJoining(); err != nil {
		return nil, err
	}
	switch {
	case len(c.Name) > MaxTicketName || !utf8.ValidString(c.Name):
		return nil, fmt.Errorf("%w: the name of a join ticket has at most %d bytes of UTF-8", ErrBadCommand,
			MaxTicketName)
	case len(c.By) > MaxAdminName:
		return nil, fmt.Errorf("%w: the name of an admin token has at most %d bytes", ErrBadCommand, MaxAdminName)
	case c.Valid == 0 || c.Valid > MaxTicketValidity:
		return nil, fmt.Errorf("%w: a join ticket is valid for 1 to %d ms", ErrBadCommand, uint64(MaxTicketValidity))
	case c.Hash == (chain.Hash{}) || slices.ContainsFunc(s.tickets, func(t Ticket) bool { return t.Hash == c.Hash }):
		return nil, fmt.Errorf("%w: that join ticket is in use", ErrBadCommand)
	}
	now := s.timeOf(c.Time)
	tickets := slices.Clone(s.tickets)
	if len(tickets) >= MaxTickets {
		at := slices.IndexFunc(tickets, func(t Ticket) bool { return t.StateAt(now) != wire.TicketOpen })
		if at < 0 {
			return nil, fmt.Errorf("%w: there are %d open join tickets already: revoke one first", wire.ErrTooMany,
				len(tickets))
		}
		tickets = slices.Delete(tickets, at, at+1)
	}
	if s.lastTicket == 1<<32-1 {
		return nil, fmt.Errorf("%w: no more join tickets can be made", wire.ErrTooMany)
	}
	s.tick(c.Time)
	s.lastTicket++
	t := Ticket{ID: s.lastTicket, Name: c.Name, By: c.By, Hash: c.Hash, Created: s.now, Expires: s.now + c.Valid}
	s.tickets = append(tickets, t)
	return &t, nil
}

func (c *RevokeTicket) apply(s *State) (any, error) {
	if err := s.knowsJoining(); err != nil {
		return nil, err
	}
	at, found := search(s.tickets, c.ID, ticketID)
	if !found {
		return nil, fmt.Errorf("%w: %d", ErrUnknownTicket, c.ID)
	}
	s.tick(c.Time)
	t := s.tickets[at]
	s.tickets = slices.Delete(slices.Clone(s.tickets), at, at+1)
	return &t, nil
}

func (s *State) knowsJoining() error {
	if s.level < LevelJoining {
		return fmt.Errorf("%w: there are join tickets from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelJoining, s.level)
	}
	return nil
}

func ticketID(t *Ticket) uint32 { return t.ID }

// StateAt is the state of the ticket at a time of the group.
func (t *Ticket) StateAt(now uint64) wire.JoinTicketState {
	switch {
	case t.Member != "":
		return wire.TicketUsed
	case now >= t.Expires:
		return wire.TicketExpired
	}
	return wire.TicketOpen
}

// Tickets lists the join tickets in the order of their ids, the used and expired ones among them. The list may be kept,
// and must not be changed.
func (s *State) Tickets() []Ticket { return s.tickets }

// CheckTicket refuses a ticket, given its hash, that would not admit a new master at a time. The zero hash is no ticket.
func (s *State) CheckTicket(hash chain.Hash, member string, time uint64) error {
	if hash == (chain.Hash{}) {
		return fmt.Errorf("%w: master %s is new to the group: have an administrator run 'chainstore master ticket "+
			"create' on a member, and start the master with --join-ticket-file FILE", wire.ErrTicketNeeded, member)
	}
	t, found := find(s.tickets, func(t *Ticket) bool { return t.Hash == hash })
	var why string
	switch {
	case !found:
		why = "it is unknown or was revoked"
	case t.Member != "":
		why = fmt.Sprintf("ticket %d has admitted master %s", t.ID, t.Member)
	case s.timeOf(time) >= t.Expires:
		why = fmt.Sprintf("ticket %d has expired", t.ID)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s, so it does not admit master %s: make another one with 'chainstore master ticket create'",
		wire.ErrTicketRefused, why, member)
}

// useTicket binds a ticket to the master that it admits.
func (s *State) useTicket(hash chain.Hash, member string) {
	at := slices.IndexFunc(s.tickets, func(t Ticket) bool { return t.Hash == hash })
	if at < 0 {
		return
	}
	s.tickets = slices.Clone(s.tickets)
	s.tickets[at].Member = member
}

// restoreTickets takes the join tickets of a snapshot.
func (s *State) restoreTickets(tickets []Ticket, last uint32) error {
	before := uint32(0)
	for i := range tickets {
		if id := tickets[i].ID; id <= before || id > last {
			return fmt.Errorf("join ticket %d stands behind %d, the newest is %d", id, before, last)
		}
		before = tickets[i].ID
	}
	s.tickets, s.lastTicket = tickets, last
	return nil
}
