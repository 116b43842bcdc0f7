package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func dialError() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no master":     {},
		"no scheme":     {Masters: []string{"127.0.0.1:8000"}},
		"other scheme":  {Masters: []string{"ftp://127.0.0.1"}},
		"a user":        {Masters: []string{"http://u:s3cret@127.0.0.1"}},
		"a query":       {Masters: []string{"http://127.0.0.1/?a=b"}},
		"no host":       {Masters: []string{"http:///x"}},
		"a broken line": {Masters: []string{"http://127.0.0.1"}, Token: "s3cret\n"},
	} {
		_, err := New(cfg)
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows a secret: %v", name, err)
		}
	}
	c, err := New(Config{Masters: []string{"http://127.0.0.1:1/"}})
	if err != nil || c.masters[0] != "http://127.0.0.1:1" {
		t.Errorf("%v, %v", c, err)
	}
}

func TestAppendSendsTheRecord(t *testing.T) {
	want := wire.Position{Block: 3, Offset: 4, Index: 50, Time: 6, Leaf: chain.Hash{7}, State: wire.StateCommitted}
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "hello" {
			t.Errorf("body %q, %v", body, err)
		}
		if r.Method != http.MethodPost || r.URL.String() != "http://m0/v1/records" {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		for name, value := range map[string]string{
			"Authorization": "Bearer " + testToken, wire.HeaderKey: "schlüssel",
			"Content-Type":            "text/plain; charset=utf-8",
			wire.HeaderIdempotencyKey: "mine",
		} {
			if got := r.Header.Get(name); got != value {
				t.Errorf("%s is %q, want %q", name, got, value)
			}
		}
		reply(w, http.StatusCreated, want)
	})
	at, err := c.Append(t.Context(), Entry{
		Payload: []byte("hello"), Key: "schlüssel", Type: "text/plain; charset=utf-8", IdempotencyKey: "mine",
	})
	if err != nil || at != want {
		t.Errorf("%+v, %v", at, err)
	}
}

func TestAppendRefusesWhatNoClusterTakes(t *testing.T) {
	c := newClient(t, -1, nil)
	if _, err := c.Append(t.Context(), Entry{}); !errors.Is(err, wire.ErrEmptyBody) ||
		!errors.Is(err, wire.ErrBadRequest) {
		t.Error(err)
	}
	if _, err := c.Append(t.Context(), Entry{Payload: []byte("x"), Key: strings.Repeat("k", 256)}); !errors.Is(err,
		chain.ErrRecord) {
		t.Error(err)
	}
	if _, err := c.Append(t.Context(), Entry{Payload: []byte("x"), Type: "\xff"}); !errors.Is(err, chain.ErrRecord) {
		t.Error(err)
	}
	for _, text := range []string{"two\nlines", "tab\t", "a\x00b", "\x7f", "\x1b[2J"} {
		for _, e := range []Entry{{Payload: []byte("x"), Key: text}, {Payload: []byte("x"), Type: text}} {
			_, err := c.Append(t.Context(), e)
			if !errors.Is(err, wire.ErrBadRequest) || !strings.Contains(err.Error(), "control character 0x") {
				t.Errorf("%q: %v", text, err)
			}
			if _, err := c.AppendWait(t.Context(), e, time.Second); !errors.Is(err, wire.ErrBadRequest) ||
				!strings.Contains(err.Error(), "control character 0x") {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func TestAppendOfAKeyThatNoHeaderHolds(t *testing.T) {
	for _, key := range []string{" spaces ", " lead", "trail "} {
		c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			var got string
			err := wire.ParseFrames(body, func(key, _, _ []byte) error { got = string(key); return nil })
			if r.URL.Path != "/v1/records:batch" || err != nil || got != key ||
				r.Header.Get(wire.HeaderIdempotencyKey) != "mine" {
				t.Errorf("%s: key %q, want %q; %v", r.URL, got, key, err)
			}
			reply(w, http.StatusCreated, wire.Positions{Records: []wire.Position{
				{Block: 9, Leaf: chain.Hash{7}, State: wire.StateCommitted},
			}})
		})
		at, err := c.Append(t.Context(), Entry{Payload: []byte("x"), Key: key, IdempotencyKey: "mine"})
		if err != nil || at.Block != 9 {
			t.Errorf("%q: %+v, %v", key, at, err)
		}
		if _, err := c.AppendWait(t.Context(), Entry{Payload: []byte("x"), Key: key}, time.Second); !errors.Is(err,
			wire.ErrBadRequest) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestAppendWait(t *testing.T) {
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("wait") != "stored" || r.URL.Query().Get("timeout") != "2.5s" {
			t.Errorf("query %q", r.URL.RawQuery)
		}
		reply(w, http.StatusAccepted, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 1})
	})
	at, err := c.AppendWait(t.Context(), Entry{Payload: []byte("x")}, 2500*time.Millisecond)
	if err != nil || at.State != wire.StateCommitted {
		t.Errorf("%+v, %v", at, err)
	}
}

func TestRetriesGoOnWithTheNextMasterUnderOneKey(t *testing.T) {
	var keys calls[string]
	c := newClient(t, -1,
		nil, // down
		func(_ http.ResponseWriter, r *http.Request) {
			keys.add(r.Header.Get(wire.HeaderIdempotencyKey))
			panic(http.ErrAbortHandler)
		},
		func(w http.ResponseWriter, r *http.Request) {
			keys.add(r.Header.Get(wire.HeaderIdempotencyKey))
			problem(w, http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name)
		},
		func(w http.ResponseWriter, r *http.Request) {
			keys.add(r.Header.Get(wire.HeaderIdempotencyKey))
			reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 5})
		},
	)
	h := c.send
	c.send = func(r *http.Request) (resp *http.Response, err error) {
		defer func() {
			if recover() != nil {
				resp, err = nil, io.ErrUnexpectedEOF
			}
		}()
		return h(r)
	}
	for call := range 2 {
		at, err := c.Append(t.Context(), Entry{Payload: []byte("x")})
		if err != nil || at.Block != 5 {
			t.Fatalf("%+v, %v", at, err)
		}
		got := keys.all()
		if len(got) != 3+call {
			t.Fatalf("call %d: %d requests in all", call, len(got))
		}
		if got[0] == "" || got[0] != got[1] || got[1] != got[2] {
			t.Errorf("the tries went out under different keys: %q", got)
		}
		if call == 1 && got[3] == got[0] {
			t.Error("two appends went out under one key")
		}
	}
}

func TestNoLeaderIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		leader := start.Add(4 * time.Second)
		var asked atomic.Int32
		serve := func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			if time.Now().Before(leader) {
				w.Header().Set("Retry-After", "1")
				problem(w, http.StatusServiceUnavailable, wire.ErrNoLeader.Name)
				return
			}
			reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 5})
		}
		c := newClient(t, 0, serve, serve, serve)
		if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 4*time.Second || took > 6*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := asked.Load(); n < 3 || n > 13 {
			t.Errorf("%d requests in 4 s with Retry-After: 1", n)
		}
	})
}

func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, 10*time.Second, nil, nil)
		start := time.Now()
		_, err := c.Append(t.Context(), Entry{Payload: []byte("x")})
		if !errors.Is(err, wire.ErrNoAnswer) || errors.Is(err, wire.ErrUnknownOutcome) {
			t.Error(err)
		}
		if took := time.Since(start); took < 5*time.Second || took > 10*time.Second {
			t.Errorf("patience of 10 s: it took %v", took)
		}

		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err = c.Cluster(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, wire.ErrNoAnswer) {
			t.Error(err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("a deadline of 2 s: it took %v", took)
		}

		done, stop := context.WithCancel(t.Context())
		stop()
		if _, err := c.Cluster(done); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestBacklogIsWaitedForOnTheSameMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen calls[time.Time]
		c := newClient(t, 0, func(w http.ResponseWriter, _ *http.Request) {
			if seen.add(time.Now()) < 3 {
				w.Header().Set("Retry-After", "2")
				problem(w, http.StatusServiceUnavailable, wire.ErrBacklog.Name)
				return
			}
			reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 5})
		}, func(http.ResponseWriter, *http.Request) { t.Error("the other master was asked") })
		if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		at := seen.all()
		for i := 1; i < len(at); i++ {
			if wait := at[i].Sub(at[i-1]); wait < 2*time.Second || wait > 3*time.Second {
				t.Errorf("Retry-After of 2 s: it waited %v", wait)
			}
		}
		refuses := newClient(t, -1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "2")
			problem(w, http.StatusServiceUnavailable, wire.ErrBacklog.Name)
		})
		_, err := refuses.Append(t.Context(), Entry{Payload: []byte("x")})
		var e *wire.Error
		if !errors.Is(err, wire.ErrBacklog) || !errors.As(err, &e) || e.RetryAfter != 2*time.Second {
			t.Error(err)
		}
	})
}

func TestAHungMasterIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		good := func(w http.ResponseWriter, _ *http.Request) {
			reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Block: 5})
		}
		c := newClient(t, 0, hung, good)
		start := time.Now()
		if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > tryFor+time.Second {
			t.Errorf("it took %v", took)
		}
		start = time.Now()
		if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); err != nil || time.Since(start) > 0 {
			t.Errorf("%v: the good master was not remembered", err)
		}
	})
}

func TestUnknownOutcomeNamesTheKey(t *testing.T) {
	var key atomic.Pointer[string]
	c := newClient(t, -1, func(w http.ResponseWriter, r *http.Request) {
		k := r.Header.Get(wire.HeaderIdempotencyKey)
		key.Store(&k)
		problem(w, http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name)
	}, nil)
	_, err := c.Append(t.Context(), Entry{Payload: []byte("x")})
	var u *UnknownOutcomeError
	if !errors.As(err, &u) || !errors.Is(err, wire.ErrUnknownOutcome) || u.IdempotencyKey != *key.Load() ||
		!strings.Contains(err.Error(), u.IdempotencyKey) {
		t.Error(err)
	}
	// A refusal is not an unknown outcome.
	c = newClient(t, -1, refuse(http.StatusUnprocessableEntity, wire.ErrKeyReused.Name))
	if _, err := c.Append(t.Context(), Entry{Payload: []byte("x")}); !errors.Is(err, wire.ErrKeyReused) ||
		errors.Is(err, wire.ErrUnknownOutcome) {
		t.Error(err)
	}
}

// TestUnknownProblemTypes checks that a problem type of a newer version is handled by its HTTP status, and that its
// name is in the error.
func TestUnknownProblemTypes(t *testing.T) {
	for _, c := range []struct {
		status int
		others int // masters that are tried after the first
		maybe  bool
	}{
		{http.StatusServiceUnavailable, 1, true}, {http.StatusTooManyRequests, 1, false},
		{http.StatusInternalServerError, 1, true}, {http.StatusConflict, 0, false}, {http.StatusTeapot, 0, false},
	} {
		var asked calls[int]
		client := newClient(t, -1, refuse(c.status, "of-a-newer-version"),
			func(w http.ResponseWriter, r *http.Request) {
				asked.add(1)
				refuse(c.status, "of-a-newer-version")(w, r)
			})
		_, err := client.Append(t.Context(), Entry{Payload: []byte("x")})
		var e *wire.Error
		if !errors.As(err, &e) || e.Problem.Status != c.status ||
			!strings.Contains(err.Error(), "of-a-newer-version") ||
			len(asked.all()) != c.others || errors.Is(err, wire.ErrUnknownOutcome) != c.maybe {
			t.Errorf("%d: %d others were asked: %v", c.status, len(asked.all()), err)
		}
	}
}

func TestFinalAnswersEndTheCall(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		want   error
	}{
		wire.ErrBadRequest.Name: {400, wire.ErrBadRequest}, wire.ErrEmptyBody.Name: {400, wire.ErrEmptyBody},
		wire.ErrUnauthorized.Name: {401, wire.ErrUnauthorized}, wire.ErrForbidden.Name: {403, wire.ErrForbidden},
		wire.ErrNotFound.Name: {404, wire.ErrNotFound}, wire.ErrSealIndex.Name: {404, wire.ErrSealIndex},
		wire.ErrMethod.Name: {405, wire.ErrMethod}, wire.ErrNotMined.Name: {409, wire.ErrNotMined},
		wire.ErrNotSealed.Name: {409, wire.ErrNotSealed}, wire.ErrNotCovered.Name: {409, wire.ErrNotCovered},
		wire.ErrNameTaken.Name: {409, wire.ErrNameTaken}, wire.ErrTooLarge.Name: {413, wire.ErrTooLarge},
		wire.ErrEncoding.Name: {415, wire.ErrEncoding}, wire.ErrKeyReused.Name: {422, wire.ErrKeyReused},
		wire.ErrOtherStart.Name: {409, wire.ErrOtherStart},
		wire.ErrFenced.Name:     {409, wire.ErrFenced}, wire.ErrNotNext.Name: {409, wire.ErrNotNext},
		wire.ErrBadBlock.Name: {422, wire.ErrBadBlock},
	} {
		client := newClient(t, 0, refuse(c.status, name), func(http.ResponseWriter, *http.Request) {
			t.Errorf("%s: the other master was asked", name)
		})
		_, err := client.GetIndex(t.Context(), 1)
		var e *wire.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Problem.Status != c.status {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := fmt.Sprintf("http://m0: title of %s: detail of %s (%s, HTTP %d)", name, name, name,
			c.status); e.Error() != want {
			t.Errorf("%q, want %q", e, want)
		}
	}
	if !errors.Is(wire.ErrSealIndex, wire.ErrNotFound) {
		t.Error("the index of a seal is not found")
	}
}

func TestOnlyOneRoundWhereWaitingDoesNotHelp(t *testing.T) {
	var asked atomic.Int32
	internal := func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		problem(w, http.StatusInternalServerError, wire.ErrInternal.Name)
	}
	stranger := func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, "<html>not found</html>")
	}
	c := newClient(t, 0, internal, stranger)
	_, err := c.GetIndex(t.Context(), 1)
	var e *wire.Error
	if !errors.As(err, &e) || asked.Load() != 2 {
		t.Errorf("%v after %d requests", err, asked.Load())
	}
	if errors.Is(err, wire.ErrNotFound) {
		t.Error("a stranger's word was taken for the leader's")
	}
}

func TestCreateProjectIsNotRepeatedBlindly(t *testing.T) {
	var asked atomic.Int32
	good := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != `{"name":"logs"}` {
			t.Errorf("body %s", body)
		}
		asked.Add(1)
		reply(w, http.StatusCreated, wire.CreatedProject{ID: 2, Name: "logs", Token: "t"})
	}
	c := newClient(t, 0, nil, refuse(http.StatusServiceUnavailable, wire.ErrNoLeader.Name), good)
	p, err := c.CreateProject(t.Context(), wire.NewProject{Name: "logs"})
	if err != nil || p.Token != "t" || asked.Load() != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	c = newClient(t, 0, refuse(http.StatusServiceUnavailable, wire.ErrUnknownOutcome.Name), good)
	if _, err := c.CreateProject(t.Context(), wire.NewProject{Name: "logs"}); !errors.Is(err, wire.ErrUnknownOutcome) ||
		asked.Load() != 1 {
		t.Errorf("%v; asked %d times", err, asked.Load())
	}
}

func TestNoErrorShowsTheToken(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	real, err := New(Config{Masters: []string{closed.URL}, Token: testToken, RetryFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	errs := []error{}
	for _, c := range []*Client{
		real, newClient(t, -1, refuse(401, wire.ErrUnauthorized.Name)),
		newClient(t, -1, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header) }),
	} {
		_, err := c.Append(t.Context(), Entry{Payload: []byte("x")})
		errs = append(errs, err)
		_, err = c.Get(t.Context(), 1, 2)
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err == nil || strings.Contains(err.Error(), testToken) {
			t.Errorf("%v", err)
		}
	}
}

func TestALargeRecordIsAnnouncedFirst(t *testing.T) {
	var limit atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > limit.Load() {
			problem(w, http.StatusRequestEntityTooLarge, wire.ErrTooLarge.Name)
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		reply(w, http.StatusCreated, wire.Position{Leaf: chain.Hash{7}, State: wire.StateCommitted, Index: uint64(n)})
	}))
	defer server.Close()
	c, err := New(Config{Masters: []string{server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdle()
	payload := make([]byte, 8<<20)
	for range 5 { // the refusal must always arrive completely, not as a broken connection
		if _, err := c.Append(t.Context(), Entry{Payload: payload}); !errors.Is(err, wire.ErrTooLarge) {
			t.Error(err)
		}
	}
	limit.Store(16 << 20)
	if at, err := c.Append(t.Context(), Entry{Payload: payload}); err != nil || at.Index != uint64(len(payload)) {
		t.Errorf("%+v, %v", at, err)
	}
}
