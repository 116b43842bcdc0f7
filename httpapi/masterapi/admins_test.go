package masterapi_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// newAdmin creates a named admin token.
func (c *cluster) newAdmin(name, role string) wire.CreatedAdmin {
	c.t.Helper()
	return answer[wire.CreatedAdmin](c, 1, request{method: "POST", path: "/v1/admins", token: c.file.Tokens.Admin,
		body: fmt.Sprintf(`{"name":%q,"role":%q}`, name, role), status: 201})
}

// awaitRefused waits until every master refuses a token.
func (c *cluster) awaitRefused(token, detail string) {
	c.t.Helper()
	for i := range c.file.Masters {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			status, body := c.get(i, "/v1/me", token)
			if status == http.StatusUnauthorized && strings.Contains(body, detail) {
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("master %d answers %d: %s", i, status, body)
			}
		}
	}
}

// open sends a GET request to a master. The caller closes the body of the answer.
func (c *cluster) open(i int, path, token string) *http.Response {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.file.Masters[i]+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// get returns the status and the body of an answer.
func (c *cluster) get(i int, path, token string) (status int, body string) {
	c.t.Helper()
	resp := c.open(i, path, token)
	defer resp.Body.Close()
	var text strings.Builder
	if err := resp.Write(&text); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, text.String()
}

// revokedAdmin returns a named admin token that no master knows any more.
func (c *cluster) revokedAdmin() string {
	c.t.Helper()
	revoked := c.newAdmin("revoked", wire.RoleAdmin)
	c.do(0, request{name: "revoke", method: "DELETE", path: fmt.Sprintf("/v1/admins/%d", revoked.ID),
		token: c.file.Tokens.Admin, status: 204})
	c.awaitRefused(revoked.Token, "")
	return revoked.Token
}

// expiredAdmin returns a named admin token that has expired on every master.
func (c *cluster) expiredAdmin() string {
	c.t.Helper()
	expired := answer[wire.CreatedAdmin](c, 2, request{method: "POST", path: "/v1/admins", token: c.file.Tokens.Admin,
		body: `{"name":"expired","role":"admin","valid_seconds":1}`, status: 201})
	c.awaitRefused(expired.Token, "has expired")
	return expired.Token
}

func (c *cluster) adminTokens() {
	alice := c.newAdmin("alice", wire.RoleAdmin)
	if alice.ID == 0 || alice.Expires-alice.Created != 1000*wire.DefaultAdminSeconds || alice.Expired {
		c.t.Errorf("created %+v", alice.Admin)
	}
	// A token of that role makes another one, at any master.
	olga := answer[wire.CreatedAdmin](c, 2, request{method: "POST", path: "/v1/admins", token: alice.Token,
		body: `{"name":"olga","role":"operator","valid_seconds":3600}`, status: 201})
	if olga.ID <= alice.ID || olga.Role != wire.RoleOperator || olga.Expires-olga.Created != 3600_000 {
		c.t.Errorf("created %+v", olga.Admin)
	}
	for i := range c.file.Masters {
		me := answer[wire.Me](c, i, request{method: "GET", path: "/v1/me", token: olga.Token, status: 200})
		if me.Role != wire.RoleOperator || me.Admin == nil || *me.Admin != olga.Admin || me.Project != nil {
			c.t.Errorf("me: %+v", me)
		}
		list := answer[wire.Admins](c, i, request{method: "GET", path: "/v1/admins", token: olga.Token, status: 200})
		if n := len(list.Admins); n < 2 || list.Admins[n-2] != alice.Admin || list.Admins[n-1] != olga.Admin {
			c.t.Errorf("listed %+v", list)
		}
	}
	me := answer[wire.Me](c, 0, request{method: "GET", path: "/v1/me", token: c.file.Tokens.Admin, status: 200})
	if me.Role != wire.RoleAdmin || me.Admin != nil {
		c.t.Errorf("the token of the command line: %+v", me)
	}
	for i, r := range []request{
		{method: "POST", path: "/v1/admins", body: `{"name":"olga","role":"auditor"}`, status: 409,
			problem: wire.ErrNameTaken.Name},
		{method: "POST", path: "/v1/admins", body: `{"name":"x"}`, status: 400, problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/admins", body: `{"name":"x","role":"root"}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/admins", body: `{"role":"admin"}`, status: 400, problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/admins", body: `{"name":"x","role":"admin","valid_seconds":0}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/admins", body: `{"name":"x","role":"admin","days":9}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "DELETE", path: "/v1/admins/999999", status: 404, problem: wire.ErrNotFound.Name},
		{method: "DELETE", path: "/v1/admins/x", status: 400, problem: wire.ErrBadRequest.Name},
	} {
		r.name, r.token = r.method+" "+r.path+" "+r.body, alice.Token
		c.do(i, r)
	}
	// Who has a token may give away the others' rights no more than their own.
	c.do(0, request{name: "an operator makes an administrator", method: "POST", path: "/v1/admins", token: olga.Token,
		body: `{"name":"eve","role":"admin"}`, status: 403, problem: wire.ErrForbidden.Name})
	c.do(1, request{name: "revoke", method: "DELETE", path: fmt.Sprintf("/v1/admins/%d", olga.ID), token: alice.Token,
		status: 204})
	c.awaitRefused(olga.Token, "")
	c.do(2, request{name: "revoke oneself", method: "DELETE", path: fmt.Sprintf("/v1/admins/%d", alice.ID),
		token: alice.Token, status: 204})
	c.awaitRefused(alice.Token, "")
}

// TestRolesAreDocumented compares the table of roles in docs/api.md with the gates of the routes.
func TestRolesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	mark := func(g gate, kind string) string {
		if g.status(kind) == 0 {
			return "yes"
		}
		return "403"
	}
	var want []string
	for _, r := range masterRows {
		if r.gate.status("named-admin") != 0 || r.gate.status("own") == 0 {
			continue // not for administration alone
		}
		method, path, _ := strings.Cut(r.route, " ")
		for _, name := range []string{"id", "project"} {
			path = strings.ReplaceAll(path, ":"+name, "{"+name+"}")
		}
		want = append(want, fmt.Sprintf("| `%s %s` | %s | %s | %s |", method, path, mark(r.gate, "named-admin"),
			mark(r.gate, "operator"), mark(r.gate, "auditor")))
	}
	_, text, _ := strings.Cut(string(data), "| route of administration |")
	table, _, _ := strings.Cut(text, "\n\n")
	written := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		if strings.HasPrefix(line, "| `") {
			written[line] = true
		}
	}
	for _, line := range want {
		if !written[line] {
			t.Errorf("docs/api.md does not have the line\n%s", line)
		}
		delete(written, line)
	}
	for line := range written {
		t.Errorf("docs/api.md has a line that no route has: %q", line)
	}
}
