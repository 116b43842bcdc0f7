package masterapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// adminRequest forwards a request with the administrator's token to a leader at a URL.
func adminRequest(t *testing.T, ctx context.Context, leader string) (answer *httptest.ResponseRecorder, err error) {
	t.Helper()
	transport := noderpc.NewTransport()
	defer transport.CloseIdle()
	return forwardBy(t, ctx, transport.RoundTrip, leader)
}

// forwardBy forwards a request of the administrator.
func forwardBy(
	t *testing.T, ctx context.Context, send exchange.Send, leader string,
) (answer *httptest.ResponseRecorder, err error) {
	t.Helper()
	w := httptest.NewRecorder()
	c := gin.CreateTestContextOnly(w, httpapi.New(hclog.NewNullLogger()).Engine)
	c.Request = httptest.NewRequest(http.MethodPost, "/v1/log/keys", nil).WithContext(ctx)
	c.Request.Header.Set("Authorization", "Bearer admin")
	f := forwarder{
		caller: func() wire.Caller { return wire.Caller{} }, send: send,
		source: func(*gin.Context) trail.Source { return trail.Source{Member: "m9", Address: "192.0.2.1"} },
		sign:   func([]byte) string { return "signature" },
	}
	err = f.forward(ctx, c, leader, []byte("body"))
	c.Writer.WriteHeaderNow()
	return w, err
}

// TestForwardFollowsNoRedirect checks that the administrator's token is sent to the leader, but not to the target of a
// redirect.
func TestForwardFollowsNoRedirect(t *testing.T) {
	var reached atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		leader := httptest.NewServer(http.RedirectHandler(other.URL, status))
		if _, err := adminRequest(t, t.Context(), leader.URL); !errors.Is(err, wire.ErrUnknownOutcome) {
			t.Errorf("%d: %v", status, err)
		}
		leader.Close()
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests followed the redirect", reached.Load())
	}
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte(r.Header.Get("Authorization") + " " + r.Header.Get(wire.HeaderHops)))
	}))
	defer leader.Close()
	if w, err := adminRequest(t, t.Context(), leader.URL); err != nil || w.Code != http.StatusTeapot ||
		w.Body.String() != "Bearer admin 1 m9 192.0.2.1 - signature" ||
		w.Header().Get("Retry-After") != "7" {
		t.Errorf("%d %s %v, %v", w.Code, w.Body, w.Header(), err)
	}
}

// TestForwardOverTLSOnly checks that a request which came over TLS is forwarded over TLS only, and one in plain text in
// either way.
func TestForwardOverTLSOnly(t *testing.T) {
	for _, secured := range []bool{true, false} {
		asked := false
		send := func(r *http.Request) (*http.Response, error) {
			asked = true
			if exchange.IsOnlyTLS(r.Context()) != secured {
				t.Errorf("over TLS %v, and it is forwarded so only: %v", secured, !secured)
			}
			return nil, tls.RecordHeaderError{Msg: "the leader speaks no TLS"}
		}
		c := gin.CreateTestContextOnly(httptest.NewRecorder(), httpapi.New(hclog.NewNullLogger()).Engine)
		c.Request = httptest.NewRequest(http.MethodPost, "/v1/log/keys", nil)
		if secured {
			c.Request.TLS = &tls.ConnectionState{}
		}
		source := func(*gin.Context) trail.Source { return trail.Source{} }
		f := forwarder{
			caller: func() wire.Caller { return wire.Caller{} }, send: send, source: source,
			sign: func([]byte) string { return "" },
		}
		err := f.forward(t.Context(), c, "http://leader", nil)
		if !asked || !errors.Is(err, wire.ErrUnavailable) || !strings.Contains(err.Error(), "http://leader") {
			t.Errorf("over TLS %v: %v", secured, err)
		}
	}
}

// TestLeaderJudgesAgain checks that a leader does nothing for a token that it refuses when it acts.
func TestLeaderJudgesAgain(t *testing.T) {
	refusal := wire.ErrForbidden.Variant("revoked meanwhile")
	f := forwarder{
		leader: func() (string, bool) { return "", true },
		judge:  func(*gin.Context) error { return refusal },
	}
	c := gin.CreateTestContextOnly(httptest.NewRecorder(), httpapi.New(hclog.NewNullLogger()).Engine)
	c.Request = httptest.NewRequest(http.MethodPost, "/v1/log/keys", nil)
	err := f.do(c, nil, func() error {
		t.Error("it acts")
		return nil
	})
	if !errors.Is(err, refusal) {
		t.Error(err)
	}
}

// TestForwardUsesNoProxy checks that the administrator's token is not sent to a proxy of the environment. The test runs
// in a separate process, because net/http reads the environment once.
func TestForwardUsesNoProxy(t *testing.T) {
	const child = "CHAINSTORE_TEST_PROXY"
	if os.Getenv(child) == "" {
		run := exec.Command(os.Args[0], "-test.run=^TestForwardUsesNoProxy$", "-test.v")
		run.Env = append(os.Environ(), child+"=1", "NO_PROXY=", "no_proxy=")
		if out, err := run.CombinedOutput(); err != nil ||
			!strings.Contains(string(out), "--- PASS: TestForwardUsesNoProxy") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	var reached, tokens atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		if r.Header.Get("Authorization") != "" {
			tokens.Add(1)
		}
	}))
	defer proxy.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	const leader = "http://192.0.2.1:8000" // reserved for documentation by RFC 5737
	if response, err := http.DefaultTransport.RoundTrip(httptest.NewRequest(http.MethodGet, leader, nil)); err != nil ||
		reached.Load() != 1 {
		t.Fatalf("the proxy of the environment is not in use: %v, %d", err, reached.Load())
	} else {
		response.Body.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if w, err := adminRequest(t, ctx, leader); err == nil {
		t.Errorf("there is no leader, and it answered %d", w.Code)
	}
	if reached.Load() != 1 || tokens.Load() != 0 {
		t.Errorf("the proxy got %d requests, %d with the token", reached.Load()-1, tokens.Load())
	}
}

// TestForwardCutsNoAnswer checks that an answer of the leader which is too long, or breaks off, is an error, and never
// passed on in part.
func TestForwardCutsNoAnswer(t *testing.T) {
	for name, c := range map[string]struct{ claimed, sent int }{
		"a long answer":       {5 << 20, 5 << 20},
		"too long":            {exchange.MaxMedium + 1, exchange.MaxMedium + 1},
		"too long, in chunks": {0, exchange.MaxMedium + 1},
		"breaks off":          {1000, 500},
	} {
		leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if c.claimed > 0 {
				w.Header().Set("Content-Length", strconv.Itoa(c.claimed))
			}
			_, _ = w.Write(make([]byte, c.sent))
		}))
		answer, err := adminRequest(t, t.Context(), leader.URL)
		leader.Close()
		if name == "a long answer" {
			if err != nil || answer.Body.Len() != c.sent {
				t.Errorf("%s: %d bytes, %v", name, answer.Body.Len(), err)
			}
			continue
		}
		if !errors.Is(err, wire.ErrUnknownOutcome) || answer.Body.Len() > 0 {
			t.Errorf("%s: %d bytes were passed on, %v", name, answer.Body.Len(), err)
		}
	}
}

// TestForwardProvesItself checks that a forwarded request has the proof of a master, so that the leader does not limit
// it by the address of the master that forwards it, and that an answer which the leader did not sign is not passed on.
func TestForwardProvesItself(t *testing.T) {
	secrets := nodeauth.Shared("the cluster token")
	var purpose atomic.Value
	e := httpapi.New(hclog.NewNullLogger())
	e.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{nodeauth.Masters: {Secret: secrets.Masters}}})
	e.POST("/v1/log/keys", func(c *gin.Context) {
		body, err := httpapi.ReadBody(c.Request, 100)
		if p := httpapi.ProofOf(c.Request); p != nil && err == nil && string(body) == "body" {
			purpose.Store(p.Purpose)
		}
		if strings.Contains(fmt.Sprint(c.Request.Header), "cluster token") {
			t.Error("the cluster token was sent")
		}
		c.String(http.StatusCreated, "done")
	})
	var forge atomic.Bool
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !forge.Load() || r.URL.Path == wire.PathSession {
			e.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("forged"))
	}))
	defer leader.Close()
	transport := noderpc.NewTransport()
	defer transport.CloseIdle()
	send := transport.As(secrets.For(nodeauth.Masters))
	w, err := forwardBy(t, t.Context(), send, leader.URL)
	if err != nil || purpose.Load() != nodeauth.Masters || w.Code != http.StatusCreated || w.Body.String() != "done" {
		t.Errorf("%v, proven %v, %d %s", err, purpose.Load(), w.Code, w.Body)
	}
	forge.Store(true)
	if w, err := forwardBy(t, t.Context(), send, leader.URL); !errors.Is(err, wire.ErrUnknownOutcome) ||
		w.Body.Len() > 0 {
		t.Errorf("an answer that is not the leader's: %v, %d %s", err, w.Code, w.Body)
	}
}

// TestForwardSendsAChangeOnce checks that neither a forged refusal of a request that was sent, nor a refusal to open a
// session, looks like the leader's answer to the user, and that the leader acts once.
func TestForwardSendsAChangeOnce(t *testing.T) {
	secrets := nodeauth.Shared("the cluster token")
	var acts atomic.Int32
	e := httpapi.New(hclog.NewNullLogger())
	e.Authenticate(&httpapi.Nodes{Accept: map[string]nodeauth.Accepted{nodeauth.Masters: {Secret: secrets.Masters}}})
	e.POST("/v1/log/keys", func(c *gin.Context) {
		acts.Add(1)
		c.String(http.StatusCreated, "done")
	})
	var said atomic.Value
	leader := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			e.ServeHTTP(w, r)
			return
		}
		e.ServeHTTP(httptest.NewRecorder(), r)
		w.Header().Set(wire.HeaderAuth, said.Load().(string))
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer leader.Close()
	transport := noderpc.NewTransport()
	defer transport.CloseIdle()
	for i, text := range []string{nodeauth.NewSession, nodeauth.Refused} {
		said.Store(text)
		w, err := forwardBy(t, t.Context(), transport.As(secrets.For(nodeauth.Masters)), leader.URL)
		if !errors.Is(err, wire.ErrUnknownOutcome) || w.Body.Len() > 0 || int(acts.Load()) != i+1 {
			t.Errorf("%s: %v, %d %s, %d requests had an effect", text, err, w.Code, w.Body, acts.Load())
		}
	}
	other := nodeauth.Shared("another token").For(nodeauth.Masters)
	w, err := forwardBy(t, t.Context(), transport.As(other), leader.URL)
	if !errors.Is(err, wire.ErrNoLeader) || errors.Is(err, wire.ErrNotLeader) || w.Body.Len() > 0 ||
		acts.Load() != 2 {
		t.Errorf("another token: %v, %d %s, %d requests had an effect", err, w.Code, w.Body, acts.Load())
	}
}
