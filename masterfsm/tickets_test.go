package masterfsm

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// newTicket returns a command for the ticket n, which is valid for a second.
func newTicket(n byte) *CreateTicket {
	return &CreateTicket{Name: fmt.Sprint("ticket ", n), By: "alice", Hash: ticketHash(n), Valid: 1000, Time: startTime}
}

func ticketHash(n byte) chain.Hash { return chain.Hash{200, n} }

// memberKey returns a public key for tests.
func memberKey(n int) string { return fmt.Sprintf("%064x", n) }

// joins returns the announcement of a new master, with the ticket n; 0 for none.
func joins(id string, key int, n byte) *AdmitMaster {
	c := &AdmitMaster{ID: id, URL: "http://" + id, Raft: id + ":1", Key: memberKey(key), Start: 1, Time: startTime}
	if n > 0 {
		c.Ticket = ticketHash(n)
	}
	return c
}

func TestTickets(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	created := b.ok(newTicket(1)).(*Ticket)
	want := Ticket{ID: 1, Name: "ticket 1", By: "alice", Hash: ticketHash(1), Created: startTime,
		Expires: startTime + 1000}
	if *created != want {
		t.Errorf("created %+v, want %+v", created, want)
	}
	for name, c := range map[string]func(*CreateTicket){
		"long name":     func(c *CreateTicket) { c.Name = strings.Repeat("n", MaxTicketName+1) },
		"long author":   func(c *CreateTicket) { c.By = strings.Repeat("n", MaxAdminName+1) },
		"no validity":   func(c *CreateTicket) { c.Valid = 0 },
		"long validity": func(c *CreateTicket) { c.Valid = MaxTicketValidity + 1 },
		"no hash":       func(c *CreateTicket) { c.Hash = chain.Hash{} },
		"known ticket":  func(c *CreateTicket) { c.Hash = ticketHash(1) },
	} {
		t.Run(name, func(t *testing.T) {
			bad := newTicket(9)
			c(bad)
			(&table{t: t, State: restored(t, b.State)}).refused(bad, ErrBadCommand)
		})
	}
	b.ok(newTicket(2))
	b.refused(&RevokeTicket{ID: 3, Time: startTime}, ErrUnknownTicket)
	if revoked := b.ok(&RevokeTicket{ID: 2, Time: startTime}).(*Ticket); revoked.Hash != ticketHash(2) {
		t.Errorf("revoked %+v", revoked)
	}
	b.State = restored(t, b.State)
	if again := b.ok(newTicket(2)).(*Ticket); again.ID != 3 {
		t.Errorf("the id %d is given out again", again.ID)
	}
}

// TestJoinWithTicket checks that a new master needs a ticket, and that a ticket admits one master, until it expires or
// is revoked.
func TestJoinWithTicket(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Key: memberKey(1), Start: 1, Founder: true,
		Time: startTime})
	for n := range byte(4) {
		b.ok(newTicket(n + 1))
	}
	b.refused(joins("m2", 2, 0), wire.ErrTicketNeeded)
	b.refused(joins("m2", 2, 9), wire.ErrTicketRefused)
	late := joins("m2", 2, 1)
	late.Time = startTime + 1000
	b.refused(late, wire.ErrTicketRefused)
	late.Time--
	b.ok(late)
	if got := b.Tickets()[0]; got.Member != "m2" || got.StateAt(startTime+5000) != wire.TicketUsed {
		t.Errorf("the ticket is %+v", got)
	}
	entered := b.View().Masters
	b.ok(joins("m2", 2, 1)) // the answer was lost, and the master tries again
	if !reflect.DeepEqual(b.View().Masters, entered) {
		t.Errorf("%+v, want %+v", b.View().Masters, entered)
	}
	b.refused(joins("m3", 3, 1), wire.ErrTicketRefused)
	b.ok(&RevokeTicket{ID: 2, Time: startTime})
	b.refused(joins("m3", 3, 2), wire.ErrTicketRefused)

	// A refusal for another reason uses no ticket.
	taken := joins("m3", 3, 3)
	taken.URL = "http://m2"
	b.refused(taken, wire.ErrOtherKey)
	b.ok(joins("m3", 3, 3))
	// A used ticket is evidence, and is not revoked. A removed master does not come back, with whatever ticket.
	b.refused(&RevokeTicket{ID: 3, Time: startTime}, ErrBadCommand)
	if v := b.View(); v.Master("m3").Key != memberKey(3) {
		t.Errorf("the masters are %+v", b.View().Masters)
	}
	b.ok(&RemoveMaster{ID: "m3", Time: startTime})
	b.refused(joins("m3", 3, 4), ErrMasterRemoved)
	b.ok(joins("m4", 4, 4))
	b.State = restored(t, b.State)
	b.refused(joins("m5", 5, 4), wire.ErrTicketRefused)
	if err := b.CheckTicket(ticketHash(4), "m5", startTime); !errors.Is(err, wire.ErrTicketRefused) ||
		!strings.Contains(err.Error(), "m4") || !strings.Contains(err.Error(), "ticket create") {
		t.Errorf("the refusal says %v", err)
	}
}

// TestTooManyTickets checks that used and expired tickets make room, and open ones do not.
func TestTooManyTickets(t *testing.T) {
	b := newTable(t, smallSettings())
	b.raise()
	for n := range byte(MaxTickets) {
		if _, err := b.Apply(b.encode(newTicket(n + 1))); err != nil {
			t.Fatal(err)
		}
	}
	b.refused(newTicket(MaxTickets+1), wire.ErrTooMany)
	b.ok(joins("m2", 2, 7))
	b.ok(newTicket(MaxTickets + 1))
	if len(b.Tickets()) != MaxTickets {
		t.Errorf("%d tickets", len(b.Tickets()))
	}
	b.refused(joins("m3", 3, 7), wire.ErrTicketRefused)
	b.ok(joins("m4", 4, 9))
	later := newTicket(MaxTickets + 2)
	later.Time += 1000
	b.ok(later)
	used := slices.ContainsFunc(b.Tickets(), func(t Ticket) bool { return t.Member == "m4" })
	if first := b.Tickets()[0]; len(b.Tickets()) != MaxTickets || first.ID != 2 || !used {
		t.Errorf("%d tickets, the first is %d, the used one is there: %v", len(b.Tickets()), first.ID, used)
	}
}

// TestKeysOfMasters checks that the key of a master changes its addresses, and no other.
func TestKeysOfMasters(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: startTime})
	b.ok(&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Time: startTime})
	b.refused(joins("m3", 3, 0), ErrBadCommand) // no master has a key below the level
	b.raise()
	announced := func(id string, key int, start uint64, at string) *AdmitMaster {
		return &AdmitMaster{ID: id, URL: "http://" + at, Raft: at + ":1", Key: memberKey(key), Start: start, Take: true,
			Time: startTime}
	}
	for name, bad := range map[string]*AdmitMaster{
		"no key": {ID: "m1", URL: "http://m1", Raft: "m1:1", Start: 1}, "no start": announced("m1", 1, 0, "m1"),
		"upper case": {ID: "m1", URL: "http://m1", Raft: "m1:1", Start: 1, Key: strings.Repeat("A", 64)},
		"short":      {ID: "m1", URL: "http://m1", Raft: "m1:1", Start: 1, Key: memberKey(1)[2:]},
	} {
		t.Run(name, func(t *testing.T) {
			(&table{t: t, State: restored(t, b.State)}).refused(bad, ErrBadCommand)
		})
	}
	b.refused(announced("m2", 2, 5, "elsewhere"), ErrBadCommand)
	leader := &table{t: t, State: restored(t, b.State)}
	leader.ok(announced("m1", 1, 5, "elsewhere")) // it knows its own key and addresses

	b.ok(announced("m1", 1, 5, "m1")) // members of before the level get a key with their next announcement
	b.refused(announced("m2", 1, 5, "m2"), ErrBadCommand)
	b.ok(announced("m2", 2, 5, "m2"))

	var other *wire.OtherKeyError
	_, err := b.Apply(b.encode(announced("m1", 3, 6, "thief")))
	if !errors.As(err, &other) || other.Recorded != memberKey(1) || other.Shown != memberKey(3) ||
		other.Member != "m1" {
		t.Errorf("another key of a member: %v", err)
	}
	b.refused(announced("m1", 3, 6, "thief"), wire.ErrOtherKey)
	b.refused(announced("m1", 1, 4, "old"), ErrOlderStart) // a replay
	b.refused(announced("m1", 1, 5, "beside"), ErrOlderStart)
	b.ok(announced("m1", 1, 5, "m1")) // a retry
	b.ok(announced("m1", 1, 6, "new"))
	b.refused(announced("m1", 1, 5, "m1"), ErrOlderStart)
	b.ok(announced("m1", 1, 8, "m2")) // it has moved to where m2 was
	if v := b.View(); v.Master("m2").URL != "" || v.Master("m1") != (Master{
		ID: "m1", URL: "http://m2", Raft: "m2:1", Since: startTime, Key: memberKey(1), Start: 8}) {
		t.Errorf("%+v", v.Masters)
	}
	b.State = restored(t, b.State)
	b.ok(announced("m2", 2, 6, "m1"))

	// A new master takes no address, with whatever it claims.
	b.ok(newTicket(1))
	thief := announced("m3", 3, 1, "m1")
	thief.Ticket, thief.Founder = ticketHash(1), true
	b.refused(thief, wire.ErrOtherKey)
	thief.Raft = "m3:1"
	b.refused(thief, wire.ErrOtherKey)
	thief.URL, thief.Raft = "http://m3", "m2:1"
	_, err = b.Apply(b.encode(thief))
	if !errors.As(err, &other) || other.Member != "m1" || other.Address != "m2:1" || other.Shown != memberKey(3) {
		t.Errorf("an address of another member: %v", err)
	}
	b.refused(joins("m3", 2, 1), ErrBadCommand) // the key of another member
	b.ok(joins("m3", 3, 1))
}

// TestRecoveryClosesTheDoor checks that a recovery keeps no open ticket and no approval: the state that it begins with
// may be older than their revocation.
func TestRecoveryClosesTheDoor(t *testing.T) {
	b := approving(t)
	for n := range byte(2) {
		b.ok(newTicket(n + 1))
	}
	b.ok(joins("m2", 2, 1))
	b.waits(registers(RoleStorage, "waits"))
	b.waits(registers(RoleMiner, "approved"))
	b.ok(&DecideWorker{ID: "approved", Approve: true, Time: startTime})
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Key: memberKey(1), Start: 7, Founder: true,
		Time: startTime})
	r := b.Recover(Group{ID: b.Group().ID, Epoch: b.Group().Epoch + 1})
	r.ForgetKey("m1")
	r.ForgetKey("m9")
	if _, err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	b.State = restored(t, b.State)
	if got := b.Tickets(); len(got) != 1 || got[0].Member != "m2" {
		t.Errorf("the tickets are %+v", got)
	}
	if got := b.WaitingWorkers(startTime); len(got) != 0 {
		t.Errorf("the waiting workers are %+v", got)
	}
	b.refused(joins("m3", 3, 2), wire.ErrTicketRefused)
	if v := b.View(); v.Master("m1").Key != "" || v.Master("m1").Start != 0 || v.Master("m2").Key != memberKey(2) ||
		len(v.Masters) != 2 {
		t.Errorf("the masters are %+v", v.Masters)
	}
	b.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Key: memberKey(11), Start: 1, Time: startTime})
	b.waits(registers(RoleMiner, "approved"))
	if again := b.ok(newTicket(2)).(*Ticket); again.ID != 3 {
		t.Errorf("the id %d is given out again", again.ID)
	}
}

// TestTicketsBelowTheirLevel checks that the table has neither tickets nor keys before all masters know them.
func TestTicketsBelowTheirLevel(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelJoining - 1, Time: startTime})
	b.refused(newTicket(1), ErrBadCommand)
	b.refused(&RevokeTicket{ID: 1, Time: startTime}, ErrBadCommand)
	b.refused(joins("m2", 2, 0), ErrBadCommand)
	b.ok(&AdmitMaster{ID: "m2", URL: "http://m2", Raft: "m2:1", Time: startTime})
	if data := snapshotBytes(t, b.State); data[4] != 9 || strings.Contains(string(data), "ticket") ||
		strings.Contains(string(data), `"start"`) {
		t.Errorf("the snapshot has version %d, or has tickets or keys", data[4])
	}
	b.raise()
	b.ok(newTicket(1))
	if version := snapshotBytes(t, b.State)[4]; version != 10 {
		t.Errorf("the snapshot has version %d", version)
	}
	if back := restored(t, b.State); !reflect.DeepEqual(back.Tickets(), b.Tickets()) || back.lastTicket != 1 {
		t.Errorf("restored %+v", back.Tickets())
	}
	for name, c := range map[string]struct {
		tickets []Ticket
		last    uint32
	}{
		"no id": {[]Ticket{{}}, 1}, "twice": {[]Ticket{{ID: 1}, {ID: 1}}, 1}, "above the last": {[]Ticket{{ID: 2}}, 1},
	} {
		if err := New().restoreTickets(c.tickets, c.last); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
