package nodeauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// node answers the calls of a test. Its methods are used by one call at a time.
type node struct {
	t        *testing.T
	receiver *Receiver
	secret   *Secret
	acts     int // requests that had an effect
	opens    int // requests that open a session
	bearers  int // requests with a bearer token

	older bool // it knows no sessions
	// instead is an answer in the place of the signed one, after the request had its effect.
	instead func() *http.Response
	// refuse is an answer in the place of a session.
	refuse func() *http.Response
}

func newNode(t *testing.T) *node {
	n := &node{t: t, secret: NewSecret("secret")}
	n.restart()
	return n
}

// restart makes the node forget its sessions.
func (n *node) restart() {
	n.receiver = NewReceiver(NewProcess(), map[string]Accepted{Masters: {Secret: n.secret}})
}

func response(status int, auth, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{wire.HeaderAuth: {auth}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// send implements [Send].
func (n *node) send(r *http.Request) (*http.Response, error) {
	r.RequestURI = r.URL.RequestURI()
	if r.URL.Path == wire.PathSession {
		n.opens++
		if n.older {
			return response(http.StatusNotFound, "", ""), nil
		}
		if n.refuse != nil {
			if answer := n.refuse(); answer != nil {
				return answer, nil
			}
		}
		answer, err := n.receiver.Open(r.Body, "")
		switch {
		case errors.Is(err, ErrNoSession):
			return response(http.StatusUnauthorized, NewSession, ""), nil
		case err != nil:
			return response(http.StatusUnauthorized, Refused, err.Error()), nil
		}
		return response(http.StatusOK, "", string(answer)), nil
	}
	if r.Header.Get("Authorization") != "" {
		n.bearers++
		return response(http.StatusOK, Refused, "older"), nil
	}
	if n.older {
		return response(http.StatusUnauthorized, "", "no token"), nil
	}
	p, body, err := n.receiver.Check(r, "", false)
	if err != nil {
		return response(http.StatusUnauthorized, NewSession, ""), nil
	}
	if body != nil {
		if _, err := io.ReadAll(body); err != nil {
			n.t.Error(err)
		}
	}
	n.acts++
	if n.instead != nil {
		return n.instead(), nil
	}
	sum := sha256.Sum256([]byte("done"))
	answer := response(http.StatusOK, "", "done")
	answer.Header.Set(wire.HeaderAuth, p.Answer(http.StatusOK, answer.Header, sum[:]))
	return answer, nil
}

const nodeURL = "http://node:1"

// call calls a node and reads its answer.
func call(c *Caller, n *node, method string, header http.Header) (*http.Response, error) {
	return callWith(context.Background(), c, n, method, header)
}

func callWith(
	ctx context.Context, c *Caller, n *node, method string, header http.Header,
) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, nodeURL+"/x", bytes.NewReader([]byte("body")))
	if err != nil {
		return nil, err
	}
	r.Header = header
	if header == nil {
		r.Header = http.Header{}
	}
	resp, err := c.Do(r, Credential{Secret: n.secret, Purpose: Masters}, n.send)
	if err != nil {
		return nil, err
	}
	_, err = io.ReadAll(resp.Body)
	return resp, err
}

func newTestCaller(n *node, older func() bool) *Caller {
	return NewCaller(NewProcess(), n.send, func() string { return "test" }, older)
}

var repeated = http.Header{wire.HeaderIdempotencyKey: {}}

// TestUnsignedRefusalIsNoAnswer checks that a refusal without a MAC never looks as if nothing was done, and that only a
// request which may be repeated is sent again.
func TestUnsignedRefusalIsNoAnswer(t *testing.T) {
	for _, said := range []string{NewSession, Refused} {
		for name, c := range map[string]struct {
			method string
			header http.Header
			acts   int
		}{
			"a change":             {http.MethodPost, nil, 1},
			"a repeatable request": {http.MethodPost, repeated, 2},
			"a read":               {http.MethodGet, nil, 2},
		} {
			n := newNode(t)
			n.instead = func() *http.Response { return response(http.StatusUnauthorized, said, "<html>") }
			if said == Refused {
				c.acts = 1
			}
			resp, err := call(newTestCaller(n, nil), n, c.method, c.header)
			if !errors.Is(err, ErrAnswer) || NotSent(err) || n.acts != c.acts {
				t.Errorf("%s, %s: %v, %v, %d requests had an effect", said, name, resp, err, n.acts)
			}
		}
	}
}

// TestRefusedSessionAfterARequest checks that a refusal to open another session is no answer to a request that was
// sent.
func TestRefusedSessionAfterARequest(t *testing.T) {
	n := newNode(t)
	caller := newTestCaller(n, nil)
	n.instead = func() *http.Response {
		n.refuse = func() *http.Response { return response(http.StatusUnauthorized, Refused, "") }
		return response(http.StatusUnauthorized, NewSession, "")
	}
	if resp, err := call(caller, n, http.MethodPost, repeated); !errors.Is(err, ErrAnswer) || NotSent(err) ||
		n.acts != 1 {
		t.Errorf("%v, %v, %d requests had an effect", resp, err, n.acts)
	}
	resp, err := call(caller, n, http.MethodPost, repeated)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || resp.Header.Get(wire.HeaderAuth) != Refused ||
		n.acts != 1 {
		t.Errorf("no session: %v, %v, %d requests had an effect", resp, err, n.acts)
	}
}

// TestChangeAfterARestart checks that a change reaches a node that was restarted, although it is sent once.
func TestChangeAfterARestart(t *testing.T) {
	n := newNode(t)
	caller := newTestCaller(n, nil)
	for i := range 3 {
		resp, err := call(caller, n, http.MethodPost, nil)
		if err != nil || resp.StatusCode != http.StatusOK || n.acts != i+1 {
			t.Errorf("call %d: %v, %v, %d requests had an effect", i, resp, err, n.acts)
		}
		n.restart()
	}
}

// TestRestartWhileASessionIsOpened checks that a node may be restarted between the two requests that open a session.
func TestRestartWhileASessionIsOpened(t *testing.T) {
	n := newNode(t)
	n.refuse = func() *http.Response {
		if n.opens == 2 {
			n.restart()
		}
		return nil
	}
	if resp, err := call(newTestCaller(n, nil), n, http.MethodPost, nil); err != nil ||
		resp.StatusCode != http.StatusOK || n.opens != 4 {
		t.Errorf("%v, %v, %d requests to open a session", resp, err, n.opens)
	}
}

// TestUnsignedAnswerEndsTheSession checks that the call after an answer without a MAC opens another session.
func TestUnsignedAnswerEndsTheSession(t *testing.T) {
	for _, instead := range []*http.Response{
		response(http.StatusUnauthorized, "", "no token"), response(http.StatusOK, "forged", "done"),
		response(http.StatusNoContent, "", ""),
	} {
		n := newNode(t)
		caller := newTestCaller(n, nil)
		n.instead = func() *http.Response { return instead }
		if resp, err := call(caller, n, http.MethodPost, repeated); !errors.Is(err, ErrAnswer) {
			t.Errorf("status %d: %v, %v", instead.StatusCode, resp, err)
		}
		n.instead = nil
		resp, err := call(caller, n, http.MethodPost, repeated)
		if err != nil || resp.StatusCode != http.StatusOK || n.opens != 4 {
			t.Errorf("after status %d: %v, %v, %d requests to open a session", instead.StatusCode, resp, err, n.opens)
		}
	}
}

// TestNoBearerAfterAProof checks that an address which has proved the secret gets no token for an hour after its last
// answer, and that the first token to an address gives a warning.
func TestNoBearerAfterAProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		caller := newTestCaller(n, func() bool { return true })
		var warned []string
		caller.WarnBearer(func(base string) { warned = append(warned, base) })
		for range 2 {
			if _, err := call(caller, n, http.MethodPost, repeated); err != nil {
				t.Fatal(err)
			}
			time.Sleep(provedTime - time.Second)
		}
		n.older = true
		if _, err := call(caller, n, http.MethodPost, repeated); !errors.Is(err, ErrAnswer) {
			t.Errorf("the session of a node that is an older one now: %v", err)
		}
		if _, err := call(caller, n, http.MethodPost, repeated); !errors.Is(err, ErrUnsigned) || !NotSent(err) ||
			n.bearers != 0 {
			t.Errorf("within the hour: %v, %d tokens were sent", err, n.bearers)
		}
		time.Sleep(2 * time.Second)
		for range 2 {
			resp, err := call(caller, n, http.MethodPost, repeated)
			if err != nil || resp.Header.Get(wire.HeaderAuth) != "" {
				t.Errorf("after the hour: %v, %v", resp, err)
			}
		}
		if n.bearers != 2 || fmt.Sprint(warned) != "["+nodeURL+"]" {
			t.Errorf("%d tokens were sent, with the warnings %v", n.bearers, warned)
		}
	})
}

// TestCallsShareAFailure checks that concurrent calls to a node that does not answer fail together, that a call which
// is given up does not end the attempt of the others, and that the last one does.
func TestCallsShareAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dial = 2 * time.Second
		failure := errors.New("no route")
		attempts, ended := 0, 0
		n := newNode(t)
		caller := NewCaller(NewProcess(), func(r *http.Request) (*http.Response, error) {
			attempts++
			select {
			case <-time.After(dial):
				return nil, failure
			case <-r.Context().Done():
				ended++
				return nil, r.Context().Err()
			}
		}, func() string { return "test" }, nil)
		began := time.Now()
		given, giveUp := context.WithTimeout(t.Context(), time.Second)
		defer giveUp()
		var group sync.WaitGroup
		group.Go(func() {
			if _, err := callWith(given, caller, n, http.MethodPost, nil); !errors.Is(err, context.DeadlineExceeded) ||
				!NotSent(err) {
				t.Errorf("the call that is given up: %v", err)
			}
		})
		synctest.Wait()
		for range 10 {
			group.Go(func() {
				if _, err := callWith(t.Context(), caller, n, http.MethodPost, nil); !errors.Is(err, failure) ||
					!NotSent(err) {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if took := time.Since(began); took != dial || attempts != 1 {
			t.Errorf("%d attempts, %v", attempts, took)
		}
		alone, giveUpAlone := context.WithTimeout(t.Context(), time.Second)
		defer giveUpAlone()
		if _, err := callWith(alone, caller, n, http.MethodPost, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if attempts != 2 || ended != 1 {
			t.Errorf("%d attempts, %d ended", attempts, ended)
		}
	})
}

// TestUncoveredHeadersAreDeleted checks that a handler sees only headers that the MAC covers, or that the connection
// needs.
func TestUncoveredHeadersAreDeleted(t *testing.T) {
	n := newNode(t)
	checked := false
	caller := NewCaller(NewProcess(), n.send, func() string { return "test" }, nil)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, nodeURL+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/plain")
	resp, err := caller.Do(r, Credential{Secret: n.secret, Purpose: Masters},
		func(r *http.Request) (*http.Response, error) {
			r.Header.Add("Accept", "second")
			r.Header.Set("If-None-Match", "*")
			r.Header.Set("User-Agent", "agent")
			r.RequestURI = "/x"
			if _, _, err := n.receiver.Check(r, "", false); err != nil {
				t.Fatal(err)
			}
			r.Header.Del(wire.HeaderAuth)
			checked = fmt.Sprint(r.Header) == "map[Accept:[text/plain] User-Agent:[agent]]"
			if !checked {
				t.Error(r.Header)
			}
			return nil, io.EOF
		})
	if !errors.Is(err, io.EOF) || !checked {
		t.Errorf("%v, %v", resp, err)
	}
}
