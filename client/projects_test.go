package client

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestQuotaIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spent := func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "3")
			problem(w, http.StatusTooManyRequests, wire.ErrQuota.Name)
		}
		var seen calls[time.Time]
		c := newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			if seen.add(time.Now()) < 3 {
				spent(w)
				return
			}
			reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 5})
		}, func(http.ResponseWriter, *http.Request) { t.Error("the quota is the whole cluster's") })
		if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		at := seen.all()
		for i := 1; i < len(at); i++ {
			if wait := at[i].Sub(at[i-1]); wait < 3*time.Second || wait > 5*time.Second {
				t.Errorf("Retry-After of 3 s: it waited %v", wait)
			}
		}
		impatient := newClient(t, -1, func(w http.ResponseWriter, _ *http.Request) { spent(w) })
		_, err := impatient.Append(t.Context(), Entry{Payload: []byte("x")})
		var e *wire.Error
		if !errors.Is(err, wire.ErrQuota) || errors.Is(err, wire.ErrUnknownOutcome) || !errors.As(err, &e) ||
			e.RetryAfter != 3*time.Second {
			t.Error(err)
		}
	})
}

func TestProjectCalls(t *testing.T) {
	var asked calls[string]
	c := newClient(t, 0, func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		if r.Body != nil {
			body, _ = io.ReadAll(r.Body)
		}
		asked.add(fmt.Sprintf("%s %s %s", r.Method, r.URL.RequestURI(), body))
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		reply(w, http.StatusOK, map[string]any{"id": 7, "name": "a/b", "projects": []string{},
			"tokens": []wire.ProjectToken{{ID: 3}}, "next": "c",
			"admins": []wire.Admin{{ID: 5}}, "role": wire.RoleAdmin, "token": "t"})
	})
	public, rate := true, uint64(0)
	page, err := c.Projects(t.Context(), "5", 2)
	p, err2 := c.Project(t.Context(), "a/b")
	changed, err3 := c.ChangeProject(t.Context(), "7",
		wire.ProjectChange{Public: &public, Quota: &wire.QuotaChange{RecordsPerSecond: &rate}})
	tokens, err4 := c.Tokens(t.Context(), "7")
	created, err5 := c.CreateToken(t.Context(), "7", wire.NewToken{Label: "l", Rights: []string{wire.RightRead}})
	err6 := c.RevokeToken(t.Context(), "7", 3)
	me, err7 := c.Me(t.Context())
	admins, err8 := c.Admins(t.Context())
	seconds := uint64(60)
	admin, err9 := c.CreateAdmin(t.Context(), wire.NewAdmin{Name: "a/b", Role: wire.RoleAdmin, ValidSeconds: &seconds})
	err10 := c.RevokeAdmin(t.Context(), 5)
	if err := errors.Join(err, err2, err3, err4, err5, err6, err7, err8, err9, err10); err != nil {
		t.Fatal(err)
	}
	if page.Next != "c" || p.ID != 7 || changed.ID != 7 || len(tokens) != 1 || tokens[0].ID != 3 ||
		created.Token != "t" || me.Role != wire.RoleAdmin || len(admins) != 1 || admins[0].ID != 5 ||
		admin.Token != "t" {
		t.Errorf("%+v %+v %+v %+v %+v %+v", page, p, changed, tokens, created, me)
	}
	want := []string{
		"GET /v1/projects?cursor=5&limit=2 ",
		"GET /v1/projects/a%2Fb ",
		`PATCH /v1/projects/7 {"public":true,"quota":{"records_per_second":0}}`,
		"GET /v1/projects/7/tokens ",
		`POST /v1/projects/7/tokens {"label":"l","rights":["read"]}`,
		"DELETE /v1/projects/7/tokens/3 ",
		"GET /v1/me ",
		"GET /v1/admins ",
		`POST /v1/admins {"name":"a/b","role":"admin","valid_seconds":60}`,
		"DELETE /v1/admins/5 ",
	}
	if got := asked.all(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("asked\n%q, want\n%q", got, want)
	}
}

// TestTokensAreNotMadeTwice checks that the client does not repeat the creation of a token, because that could leave an
// extra valid token. It repeats a revocation; if the token is then missing, the revocation has succeeded.
func TestTokensAreNotMadeTwice(t *testing.T) {
	asked := 0
	c := newClient(t, 0, func(w http.ResponseWriter, r *http.Request) {
		asked++
		if asked == 1 {
			problem(w, http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name)
			return
		}
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name)
	})
	if _, err := c.CreateToken(t.Context(), "7", wire.NewToken{}); !errors.Is(err, wire.ErrUnknownOutcome) ||
		asked != 1 {
		t.Errorf("%v; asked %d times", err, asked)
	}
	asked = 0
	if err := c.RevokeToken(t.Context(), "7", 3); err != nil || asked != 2 {
		t.Errorf("%v; asked %d times", err, asked)
	}
	if err := c.RevokeToken(t.Context(), "7", 3); !errors.Is(err, wire.ErrNotFound) {
		t.Error(err)
	}
}
