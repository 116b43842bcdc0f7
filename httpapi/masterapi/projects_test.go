package masterapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// with returns the cluster for a subtest.
func (c *cluster) with(t *testing.T) *cluster {
	sub := *c
	sub.t = t
	return &sub
}

// answer is like do, and decodes a JSON response.
func answer[T any](c *cluster, i int, r request) T {
	c.t.Helper()
	if r.name == "" {
		r.name = r.method + " " + r.path
	}
	_, body := c.do(i, r)
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		c.t.Fatalf("%s: %v: %s", r.name, err, body)
	}
	return v
}

func (c *cluster) newProject(name string, public bool) wire.CreatedProject {
	c.t.Helper()
	body := fmt.Sprintf(`{"name":%q,"public":%v}`, name, public)
	return answer[wire.CreatedProject](c, 1, request{method: "POST", path: "/v1/projects", token: c.file.Tokens.Admin,
		body: body, status: 201})
}

func (c *cluster) newToken(project string, rights ...string) wire.CreatedToken {
	c.t.Helper()
	body, err := json.Marshal(wire.NewToken{Label: "of a test", Rights: rights})
	if err != nil {
		c.t.Fatal(err)
	}
	path := "/v1/projects/" + project + "/tokens"
	return answer[wire.CreatedToken](c, 2, request{method: "POST", path: path, token: c.file.Tokens.Admin,
		body: string(body), status: 201})
}

// revoke revokes a token and waits until every master has applied the revocation. This may take up to 5 s for a master
// without contact to a leader.
func (c *cluster) revoke(project string, id uint32) {
	c.t.Helper()
	path := fmt.Sprintf("/v1/projects/%s/tokens/%d", project, id)
	c.do(0, request{name: path, method: "DELETE", path: path, token: c.file.Tokens.Admin, status: 204})
	for i := range c.file.Masters {
		// The list of tokens is linearizable, so afterwards this master has applied the revocation.
		tokens := answer[wire.ProjectTokens](c, i, request{
			method: "GET", path: "/v1/projects/" + project + "/tokens", token: c.file.Tokens.Admin, status: 200,
		})
		for _, t := range tokens.Tokens {
			if t.ID == id {
				c.t.Errorf("master %d lists a revoked token", i)
			}
		}
	}
}

// append appends a record and returns its position.
func (c *cluster) append(token, payload string) wire.Position {
	c.t.Helper()
	return answer[wire.Position](c, 0, request{method: "POST", path: "/v1/records", token: token, body: payload,
		status: 201})
}

func (c *cluster) projectTokens() {
	admin := c.file.Tokens.Admin
	p := c.newProject("with tokens", false)
	path := "/v1/projects/with%20tokens"
	reader := c.newToken("with%20tokens", wire.RightRead)
	if reader.ID != p.TokenID+1 || reader.Token == "" || fmt.Sprint(reader.Rights) != "[read]" ||
		reader.Label != "of a test" {
		c.t.Errorf("created %+v", reader.ProjectToken)
	}
	c.append(p.Token, "one")
	c.do(1, request{
		name: "a reader appends", method: "POST", path: "/v1/records", token: reader.Token, body: "x", status: 403,
		problem: wire.ErrForbidden.Name,
	})
	c.revoke("with%20tokens", p.TokenID)
	for i := range c.file.Masters {
		c.do(i, request{
			name: "revoked", method: "POST", path: "/v1/records", token: p.Token, body: "x", status: 401,
			problem: wire.ErrUnauthorized.Name,
		})
	}
	me := answer[wire.Me](c, 1, request{method: "GET", path: "/v1/me", token: reader.Token, status: 200})
	if me.Role != wire.RoleProject || me.Project == nil || me.Project.ID != p.ID || fmt.Sprint(me.Rights) != "[read]" ||
		!me.OpenRegistration {
		c.t.Errorf("me: %+v", me)
	}
	for role, token := range map[string]string{wire.RoleAdmin: admin, wire.RoleCluster: c.file.Tokens.Cluster} {
		if me := answer[wire.Me](c, 1, request{method: "GET", path: "/v1/me", token: token,
			status: 200}); me.Role != role || me.Project != nil {
			c.t.Errorf("me: %+v, want role %s", me, role)
		}
	}
	again := c.newToken("with%20tokens")
	if again.ID != reader.ID+1 || fmt.Sprint(again.Rights) != "[read append]" {
		c.t.Errorf("the next token: %+v", again.ProjectToken)
	}
	shown := answer[wire.Project](c, 2, request{method: "GET", path: path, token: reader.Token, status: 200})
	if shown.ID != p.ID || shown.Records != 1 || shown.Public || shown.Created == 0 || shown.Quota != (wire.Quota{}) {
		c.t.Errorf("shown: %+v", shown)
	}
	if byID := answer[wire.Project](c, 0, request{method: "GET", path: fmt.Sprintf("/v1/projects/%d", p.ID),
		token: admin, status: 200}); byID != shown {
		c.t.Errorf("by id: %+v", byID)
	}
	c.projectPages()
	for i, r := range []request{
		{method: "GET", path: "/v1/projects/nobody", status: 404, problem: wire.ErrNotFound.Name},
		{method: "PATCH", path: path, body: `{}`, status: 400, problem: wire.ErrBadRequest.Name},
		{method: "PATCH", path: path, body: `{"quotas":{}}`, status: 400, problem: wire.ErrBadRequest.Name},
		{method: "PATCH", path: path, body: `{"quota":{"record_bytes":-1}}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "PATCH", path: path, body: `{"quota":{"record_bytes":2000000000000}}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "PATCH", path: "/v1/projects/nobody", body: `{"public":true}`, status: 404,
			problem: wire.ErrNotFound.Name},
		{method: "POST", path: path + "/tokens", body: `{"rights":["write"]}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "POST", path: path + "/tokens", body: `{"right":["read"]}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "POST", path: path + "/tokens", body: `{"label":"` + strings.Repeat("l", 65) + `"}`, status: 400,
			problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/projects/nobody/tokens", body: `{}`, status: 404, problem: wire.ErrNotFound.Name},
		{method: "DELETE", path: path + "/tokens/1", status: 404, problem: wire.ErrNotFound.Name},
		{method: "DELETE", path: path + "/tokens/x", status: 400, problem: wire.ErrBadRequest.Name},
		{method: "GET", path: "/v1/projects?limit=0", status: 400, problem: wire.ErrBadRequest.Name},
		{method: "GET", path: "/v1/projects?cursor=x", status: 400, problem: wire.ErrBadRequest.Name},
		{method: "POST", path: "/v1/projects", body: `{"name":"x","publik":true}`, status: 400,
			problem: wire.ErrBadRequest.Name},
	} {
		r.name, r.token = r.method+" "+r.path+" "+r.body, admin
		c.do(i, r)
	}
}

// projectPages reads all projects page by page.
func (c *cluster) projectPages() {
	var ids []uint32
	for cursor := ""; ; {
		path := "/v1/projects?limit=2&cursor=" + cursor
		page := answer[wire.Projects](c, len(ids), request{method: "GET", path: path, token: c.file.Tokens.Project,
			status: 200})
		for _, p := range page.Projects {
			ids = append(ids, p.ID)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	for i, id := range ids {
		if id != uint32(i)+1 && (i != len(ids)-1 || id != trail.ProjectID) {
			c.t.Fatalf("the pages list %v", ids)
		}
	}
	if len(ids) < 4 {
		c.t.Errorf("%d projects", len(ids))
	}
}

func (c *cluster) quotas() {
	admin := c.file.Tokens.Admin
	p := c.newProject("bounded", false)
	path := fmt.Sprintf("/v1/projects/%d", p.ID)
	changed := answer[wire.Project](c, 1, request{
		method: "PATCH", path: path, token: admin, body: `{"quota":{"records_per_second":5,"record_bytes":100}}`,
		status: 200,
	})
	if want := (wire.Quota{RecordsPerSecond: 5, RecordBytes: 100}); changed.Quota != want || changed.Public {
		c.t.Errorf("changed to %+v", changed)
	}
	batch := func(n int) string { return strings.Repeat(`{"text":"x"}`+"\n", n) }
	c.do(0, request{
		name: "record over it", method: "POST", path: "/v1/records", token: p.Token, body: strings.Repeat("x", 101),
		status: 413, problem: wire.ErrTooLarge.Name,
	})
	c.do(1, request{
		name: "batch over it", method: "POST", path: "/v1/records:batch", token: p.Token, body: batch(6), status: 413,
		problem: wire.ErrTooLarge.Name,
	})
	// Five at once, then five more. At most five per second may be accepted, whichever masters respond, and however
	// slow this machine is.
	begin := time.Now()
	c.do(0, request{name: "a second's worth", method: "POST", path: "/v1/records:batch", token: p.Token, body: batch(5),
		status: 201})
	for i := 0; ; i++ {
		header, status := c.post(i, "/v1/records:batch", p.Token, batch(5))
		if status == http.StatusCreated {
			if passed := time.Since(begin); passed < 990*time.Millisecond {
				c.t.Errorf("ten records of five a second within %v", passed)
			}
			break
		}
		wait, err := strconv.Atoi(header.Get("Retry-After"))
		left, leftErr := strconv.Atoi(header.Get("RateLimit-Remaining"))
		if status != http.StatusTooManyRequests || err != nil || wait != 1 || header.Get("RateLimit-Limit") != "5" ||
			header.Get("RateLimit-Reset") != "1" || leftErr != nil || left < 0 || left > 4 {
			c.t.Fatalf("refused with %d, %v", status, header)
		}
	}
	stored := answer[wire.Project](c, 2, request{method: "GET", path: path, token: admin, status: 200})
	if stored.Records != 10 {
		c.t.Errorf("%d records were appended, want 10", stored.Records)
	}
	// A limit of 0 means no limit.
	answer[wire.Project](c, 0, request{method: "PATCH", path: path, token: admin,
		body: `{"quota":{"records_per_second":0}}`, status: 200})
	c.do(0, request{name: "unbounded", method: "POST", path: "/v1/records:batch", token: p.Token, body: batch(50),
		status: 201})
}

// closing closes a project and opens it again, and appends through each master.
func (c *cluster) closing() {
	admin := c.file.Tokens.Admin
	p := c.newProject("closing", false)
	path := fmt.Sprintf("/v1/projects/%d", p.ID)
	c.do(0, request{name: "open", method: "POST", path: "/v1/records", token: p.Token, body: "x", status: 201})
	closed := answer[wire.Project](c, 1, request{method: "PATCH", path: path, token: admin, body: `{"closed":true}`,
		status: 200})
	if closed.Closed == 0 || closed.Records != 1 {
		c.t.Errorf("closed to %+v", closed)
	}
	for i := range c.file.Masters {
		for _, route := range []string{"/v1/records", "/v1/records:batch", "/v1/records:stream?first=1&stream=s"} {
			c.do(i, request{name: "closed", method: "POST", path: route, token: p.Token, body: `{"text":"x"}` + "\n",
				status: 403, problem: wire.ErrProjectClosed.Name})
		}
	}
	c.do(2, request{name: "read", method: "GET", path: "/v1/records?limit=5", token: p.Token, status: 200})
	answer[wire.Project](c, 2, request{method: "PATCH", path: path, token: admin, body: `{"closed":false}`,
		status: 200})
	c.do(0, request{name: "open again", method: "POST", path: "/v1/records", token: p.Token, body: "x", status: 201})
}

// post sends a body that may be refused.
func (c *cluster) post(i int, path, token, body string) (http.Header, int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.file.Masters[i%len(c.file.Masters)]+path,
		strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header, resp.StatusCode
}

// whoReads requests a record on every route and with every right. Without access, a private record must look like a
// missing one.
func (c *cluster) whoReads() {
	p := c.newProject("guarded", false)
	reader, appender := c.newToken("guarded", wire.RightRead).Token, c.newToken("guarded", wire.RightAppend).Token
	const secret = "nobody else's business"
	at := answer[wire.Position](c, 0, request{
		method: "POST", path: "/v1/records", token: appender, body: secret, status: 201,
		headers: map[string]string{wire.HeaderKey: "private-key", wire.HeaderIdempotencyKey: "again"},
	})
	// A token that may only append still gets the first position for a retry.
	answer[wire.Position](c, 1, request{
		method: "POST", path: "/v1/records", token: appender, body: secret, status: 201,
		headers: map[string]string{wire.HeaderKey: "private-key", wire.HeaderIdempotencyKey: "again"},
	})
	paths := []string{fmt.Sprintf("/v1/blocks/%d/records/%d", at.Block, at.Offset),
		fmt.Sprintf("/v1/records/%d", at.Index)}
	ask := func(token string, status int) {
		c.t.Helper()
		for i, path := range paths {
			for _, method := range []string{"GET", "HEAD"} {
				for _, accept := range []string{"*/*", "application/json"} {
					header, body := c.do(i, request{
						name: method + " " + path, method: method, path: path, token: token, status: status,
						problem: wire.ErrForbidden.Name,
						headers: map[string]string{"Accept": accept, "If-None-Match": `"` + strings.Repeat("0",
							64) + `"`},
					})
					if status == 200 {
						continue
					}
					for _, leaked := range []string{secret, "private-key", "guarded", at.Leaf.String()} {
						if strings.Contains(fmt.Sprint(header, string(body)), leaked) {
							c.t.Errorf("%s %s shows %q: %v %s", method, path, leaked, header, body)
						}
					}
				}
			}
		}
	}
	other := c.file.Tokens.Project
	ask(p.Token, 200)
	ask(reader, 200)
	ask(appender, 403)
	ask(other, 403)
	setPublic := func(public bool) {
		c.t.Helper()
		answer[wire.Project](c, 1, request{
			method: "PATCH", path: "/v1/projects/guarded", token: c.file.Tokens.Admin,
			body: fmt.Sprintf(`{"public":%v}`, public), status: 200,
		})
		for i := range c.file.Masters { // from here on every master has applied the change
			answer[wire.Project](c, i, request{method: "GET", path: "/v1/projects/guarded", token: other, status: 200})
		}
	}
	setPublic(true)
	ask(other, 200)
	ask(appender, 200)
	setPublic(false)
	ask(other, 403)
	c.do(0, request{
		// to the token's own project
		name: "another appends", method: "POST", path: "/v1/records", token: other, body: "x", status: 201,
	})
}
