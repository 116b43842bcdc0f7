package client

import (
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// called is a request to a handler.
type called struct{ method, uri, body string }

// record responds with serve and records the requests.
func record(t *testing.T, into *calls[called], serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		if r.Body != nil {
			var err error
			if body, err = io.ReadAll(r.Body); err != nil {
				t.Error(err)
			}
		}
		if r.Header.Get("Authorization") != "Bearer "+testToken {
			t.Errorf("%s without its token", r.URL)
		}
		into.add(called{r.Method, r.URL.RequestURI(), string(body)})
		serve(w, r)
	}
}

func (l *calls[T]) last(t *testing.T) (last T) {
	t.Helper()
	all := l.all()
	if len(all) == 0 {
		t.Fatal("nothing was asked")
	}
	return all[len(all)-1]
}

func TestIntegrity(t *testing.T) {
	var asked calls[called]
	want := wire.Integrity{
		Nodes: []wire.NodeIntegrity{{ID: "s-a", Task: &wire.Task{Kind: "check", Bytes: 5}}},
		Lost:  []chain.Range{{From: 7, To: 8}}, Events: []wire.Event{{Number: 3, Kind: wire.EventLost}},
	}
	c := newClient(t, -1, refuse(http.StatusServiceUnavailable, wire.ErrNoLeader.Name),
		record(t, &asked, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, want) }))
	got, err := c.Integrity(t.Context())
	if err != nil || got.Nodes[0].Task.Bytes != 5 || got.Lost[0] != want.Lost[0] || got.Events[0].Number != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if at := asked.last(t); at != (called{"GET", "/v1/cluster/integrity", ""}) {
		t.Errorf("%+v", at)
	}
}

func TestCheckStorage(t *testing.T) {
	var asked calls[called]
	c := newClient(t, -1, record(t, &asked, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusAccepted, wire.NodeIntegrity{ID: "s-a", State: "valid", Due: "asked for"})
	}))
	for id, uri := range map[string]string{
		"s-a":                   "/v1/storages/s-a/check",
		"http://127.0.0.1:8082": "/v1/storages/http:%2F%2F127.0.0.1:8082/check",
		"a b?c":                 "/v1/storages/a%20b%3Fc/check",
	} {
		node, err := c.CheckStorage(t.Context(), id)
		if err != nil || node.Due != "asked for" {
			t.Errorf("%+v, %v", node, err)
		}
		if at := asked.last(t); at != (called{"POST", uri, ""}) {
			t.Errorf("%+v", at)
		}
	}
	c = newClient(t, -1, refuse(http.StatusNotFound, wire.ErrNotFound.Name))
	if _, err := c.CheckStorage(t.Context(), "s-b"); !errors.Is(err, wire.ErrNotFound) {
		t.Error(err)
	}
}

func TestConfirmLost(t *testing.T) {
	var asked calls[called]
	// The first master may have executed the request. Repeating it does no harm.
	c := newClient(t, -1, refuse(http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name),
		record(t, &asked, func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusOK, wire.Integrity{
				Nodes: []wire.NodeIntegrity{}, Events: []wire.Event{}, Confirmed: []chain.Range{{From: 7, To: 8}},
			})
		}))
	got, err := c.ConfirmLost(t.Context(), 7)
	if err != nil || len(got.Confirmed) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if at := asked.last(t); at != (called{"POST", "/v1/cluster/integrity/confirm-lost", `{"block":7}`}) {
		t.Errorf("%+v", at)
	}
	c = newClient(t, -1, refuse(http.StatusConflict, wire.ErrNotLost.Name))
	if _, err := c.ConfirmLost(t.Context(), 7); !errors.Is(err, wire.ErrNotLost) {
		t.Error(err)
	}
}

func TestRemoveStorage(t *testing.T) {
	var asked calls[called]
	gone := record(t, &asked, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	c := newClient(t, -1, gone)
	for _, test := range []struct {
		id    string
		force bool
		uri   string
	}{
		{"s-a", false, "/v1/storages/s-a"},
		{"http://[::1]:8082", true, "/v1/storages/http:%2F%2F%5B::1%5D:8082?force=true"},
	} {
		if err := c.RemoveStorage(t.Context(), test.id, test.force); err != nil {
			t.Error(err)
		}
		if at := asked.last(t); at != (called{"DELETE", test.uri, ""}) {
			t.Errorf("%+v", at)
		}
	}
	c = newClient(t, -1, refuse(http.StatusConflict, wire.ErrTooFewCopies.Name))
	if err := c.RemoveStorage(t.Context(), "s-a", false); !errors.Is(err, wire.ErrTooFewCopies) {
		t.Error(err)
	}
	missing := refuse(http.StatusNotFound, wire.ErrNotFound.Name)
	if err := newClient(t, -1, nil, missing).RemoveStorage(t.Context(), "s-a", false); !errors.Is(err,
		wire.ErrNotFound) {
		t.Errorf("removing an unknown storage node: %v", err)
	}
	unknown := refuse(http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name)
	if err := newClient(t, -1, unknown, missing).RemoveStorage(t.Context(), "s-a", false); err != nil {
		t.Errorf("an earlier try may have removed it, and %v", err)
	}
}

func TestSentinelsOfIntegrity(t *testing.T) {
	for name, want := range map[string]error{
		wire.ErrTooFewCopies.Name: wire.ErrTooFewCopies, wire.ErrNotLost.Name: wire.ErrNotLost,
		wire.ErrInboxFull.Name: wire.ErrInboxFull, wire.ErrRemoved.Name: wire.ErrRemoved,
	} {
		e := &wire.Error{Problem: wire.Problem{Type: wire.ProblemBase + name, Status: 409}}
		if !errors.Is(e, want) {
			t.Errorf("%s is not %v", name, want)
		}
	}
}
