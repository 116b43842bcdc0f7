package wire_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// TestProblemTypes checks that every row has a unique name and title, and that errors.Is matches the error of a
// response of its type.
func TestProblemTypes(t *testing.T) {
	names, titles := map[string]bool{}, map[string]bool{}
	for _, p := range wire.ProblemTypes() {
		err := fmt.Errorf("call: %w", &wire.Error{Problem: p.Problem(p)})
		if names[p.Name] || titles[p.Title] || http.StatusText(p.Status) == "" || !errors.Is(err, p) {
			t.Errorf("%+v", p)
		}
		names[p.Name], titles[p.Title] = true, true
		for _, other := range wire.ProblemTypes() {
			if errors.Is(err, other) != errors.Is(p, other) {
				t.Errorf("an answer of type %s is %s", p.Name, other.Name)
			}
		}
	}
	if !errors.Is(&wire.Error{Problem: wire.ErrNoLeader.Problem(wire.ErrNotLeader)}, wire.ErrNotLeader) {
		t.Error("the answer no-leader is no ErrNotLeader")
	}
	if errors.Is(wire.ErrNoLeader, wire.ErrNotLeader) || !errors.Is(wire.ErrNotLeader, wire.ErrNoLeader) {
		t.Error("ErrNotLeader is answered as no-leader, and not the other way round")
	}
}

func TestProblemOf(t *testing.T) {
	answer := &wire.Error{Problem: wire.ErrNotFound.Problem(wire.ErrNotFound)}
	for _, c := range []struct {
		err  error
		want *wire.ProblemType
	}{
		{nil, nil},
		{context.Canceled, nil},
		{wire.ErrQuota, wire.ErrQuota},
		{wire.ErrSealIndex, wire.ErrSealIndex},
		{wire.ErrNotLeader, wire.ErrNoLeader},
		{fmt.Errorf("read: %w", wire.ErrUnavailable.Variant("busy")), wire.ErrUnavailable},
		{fmt.Errorf("%w: %w", wire.ErrUnavailable, wire.ErrNotFound), wire.ErrUnavailable},
		{fmt.Errorf("%w: %w", context.Canceled, wire.ErrNotCovered), wire.ErrNotCovered},
		{errors.Join(context.Canceled, wire.ErrLost), wire.ErrLost},
		{&wire.FencedError{Err: wire.ErrFenced}, wire.ErrFenced},
		{answer, nil},
		{fmt.Errorf("%w: %w", wire.ErrUnavailable, answer), wire.ErrUnavailable},
	} {
		if got := wire.ProblemOf(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// TestErrorTexts checks that neither a response nor the error that is decoded from it repeats itself.
func TestErrorTexts(t *testing.T) {
	for _, c := range []struct{ err, detail, text string }{
		{"not found", "not found", "http://m: Not found (HTTP 404)"},
		{"not found: block 7", "block 7", "http://m: Not found: block 7 (HTTP 404)"},
		{"unknown project: x", "unknown project: x", "http://m: Not found: unknown project: x (HTTP 404)"},
	} {
		p := wire.ErrNotFound.Problem(errors.New(c.err))
		if e := (&wire.Error{URL: "http://m", Problem: p}); p.Detail != c.detail || e.Error() != c.text {
			t.Errorf("%q: detail %q, error %q", c.err, p.Detail, e)
		}
	}
	quota := &wire.Error{URL: "http://m", Problem: wire.ErrQuota.Problem(wire.ErrQuota)}
	if got := quota.Error(); got != "http://m: Quota spent (quota, HTTP 429)" {
		t.Errorf("%q", got)
	}
	newer := &wire.Error{URL: "http://m", Problem: wire.Problem{
		Type: wire.ProblemBase + "of-a-newer-version", Title: "Too early", Status: 425, Detail: "wait",
	}}
	if got := newer.Error(); got != "http://m: Too early: wait (of-a-newer-version, HTTP 425)" || newer.Type() != nil {
		t.Errorf("%q, %v", got, newer.Type())
	}
	if foreign := (&wire.Error{URL: "http://m", Problem: wire.Problem{Type: "about:blank", Title: "Bad gateway",
		Status: 502}}).Error(); !strings.HasSuffix(foreign, "Bad gateway (HTTP 502)") {
		t.Errorf("%q", foreign)
	}
}
