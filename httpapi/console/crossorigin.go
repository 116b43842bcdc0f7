package console

import (
	"net/http"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// Headers that a console of another master may send and read.
var (
	corsRequest = strings.Join([]string{
		"Authorization", "Content-Type", "Accept", "If-None-Match", "Range", "If-Range", "Last-Event-ID",
		wire.HeaderKey, wire.HeaderIdempotencyKey,
	}, ", ")
	corsAnswer = strings.Join([]string{
		"ETag", "Accept-Ranges", "Content-Range", "Link",
		"Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset",
		wire.HeaderPosition, wire.HeaderTime, wire.HeaderLeaf, wire.HeaderKey, wire.HeaderReplay,
	}, ", ")
)

// AllowOrigin sets the headers of CORS (https://fetch.spec.whatwg.org/#http-cors-protocol) that let a page of a master
// call the API of the others. So the console works on when the master that it was loaded from is gone. They are for the
// routes under /v1/, and for origins that are the URL of a master of this cluster. There are no cookies: a page may do
// what the bearer token allows that it sends, and credentials of the browser are never allowed. It reports whether the
// request is a preflight request, which needs no other answer.
func AllowOrigin(masters func() []string, h http.Header, r *http.Request) (preflight bool) {
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		return false
	}
	h.Add("Vary", "Origin") // in every answer: an answer that is cached for one origin is not for another
	origin := r.Header.Get("Origin")
	if origin == "" || !knownOrigin(masters(), origin) {
		return false // without the headers below a browser keeps the answer from the page
	}
	return answerOrigin(h, r, origin, "GET, HEAD, POST, PATCH, DELETE")
}

// knownOrigin reports whether an origin is that of the URL of one of the masters.
func knownOrigin(masters []string, origin string) bool {
	known := func(master string) bool { return originOf(master) == strings.ToLower(origin) }
	return slices.ContainsFunc(masters, known)
}

// AllowAnyOrigin is [AllowOrigin] for a route with the same answer for everyone: any page may read it.
func AllowAnyOrigin(h http.Header, r *http.Request) (preflight bool) {
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	return answerOrigin(h, r, "*", "GET, HEAD")
}

// answerOrigin sets the headers of CORS for an origin that is allowed.
func answerOrigin(h http.Header, r *http.Request, origin, methods string) (preflight bool) {
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		h.Set("Access-Control-Allow-Methods", methods)
		h.Set("Access-Control-Allow-Headers", corsRequest)
		h.Set("Access-Control-Max-Age", "600")
		return true
	}
	h.Set("Access-Control-Expose-Headers", corsAnswer)
	return false
}
