package masterapi_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// day is far below the grace of certificates that are out of their time, and twenty of them are above it.
const day = 24 * time.Hour

// secureCluster starts a cluster with TLS, of some masters, a storage node and a miner.
func secureCluster(t *testing.T, masters int) (*devcluster.Cluster, devcluster.Topology) {
	t.Helper()
	topology := devcluster.NewTopology(t.TempDir(), freePort(t))
	topology.LogLevel, topology.Timeout, topology.TLS = "error", time.Second, true
	topology.Masters, topology.Storages, topology.Miners = masters, 1, 1
	topology.Settings.Difficulty = 4
	c, err := devcluster.Start(t.Context(), topology, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c, topology
}

// TestRoutesByCertificate sends a request of every row of a master to a cluster with TLS, with every kind of
// certificate.
func TestRoutesByCertificate(t *testing.T) {
	c, topology := secureCluster(t, 1)
	roles := topology.Roles()
	master, storage := roles[0], roles[1]
	ours, trust := authorityOf(t, topology.Dir)
	now := time.Now()
	theirs := func(domain string) *certs.Authority {
		pair, err := certs.NewAuthority(domain, certs.AuthorityLifetime, now)
		if err != nil {
			t.Fatal(err)
		}
		a, err := certs.OpenAuthority(pair)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	issue := func(a *certs.Authority, from time.Time) *tls.Certificate {
		pair, err := a.Issue(certs.Master, "m9", []string{"127.0.0.1"}, time.Hour, from)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		return &cert
	}
	asNode := func(cert *tls.Certificate) exchange.Send {
		config := trust.Clone()
		config.NextProtos = []string{certs.NodeProtocol}
		if cert != nil {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return cert, nil
			}
		}
		return (&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Do
	}
	refused := map[string]exchange.Send{
		"no certificate":     asNode(nil),
		"expired":            asNode(issue(ours, now.Add(-20*day))),
		"not yet valid":      asNode(issue(ours, now.Add(20*day))),
		"of a wrong CA":      asNode(issue(theirs(ours.Domain()), now)),
		"of another cluster": asNode(issue(theirs("other"), now)),
	}
	user := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	store, err := certs.Open(storage.TLS, certs.DefaultGrace, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	wrongRole := noderpc.NewSecureTransport(store, nil, certs.Master)
	t.Cleanup(wrongRole.CloseIdle)
	asMaster := wrongRole.As(nodeauth.Shared(c.File().Tokens.Cluster).For(nodeauth.Masters))
	at := placeOf(appendWith(t, user.Do, master.URL(), c.File().Tokens.Project))
	ofMasters := 0
	for i, r := range masterRows {
		r.path = at.Replace(r.path)
		for kind, send := range refused {
			if status, err := r.send(t, send, master.URL(), c.File().Tokens.Admin); err == nil {
				t.Errorf("%s as a node with a certificate: %s: it was answered with %d", r.route, kind, status)
			}
		}
		status, err := r.send(t, user.Do, master.URL(), c.File().Tokens.Admin)
		switch {
		case err != nil:
			t.Errorf("%s as a user without a certificate: %v", r.route, err)
		case strings.HasSuffix(r.route, wire.PathSession):
			if status != http.StatusForbidden { // only a node opens a session
				t.Errorf("%s as a user without a certificate: %d", r.route, status)
			}
		case r.gate.nodes && status != http.StatusUnauthorized && status != http.StatusForbidden:
			t.Errorf("%s as a user without a certificate: %d", r.route, status)
		case !r.gate.nodes && r.gate.status("admin") != 0 && status != r.gate.status("admin"):
			t.Errorf("%s as a user without a certificate: %d, want %d", r.route, status, r.gate.status("admin"))
		case !r.gate.nodes && r.gate.status("admin") == 0 && slices.Contains([]int{401, 403}, status):
			t.Errorf("%s as a user without a certificate: %d", r.route, status)
		}
		// A storage node has the secret of the masters too.
		if r.gate.nodes && r.gate.status(proves+nodeauth.Storage) == http.StatusForbidden {
			r.try(t, asMaster, master.URL(), wrongCertificate, "", i)
			ofMasters++
		}
	}
	if ofMasters < 5 {
		t.Errorf("only %d routes are for masters alone", ofMasters)
	}
}

// TestForwardedRegistrationsHaveTheirActor checks that the registration of a new worker has the name of the worker's
// certificate in the audit trail, whichever master took it, and that the record says whose word that is.
func TestForwardedRegistrationsHaveTheirActor(t *testing.T) {
	c, topology := secureCluster(t, 3)
	roles := topology.Roles()
	storage := roles[slices.IndexFunc(roles, func(r devcluster.Role) bool { return r.Kind == devcluster.KindStorage })]
	_, trust := authorityOf(t, topology.Dir)
	user := &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}
	store, err := certs.Open(storage.TLS, certs.DefaultGrace, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	transport := noderpc.NewSecureTransport(store, nil, certs.Master)
	t.Cleanup(transport.CloseIdle)
	calls := noderpc.NewMasters(transport, nodeauth.Shared(c.File().Tokens.Cluster).For(nodeauth.Storage))
	deadline := time.Now().Add(2 * time.Minute)
	await := func(what string, ready func() bool) {
		t.Helper()
		for !ready() {
			if time.Now().After(deadline) {
				t.Fatalf("there is no %s", what)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	get := func(path string, into any) bool {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "GET", c.File().Masters[0]+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.File().Tokens.Admin)
		resp, err := user.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(into) == nil
	}
	await("group at the level of the audit trail", func() bool {
		var now wire.Cluster
		return get("/v1/cluster", &now) && now.Level >= masterfsm.LevelAudit
	})
	for i, url := range c.File().Masters {
		worker := wire.Registration{Role: "storage", URL: "https://127.0.0.1:" + string(rune('1'+i)), MasterToken: "m",
			Boot: "b", Level: wire.ProtocolLevel, Lists: true, Previous: "b"}
		await("registration at "+url, func() bool {
			_, err := calls.Register(t.Context(), url, worker, false)
			return err == nil
		})
	}
	own, foreign := 0, 0
	var list wire.Records
	await("list of acts", func() bool { return get("/v1/records?project=_audit&limit=1000", &list) })
	for i := range list.Records {
		e, err := client.NewAuditEntry(&list.Records[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range e.After {
			if e.Act != trail.WorkerRegister || !strings.HasPrefix(v.Value, "https://127.0.0.1:") || len(v.Value) > 19 {
				continue
			}
			id, says, forwarded := strings.Cut(e.Actor.Name, ", as master ")
			if e.Actor.Kind != trail.ByNode || !strings.HasSuffix(id, "/storage/storage-1") || e.Source.Member == "" ||
				forwarded && says != e.Source.Member+" says" {
				t.Errorf("the actor is %+v, the source %+v", e.Actor, e.Source)
			}
			if forwarded {
				foreign++
			} else {
				own++
			}
		}
	}
	if own+foreign != 3 || foreign < 2 { // one master led, unless the leadership moved
		t.Errorf("%d registrations at the leader, %d at others", own, foreign)
	}
}

// appendWith appends a record with a project's token.
func appendWith(t *testing.T, send exchange.Send, url, token string) (p wire.Position) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/records", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := send(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("a record was not appended: %d, %v", resp.StatusCode, err)
	}
	return p
}

// wrongCertificate is the kind of a node that proves the secret of the masters, and has the certificate of a storage
// node.
const wrongCertificate = "certificate of another role"

// authorityOf returns the authority of a development cluster, and a configuration that trusts it.
func authorityOf(t *testing.T, dir string) (*certs.Authority, *tls.Config) {
	t.Helper()
	var pair certs.Pair
	var err error
	if pair.Cert, err = os.ReadFile(filepath.Join(dir, "tls", "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if pair.Key, err = os.ReadFile(filepath.Join(dir, "tls", "ca-key.pem")); err != nil {
		t.Fatal(err)
	}
	a, err := certs.OpenAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate())
	return a, &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}
}

// send sends the row's request with a token and returns the status of the answer.
func (r row) send(t *testing.T, send exchange.Send, url, token string) (status int, err error) {
	t.Helper()
	resp, err := send(r.request(t, url, token, r.route))
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
