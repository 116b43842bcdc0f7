package httpapi

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// TestHeadersForBrowsers checks that every answer of an engine has the headers for browsers, and that a handler that
// changes one does not change other answers.
func TestHeadersForBrowsers(t *testing.T) {
	e := New(hclog.NewNullLogger())
	e.Health(func() error { return errors.New("not yet") })
	e.GET("/panics", func(*gin.Context) { panic("a test") })
	e.GET("/changes", func(c *gin.Context) {
		c.Writer.Header().Add("Cache-Control", "no-cache")
		c.Header("X-Frame-Options", "SAMEORIGIN")
		c.String(http.StatusOK, "x")
	})
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/changes", 200}, {"GET", "/livez", 200}, {"HEAD", "/livez", 200}, {"GET", "/readyz", 500},
		{"GET", "/panics", 500}, {"GET", "/none", 404}, {"POST", "/livez", 405}, {"OPTIONS", "/livez", 405},
	} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest(row.method, row.path, nil))
		if w.Code != row.status {
			t.Errorf("%s %s: status %d, want %d", row.method, row.path, w.Code, row.status)
		}
		if row.path == "/changes" {
			continue
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Content-Security-Policy": strictPolicy, "Referrer-Policy": "no-referrer",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Strict-Transport-Security": "",
		} {
			if got := strings.Join(w.Header().Values(name), ", "); got != want {
				t.Errorf("%s %s: %s is %q, want %q", row.method, row.path, name, got, want)
			}
		}
	}
}

// TestStrictTransport checks that a browser is told to keep to TLS over TLS only, and never for names of the machine
// that the browser runs on.
func TestStrictTransport(t *testing.T) {
	e := New(hclog.NewNullLogger())
	e.Health(func() error { return nil })
	for host, want := range map[string]string{
		"log.example:8000": "max-age=31536000", "log.example": "max-age=31536000",
		"[2001:db8::1]:8000": "max-age=31536000",
		"localhost.example":  "max-age=31536000",
		"localhost:8000":     "", "LOCALHOST.": "", "a.localhost": "",
		"127.0.0.1:8000": "", "[::1]:8000": "", "[::1]": "",
	} {
		r := httptest.NewRequest("GET", "/livez", nil)
		r.Host, r.TLS = host, &tls.ConnectionState{}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if got := w.Header().Get("Strict-Transport-Security"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// TestGuardKnowsNames checks under which names a browser may send requests without a token.
func TestGuardKnowsNames(t *testing.T) {
	g := Guard{
		Masters: func() []string { return []string{"http://m1.bank.example:8000", "http://[2001:db8::7]:8000"} },
		Hosts:   []string{"Log.Example"},
	}
	for host, known := range map[string]bool{
		"m1.bank.example:8000": true, "M1.bank.example.:9": true, "m1.bank.example": true, // a proxy has another port
		"log.example": true, "LOG.example.:80": true, "localhost:8000": true, "a.localhost": true,
		"10.0.0.9:8000": true, "[2001:db8::7]:8000": true, "[::1]": true, // an address cannot be rebound
		"m2.bank.example:8000": false, "bank.example": false, "evil.m1.bank.example": false, "log.example.evil": false,
		"localhost.evil": false, "127.0.0.1.evil": false, "": false, "m1": false,
	} {
		r := httptest.NewRequest("POST", "/v1/projects", nil)
		r.Host = host
		if err := g.Check(r); err != nil {
			t.Errorf("%q, a program: %v", host, err)
		}
		r.Header.Set("Origin", "http://"+host)
		if err := g.Check(r); known != (err == nil) || err != nil && !errors.Is(err, wire.ErrForbidden) {
			t.Errorf("%q, its page: %v", host, err)
		}
		r.Header.Set("Authorization", "Bearer x")
		if err := g.Check(r); err != nil {
			t.Errorf("%q, with a token: %v", host, err)
		}
		if err := g.CheckOpen(r); known != (err == nil) {
			t.Errorf("%q, with a token that the route does not read: %v", host, err)
		}
	}
	r := httptest.NewRequest("POST", "/v1/projects", nil)
	r.Host, r.TLS = "m2.bank.example:8000", &tls.ConnectionState{}
	r.Header.Set("Origin", "https://m2.bank.example:8000")
	if err := g.Check(r); err != nil {
		t.Errorf("a name of a certificate: %v", err)
	}
	r.Header.Set("Origin", "https://evil.example")
	if err := g.Check(r); err == nil {
		t.Error("over TLS a page of another site is let in")
	}
}
