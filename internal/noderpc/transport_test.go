package noderpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// proxy records the requests that reach the proxy of the environment.
var proxy record[*http.Request]

// TestMain sets the proxy for all tests, because package net/http reads the environment once. It uses no proxy for
// loopback addresses.
func TestMain(m *testing.M) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { proxy.add(r) }))
	os.Setenv("HTTP_PROXY", server.URL)
	os.Exit(m.Run())
}

// eachCall makes calls of every kind to a node.
func eachCall(t *testing.T, url string) map[string]error {
	t.Helper()
	transport := toOlder()
	defer transport.CloseIdle()
	masters, workers := NewMasters(transport, testSecrets.For(nodeauth.Masters)), NewWorkers(transport, testSecrets)
	workers.ToOlder(func() bool { return true })
	ctx := t.Context()
	worker, order := wire.Worker{URL: url, Token: masterToken, Older: true}, wire.Order{Epoch: 1, Term: 1}
	errs := map[string]error{}
	_, errs["Member"] = masters.Member(ctx, url)
	_, errs["Register"] = masters.Register(ctx, url, wire.Registration{}, false)
	_, errs["Submit"] = masters.Submit(ctx, url, []byte("x"), false)
	_, errs["Submit, fresh"] = masters.Submit(ctx, url, make([]byte, 1<<20), true)
	_, errs["Announce, forwarded"] = masters.Announce(ctx, url, wire.Member{}, true)
	errs["ChainBlocks"] = masters.ChainBlocks(ctx, url, 0, 1, func(chain.Block) error { return nil })
	_, errs["StorageStatus"] = workers.StorageStatus(ctx, worker, order)
	_, errs["PutBlock"] = workers.PutBlock(ctx, worker, order, 1, make([]byte, 1<<20))
	errs["Transfer"] = workers.Transfer(ctx, url, "s3cret-ticket", func(w io.Writer) error {
		_, err := w.Write([]byte("x"))
		return err
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := transport.RoundTrip(request); err != nil {
		errs["RoundTrip"] = err
	} else {
		errs["RoundTrip"] = fmt.Errorf("status %d", response.StatusCode)
		response.Body.Close()
	}
	return errs
}

// TestNoProxy checks that the proxy of the environment gets no call between nodes, and so no token. It gets the calls
// to witnesses, which have no token.
func TestNoProxy(t *testing.T) {
	const elsewhere = "http://255.255.255.255" // no connection to this address is ever made
	for name, err := range eachCall(t, elsewhere) {
		if err == nil || name != "RoundTrip" && !errors.Is(err, wire.ErrNoAnswer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(proxy.all()); n > 0 {
		t.Errorf("%d calls went through the proxy", n)
	}
	if _, err := newWitnesses(t).AddCheckpoint(t.Context(), elsewhere, 0, nil, nil); err != nil {
		t.Error(err)
	}
	if seen := proxy.all(); len(seen) != 1 || seen[0].Header.Get("Authorization") != "" {
		t.Errorf("the call to a witness: %d requests through the proxy", len(seen))
	}
}

// TestNoRedirect checks that a node cannot redirect a call, and its token, to another host.
func TestNoRedirect(t *testing.T) {
	elsewhere, visits := node(t, func(http.ResponseWriter, *http.Request) {})
	redirects, _ := node(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		http.Redirect(w, r, elsewhere.URL+r.URL.Path, http.StatusTemporaryRedirect)
	})
	for name, err := range eachCall(t, redirects.URL) {
		var e *wire.Error
		if name != "RoundTrip" && (!errors.As(err, &e) || e.Problem.Status != http.StatusTemporaryRedirect) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := visits.Load(); n > 0 {
		t.Errorf("%d connections to the target of the redirect", n)
	}
}

func TestNoErrorShowsAToken(t *testing.T) {
	closed, _ := node(t, nil)
	closed.Close()
	w := wire.Worker{URL: closed.URL, Token: masterToken, Older: true}
	errs := eachCall(t, closed.URL)
	errs["a worker"] = fmt.Errorf("%v %+v %#v %s", w, w, w, w)
	for name, err := range errs {
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
