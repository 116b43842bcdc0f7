package masternode

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// ticketOf makes a ticket that is valid for a number of seconds, and returns it with its id.
func (r *rig) ticketOf(t *testing.T, seconds uint64) (joining.Key, uint32) {
	t.Helper()
	created, err := r.CreateTicket(t.Context(), wire.NewJoinTicket{ValidSeconds: &seconds}, "alice")
	if err != nil {
		t.Fatal(err)
	}
	key, err := joining.ParseTicket(created.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	return key, created.ID
}

// newcomer returns a new master that answers at its URL and announces itself with a ticket.
func newcomer(masters *groupMasters, id string, ticket joining.Key) wire.Member {
	m := joiner(id, "http://"+id, id+":1")
	masters.set(m)
	m.Proof = joining.Prove("cs-test", m, 1, keyOf(id), ticket)
	return m
}

// TestThiefOfTheClusterTokenCannotJoin checks what a process can do that has the cluster token, answers at its URL, and
// has recorded announcements of others: it does not become a member, and changes no member.
func TestThiefOfTheClusterTokenCannotJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		group := r.Node.Member().Group
		used, _ := r.ticketOf(t, 3600)
		m4 := joiner("m4", "http://m4", "m4:1")
		masters.set(m4)
		m4.Proof = joining.Prove(group, m4, 1, keyOf("m4"), used)
		if _, err := r.Node.Announce(t.Context(), m4, false); err != nil {
			t.Fatal(err)
		}
		expired, _ := r.ticketOf(t, 10)
		revoked, id := r.ticketOf(t, 3600)
		if err := r.RevokeTicket(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)

		thief := joiner("m5", "http://m5", "m5:1")
		masters.set(thief)
		with := func(m wire.Member, start uint64, key, ticket joining.Key) wire.Member {
			m.Proof = joining.Prove(group, m, start, key, ticket)
			return m
		}
		recorded := with(thief, 1, joining.NewKey(), joining.Key{})
		recorded.Proof.Ticket = m4.Proof.Ticket
		moved := member("m3")
		moved.URL, moved.Raft = "http://thief", "thief:1"
		masters.set(moved)
		m3 := r.table()
		start := m3.Master("m3").Start
		claims := thief
		claims.Group, claims.Epoch = "cs-test", 1 // it says that it is a member
		for name, c := range map[string]struct {
			m    wire.Member
			want error
		}{
			"without a proof":          {thief, joining.ErrBadProof},
			"without a ticket":         {with(thief, 1, joining.NewKey(), joining.Key{}), wire.ErrTicketNeeded},
			"as a member":              {with(claims, 1, joining.NewKey(), joining.Key{}), wire.ErrTicketNeeded},
			"with a ticket of its own": {with(thief, 1, joining.NewKey(), joining.NewKey()), wire.ErrTicketRefused},
			"with a used ticket":       {with(thief, 1, joining.NewKey(), used), wire.ErrTicketRefused},
			"with an expired ticket":   {with(thief, 1, joining.NewKey(), expired), wire.ErrTicketRefused},
			"with a revoked ticket":    {with(thief, 1, joining.NewKey(), revoked), wire.ErrTicketRefused},
			"with a recorded proof":    {recorded, joining.ErrBadProof},
			"at the address of a member": {with(joiner("m5", "http://m3", "m5:1"), 1, joining.NewKey(), used),
				wire.ErrOtherKey},
			"as a member with its key":  {with(moved, start+1, joining.NewKey(), joining.Key{}), wire.ErrOtherKey},
			"as a member with no proof": {moved, joining.ErrBadProof},
		} {
			before, applied := r.table(), r.ledger.Applied()
			if _, err := r.Node.Announce(t.Context(), c.m, false); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			if !slices.Equal(r.table().Masters, before.Masters) || r.ledger.Applied() != applied ||
				!slices.Equal(r.ids(), []string{"m1", "m2", "m3", "m4"}) {
				t.Errorf("%s: it changed something: %+v", name, r.table().Masters)
			}
		}
	})
}

// TestNoNewMasterBeforeTickets checks that a group below the level of join tickets takes no new master if all members
// know that level, and waits for the level instead. An announcement cannot slip in before, and no master of an older
// version keeps the group there. A group with a member of an older version takes new ones as before.
func TestNoNewMasterBeforeTickets(t *testing.T) {
	for name, c := range map[string]struct {
		older []string
		want  error
	}{
		"all know the level": {nil, wire.ErrUnavailable}, "an older member": {[]string{"m3"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, masters := newOlderGroup(t, c.older...)
				defer r.stop()
				masters.set(member("m4"))
				masters.setLevel("m4", masterfsm.LevelJoining-1)
				if level := r.table().Level; level >= masterfsm.LevelJoining {
					t.Fatalf("the group is at level %d: the test shows nothing", level)
				}
				_, err := r.Node.Announce(t.Context(), joiner("m4", "http://m4", "m4:1"), false)
				if !errors.Is(err, c.want) || slices.Contains(r.ids(), "m4") != (c.want == nil) ||
					(r.row("m4").ID == "") != (c.want != nil) {
					t.Errorf("%v, the members are %v", err, r.ids())
				}
			})
		})
	}
}

// TestJoinIsRepeated checks that a master joins that has lost the answer to its announcement, also after a restart, and
// that its ticket admits no other.
func TestJoinIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		ticket, _ := r.ticketOf(t, 60)
		m := joiner("m4", "http://m4", "m4:1")
		masters.set(m)
		key := keyOf("m4")
		for start := uint64(1); start <= 3; start++ {
			m.Proof = joining.Prove("cs-test", m, start, key, ticket)
			for range 2 {
				if _, err := r.Node.Announce(t.Context(), m, false); err != nil {
					t.Fatalf("start %d: %v", start, err)
				}
			}
			time.Sleep(time.Minute) // the ticket has expired, and the master is known
		}
		if _, err := r.Node.Announce(t.Context(), newcomer(masters, "m5", ticket), false); !errors.Is(err,
			wire.ErrTicketRefused) || !strings.Contains(err.Error(), "m4") {
			t.Errorf("another master with the ticket: %v", err)
		}
		list, err := r.Tickets(t.Context())
		if err != nil || len(list.Tickets) == 0 {
			t.Fatal(list, err)
		}
		last := list.Tickets[len(list.Tickets)-1]
		if last.State != wire.TicketUsed || last.Member != "m4" || last.By != "alice" {
			t.Errorf("the ticket is %+v", last)
		}
	})
}

// TestReplayedAnnouncement checks that an announcement that was recorded moves no member back.
func TestReplayedAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		key, group := keyOf("m3"), r.Node.Member().Group
		announce := func(start uint64, host string) (wire.Member, error) {
			m := member("m3")
			m.URL, m.Raft = "http://"+host, host+":1"
			masters.set(m)
			m.Proof = joining.Prove(group, m, start, key, joining.Key{})
			_, err := r.Node.Announce(t.Context(), m, false)
			return m, err
		}
		recorded, err := announce(8, "first")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := announce(9, "second"); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Node.Announce(t.Context(), recorded, false); !errors.Is(err, masterfsm.ErrOlderStart) {
			t.Errorf("a replay: %v", err)
		}
		if _, err := announce(9, "third"); !errors.Is(err, masterfsm.ErrOlderStart) {
			t.Errorf("the same start at another address: %v", err)
		}
		if row := r.row("m3"); row.URL != "http://second" || row.Start != 9 {
			t.Errorf("%+v", row)
		}
	})
}

// TestRevokedDuringJoin checks that a ticket that is revoked while the leader asks the new master admits nothing, and
// that of two masters with one ticket only one joins.
func TestRevokedDuringJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newGroup(t)
		defer r.stop()
		ticket, id := r.ticketOf(t, 3600)
		m := newcomer(masters, "m4", ticket)
		masters.Set(m.URL, revokes{groupMaster{Follower: masterstest.Follower{Self: m}, group: masters}, func() {
			if err := r.RevokeTicket(context.Background(), id); err != nil {
				t.Error(err)
			}
		}})
		if _, err := r.Node.Announce(t.Context(), m, false); !errors.Is(err, wire.ErrTicketRefused) {
			t.Errorf("revoked meanwhile: %v", err)
		}
		if !slices.Equal(r.ids(), []string{"m1", "m2", "m3"}) || r.row("m4").ID != "" {
			t.Errorf("the members are %v", r.ids())
		}
		ticket, _ = r.ticketOf(t, 3600)
		var errs [2]error
		var tasks sync.WaitGroup
		for i, id := range []string{"m5", "m6"} {
			one := newcomer(masters, id, ticket)
			tasks.Go(func() { _, errs[i] = r.Node.Announce(t.Context(), one, false) })
		}
		tasks.Wait()
		if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs[:]...), wire.ErrTicketRefused) ||
			len(r.ids()) != 4 {
			t.Errorf("two masters with one ticket: %v, %v", errs, r.ids())
		}
	})
}

// revokes is a master that does something when it is asked who it is.
type revokes struct {
	groupMaster
	asked func()
}

func (m revokes) Member() wire.Member {
	m.asked()
	return m.groupMaster.Member()
}

// TestFirstKeyIsTheMembersOwn checks that a thief of the cluster token gets no key recorded for a member that has none
// yet, not even with the addresses of the table: what answers there has another key. The leader knows its own key.
func TestFirstKeyIsTheMembersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m3")
		r.ledger.Audited.Store(true)
		defer r.stop()
		r.members.Mu.Lock()
		r.members.ReachesMember = masters.reaches
		r.members.List = append(r.members.List, wire.Master{ID: "m4", Raft: "m4:1"}) // the table does not have it
		r.members.Mu.Unlock()
		masters.set(member("m4"))
		time.Sleep(time.Second + announceEvery/2) // the leader has registered itself, and does so again in a while
		if _, err := r.leader.Propose(t.Context(), &masterfsm.RaiseLevel{
			Level: masterfsm.LevelJoining, Time: r.leader.Now(),
		}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		masters.setLevel("m3", masterfsm.ProtocolLevel)
		for _, id := range []string{"m1", "m2", "m3"} {
			if row := r.row(id); row.URL != "http://"+id || row.Key != "" {
				t.Fatalf("the table has %+v: the test shows nothing", row)
			}
		}
		key := keyOf("thief")
		elsewhere, moved := member("m4"), member("m1")
		elsewhere.URL, moved.URL = "http://thief", "http://thief"
		there := elsewhere
		there.Key = key.Public()
		masters.set(there)
		for name, c := range map[string]struct {
			m    wire.Member
			want error
		}{
			"a follower":                     {member("m2"), wire.ErrOtherKey},
			"a member without a vote":        {member("m3"), wire.ErrOtherKey},
			"the leader":                     {member("m1"), wire.ErrOtherKey},
			"a member that is in no table":   {elsewhere, wire.ErrTicketNeeded},
			"the leader, at other addresses": {moved, wire.ErrOtherKey},
		} {
			before := r.ledger.Applied()
			c.m.Proof = joining.Prove("cs-test", c.m, 1, key, joining.Key{})
			if _, err := r.Node.Announce(t.Context(), c.m, false); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
			if row := r.row(c.m.ID); row.Key != "" || r.ledger.Applied() != before {
				t.Errorf("%s: it changed something: %+v", name, row)
			}
		}
		// The members themselves get their keys.
		for _, id := range []string{"m2", "m3"} {
			if _, err := r.Announce(t.Context(), member(id), false); err != nil || r.row(id).Key != keyOf(id).Public() {
				t.Errorf("%s itself: %v, %+v", id, err, r.row(id))
			}
		}
		time.Sleep(time.Second)
		if row := r.row("m1"); row.Key != keyOf("m1").Public() {
			t.Errorf("the leader is recorded as %+v", row)
		}
		// What the leader has signed itself moves it nowhere if another sends it.
		own := wire.Member{ID: "m1", URL: "http://old", Raft: "old:1"}
		own.Proof = joining.Prove("cs-test", own, 9, keyOf("m1"), joining.Key{})
		if _, err := r.Node.Announce(t.Context(), own, false); !errors.Is(err, wire.ErrBadRequest) ||
			r.row("m1").URL != "http://m1" {
			t.Errorf("the leader at other addresses: %v, %+v", err, r.row("m1"))
		}
	})
}

// TestRefusedJoinRemovesNoMember checks that a new master at an address of a member without a key is refused, also if
// the member is down, and that the member stays.
func TestRefusedJoinRemovesNoMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, masters := newOlderGroup(t, "m3")
		r.ledger.Audited.Store(true)
		defer r.stop()
		if err := r.members.Promote(t.Context(), "m3"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // until the leader has registered itself
		if _, err := r.leader.Propose(t.Context(), &masterfsm.RaiseLevel{
			Level: masterfsm.LevelJoining, Time: r.leader.Now(),
		}); err != nil {
			t.Fatal(err)
		}
		masters.setLevel("m3", masterfsm.ProtocolLevel)
		r.members.Mu.Lock()
		r.members.ReachesMember = func(id, _ string) bool { return id != "m3" } // m3 is down
		r.members.Mu.Unlock()
		ticket, _ := r.ticketOf(t, 3600)
		wiped := joiner("m3b", "http://m3", "m3:1")
		masters.set(wiped)
		wiped.Proof = joining.Prove("cs-test", wiped, 1, keyOf("m3b"), ticket)
		_, err := r.Node.Announce(t.Context(), wiped, false)
		if !errors.Is(err, wire.ErrOtherKey) || !strings.Contains(err.Error(), "master remove m3") {
			t.Errorf("at the address of m3: %v", err)
		}
		if v := r.table(); len(v.RemovedMasters) != 0 || !slices.Equal(r.ids(), []string{"m1", "m2", "m3"}) {
			t.Errorf("the members are %v, removed %v", r.ids(), v.RemovedMasters)
		}
		if err := r.RemoveMaster(t.Context(), "m3", false); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Node.Announce(t.Context(), wiped, false); err != nil {
			t.Errorf("after it was removed: %v", err)
		}
	})
}
