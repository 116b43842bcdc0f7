package masterapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/oidc/oidctest"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// TestAuditTrail checks that acts through any master have a record with their actor and source, that no client can
// forge the source, that another master can name it, and who may read the records.
func TestAuditTrail(t *testing.T) {
	issuer := oidctest.New(t)
	c := startCluster(t, withIssuer(issuer))
	c.issuer = issuer
	alice := c.newAdmin("alice", wire.RoleAdmin)
	auditor := c.newAdmin("eve", wire.RoleAuditor)
	forged := map[string]string{
		"X-Forwarded-For": "192.0.2.66", "X-Real-Ip": "192.0.2.66", "Forwarded": "for=192.0.2.66",
	}
	hop := func(member, address string) map[string]string {
		return map[string]string{wire.HeaderHops: origin.Hop{
			Source: trail.Source{Member: member, Address: address}, Signature: "c2lnbmF0dXJl",
		}.String()}
	}
	hops := hop("evil", "192.0.2.66")
	for i := range c.file.Masters {
		c.do(i, request{name: "create", method: "POST", path: "/v1/projects", token: alice.Token, headers: forged,
			body: fmt.Sprintf(`{"name":"audited-%d"}`, i), status: 201})
		// Only the leader answers a request that says it was forwarded. Without a proof it does not believe the source.
		if c.send(i, "POST", "/v1/projects", alice.Token, fmt.Sprintf(`{"name":"forged-%d"}`, i), hops, nil) == 201 {
			t.Logf("master %d leads", i)
		}
	}
	peer := hop("m9", "192.0.2.9")
	for i := range c.file.Masters {
		c.send(i, "POST", "/v1/projects", alice.Token, fmt.Sprintf(`{"name":"peer-%d"}`, i), peer, c.asMaster())
	}
	c.do(0, request{name: "refused", method: "POST", path: "/v1/projects", token: auditor.Token, body: `{"name":"no"}`,
		status: 403, problem: wire.ErrForbidden.Name})

	user := c.issuer.Token(map[string]any{"sub": "u-7", "roles": "a"})
	c.send(0, "POST", "/v1/projects", user, `{"name":"of-a-user"}`, nil, nil)

	var acts []client.AuditEntry
	page := answer[wire.Records](c, 1, request{method: "GET", path: "/v1/records?project=_audit&limit=1000",
		token: auditor.Token, status: 200})
	for i := range page.Records {
		e, err := client.NewAuditEntry(&page.Records[i])
		if err != nil {
			t.Fatal(err)
		}
		acts = append(acts, e)
	}
	created, fromPeer := 0, 0
	seen := map[trail.Act]bool{}
	byUser := 0
	for _, e := range acts {
		seen[e.Act] = true
		if e.Actor.Kind == trail.ByIdentity && e.Act == trail.ProjectCreate {
			byUser++
			if e.Actor.Name != c.issuer.URL()+` u-7 ("ada")` || e.Actor.Role != trail.RoleAdmin {
				t.Errorf("the actor is %+v", e.Actor)
			}
		}
		if e.Act != trail.ProjectCreate || e.Actor.Kind != trail.ByNamed {
			continue
		}
		created++
		if e.Actor != (trail.Actor{Kind: trail.ByNamed, ID: alice.ID, Role: trail.RoleAdmin, Name: "alice"}) {
			t.Errorf("the actor is %+v", e.Actor)
		}
		switch {
		case e.Source == trail.Source{Member: "m9 (not proven)", Address: "192.0.2.9"}:
			fromPeer++ // the secret of masters lets it name an address, and not another master
		case e.Source.Address != "127.0.0.1" || e.Source.Member == "" || strings.Contains(e.Source.Member, " ") ||
			e.Source.Member == "evil":
			t.Errorf("the source is %+v", e.Source)
		}
	}
	if created != len(c.file.Masters)+2 || fromPeer != 1 {
		t.Errorf("%d projects of alice, %d of a source that a master names", created, fromPeer)
	}
	if byUser != 1 {
		t.Errorf("%d projects of the user of the issuer", byUser)
	}
	for _, act := range []trail.Act{trail.LevelRaise, trail.AdminCreate, trail.ProjectCreate} {
		if !seen[act] {
			t.Errorf("no record of the act %s in %d", act, len(acts))
		}
	}
	// A project's token reads none of it, an admin token no other private project, and nobody appends.
	first := acts[0]
	claims := func(roles, groups string) string {
		return c.issuer.Token(map[string]any{"roles": roles, "groups": groups})
	}
	for _, r := range []request{
		{path: "/v1/records?project=_audit", token: c.file.Tokens.Project, status: 403},
		{path: fmt.Sprint("/v1/records/", first.Index), token: c.file.Tokens.Project, status: 403},
		{path: fmt.Sprint("/v1/records/", first.Index), token: auditor.Token, status: 200},
		{path: "/v1/records?project=default", token: auditor.Token, status: 403},
		{path: "/v1/records?project=_audit", token: "", status: 401},
		{path: "/v1/records?project=_audit", token: claims("r", ""), status: 200},
		{path: "/v1/records?project=_audit", token: claims("r", "all"), status: 403},
		{path: "/v1/records?project=_audit&as=_audit", token: claims("r", "all"), status: 200},
		{path: "/v1/records?project=_audit&as=_audit", token: claims("", "all"), status: 403},
		{path: "/v1/records?project=_audit", token: claims("", "trail"), status: 403},
		{path: "/v1/records?project=_audit&as=_audit", token: claims("", "trail"), status: 403},
		{method: "POST", path: "/v1/records", token: claims("", "trail"), body: "x", status: 403},
		{method: "POST", path: "/v1/records", token: claims("a", "trail"), body: "x", status: 403},
		{method: "POST", path: "/v1/records?as=_audit", token: claims("a", "all"), body: "x", status: 403},
		{method: "POST", path: "/v1/records?as=_audit", token: alice.Token, body: "x", status: 403},
		{path: "/v1/records?as=default", token: alice.Token, status: 403},
		{method: "POST", path: "/v1/records", token: alice.Token, body: "x", status: 403},
		{method: "POST", path: "/v1/projects/_audit/tokens", token: alice.Token, body: "{}", status: 403},
		{method: "PATCH", path: "/v1/projects/4294967295", token: alice.Token, body: `{"public":true}`, status: 403},
		{method: "POST", path: "/v1/projects", token: alice.Token, body: `{"name":"_audit2"}`, status: 409},
	} {
		r.name = r.method + " " + r.path
		if r.method == "" {
			r.method = "GET"
		}
		if got := c.send(0, r.method, r.path, r.token, r.body, nil, nil); got != r.status {
			t.Errorf("%s: %d, want %d", r.name, got, r.status)
		}
	}
	_, metrics := c.do(0, request{name: "metrics", method: "GET", path: "/metrics", status: 200})
	for _, refused := range []string{
		`{reason="forbidden",route="POST /v1/projects"}`, `{reason="forbidden",route="POST /v1/records"}`,
		`{reason="unauthorized",route="GET /v1/records"}`,
	} {
		if !strings.Contains(string(metrics), "chainstore_requests_refused_total"+refused) {
			t.Errorf("no metric of the refused requests %s", refused)
		}
	}
	if !slices.IsSortedFunc(acts, func(a, b client.AuditEntry) int { return int(a.Time) - int(b.Time) }) {
		t.Error("the acts are not in order")
	}
}

// send sends a request to master i, which may refuse it, and returns the status.
func (c *cluster) send(
	i int, method, path, token, body string, headers map[string]string, send exchange.Send,
) (status int) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.file.Masters[i]+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if send == nil {
		send = http.DefaultClient.Do
	}
	resp, err := send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode
}

// TestRegistrationsHaveTheirActor checks that a worker cannot have its registration recorded under the id of another
// node: the id counts only with the access token that belongs to it.
func TestRegistrationsHaveTheirActor(t *testing.T) {
	c := startCluster(t)
	leader := c.leader()
	c.file.Masters = []string{leader}
	status := func() wire.Cluster {
		return answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
			status: 200})
	}
	now := status()
	for end := time.Now().Add(time.Minute); now.Level < masterfsm.LevelAudit; now = status() {
		if time.Now().After(end) {
			t.Fatalf("the group is at level %d: %q", now.Level, now.Notices)
		}
		time.Sleep(10 * time.Millisecond)
	}
	register := func(id, token, url string) wire.Registered {
		body, err := json.Marshal(wire.Registration{Role: "miner", ID: id, AccessToken: token, URL: url,
			MasterToken: "m", Boot: "b", Level: wire.ProtocolLevel, Lists: true, Previous: "b"})
		if err != nil {
			t.Fatal(err)
		}
		return answer[wire.Registered](c, 0, request{method: "POST", path: wire.PathWorkers,
			token: c.file.Tokens.Cluster, body: string(body), status: 200})
	}
	forger := register(now.Miners[0].ID, "a guess", "http://127.0.0.1:1")
	if forger.ID == now.Miners[0].ID {
		t.Fatal("a worker took the id of another one")
	}
	register(forger.ID, forger.AccessToken, "http://127.0.0.1:2")
	member := answer[wire.Member](c, 0, request{method: "GET", path: wire.PathMember, token: c.file.Tokens.Cluster,
		status: 200})
	forwarded := func(url, node string) {
		t.Helper()
		body, err := json.Marshal(wire.Registration{Role: "miner", URL: url, MasterToken: "m", Boot: "b",
			Level: wire.ProtocolLevel, Lists: true, Previous: "b"})
		if err != nil {
			t.Fatal(err)
		}
		hop := origin.Hop{Source: trail.Source{Member: "m9", Address: "192.0.2.9"}, Node: node}
		caller := wire.Caller{Group: member.Group, Order: wire.Order{Epoch: member.Epoch, Term: 1}}
		c.do(0, request{name: "forwarded", method: "POST", path: wire.PathWorkers, token: c.file.Tokens.Cluster,
			body: string(body), status: 200,
			headers: map[string]string{wire.HeaderHops: hop.String(), wire.HeaderCaller: caller.String()}})
	}
	forwarded("http://127.0.0.1:3", "spiffe://cs/miner/i9")
	forwarded("http://127.0.0.1:4", "")
	actors := map[string]string{} // by the URL that is recorded
	sources := map[string]trail.Source{}
	page := answer[wire.Records](c, 0, request{method: "GET", path: "/v1/records?project=_audit&limit=1000",
		token: c.file.Tokens.Admin, status: 200})
	for i := range page.Records {
		e, err := client.NewAuditEntry(&page.Records[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range e.After {
			if e.Act == trail.WorkerRegister {
				actors[v.Value], sources[v.Value] = e.Actor.Name, e.Source
			}
		}
	}
	if actors["http://127.0.0.1:1"] != "unregistered miner" || actors["http://127.0.0.1:2"] != forger.ID {
		t.Errorf("the actors are %q", actors)
	}
	through := trail.Source{Member: "m9 (not proven)", Address: "192.0.2.9"}
	if actors["http://127.0.0.1:3"] != "spiffe://cs/miner/i9, as master m9 (not proven) says" ||
		actors["http://127.0.0.1:4"] != "unregistered miner" || sources["http://127.0.0.1:3"] != through ||
		sources["http://127.0.0.1:4"] != through {
		t.Errorf("forwarded registrations have the actors %q and the sources %+v", actors, sources)
	}
}
