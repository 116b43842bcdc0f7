package masterapi_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/devcluster/freeports"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/oidc/oidctest"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// cluster is a complete cluster in this process. The contract is checked on the responses that users get.
type cluster struct {
	t     testing.TB
	file  devcluster.ClusterFile
	roles []devcluster.Role
	stop  func() error // may be called twice
	// issuer is the OIDC issuer of the masters, nil without one.
	issuer *oidctest.Issuer
}

func startCluster(t testing.TB, change ...func(*devcluster.Topology)) *cluster {
	t.Helper()
	topology := devcluster.NewTopology(t.TempDir(), freePort(t))
	topology.LogLevel = "error"
	topology.Timeout = time.Second // the race detector is slow
	topology.MaxAge = 50 * time.Millisecond
	topology.Settings.Difficulty = 4
	for _, f := range change {
		f(&topology)
	}
	c, err := devcluster.Start(t.Context(), topology, "")
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceValue(c.Stop)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	started := &cluster{t: t, file: c.File(), roles: topology.Roles(), stop: stop}
	started.awaitLevel()
	return started
}

// awaitLevel waits until the group has the protocol level of this version. Until then it works as an older version.
func (c *cluster) awaitLevel() {
	c.t.Helper()
	level := func() uint64 {
		return answer[wire.Cluster](c, 0, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
			status: 200}).Level
	}
	for deadline := time.Now().Add(30 * time.Second); level() != masterfsm.ProtocolLevel; {
		if time.Now().After(deadline) {
			c.t.Fatalf("the group is at level %d, not at %d", level(), masterfsm.ProtocolLevel)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// freePort returns the first port of a range for a cluster.
func freePort(t testing.TB) int {
	t.Helper()
	base, release, err := freeports.Claim(99) // the claim is held on the last port of the range
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return base
}

// request is a request with the expected response.
type request struct {
	name    string
	method  string
	path    string
	token   string
	body    string
	headers map[string]string
	status  int
	problem string // name of the problem type, "" for none
	detail  string // part of the detail
}

// asMaster sends requests with the proof of a master.
func (c *cluster) asMaster() exchange.Send {
	transport := noderpc.NewTransport()
	c.t.Cleanup(transport.CloseIdle)
	return transport.As(nodeauth.Shared(c.file.Tokens.Cluster).For(nodeauth.Masters))
}

// do sends a request to master i, checks the response, and returns it.
func (c *cluster) do(i int, r request) (http.Header, []byte) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), r.method, c.file.Masters[i%len(c.file.Masters)]+r.path,
		strings.NewReader(r.body))
	if err != nil {
		c.t.Fatal(err)
	}
	send := exchange.Send(http.DefaultClient.Do)
	switch {
	case r.token == c.file.Tokens.Cluster && strings.HasPrefix(r.path, "/internal/"): // it is proven, and not sent
		send = c.asMaster()
	case r.token != "":
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for k, v := range r.headers {
		req.Header.Set(k, v)
	}
	resp, err := send(req)
	if err != nil {
		c.t.Fatalf("%s: %v", r.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%s: %v", r.name, err)
	}
	safeAnswer(c.t, r.name, resp.Header)
	if resp.StatusCode != r.status {
		c.t.Errorf("%s: status %d, want %d: %s", r.name, resp.StatusCode, r.status, body)
		return resp.Header, body
	}
	if r.status < 400 || r.method == http.MethodHead {
		return resp.Header, body
	}
	var p wire.Problem
	if err := json.Unmarshal(body, &p); err != nil || resp.Header.Get("Content-Type") != wire.TypeProblem {
		c.t.Errorf("%s: no problem but %q: %s", r.name, resp.Header.Get("Content-Type"), body)
	}
	if !strings.Contains(p.Detail, r.detail) {
		c.t.Errorf("%s: the detail is %q, without %q", r.name, p.Detail, r.detail)
	}
	if p.Type != wire.ProblemBase+r.problem || p.Status != r.status || p.Title == "" || p.Detail == "" {
		c.t.Errorf("%s: problem %+v, want type %s", r.name, p, r.problem)
	}
	if r.status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") == "" {
		c.t.Errorf("%s: no Retry-After", r.name)
	}
	for _, token := range []string{c.file.Tokens.Admin, c.file.Tokens.Cluster, c.file.Tokens.Project} {
		if bytes.Contains(body, []byte(token)) {
			c.t.Errorf("%s: the answer holds a token: %s", r.name, body)
		}
	}
	return resp.Header, body
}

func TestContract(t *testing.T) {
	issuer := oidctest.New(t)
	c := startCluster(t, withIssuer(issuer))
	c.issuer = issuer
	if p := c.newProject("second", false); p.ID != 2 {
		t.Fatalf("the project that the issuer's tokens give access to has the id %d", p.ID)
	}
	own, admin := c.file.Tokens.Project, c.file.Tokens.Admin

	t.Run("another master's page", func(t *testing.T) { c.crossOrigin(own) })
	t.Run("append and read", func(t *testing.T) { c.appendAndRead(own) })
	t.Run("limits", func(t *testing.T) { c.limits(own) })
	t.Run("batch", func(t *testing.T) { c.batch(own) })
	t.Run("not there", func(t *testing.T) { c.notThere(own) })
	t.Run("idempotency", func(t *testing.T) { c.idempotency(own) })
	t.Run("projects", func(t *testing.T) { c.projects(own, admin) })
	t.Run("tokens of a project", func(t *testing.T) { c.with(t).projectTokens() })
	t.Run("admin tokens", func(t *testing.T) { c.with(t).adminTokens() })
	t.Run("join tickets", func(t *testing.T) { c.with(t).joinTickets() })
	t.Run("waiting workers", func(t *testing.T) { c.with(t).waitingWorkers() })
	t.Run("quotas", func(t *testing.T) { c.with(t).quotas() })
	t.Run("closing", func(t *testing.T) { c.with(t).closing() })
	t.Run("who reads", func(t *testing.T) { c.with(t).whoReads() })
	t.Run("the original's clients", func(t *testing.T) { c.with(t).originalClients() })
	t.Run("the original's errors", func(t *testing.T) { c.with(t).originalErrors() })
	t.Run("blocks", func(t *testing.T) { c.blocks(own) })
	t.Run("the log", func(t *testing.T) { c.with(t).log(own, admin) })
	t.Run("who may", func(t *testing.T) { c.with(t).authorisation(t) })
	t.Run("tokens of the issuer", func(t *testing.T) { c.with(t).byIssuer() })
	t.Run("pages of other sites", func(t *testing.T) { c.with(t).otherSites(own) })
	t.Run("any page", func(t *testing.T) { c.with(t).anyPage(false) })
	t.Run("unknown tokens", func(t *testing.T) { c.with(t).unknownTokens(own) })
	t.Run("open routes", func(t *testing.T) {
		for i, path := range []string{"/livez", "/readyz", "/metrics"} {
			c.do(i, request{name: path, method: "GET", path: path, status: 200})
		}
		described, _ := c.do(1, request{name: "description", method: "GET", path: "/openapi.yaml", status: 200})
		c.do(2, request{
			name: "description again", method: "GET", path: "/openapi.yaml", status: 304,
			headers: map[string]string{"If-None-Match": described.Get("Etag")},
		})
		_, metrics := c.do(0, request{name: "metrics", method: "GET", path: "/metrics", status: 200})
		if !bytes.Contains(metrics, []byte("chainstore_height_blocks")) {
			t.Errorf("no metric of the chain: %s", metrics)
		}
	})
}

// unknownTokens checks that unknown tokens are refused without a question to the leader after many of them came from an
// address, and that known tokens are not.
func (c *cluster) unknownTokens(own string) {
	refused := false
	for i := 0; i < 1000 && !refused; i++ {
		r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.file.Masters[1]+"/v1/me", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+rand.Text())
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			c.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		refused = answer.StatusCode == http.StatusTooManyRequests && answer.Header.Get("Retry-After") != ""
		if !refused && answer.StatusCode != http.StatusUnauthorized {
			c.t.Fatal(answer.Status)
		}
	}
	if !refused {
		c.t.Error("the leader is asked about any number of unknown tokens")
	}
	c.do(1, request{name: "known", method: "GET", path: "/v1/me", token: own, status: 200})
	c.do(1, request{name: "no question", method: "GET", path: "/v1/me", token: "short", status: 401,
		problem: wire.ErrUnauthorized.Name})
}

// crossOrigin checks that the console of one master may call the others, and that a page of another origin may not.
func (c *cluster) crossOrigin(token string) {
	for origin, allowed := range map[string]string{c.file.Masters[1]: c.file.Masters[1],
		"http://stranger.example": ""} {
		headers := map[string]string{"Origin": origin}
		h, _ := c.do(0, request{name: "ask", method: "GET", path: "/v1/cluster", token: token, headers: headers,
			status: 200})
		if got := h.Get("Access-Control-Allow-Origin"); got != allowed {
			c.t.Errorf("a page of %s is answered with %q", origin, got)
		}
		headers["Access-Control-Request-Method"] = "POST"
		r := request{name: "may I", method: "OPTIONS", path: "/v1/records", headers: headers, status: 204}
		if allowed == "" {
			r.status, r.problem = 405, wire.ErrMethod.Name
		}
		if h, _ = c.do(0, r); h.Get("Access-Control-Allow-Origin") != allowed {
			c.t.Errorf("a page of %s that asks is answered with %q", origin, h.Get("Access-Control-Allow-Origin"))
		}
	}
}

// parts reads parts of a record's payload.
func (c *cluster) parts(i int, path, token, payload string) {
	c.t.Helper()
	read := func(status int, problem string, headers map[string]string) (http.Header, []byte) {
		return c.do(i, request{name: "a part", method: "GET", path: path, token: token, status: status,
			problem: problem, headers: headers})
	}
	whole, _ := read(200, "", nil)
	tag, size := whole.Get("ETag"), len(payload)
	h, got := read(206, "", map[string]string{"Range": "bytes=1-3", "If-Range": tag})
	if string(got) != payload[1:4] || h.Get("Content-Range") != fmt.Sprintf("bytes 1-3/%d", size) ||
		h.Get("ETag") != tag || h.Get("Cache-Control") != whole.Get("Cache-Control") {
		c.t.Errorf("%s: %q, %v", path, got, h)
	}
	if _, got := read(206, "", map[string]string{"Range": "bytes=-2"}); string(got) != payload[size-2:] {
		c.t.Errorf("%s: the last two bytes are %q", path, got)
	}
	if _, got := read(200, "", map[string]string{"Range": "bytes=1-3", "If-Range": `"old"`}); string(got) != payload {
		c.t.Errorf("%s: with an old tag %q", path, got)
	}
	h, _ = read(416, "range-not-satisfiable", map[string]string{"Range": fmt.Sprintf("bytes=%d-", size)})
	if h.Get("Content-Range") != fmt.Sprintf("bytes */%d", size) || h.Get("Cache-Control") != "no-store" {
		c.t.Errorf("%s: beyond the end %v", path, h)
	}
}

func (c *cluster) appendAndRead(token string) {
	payload := "door 7 opened\x00\xff"
	header, body := c.do(0, request{
		name: "append", method: "POST", path: "/v1/records?wait=stored&timeout=20s", token: token, body: payload,
		status:  201,
		headers: map[string]string{"Content-Type": "x/y; v=1", wire.HeaderKey: "door/7"},
	})
	var p map[string]any
	if err := json.Unmarshal(body, &p); err != nil || len(p) != 7 || p["state"] != "stored" || p["receipt"] == nil {
		c.t.Fatalf("position: %s, %v", body, err)
	}
	if header.Get("Content-Type") != "application/json" {
		c.t.Errorf("content type %q", header.Get("Content-Type"))
	}
	for i := range 3 {
		for _, path := range []string{
			fmt.Sprintf("/v1/blocks/%v/records/%v", p["block"], p["offset"]), fmt.Sprintf("/v1/records/%v", p["index"]),
		} {
			read := request{name: path, method: "GET", path: path, token: token, status: 200}
			h, got := c.do(i, read)
			// A master that lags serves the record, but does not know yet that its block is mined.
			for end := time.Now().Add(20 * time.Second); h.Get("Etag") == "" && time.Now().Before(end); {
				h, got = c.do(i, read)
			}
			if string(got) != payload {
				c.t.Errorf("%s from master %d: %q", path, i, got)
			}
			for name, want := range map[string]string{
				"Content-Type": "x/y; v=1", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
				"Cache-Control": "private, max-age=31536000, immutable", "Etag": fmt.Sprintf("%q", p["leaf"]),
				wire.HeaderLeaf: p["leaf"].(string), wire.HeaderKey: "door/7",
			} {
				if h.Get(name) != want {
					c.t.Errorf("%s: header %s is %q, want %q", path, name, h.Get(name), want)
				}
			}
			c.do(i, request{
				name: "not modified", method: "GET", path: path, token: token, status: 304,
				headers: map[string]string{"If-None-Match": fmt.Sprintf("%q", p["leaf"])},
			})
			c.do(i, request{name: "HEAD", method: "HEAD", path: path, token: token, status: 200})
			c.parts(i, path, token, payload)
		}
	}
	_, envelope := c.do(1, request{
		name: "envelope", method: "GET", path: fmt.Sprintf("/v1/records/%v", p["index"]), token: token, status: 200,
		headers: map[string]string{"Accept": "application/json"},
	})
	var r wire.Record
	if err := json.Unmarshal(envelope, &r); err != nil {
		c.t.Fatal(err)
	}
	record := chain.Record{
		Project: r.ProjectID, Time: r.Time, Salt: [chain.SaltSize]byte(r.Salt), Key: r.Key, Type: r.Type,
		Payload: r.Payload,
	}
	if leaf := record.Leaf(); leaf.Commit != r.Commit || leaf.Hash() != r.Leaf || string(r.Payload) != payload ||
		r.Project != "default" {
		c.t.Errorf("the envelope does not hash to its leaf: %s", envelope)
	}
}

func (c *cluster) limits(token string) {
	mib := strings.Repeat("x", 1<<20)
	many := strings.Repeat(`{"text":"x"}`+"\n", 10_001)
	fat := strings.Repeat(`{"text":"`+mib[:1_000_000]+`"}`+"\n", 5)
	var before wire.Cluster
	_, body := c.do(0, request{name: "before", method: "GET", path: "/v1/cluster", token: token, status: 200})
	if err := json.Unmarshal(body, &before); err != nil {
		c.t.Fatal(err)
	}
	for i, r := range []request{
		{name: "largest record", path: "/v1/records", body: mib, status: 201},
		{name: "one byte more", path: "/v1/records", body: mib + "x", status: 413, problem: wire.ErrTooLarge.Name},
		{name: "far too large", path: "/v1/records", body: strings.Repeat(mib, 3), status: 413,
			problem: wire.ErrTooLarge.Name},
		{name: "empty", path: "/v1/records", status: 400, problem: wire.ErrEmptyBody.Name},
		{name: "too many", path: "/v1/records:batch", body: many, status: 413, problem: wire.ErrTooLarge.Name},
		{name: "too many bytes", path: "/v1/records:batch", body: fat, status: 413, problem: wire.ErrTooLarge.Name},
		{name: "empty batch", path: "/v1/records:batch", status: 400, problem: wire.ErrEmptyBody.Name},
		{name: "key too long", path: "/v1/records", body: "x",
			headers: map[string]string{wire.HeaderKey: strings.Repeat("k", 256)}, status: 400,
			problem: wire.ErrBadRequest.Name},
		{name: "wait for what", path: "/v1/records?wait=ever", body: "x", status: 400,
			problem: wire.ErrBadRequest.Name},
		{name: "wait how long", path: "/v1/records?wait=stored&timeout=2h", body: "x", status: 400,
			problem: wire.ErrBadRequest.Name},
	} {
		r.method, r.token = "POST", token
		c.do(i, r)
	}
}

func (c *cluster) batch(token string) {
	lines := `{"text":"one"}

{"payload":"dHdv","key":"k","type":"t"}
`
	_, body := c.do(0, request{name: "NDJSON", method: "POST", path: "/v1/records:batch", token: token, body: lines,
		status: 201})
	var answer wire.Positions
	if err := json.Unmarshal(body, &answer); err != nil || len(answer.Records) != 2 {
		c.t.Fatalf("%s, %v", body, err)
	}
	for i, want := range []string{"one", "two"} {
		path := fmt.Sprintf("/v1/records/%d", answer.Records[i].Index)
		if _, got := c.do(2, request{name: path, method: "GET", path: path, token: token,
			status: 200}); string(got) != want {
			c.t.Errorf("record %d: %q", i, got)
		}
	}
	frames := wire.AppendFrame(wire.AppendFrame(nil, "k", "t", []byte("three")), "", "", []byte("four"))
	c.do(1, request{
		name: "frames", method: "POST", path: "/v1/records:batch", token: token, body: string(frames), status: 201,
		headers: map[string]string{"Content-Type": wire.TypeFrames},
	})
	for name, r := range map[string]request{
		"not JSON":   {body: "{\"text\":\"a\"}\nnonsense"},
		"neither":    {body: `{"key":"k"}`},
		"both":       {body: `{"text":"a","payload":"YQ=="}`},
		"not base64": {body: `{"payload":"*"}`},
		"half a frame": {body: string(frames[:len(frames)-1]),
			headers: map[string]string{"Content-Type": wire.TypeFrames}},
		"one of them is": {body: `{"text":"a"}` + "\n" + `{"text":""}`},
	} {
		r.name, r.method, r.path, r.token, r.status, r.problem = name, "POST", "/v1/records:batch", token, 400,
			wire.ErrBadRequest.Name
		if name == "one of them is" {
			r.problem = wire.ErrEmptyBody.Name
		}
		c.do(0, r)
	}
}

// sealOf returns the path of the leaf behind the records of a mined block: its seal.
func (c *cluster) sealOf(block uint64, token string) string {
	path := fmt.Sprintf("/v1/blocks/%d", block)
	_, body := c.do(0, request{name: path, method: "GET", path: path, token: token, status: 200})
	var b wire.Block
	if err := json.Unmarshal(body, &b); err != nil || b.Block != block || b.Count == 0 {
		c.t.Fatalf("%s: %s, %v", path, body, err)
	}
	return fmt.Sprintf("/v1/records/%d", b.First+uint64(b.Count))
}

func (c *cluster) notThere(token string) {
	for i, r := range []request{
		{path: "/v1/blocks/99999/records/0", status: 404, problem: wire.ErrNotFound.Name, detail: "gets block "},
		{path: "/v1/blocks/0/records/99999", status: 404, problem: wire.ErrNotFound.Name},
		{path: "/v1/blocks/0/records/99999999999", status: 404, problem: wire.ErrNotFound.Name},
		{path: "/v1/blocks/0/records/-1", status: 404, problem: wire.ErrNotFound.Name},
		{path: "/v1/blocks/x/records/0", status: 400, problem: wire.ErrBadRequest.Name},
		{path: "/v1/blocks/0/records/1.5", status: 400, problem: wire.ErrBadRequest.Name},
		{path: "/v1/records/99999999", status: 404, problem: wire.ErrNotFound.Name, detail: "gets index "},
		{path: "/v1/records/99999999999999999999999999", status: 404, problem: wire.ErrNotFound.Name},
		{path: "/v1/records/one", status: 400, problem: wire.ErrBadRequest.Name},
		{path: c.sealOf(0, token), status: 404, problem: wire.ErrSealIndex.Name},
		{path: "/v1/blocks/99999", status: 404, problem: wire.ErrNotFound.Name, detail: "mined blocks is "},
		{path: "/v1/blocks/x", status: 400, problem: wire.ErrBadRequest.Name},
		{path: "/v1/blocks?limit=0", status: 400, problem: wire.ErrBadRequest.Name},
		{path: "/v1/blocks?cursor=x", status: 400, problem: wire.ErrBadRequest.Name},
		{path: "/v1/nothing", status: 404, problem: wire.ErrNoSuchRoute.Name},
		{method: "PUT", path: "/v1/records", status: 405, problem: wire.ErrMethod.Name},
		{method: "DELETE", path: "/v1/blocks/0", status: 405, problem: wire.ErrMethod.Name},
	} {
		r.name, r.token = r.path, token
		if r.method == "" {
			r.method = "GET"
		}
		c.do(i, r)
	}
}

func (c *cluster) idempotency(token string) {
	r := request{
		name: "first", method: "POST", path: "/v1/records", token: token, body: "once", status: 201,
		headers: map[string]string{wire.HeaderIdempotencyKey: "key-1"},
	}
	first, position := c.do(0, r)
	if first.Get(wire.HeaderReplay) != "" {
		c.t.Error("the first is no replay")
	}
	for i := range 3 {
		again, same := c.do(i, r)
		var a, b wire.Position
		if json.Unmarshal(position, &a) != nil || json.Unmarshal(same, &b) != nil {
			c.t.Fatalf("%s, %s", position, same)
		}
		a.State, b.State = "", ""
		if again.Get(wire.HeaderReplay) != "true" || a != b {
			c.t.Errorf("replay %q: %s, first %s", again.Get(wire.HeaderReplay), same, position)
		}
	}
	r.name, r.body, r.status, r.problem = "another body", "twice", 422, wire.ErrKeyReused.Name
	c.do(1, r)
}

func (c *cluster) projects(own, admin string) {
	create := request{name: "create", method: "POST", path: "/v1/projects", token: admin, body: `{"name":"other"}`,
		status: 201}
	var created wire.CreatedProject
	_, body := c.do(1, create) // not necessarily the leader
	if err := json.Unmarshal(body, &created); err != nil || created.ID == 0 || created.Token == "" ||
		created.Name != "other" {
		c.t.Fatalf("%s, %v", body, err)
	}
	create.name, create.status, create.problem = "again", 409, wire.ErrNameTaken.Name
	c.do(2, create)
	for name, body := range map[string]string{"no name": `{}`, "no JSON": `x`, "long": `{"name":"` + strings.Repeat("n",
		200) + `"}`} {
		c.do(0, request{name: name, method: "POST", path: "/v1/projects", token: admin, body: body, status: 400,
			problem: wire.ErrBadRequest.Name})
	}
	// The record of another project exists, but its content is not accessible.
	c.do(2, request{name: "private", method: "GET", path: "/v1/blocks/0/records/0", token: created.Token, status: 403,
		problem: wire.ErrForbidden.Name})
	c.do(2, request{name: "private by index", method: "GET", path: "/v1/records/0", token: created.Token, status: 403,
		problem: wire.ErrForbidden.Name})

	create = request{name: "public", method: "POST", path: "/v1/projects", token: admin,
		body: `{"name":"open","public":true}`, status: 201}
	_, body = c.do(2, create)
	if err := json.Unmarshal(body, &created); err != nil {
		c.t.Fatal(err)
	}
	_, body = c.do(0, request{name: "append to it", method: "POST", path: "/v1/records", token: created.Token,
		body: "for all", status: 201})
	var p wire.Position
	if err := json.Unmarshal(body, &p); err != nil {
		c.t.Fatal(err)
	}
	path := fmt.Sprintf("/v1/blocks/%d/records/%d", p.Block, p.Offset)
	if _, got := c.do(1, request{name: "public", method: "GET", path: path, token: own,
		status: 200}); string(got) != "for all" {
		c.t.Errorf("a public record: %q", got)
	}
}

func (c *cluster) blocks(token string) {
	_, body := c.do(0, request{name: "first page", method: "GET", path: "/v1/blocks?limit=1", token: token,
		status: 200})
	var page wire.Blocks
	if err := json.Unmarshal(body, &page); err != nil || len(page.Blocks) != 1 || page.Next == "" {
		c.t.Fatalf("%s, %v", body, err)
	}
	seen := 1
	last := page.Blocks[0]
	for page.Next != "" {
		_, body := c.do(seen, request{name: "page", method: "GET", path: "/v1/blocks?limit=2&cursor=" + page.Next,
			token: token, status: 200})
		page = wire.Blocks{}
		if err := json.Unmarshal(body, &page); err != nil || len(page.Blocks) == 0 {
			c.t.Fatalf("%s, %v", body, err)
		}
		for _, b := range page.Blocks {
			if h := b.Header(); b.Hash != h.Hash() || b.Hash != last.Prev || b.Block+1 != last.Block {
				c.t.Errorf("block %d does not lead to block %d: %+v", b.Block, last.Block, b)
			}
			last = b
			seen++
		}
	}
	if last.Block != 0 || seen < 3 {
		c.t.Errorf("%d blocks down to block %d", seen, last.Block)
	}
}
