package fakecluster

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/chainstore/chainstore/wire"
)

func (c *Cluster) listJoinTickets(w http.ResponseWriter, _ *http.Request, _ caller) {
	list := wire.JoinTickets{Tickets: []wire.JoinTicket{}}
	for i := range c.JoinTickets {
		list.Tickets = append(list.Tickets, c.JoinTickets[i].JoinTicket)
	}
	reply(w, http.StatusOK, list)
}

func (c *Cluster) createJoinTicket(w http.ResponseWriter, r *http.Request, _ caller) {
	var n wire.NewJoinTicket
	if !c.decode(w, r, &n) {
		return
	}
	seconds := uint64(wire.DefaultTicketSeconds)
	if n.ValidSeconds != nil {
		seconds = *n.ValidSeconds
	}
	if seconds == 0 || seconds > wire.MaxTicketSeconds {
		Problem(w, wire.ErrBadRequest)
		return
	}
	c.lastTicket++
	t := wire.CreatedJoinTicket{
		JoinTicket: wire.JoinTicket{
			ID: c.lastTicket, Name: n.Name, Created: c.now(), Expires: c.now() + 1000*seconds, State: wire.TicketOpen,
		},
		Ticket: fmt.Sprintf("join-new-%d", c.lastTicket),
	}
	c.JoinTickets = append(c.JoinTickets, t)
	reply(w, http.StatusCreated, t)
}

func (c *Cluster) revokeJoinTicket(w http.ResponseWriter, r *http.Request, _ caller) {
	i := slices.IndexFunc(c.JoinTickets, func(t wire.CreatedJoinTicket) bool {
		return fmt.Sprint(t.ID) == r.PathValue("id")
	})
	if i < 0 {
		Problem(w, wire.ErrNotFound)
		return
	}
	if c.JoinTickets[i].State == wire.TicketUsed {
		Problem(w, wire.ErrBadRequest)
		return
	}
	c.JoinTickets = slices.Delete(c.JoinTickets, i, i+1)
	w.WriteHeader(http.StatusNoContent)
}

// approveWorker approves a worker of Waiting.
func (c *Cluster) approveWorker(w http.ResponseWriter, r *http.Request, _ caller) {
	for i := range c.Waiting {
		if c.Waiting[i].ID == r.PathValue("id") {
			c.Waiting[i].Approved = true
			reply(w, http.StatusOK, c.Waiting[i])
			return
		}
	}
	Problem(w, wire.ErrNotFound)
}

// refuseWorker removes a worker of Waiting.
func (c *Cluster) refuseWorker(w http.ResponseWriter, r *http.Request, _ caller) {
	before := len(c.Waiting)
	c.Waiting = slices.DeleteFunc(c.Waiting, func(w wire.WaitingWorker) bool { return w.ID == r.PathValue("id") })
	if len(c.Waiting) == before {
		Problem(w, wire.ErrNotFound)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
