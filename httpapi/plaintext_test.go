package httpapi

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/wire"
)

// TestPlainTextAndTLS serves both on one port, and refuses plain text on open connections too once it is not taken any
// more. A client that sends nothing holds up neither others nor the end.
func TestPlainTextAndTLS(t *testing.T) {
	authority := certstest.NewAuthority(t)
	store := certstest.Open(t, authority, certs.Storage, "s")
	var plain atomic.Bool
	plain.Store(true)
	e := New(hclog.NewNullLogger())
	e.TakePlain(func() certs.Opening {
		if plain.Load() {
			return certs.ToAll
		}
		return certs.Closed
	})
	e.GET("/way", e.Only(true, certs.Master), func(c *gin.Context) {
		way := "plain"
		if c.Request.TLS != nil {
			way = "secured"
		}
		c.String(http.StatusOK, way)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := Limit(l, ConnectionLimits{Total: 100, PerAddress: 100}, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, Secure(limited, store, plain.Load), e, hclog.NewNullLogger()) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()

	ask := func(client *http.Client, scheme string) (int, string) {
		t.Helper()
		answer, err := client.Get(scheme + "://" + l.Addr().String() + "/way")
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		said, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(said)
	}
	node := &http.Client{Transport: &http.Transport{
		TLSClientConfig: certstest.Open(t, authority, certs.Master, "m").Client("127.0.0.1", certs.Storage),
	}}
	user := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	kept := &http.Client{Transport: &http.Transport{}}
	if status, said := ask(node, "https"); status != http.StatusOK || said != "secured" {
		t.Errorf("a master over TLS: %d %s", status, said)
	}
	if status, said := ask(user, "https"); status != http.StatusForbidden {
		t.Errorf("over TLS without a certificate: %d %s", status, said)
	}
	if status, said := ask(kept, "http"); status != http.StatusOK || said != "plain" {
		t.Errorf("in plain text: %d %s", status, said)
	}
	plain.Store(false)
	if status, said := ask(kept, "http"); status != http.StatusForbidden || !strings.Contains(said, "tls-required") {
		t.Errorf("an open connection: %d %s", status, said)
	}
	if status, said := ask(&http.Client{Transport: &http.Transport{}}, "http"); status != http.StatusBadRequest {
		t.Errorf("a new connection: %d %s", status, said)
	}
	if status, said := ask(node, "https"); status != http.StatusOK || said != "secured" {
		t.Errorf("a master over TLS afterwards: %d %s", status, said)
	}
	for _, c := range []*http.Client{node, user, kept} {
		c.CloseIdleConnections()
	}
	began := time.Now()
	cancel()
	if err := <-ended; err != nil || time.Since(began) > sniffTime/2 {
		t.Errorf("the end: %v after %v", err, time.Since(began))
	}
}

// TestPlainTextBeforeALeader checks that a node which has heard from no leader yet takes plain text only on the routes
// of its health, or also on those between nodes. It takes all requests over TLS.
func TestPlainTextBeforeALeader(t *testing.T) {
	var opening certs.Opening
	e := New(hclog.NewNullLogger())
	e.TakePlain(func() certs.Opening { return opening })
	paths := map[string]certs.Opening{
		"/livez": certs.ToHealth, "/readyz": certs.ToHealth, "/metrics": certs.ToAll, "/v1/cluster": certs.ToAll,
		wire.PathMember: certs.ToNodes, wire.PathSession: certs.ToNodes, wire.PathMasters: certs.ToNodes,
		wire.PathChain: certs.ToNodes, wire.PathBlocks + ":number": certs.ToNodes,
	}
	for path := range paths {
		e.GET(path, func(c *gin.Context) { c.Status(http.StatusOK) })
	}
	ask := func(path string, secured bool) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
		if secured {
			r.TLS = &tls.ConnectionState{}
		}
		e.ServeHTTP(w, r)
		return w
	}
	for _, opening = range []certs.Opening{certs.Closed, certs.ToHealth, certs.ToNodes, certs.ToAll} {
		for path, from := range paths {
			path = strings.ReplaceAll(path, ":number", "7")
			want := http.StatusOK
			switch {
			case opening == certs.Closed:
				want = http.StatusForbidden
			case opening < from:
				want = http.StatusServiceUnavailable
			}
			w := ask(path, false)
			if closes := w.Header().Get("Connection") == "close"; w.Code != want || closes != (want != http.StatusOK) {
				t.Errorf("%s in plain text, opening %d: %d", path, opening, w.Code)
			}
			if w := ask(path, true); w.Code != http.StatusOK {
				t.Errorf("%s over TLS, opening %d: %d", path, opening, w.Code)
			}
		}
	}
}
