package masterapi_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/oidc/oidctest"
	"github.com/chainstore/chainstore/wire"
)

// byIssuer begins the kinds of tokens of the OIDC issuer.
const byIssuer = "oidc "

// withIssuer gives the masters of a cluster an issuer. The project 1 is "default".
func withIssuer(issuer *oidctest.Issuer) func(*devcluster.Topology) {
	return func(t *devcluster.Topology) {
		t.OIDC = oidc.Options{
			Issuer: issuer.URL(), Audiences: []string{oidctest.Audience},
			ClaimRoles: "roles", Roles: []string{"a=admin", "o=operator", "r=auditor"},
			ClaimProjects: "groups",
			Projects: []string{"all=1:read,append", "read=1:read", "append=1:append", "second=2:read,append",
				"missing=4000000000:read,append"},
			ConsoleClient: oidctest.Audience, ConsoleScopes: oidc.DefaultScopes(),
		}
	}
}

// issuerTokens returns a token of every kind that the issuer has, by the name of the kind. The project 2 is "second".
func (c *cluster) issuerTokens() bearers {
	c.t.Helper()
	i, t := c.issuer, c.t
	signer, kid := i.Key()
	good := map[string]any{"roles": "a", "groups": "all"}
	with := func(name string, value any) string { return i.Token(map[string]any{"roles": "a", name: value}) }
	valid := i.Token(good)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(valid, ".")
	payload, _, _ := strings.Cut(rest, ".")
	now := time.Now().Unix()
	signed := func(alg jose.SignatureAlgorithm, key any, kid string) string {
		return oidctest.Sign(t, alg, key, map[jose.HeaderKey]any{"kid": kid}, i.Claims(good))
	}
	b := bearers{}
	for kind, token := range map[string]string{
		"named-admin": i.Token(map[string]any{"roles": "a"}),
		"operator":    i.Token(map[string]any{"roles": "o"}),
		"auditor":     i.Token(map[string]any{"roles": "r"}),
		"own":         i.Token(map[string]any{"groups": "all"}),
		"read-only":   i.Token(map[string]any{"groups": "read"}),
		"append-only": i.Token(map[string]any{"groups": "append"}),
		"other":       i.Token(map[string]any{"groups": "second"}),
		"both":        i.Token(map[string]any{"roles": "o", "groups": "all"}),
		"two roles":   i.Token(map[string]any{"roles": []string{"r", "o"}}),
		"several":     i.Token(map[string]any{"groups": []string{"all", "second"}}),
		"missing":     i.Token(map[string]any{"groups": "missing"}),
		"nothing":     i.Token(nil),
		"wrong type":  i.Token(map[string]any{"roles": 7}),

		"expired":          i.Token(map[string]any{"roles": "a", "iat": now - 7200, "exp": now - 3600}),
		"not yet valid":    with("nbf", now+3600),
		"another issuer":   with("iss", "https://evil.example"),
		"another audience": with("aud", "else"),
		"alg none": base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"none","kid":%q}`, kid)) + "." +
			payload + ".",
		"secret of the public key": signed(jose.HS256, public, kid),
		"key of a stranger":        signed(jose.ES256, stranger, kid),
		"unknown key":              signed(jose.ES256, stranger, "unknown"),
		"truncated":                valid[:len(valid)-40],
		"huge":                     with("filler", strings.Repeat("x", 10<<10)),
	} {
		b[byIssuer+kind] = token
	}
	return b
}

// ofIssuer returns the status of a kind of token of the issuer, without its prefix.
func (g gate) ofIssuer(held string) int {
	ofRecords := g.kinds["admin"] == 403 && g.kinds["other"] != 403 || g.kinds["append-only"] != g.kinds["own"]
	switch {
	case g.legacy, g.nodes:
		return g.others
	case len(g.kinds) == 0: // an open route does not look at tokens
		return 0
	case held == "nothing", held == "wrong type":
		return 403
	case held == "two roles":
		return g.status("operator")
	case held == "both" && ofRecords:
		return g.status("own")
	case held == "both":
		return g.status("operator")
	case held == "several" && ofRecords:
		return 400
	case held == "missing" && ofRecords:
		return 403
	case held == "several", held == "missing":
		return g.status("own")
	}
	return g.status(held)
}

// fromOtherAddress returns a function that sends requests from the loopback address with a last byte. So the limits for
// other addresses do not count them.
func fromOtherAddress(t *testing.T, last byte) exchange.Send {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, last)}}).DialContext
	t.Cleanup(transport.CloseIdleConnections)
	checked := *http.DefaultClient.Transport.(*described) // with the document, which takes seconds to load
	checked.next = transport
	return (&http.Client{Transport: &checked}).Do
}

// issuerFails checks that status has a notice while a master cannot fetch the issuer's keys.
func (c *cluster) issuerFails() {
	c.t.Helper()
	signer, _ := c.issuer.Key()
	notice := func() bool {
		status := answer[wire.Cluster](c, 2, request{method: "GET", path: "/v1/cluster", token: c.file.Tokens.Admin,
			status: 200})
		// A follower shows its own notice as the cause of another one.
		text, err := json.Marshal(status.NoticesCoded)
		return err == nil && strings.Contains(string(text), wire.CodeIssuer)
	}
	await := func(want bool) {
		for deadline := time.Now().Add(2 * time.Minute); notice() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				c.t.Fatalf("the notice is there: %v", !want)
			}
		}
	}
	c.issuer.Fails.Store(true)
	defer c.issuer.Fails.Store(false)
	c.do(2, request{name: "an unknown key", method: "GET", path: "/v1/me", status: 503, problem: "unavailable",
		token: oidctest.Sign(c.t, jose.ES256, signer, map[jose.HeaderKey]any{"kid": "new"}, c.issuer.Claims(nil))})
	await(true)
	c.do(2, request{name: "a known key", method: "GET", path: "/v1/me", status: 200,
		token: c.issuer.Token(map[string]any{"groups": "all", "sub": "u-3"})})
	c.issuer.Fails.Store(false)
	await(false)
}

// streamEnds checks that a stream ends when its token expires.
func (c *cluster) streamEnds() {
	c.t.Helper()
	now := time.Now().Unix()
	token := c.issuer.Token(map[string]any{"groups": "all", "iat": now - 60, "exp": now - 25}) // 30 s are allowed
	resp := c.open(0, "/v1/records/stream", token)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		c.t.Fatalf("the stream begins with %s", resp.Status)
	}
	limit := time.AfterFunc(2*time.Minute, func() { _ = resp.Body.Close() })
	_, err := io.Copy(io.Discard, resp.Body)
	if !limit.Stop() {
		c.t.Error("the stream goes on after its token has expired")
	}
	if err == nil && time.Now().Before(time.Unix(now+4, 0)) {
		c.t.Error("the stream has ended before its token")
	}
}

// byIssuer checks what a token of the OIDC issuer permits beyond the table of routes.
func (c *cluster) byIssuer() {
	appended := func(token, as string, status int, detail string) {
		c.t.Helper()
		r := request{name: "append as " + as, method: "POST", path: "/v1/records?as=" + as, token: token, body: "x",
			status: status, detail: detail}
		if status >= 400 {
			r.problem = map[int]string{400: "bad-request", 403: "forbidden"}[status]
		}
		c.do(1, r)
	}
	several := c.issuer.Token(map[string]any{"groups": []string{"read", "second"}, "sub": "u-9"})
	appended(several, "second", 201, "")
	appended(several, "2", 201, "")
	appended(several, "1", 403, "may not append")
	appended(several, "default", 403, "may not append")
	appended(several, "3", 403, "no existing project")
	appended(several, "nobody", 403, "no existing project")
	appended(c.file.Tokens.Project, "default", 201, "")
	appended(c.file.Tokens.Project, "2", 403, "is of the project")
	appended(c.issuer.Token(map[string]any{"groups": "missing"}), "", 403, "does not exist")
	appended(c.issuer.Token(map[string]any{"roles": "o"}), "", 403, "project's token")

	me := func(token, query string) wire.Me {
		c.t.Helper()
		return answer[wire.Me](c, 2, request{method: "GET", path: "/v1/me" + query, token: token, status: 200})
	}
	if got := me(several, ""); got.Role != wire.RoleProject || got.Project != nil || got.Identity == nil ||
		got.Identity.Subject != "u-9" || got.Identity.Name != "ada" || got.Identity.Issuer != c.issuer.URL() ||
		len(got.Identity.Projects) != 2 {
		c.t.Errorf("the holder of several projects is %+v", got)
	}
	if got := me(several, "?as=2"); got.Project == nil || got.Project.ID != 2 || len(got.Rights) != 2 {
		c.t.Errorf("the holder of several projects is %+v, as one of them", got)
	}
	both := c.issuer.Token(map[string]any{"roles": "o", "groups": "read"})
	if got := me(both, ""); got.Role != wire.RoleOperator || got.Project == nil || got.Project.ID != 1 {
		c.t.Errorf("an operator with a project is %+v", got)
	}
	// A follower forwards administration with the token, and the leader judges it again.
	admin := c.issuer.Token(map[string]any{"roles": "a"})
	for i := range c.file.Masters {
		c.do(i, request{name: "by an identity", method: "POST", path: "/v1/admins", token: admin,
			body: fmt.Sprintf(`{"name":"of an identity %d","role":"auditor"}`, i), status: 201})
		c.do(i, request{name: "by an operator", method: "POST", path: "/v1/admins", token: both,
			body: `{"name":"more","role":"admin"}`, status: 403, problem: "forbidden", detail: "u-1"})
	}
	for i := range c.file.Masters {
		c.do(i, request{name: "a stream", method: "POST", path: "/v1/streams?as=2", token: several, status: 201})
	}
	// Who may not read cannot find out what another holder has appended to a stream, by sending a guess.
	sent := func(subject string, status int) {
		c.t.Helper()
		token := c.issuer.Token(map[string]any{"groups": "append", "sub": subject})
		r := request{name: "part of a stream by " + subject, method: "POST", status: status, token: token,
			path: "/v1/records:stream?stream=guess&first=1", body: `{"text":"salary 9000"}` + "\n"}
		if status >= 400 {
			r.problem = "forbidden"
		}
		c.do(0, r)
	}
	sent("u-20", 200)
	sent("u-20", 200) // with a renewed token
	sent("u-21", 403)
	c.streamEnds()
	c.issuerFails()
	_, body := c.do(0, request{name: "sign in", method: "GET", path: "/v1/sign-in", status: 200})
	var s wire.SignIn
	if err := json.Unmarshal(body, &s); err != nil || !s.Available || s.Token != c.issuer.URL()+"/token" {
		c.t.Errorf("sign in: %s", body)
	}
	_, metrics := c.do(0, request{name: "metrics", method: "GET", path: "/metrics", status: 200})
	for _, name := range []string{"oidc_keys 1\n", "oidc_keys_age_seconds ", "oidc_fetch_failures_total 0\n",
		"oidc_tokens_refused_total "} {
		if !strings.Contains(string(metrics), "chainstore_"+name) {
			c.t.Errorf("the metrics lack %s", name)
		}
	}
}
