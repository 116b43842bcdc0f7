package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// strictPolicy is the Content-Security-Policy of answers that are not pages. A browser that shows one runs nothing in
// it and loads nothing for it.
const strictPolicy = "default-src 'none'; frame-ancestors 'none'; sandbox"

// safeAnswer are the headers that tell a browser what it may do with an answer. Handlers replace some of them. A slice
// is shared by all answers, so it must not be changed; Header.Set and Header.Add do not.
var safeAnswer = http.Header{
	"Cache-Control":                {"no-store"},
	"Content-Security-Policy":      {strictPolicy},
	"Cross-Origin-Opener-Policy":   {"same-origin"},
	"Cross-Origin-Resource-Policy": {"same-origin"},
	"Referrer-Policy":              {"no-referrer"},
	"X-Content-Type-Options":       {"nosniff"},
	"X-Frame-Options":              {"DENY"},
}

// strictTransport is the Strict-Transport-Security of answers over TLS: a year, for this host only.
var strictTransport = []string{"max-age=31536000"}

// safe sets the headers of safeAnswer before any handler runs. They are in every answer, also in those without a route
// and of a panic.
func (e *Engine) safe(c *gin.Context) {
	h := c.Writer.Header()
	for name, values := range safeAnswer {
		h[name] = values[:1:1]
	}
	if c.Request.TLS != nil && !IsLoopbackHost(c.Request.Host) && (e.plain == nil || !e.plain()) {
		// For a loopback name it would apply to every other server on the machine of a developer. While a cluster moves
		// to TLS, its browsers may still come in plain text.
		h["Strict-Transport-Security"] = strictTransport[:1:1]
	}
}

// HostName returns the name or address in a Host header or in the host part of a URL, in lower case and without a
// port, brackets or a final dot.
func HostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// IsLoopbackHost reports whether a Host header names this machine: localhost, a name below it, or a loopback address.
func IsLoopbackHost(host string) bool {
	name := HostName(host)
	addr, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && addr.IsLoopback()
}

// Guard refuses what a page of another site sends through the browser of a visitor who can reach a node. It judges
// requests to routes that take no token.
type Guard struct {
	Masters func() []string // URLs of the cluster's masters; of a worker its own
	Hosts   []string        // further names under which browsers reach them
}

// crossSite judges requests by the headers that browsers add: see [http.CrossOriginProtection].
var crossSite = http.NewCrossOriginProtection()

// Check returns why a request is refused; the error wraps wire.ErrForbidden. A request with an Authorization header is
// not judged: a browser never adds a bearer token by itself, and the route refuses one that it does not know. Programs
// are not judged either: they send no Origin and no Sec-Fetch-Site header.
func (g *Guard) Check(r *http.Request) error {
	if r.Header.Get("Authorization") != "" {
		return nil
	}
	return g.CheckOpen(r)
}

// CheckOpen is Check for a route that reads no token from the header Authorization. With DNS rebinding a page has the
// origin of the node, and can send any header with any content.
func (g *Guard) CheckOpen(r *http.Request) error {
	origin := r.Header.Get("Origin")
	if err := crossSite.Check(r); err != nil && !g.knownOrigin(origin) {
		return fmt.Errorf("%w: a page of another site (Origin %q) may not send this without a token in the header "+
			"Authorization; use a page of this master, or give the masters --browser-host", wire.ErrForbidden, origin)
	}
	if fromBrowser(r) && r.TLS == nil && !g.knownHost(r.Host) {
		return fmt.Errorf("%w: no node of the cluster is known here under the name %q, and a browser sent this "+
			"without a token; use the URL or the address of the node, or give the masters --browser-host",
			wire.ErrForbidden, r.Host)
	}
	return nil
}

// fromBrowser reports whether a browser sent a request. A browser sends Origin with each request that may change
// something, and no page can prevent that.
func fromBrowser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" ||
		strings.HasPrefix(r.UserAgent(), "Mozilla/")
}

// knownOrigin reports whether the host of an origin is one of Hosts, or the origin is that of a master.
func (g *Guard) knownOrigin(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false
	}
	return g.named(u.Host) || slices.ContainsFunc(g.Masters(), func(master string) bool {
		m, err := url.Parse(master)
		return err == nil && m.Scheme == u.Scheme && strings.EqualFold(m.Host, u.Host)
	})
}

// knownHost reports whether a Host header cannot come from DNS rebinding: an address, a loopback name, the host of a
// master's URL, or one of Hosts. Over TLS the certificate shows the same.
func (g *Guard) knownHost(host string) bool {
	name := HostName(host)
	if _, err := netip.ParseAddr(name); err == nil || IsLoopbackHost(host) || g.named(host) {
		return true
	}
	return slices.ContainsFunc(g.Masters(), func(master string) bool {
		u, err := url.Parse(master)
		return err == nil && HostName(u.Host) == name
	})
}

func (g *Guard) named(host string) bool {
	return slices.ContainsFunc(g.Hosts, func(name string) bool {
		return HostName(name) == HostName(host)
	})
}
