package masterfsm

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Master is a master of the group as the table has it. Raft's configuration defines which masters vote.
type Master struct {
	ID    string `json:"id"`    // member id
	URL   string `json:"url"`   // "" while another has taken it over
	Raft  string `json:"raft"`  // host:port, "" while another has taken it over
	Since uint64 `json:"since"` // when it was admitted, unix milliseconds
	// Key is the master's Ed25519 public key in hex, and Start the number of its start that was announced last. They
	// are "" and 0 below protocol level 7, and until the master has announced itself there.
	Key   string `json:"key,omitempty"`
	Start uint64 `json:"start,omitempty"`
}

// Limits of the table of masters.
const (
	maxMasters        = 15
	maxRemovedMasters = 1024 // the oldest is forgotten then: its own folder still says that it was removed
)

// AdmitMaster enters a master, or a known one's new addresses. It is refused with [ErrMasterRemoved] where it was
// removed. If another master has one of its addresses, it is refused with [ErrBadCommand] unless Take is set. The other
// master then stays in the table without that address until it announces its new ones.
//
// From protocol level 7 on every announcement has a key and a start. Another key than that of the table is refused with
// an [*wire.OtherKeyError], as is a new master at an address of one that has a key. An older start is refused with
// [ErrOlderStart], as is the same start with other addresses. A member without a key gets the one that it announces at
// the addresses of the table; the leader, which knows itself, also at others. A new master needs a ticket, unless it is
// the leader: it has founded the group then.
type AdmitMaster struct {
	ID   string `json:"id"`
	URL  string `json:"url"`
	Raft string `json:"raft"`
	Take bool   `json:"take,omitempty"` // a member that has moved, perhaps to where another was before it moved too
	Time uint64 `json:"time"`
	// From protocol level 7 on. The leader has verified the signatures.
	Key     string     `json:"key,omitempty"`
	Start   uint64     `json:"start,omitempty"`
	Ticket  chain.Hash `json:"ticket,omitzero"`   // of a new master: the hash of its ticket
	Founder bool       `json:"founder,omitempty"` // it is the leader itself
}

// RemoveMaster removes a master. Its id is never admitted again, and what it submits is refused. Raft's configuration
// says whether there is such a member.
type RemoveMaster struct {
	ID   string `json:"id"`
	Time uint64 `json:"time"`
	// Force says that the leader was not to refuse the removal if too few masters answer. Known from protocol level 7
	// on.
	Force bool `json:"force,omitempty"`
}

func (c *AdmitMaster) apply(s *State) (any, error) {
	switch {
	case c.ID == "" || len(c.ID) > 255 || strings.Contains(c.ID, "@"):
		return nil, fmt.Errorf("%w: %q is no id of a master", ErrBadCommand, c.ID)
	case c.URL == "" || len(c.URL) > maxText || len(c.Raft) > maxText || !strings.Contains(c.Raft, ":"):
		return nil, fmt.Errorf("%w: a master needs a URL and a raft address host:port, of at most %d bytes each",
			ErrBadCommand, maxText)
	case s.MasterRemoved(c.ID):
		return nil, fmt.Errorf("%w: %s", ErrMasterRemoved, c.ID)
	}
	if err := s.CheckJoin(c); err != nil {
		return nil, err
	}
	c = c.under(s.tls.Step)
	m := Master{ID: c.ID, URL: c.URL, Raft: c.Raft, Key: c.Key, Start: c.Start}
	var others []Master
	for _, o := range s.masters {
		switch {
		case o.ID == m.ID:
			m.Since = o.Since
			continue
		case o.URL != m.URL && o.Raft != m.Raft:
		case c.Take:
			o = o.without(m)
		default:
			return nil, fmt.Errorf("%w: master %s has the URL %s and the raft address %s", ErrBadCommand, o.ID, o.URL,
				o.Raft)
		}
		others = append(others, o)
	}
	if len(others) >= maxMasters {
		return nil, fmt.Errorf("%w: there are %d masters already, more do not help; remove one first", ErrBadCommand,
			maxMasters)
	}
	s.tick(c.Time)
	if m.Since == 0 {
		m.Since = s.now
		s.useTicket(c.Ticket, c.ID)
	}
	s.masters = put(others, m, func(m *Master) string { return m.ID })
	return nil, nil
}

// under returns the announcement with the scheme that URLs have at a step of TLS. A master that has not learned the
// step yet announces another one.
func (c *AdmitMaster) under(step wire.TLSStep) *AdmitMaster {
	own := *c
	own.URL = step.URL(c.URL)
	return &own
}

// CheckJoin refuses an announcement because of its key, start or ticket: see [AdmitMaster]. The leader calls it too,
// before it asks anything of the master.
func (s *State) CheckJoin(c *AdmitMaster) error {
	c = c.under(s.tls.Step)
	if s.level < LevelJoining {
		if c.Key != "" || c.Start != 0 || c.Ticket != (chain.Hash{}) || c.Founder {
			return fmt.Errorf("%w: masters have keys from protocol level %d on, the group is at %d", ErrBadCommand,
				LevelJoining, s.level)
		}
		return nil
	}
	if raw, err := hex.DecodeString(c.Key); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != c.Key ||
		c.Start == 0 {
		return fmt.Errorf("%w: the announcement of master %s needs a key of 64 hex digits and a start", ErrBadCommand,
			c.ID)
	}
	own, known := find(s.masters, func(m *Master) bool { return m.ID == c.ID })
	switch {
	case known && own.Key != "" && own.Key != c.Key:
		return &wire.OtherKeyError{Member: c.ID, Recorded: own.Key, Shown: c.Key}
	case known && own.Key == "" && c.ID != s.term.Leader && (own.URL != c.URL || own.Raft != c.Raft):
		return fmt.Errorf("%w: no key of master %s is recorded yet, and the first one is taken at the addresses that "+
			"the table has, %q and %q: start it there once, or remove it and join with an empty folder and a ticket",
			ErrBadCommand, c.ID, own.URL, own.Raft)
	case own.Key != "" && c.Start < own.Start:
		return fmt.Errorf("%w: the announcement of master %s is of its start %d, the table has one of start %d: it is "+
			"a replay, or the data folder is an older copy", ErrOlderStart, c.ID, c.Start, own.Start)
	case own.Key != "" && c.Start == own.Start && own.URL != "" && own.Raft != "" &&
		(own.URL != c.URL || own.Raft != c.Raft):
		return fmt.Errorf("%w: start %d of master %s has announced %s and %s, and now announces %s and %s: two "+
			"processes run with its data folder", ErrOlderStart, c.Start, c.ID, own.URL, own.Raft, c.URL, c.Raft)
	}
	for _, o := range s.masters {
		switch {
		case o.ID == c.ID || o.Key == "":
		case o.Key == c.Key:
			return fmt.Errorf("%w: master %s has the key %s, which master %s announces too", ErrBadCommand, o.ID,
				wire.KeyFingerprint(c.Key), c.ID)
		case known && own.Key != "": // the key is that of the table: it may take an address over
		case o.URL == c.URL:
			return &wire.OtherKeyError{Member: o.ID, Recorded: o.Key, Shown: c.Key, Address: c.URL}
		case o.Raft == c.Raft:
			return &wire.OtherKeyError{Member: o.ID, Recorded: o.Key, Shown: c.Key, Address: c.Raft}
		}
	}
	if known || c.Founder {
		return nil
	}
	return s.CheckTicket(c.Ticket, c.ID, c.Time)
}

// ForgetKey drops the key and the start of the master that survived, so that it records those that it has now: its
// folder may be older than the state, or have lost its key.
func (r *Recovery) ForgetKey(id string) {
	if row, ok := find(r.s.masters, func(m *Master) bool { return m.ID == id }); ok {
		row.Key, row.Start = "", 0
		r.s.masters = put(r.s.masters, row, func(m *Master) string { return m.ID })
	}
}

// without is the master without the addresses that another has.
func (m Master) without(other Master) Master {
	if m.URL == other.URL {
		m.URL = ""
	}
	if m.Raft == other.Raft {
		m.Raft = ""
	}
	return m
}

func (c *RemoveMaster) apply(s *State) (any, error) {
	if c.ID == "" || len(c.ID) > 255 {
		return nil, fmt.Errorf("%w: %q is no id of a master", ErrBadCommand, c.ID)
	}
	s.tick(c.Time)
	s.masters = slices.DeleteFunc(slices.Clone(s.masters), func(m Master) bool { return m.ID == c.ID })
	delete(s.members, c.ID)
	if s.MasterRemoved(c.ID) {
		return nil, nil
	}
	s.removedMasters = appendBounded(s.removedMasters, c.ID, maxRemovedMasters)
	return nil, nil
}

// MasterRemoved reports whether a master was removed.
func (s *State) MasterRemoved(id string) bool { return slices.Contains(s.removedMasters, id) }

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
	MaxTickets        = 100                   // at a time; the oldest expired one makes room, else the oldest used one
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

// RevokeTicket takes a join ticket from the table. A used one is refused with [ErrBadCommand]: it is evidence, and its
// master stays. The result is the [Ticket].
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
		at := slices.IndexFunc(tickets, func(t Ticket) bool { return t.StateAt(now) == wire.TicketExpired })
		if at < 0 {
			at = slices.IndexFunc(tickets, func(t Ticket) bool { return t.StateAt(now) == wire.TicketUsed })
		}
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
	t := s.tickets[at]
	if t.Member != "" {
		return nil, fmt.Errorf("%w: ticket %d has admitted master %s, and stays as evidence of that: 'chainstore "+
			"master "+
			"remove %s' removes the master", ErrBadCommand, t.ID, t.Member, t.Member)
	}
	s.tick(c.Time)
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

// CheckTicket refuses a ticket, given its hash, that would not admit a new master at a time. The zero hash is no
// ticket.
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
