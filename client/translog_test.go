package client

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

func TestLogCalls(t *testing.T) {
	const note = "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— example.com/log AAAAAAA=\n"
	var asked calls[string]
	c := newClient(t, 0, func(w http.ResponseWriter, r *http.Request) {
		asked.add(r.Method + " " + r.URL.RequestURI())
		switch {
		case r.URL.Path == "/checkpoint":
			w.Header().Set("Content-Type", wire.TypeNote)
			_, _ = fmt.Fprint(w, note)
		case r.Method == http.MethodDelete:
			problem(w, http.StatusConflict, wire.ErrLastKey.Name)
		case r.Method == http.MethodPost:
			reply(w, http.StatusCreated, wire.LogKey{ID: "0123abcd", VerifierKey: "v"})
		default:
			reply(w, http.StatusOK, wire.Log{Origin: "example.com/log",
				Keys: []wire.LogKey{{ID: "0123abcd", VerifierKey: "v"}}})
		}
	})
	l, err := c.Log(t.Context())
	checkpoint, err2 := c.Checkpoint(t.Context())
	added, err3 := c.AddLogKey(t.Context())
	if err := errors.Join(err, err2, err3); err != nil || l.Origin != "example.com/log" || string(checkpoint) != note ||
		added != l.Keys[0] {
		t.Errorf("%+v, %q, %+v, %v", l, checkpoint, added, err)
	}
	if err := c.RetireLogKey(t.Context(), "a/b"); !errors.Is(err, wire.ErrLastKey) {
		t.Errorf("the last key: %v", err)
	}
	want := []string{"GET /v1/log", "GET /checkpoint", "POST /v1/log/keys", "DELETE /v1/log/keys/a%2Fb"}
	if got := asked.all(); !slices.Equal(got, want) {
		t.Errorf("asked %q", got)
	}
}

// TestLogKeyIsAddedOnce checks that the client does not repeat the creation of a key that may have succeeded.
func TestLogKeyIsAddedOnce(t *testing.T) {
	var asked calls[string]
	lost := func(w http.ResponseWriter, r *http.Request) {
		asked.add(r.Method)
		problem(w, http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name)
	}
	c := newClient(t, 0, lost, lost)
	if k, err := c.AddLogKey(t.Context()); !errors.Is(err, wire.ErrUnknownOutcome) || k.ID != "" ||
		len(asked.all()) != 1 {
		t.Errorf("%+v, %v after %q", k, err, asked.all())
	}
}
