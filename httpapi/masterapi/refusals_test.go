package masterapi

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// fromMaster returns a request with the certificate of a master, nil for none.
func fromMaster(t *testing.T, cert *x509.Certificate, s trail.Source) *gin.Context {
	t.Helper()
	c, _ := gin.CreateTestContext(httptest.NewRecorder())
	c.Request = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/projects", nil)
	c.Request.Header.Set(wire.HeaderHops, origin.Hop{Source: s}.String())
	if cert != nil {
		c.Request.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	}
	return c
}

// TestMastersAreNamedByTheirCertificates checks that a master cannot name another one, in the source of a request that
// it forwards, or in an announcement.
func TestMastersAreNamedByTheirCertificates(t *testing.T) {
	now := time.Now()
	pair, err := certs.NewAuthority("cs", certs.AuthorityLifetime, now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := certs.OpenAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	own, err := authority.Issue(certs.Master, "m2", []string{"127.0.0.1"}, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(own.Cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, member      string
		cert              *x509.Certificate
		wantMember, wants string
	}{
		{"itself", "m2", cert, "m2", "m2"},
		{"another", "m3", cert, "spiffe://cs/master/m2", "spiffe://cs/master/m2 for m3"},
		{"without TLS", "m3", nil, "m3", "m3"},
	} {
		c := fromMaster(t, row.cert, trail.Source{Member: row.member, Address: "192.0.2.1"})
		if got, other := certifiedHop(c); got.Source != (trail.Source{Member: row.wantMember, Address: "192.0.2.1"}) ||
			other != (row.member != row.wantMember) {
			t.Errorf("%s: the source is %+v, of another master %v", row.name, got, other)
		}
		if got := announcer(c, row.member); got != row.wants {
			t.Errorf("%s: the announcement is of %q", row.name, got)
		}
	}
}

// TestRefusalsAreCountedOnce checks that an answer of the leader that is passed on is not counted here.
func TestRefusalsAreCountedOnce(t *testing.T) {
	m := &master{}
	m.refusals.log = hclog.NewNullLogger()
	m.leader = forwarder{
		sign:   func([]byte) string { return "" },
		source: func(*gin.Context) trail.Source { return trail.Source{} },
		caller: func() wire.Caller { return wire.Caller{Group: "g"} },
		send: func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusForbidden, Request: r, Body: http.NoBody}, nil
		},
	}
	engine := gin.New()
	engine.Use(m.countRefused)
	engine.GET("/own", func(c *gin.Context) { c.Status(http.StatusForbidden) })
	engine.GET("/passed", func(c *gin.Context) {
		if err := m.leader.forward(c.Request.Context(), c, "http://leader", nil); err != nil {
			t.Error(err)
		}
	})
	for _, path := range []string{"/own", "/passed", "/own"} {
		answer := httptest.NewRecorder()
		engine.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		if answer.Code != http.StatusForbidden {
			t.Errorf("%s: %d", path, answer.Code)
		}
	}
	if counts := m.refusals.all(); len(counts) != 1 || counts[refusal{"GET /own", ""}] != 2 {
		t.Errorf("counted %v", counts)
	}
}

// TestRefusalsAreLoggedByKind checks that one kind of refused requests does not hide another one in the log, and that
// the log has the address of the client.
func TestRefusalsAreLoggedByKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		r := refusals{log: hclog.New(&hclog.LoggerOptions{Output: &log})}
		from := trail.Source{Member: "m2", Address: "192.0.2.7"}
		count := func() int { return strings.Count(log.String(), "from=192.0.2.7") }
		for range 3 {
			r.add(refusal{"GET /a", "forbidden"}, from)
			r.add(refusal{"GET /a", "unauthorized"}, from)
			r.add(refusal{"POST /internal/a", "unauthorized"}, from)
		}
		if count() != 2 || !strings.Contains(log.String(), "through=m2") {
			t.Errorf("the log is %s", &log)
		}
		time.Sleep(refusalPause)
		r.add(refusal{"GET /a", "forbidden"}, from)
		if count() != 3 {
			t.Errorf("after the pause the log is %s", &log)
		}
	})
}
