package masterapi_test

import (
	"fmt"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// joinTickets makes, lists and revokes join tickets through any master, and checks who may.
func (c *cluster) joinTickets() {
	ada, oscar := c.newAdmin("ada", wire.RoleAdmin), c.newAdmin("oscar", wire.RoleOperator)
	const path = "/v1/join-tickets"
	created := answer[wire.CreatedJoinTicket](c, 2, request{method: "POST", path: path, token: ada.Token,
		body: `{"name":"master-4","valid_seconds":3600}`, status: 201})
	want := wire.JoinTicket{ID: created.ID, Name: "master-4", By: "ada", Created: created.Created,
		Expires: created.Created + 3600_000, State: wire.TicketOpen}
	if created.JoinTicket != want || !strings.HasPrefix(created.Ticket, "join-") {
		c.t.Errorf("created %+v, want %+v", created.JoinTicket, want)
	}
	short := answer[wire.CreatedJoinTicket](c, 1, request{method: "POST", path: path, token: c.file.Tokens.Admin,
		body: "{}", status: 201})
	if short.By != "" || short.Expires-short.Created != 1000*wire.DefaultTicketSeconds || short.ID <= created.ID {
		c.t.Errorf("created %+v", short.JoinTicket)
	}
	for i := range c.file.Masters {
		list := answer[wire.JoinTickets](c, i, request{method: "GET", path: path, token: oscar.Token, status: 200})
		if n := len(list.Tickets); n < 2 || list.Tickets[n-2] != want || list.Tickets[n-1] != short.JoinTicket {
			c.t.Errorf("listed %+v", list)
		}
		if _, body := c.get(i, path, oscar.Token); strings.Contains(body, created.Ticket) ||
			strings.Contains(body, strings.TrimPrefix(short.Ticket, "join-")) {
			c.t.Errorf("the list has a ticket: %s", body)
		}
	}
	bad := wire.ErrBadRequest.Name
	for i, r := range []request{
		{method: "POST", path: path, body: `{"valid_seconds":0}`, status: 400, problem: bad},
		{method: "POST", path: path, body: `{"valid_seconds":2592001}`, status: 400, problem: bad},
		{method: "POST", path: path, body: `{"days":1}`, status: 400, problem: bad},
		{method: "POST", path: path, body: fmt.Sprintf(`{"name":%q}`, strings.Repeat("n", 65)), status: 400,
			problem: bad},
		{method: "DELETE", path: path + "/999999", status: 404, problem: wire.ErrNotFound.Name},
		{method: "DELETE", path: path + "/x", status: 400, problem: bad},
		{method: "POST", path: path, body: "{}", token: oscar.Token, status: 403, problem: wire.ErrForbidden.Name},
		{method: "DELETE", path: fmt.Sprint(path, "/", created.ID), token: oscar.Token, status: 403,
			problem: wire.ErrForbidden.Name},
	} {
		r.name = r.method + " " + r.path + " " + r.body
		if r.token == "" {
			r.token = ada.Token
		}
		c.do(i, r)
	}
	for i, ticket := range []wire.CreatedJoinTicket{created, short} {
		c.do(i, request{name: "revoke", method: "DELETE", path: fmt.Sprint(path, "/", ticket.ID), token: ada.Token,
			status: 204})
	}
	for _, admin := range []wire.CreatedAdmin{oscar, ada} {
		c.do(0, request{name: "revoke", method: "DELETE", path: fmt.Sprint("/v1/admins/", admin.ID),
			token: c.file.Tokens.Admin, status: 204})
	}
}
