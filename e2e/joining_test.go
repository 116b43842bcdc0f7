package e2e

import (
	"errors"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// TestJoinTickets checks with real processes that a new master joins with a ticket and not without, that a ticket
// admits one master, that a member restarts without it, and that a process with the cluster token changes no member.
func TestJoinTickets(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) { topology.Storages, topology.Miners = 0, 0 })
	c.begin(topology)
	three := c.File().Masters
	ticket := c.ticketFile() // once the group is at the level of tickets
	more := topology
	more.Masters = 5
	four, five := roleOf(more, "master-4"), roleOf(more, "master-5")
	four.Join, five.Join = three, three

	start := func(role devcluster.Role, says string) {
		t.Helper()
		if err := c.StartAs(role); err != nil {
			t.Fatal(err)
		}
		if says == "" {
			return
		}
		c.await(role.Name+" to say "+says, func() string {
			if log := tail(role.Log, 1000); !strings.Contains(log, says) {
				return log
			}
			return ""
		})
	}
	start(four, "master ticket create")
	c.awaitVoters(three...)
	c.kill(four.Name)
	four.JoinTicketFile = ticket
	start(four, "")
	c.awaitVoters(append([]string{four.URL()}, three...)...)

	// The ticket is used: it admits no second master, and the first one needs none.
	five.JoinTicketFile = ticket
	start(five, "has admitted master")
	c.kill(five.Name, four.Name)
	four.JoinTicketFile = ""
	start(four, "")
	c.awaitVoters(append([]string{four.URL()}, three...)...)
	tickets, err := c.admin().JoinTickets(t.Context())
	if err != nil || len(tickets) != 1 || tickets[0].State != wire.TicketUsed ||
		c.urlOf(tickets[0].Member) != four.URL() {
		t.Errorf("the tickets are %+v: %v", tickets, err)
	}

	// A process with the cluster token says that it is a member.
	calls := noderpc.NewMasters(noderpc.NewTransport(), c.secrets().For(nodeauth.Masters))
	defer calls.CloseIdle()
	var thief wire.Member
	c.await("an answer of "+three[1], func() string {
		if thief, err = calls.Member(t.Context(), three[1]); err != nil {
			return err.Error()
		}
		return ""
	})
	thief = wire.Member{
		ID: thief.ID, URL: "http://127.0.0.1:1", Raft: "127.0.0.1:2", Group: thief.Group, Epoch: thief.Epoch,
	}
	signed := joining.Prove(thief.Group, thief, 1<<40, joining.NewKey(), joining.Key{})
	for name, forged := range map[string]struct {
		proof *wire.JoinProof
		want  error
	}{
		"with another key": {signed, wire.ErrOtherKey},
		"without a key":    {nil, wire.ErrBadRequest},
	} {
		thief.Proof = forged.proof
		c.await("the refusal of a thief "+name, func() string {
			_, err := calls.Announce(t.Context(), three[0], thief, false)
			switch {
			case errors.Is(err, forged.want):
				return ""
			case err == nil:
				t.Fatalf("%s: admitted", name)
			}
			return err.Error()
		})
	}
	c.awaitVoters(append([]string{four.URL()}, three...)...)
	// It voted before its restart too. The cluster must not stop before it runs.
	c.await("an answer of "+four.Name, func() string {
		if _, err := calls.Member(t.Context(), four.URL()); err != nil {
			return err.Error()
		}
		return ""
	})
}
