package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// failing returns the handler of an engine whose route GET / returns an error.
func failing(err error) http.Handler {
	e := New(hclog.NewNullLogger())
	e.AnswerAs(errDamaged, wire.ErrUnavailable)
	e.NoRetry(errStopped)
	e.GET("/", e.Do(func(*gin.Context) error { return err }))
	return e
}

var (
	errDamaged = errors.New("damaged")
	errStopped = wire.ErrUnavailable.Variant("stopped")
)

// ask sends a request without a body.
func ask(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestFail(t *testing.T) {
	refusal := &wire.Error{URL: "http://m2:8000",
		Problem: wire.ErrRemoved.Problem(fmt.Errorf("%w: w-1", wire.ErrRemoved))}
	token := &wire.Error{URL: "http://m2:8000", Problem: wire.ErrUnauthorized.Problem(wire.ErrUnauthorized)}
	busy := &wire.Error{URL: "http://m2:8000", Problem: wire.ErrBacklog.Problem(wire.ErrBacklog)}
	newer := &wire.Error{Problem: wire.Problem{Type: wire.ProblemBase + "of-a-newer-version", Status: 425}}
	for _, c := range []struct {
		err    error
		want   *wire.ProblemType
		detail string
		header [2]string // a header that the response must have
	}{
		{fmt.Errorf("%w: block 7", wire.ErrNotFound), wire.ErrNotFound, "block 7", [2]string{"Retry-After", ""}},
		{wire.ErrNotMined, wire.ErrNotMined, "block not mined yet", [2]string{"Retry-After", "1"}},
		{fmt.Errorf("%w: lz4", wire.ErrEncoding), wire.ErrEncoding, "lz4", [2]string{"Accept-Encoding", "identity"}},
		{errUnauthorized, wire.ErrUnauthorized, "send the header Authorization: Bearer TOKEN",
			[2]string{"WWW-Authenticate", "Bearer"}},
		{&wire.QuotaError{Limit: 4, Wait: 1001}, wire.ErrQuota,
			"4 records a second, 0 are left now; nothing was appended, try again in 1001 ms",
			[2]string{"Retry-After", "2"}},
		{&wire.QuotaError{Bytes: true, Limit: 9, Left: 3, Wait: 1}, wire.ErrQuota,
			"9 bytes a second, 3 are left now; nothing was appended, try again in 1 ms",
			[2]string{"RateLimit-Remaining", "3"}},
		{fmt.Errorf("tile: %w", wire.ErrMalformed), wire.ErrBadRequest, "tile: malformed message", [2]string{}},
		{fmt.Errorf("block 3: %w", errDamaged), wire.ErrUnavailable, "block 3: damaged", [2]string{"Retry-After", "1"}},
		{fmt.Errorf("miner: %w", errStopped), wire.ErrUnavailable, "miner: stopped", [2]string{"Retry-After", ""}},
		{context.DeadlineExceeded, wire.ErrUnavailable, "context deadline exceeded", [2]string{}},
		{refusal, wire.ErrRemoved, "w-1", [2]string{"Cache-Control", "no-store"}},
		{fmt.Errorf("%w: %w", wire.ErrNoLeader, refusal), wire.ErrNoLeader, refusal.Error(), [2]string{}},
		// A refusal of this node's own token, or a failure of another node, must not be forwarded to the client.
		{token, wire.ErrInternal, "the log of this node has the cause", [2]string{"WWW-Authenticate", ""}},
		{busy, wire.ErrInternal, "the log of this node has the cause", [2]string{}},
		{newer, wire.ErrInternal, "the log of this node has the cause", [2]string{}},
		{errors.New("/secret/path: no space"), wire.ErrInternal, "the log of this node has the cause", [2]string{}},
	} {
		w := ask(failing(c.err), http.MethodGet, "/")
		var p wire.Problem
		err := json.Unmarshal(w.Body.Bytes(), &p)
		want := wire.Problem{Type: wire.ProblemBase + c.want.Name, Title: c.want.Title, Status: c.want.Status,
			Detail: c.detail}
		if err != nil || w.Code != c.want.Status || p != want || w.Header().Get("Content-Type") != wire.TypeProblem {
			t.Errorf("%v: %d %s", c.err, w.Code, w.Body)
		}
		if name, value := c.header[0], c.header[1]; name != "" && w.Header().Get(name) != value {
			t.Errorf("%v: %s is %q, want %q", c.err, name, w.Header().Get(name), value)
		}
	}
}

// TestFailWithData checks the three refusals with additional data, which the client decodes.
func TestFailWithData(t *testing.T) {
	for want, err := range map[string]error{
		`"epoch":3,"term":9`:  &wire.FencedError{Highest: wire.Order{Epoch: 3, Term: 9}, Err: wire.ErrFenced},
		`"start":"b2"`:        &wire.OtherStartError{Start: "b2", Err: wire.ErrOtherStart},
		`"id":"s","height":5`: &wire.NotNextError{Status: wire.StorageStatus{ID: "s", Height: 5}, Err: wire.ErrNotNext},
	} {
		if w := ask(failing(err), http.MethodGet, "/"); w.Code != http.StatusConflict ||
			!strings.Contains(w.Body.String(), want) {
			t.Errorf("%d %s has no %s", w.Code, w.Body, want)
		}
	}
}

func TestEngine(t *testing.T) {
	e := New(hclog.NewNullLogger())
	ready := errors.New("starting")
	e.Health(func() error { return ready })
	e.GET("/panic", func(*gin.Context) { panic("x") })
	e.GET("/abort", func(*gin.Context) { panic(http.ErrAbortHandler) })
	for path, want := range map[string]*wire.ProblemType{
		"GET /nothing": wire.ErrNoSuchRoute, "POST /panic": wire.ErrMethod, "GET /panic": wire.ErrInternal,
		"GET /readyz": wire.ErrInternal, "GET /livez/": wire.ErrNoSuchRoute,
	} {
		method, path, _ := strings.Cut(path, " ")
		if w := ask(e, method, path); w.Code != want.Status || !strings.Contains(w.Body.String(), "/"+want.Name+`"`) {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	ready = nil
	for _, path := range []string{"/livez", "/readyz"} {
		if w := ask(e, http.MethodGet, path); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("http.ErrAbortHandler does not reach the server: %v", p)
		}
	}()
	ask(e, http.MethodGet, "/abort")
}

func TestRequires(t *testing.T) {
	e := New(hclog.NewNullLogger())
	done := func(c *gin.Context) { c.Status(http.StatusNoContent) }
	e.GET("/", e.Requires(takesBearers("token"), nodeauth.Masters), done)
	e.GET("/unset", e.Requires(takesBearers(""), nodeauth.Masters), done)
	for _, c := range []struct {
		path, header string
		status       int
	}{
		{"/", "Bearer token", 204}, {"/", "bearer  token ", 204}, {"/", "", 401}, {"/", "Bearer", 401},
		{"/", "Bearer ", 401},
		{"/", "Basic token", 401}, {"/", "Bearer other", 401}, {"/?token=token", "", 401}, {"/unset", "Bearer ", 401},
		{"/unset", "Bearer  ", 401},
	} {
		r := httptest.NewRequest(http.MethodGet, c.path, nil)
		r.Header.Set("Authorization", c.header)
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code != c.status || c.status == 401 && w.Header().Get("WWW-Authenticate") == "" {
			t.Errorf("%s with %q: %d %v", c.path, c.header, w.Code, w.Header())
		}
	}
}
