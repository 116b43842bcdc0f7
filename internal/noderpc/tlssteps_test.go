package noderpc

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// stepRig is a node that is called in the steps of the move to TLS.
type stepRig struct {
	mode      *certs.Mode
	transport *Transport
	changes   uint64
}

func newStepRig(t *testing.T, authority certs.Pair) *stepRig {
	t.Helper()
	mode, err := certs.OpenMode(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	mode.Confirm()
	r := &stepRig{mode: mode}
	r.transport = NewSecureTransport(certstest.Open(t, authority, certs.Master, "a"), mode, certs.Master)
	t.Cleanup(r.transport.CloseIdle)
	return r
}

func (r *stepRig) at(t *testing.T, step wire.TLSStep) {
	t.Helper()
	r.changes++
	if err := r.mode.Advance(1, wire.TLSState{Step: step, Change: r.changes}); err != nil {
		t.Fatal(err)
	}
}

// call returns how a URL was called.
func (r *stepRig) call(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := r.transport.RoundTrip(request)
	if err != nil {
		return "error: " + err.Error()
	}
	defer answer.Body.Close()
	return answer.Header.Get("Way")
}

// TestSteps calls a node with certificates and one without at each step. At the step that prefers TLS a node that has
// spoken it is not called in plain text any more, even if one in the path answers in its place.
func TestSteps(t *testing.T) {
	authority := certstest.NewAuthority(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		way := "plain"
		if r.TLS != nil {
			way = "secured"
		}
		w.Header().Set("Way", way)
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secured := httptest.NewUnstartedServer(handler)
	address := secured.Listener.Addr().String()
	inner := secured.Listener
	secured.Listener = tls.NewListener(inner, certstest.Open(t, authority, certs.Master, "b").Server("http/1.1"))
	secured.Start()
	r := newStepRig(t, authority)
	for _, row := range []struct {
		step               wire.TLSStep
		plainNode, tlsNode string
	}{
		{wire.TLSByFlags, "error", "error"},  // as URLs begin with http://
		{wire.TLSAccept, "plain", "secured"}, // at the second call
		{wire.TLSPrefer, "plain", "secured"},
		{wire.TLSAccept, "plain", "secured"}, // at the second call
		{wire.TLSPrefer, "plain", "secured"},
		{wire.TLSRequire, "error", "secured"},
	} {
		if row.step != wire.TLSByFlags {
			r.at(t, row.step)
		}
		if way := r.call(t, plain.URL); !strings.HasPrefix(way, row.plainNode) {
			t.Errorf("%s: a node in plain text is called so: %s", row.step.Name(), way)
		}
		if row.step == wire.TLSAccept {
			if way := r.call(t, "http://"+address); way != "" {
				t.Errorf("a node that refuses plain text is called so: %s", way)
			}
		}
		if way := r.call(t, "http://"+address); !strings.HasPrefix(way, row.tlsNode) {
			t.Errorf("%s: a node with TLS is called so: %s", row.step.Name(), way)
		}
		if way := r.call(t, "https://"+address); way != "secured" {
			t.Errorf("%s: an https URL is called so: %s", row.step.Name(), way)
		}
	}

	r = newStepRig(t, authority)
	r.transport.PreferTLS()
	r.at(t, wire.TLSAccept)
	if way, other := r.call(t, "http://"+address), r.call(t, plain.URL); way != "secured" || other != "plain" {
		t.Errorf("a recovery calls a node with TLS so: %s, and one in plain text so: %s", way, other)
	}
	r = newStepRig(t, authority)
	r.at(t, wire.TLSPrefer)
	if way := r.call(t, "http://"+address); way != "secured" {
		t.Errorf("a node with TLS is called so: %s", way)
	}
	r.transport.CloseIdle()
	secured.Close()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	stripping := &http.Server{Handler: handler}
	served := make(chan error, 1)
	go func() { served <- stripping.Serve(l) }()
	if way := r.call(t, "http://"+address); !strings.HasPrefix(way, "error") {
		t.Errorf("a node that has spoken TLS is called in another way: %s", way)
	}
	// The way back forgets that, even if no node was called meanwhile.
	r.at(t, wire.TLSAccept)
	r.at(t, wire.TLSPrefer)
	if way := r.call(t, "http://"+address); way != "plain" {
		t.Errorf("a node that spoke TLS before the way back is called so: %s", way)
	}
	if err := stripping.Close(); err != nil {
		t.Error(err)
	}
	<-served
}

// TestAcceptUpgrades checks that a node which missed the later steps comes to TLS by itself: it calls one that refuses
// plain text over TLS. That lasts for a while only, as no more than plain text is promised in that step.
func TestAcceptUpgrades(t *testing.T) {
	authority := certstest.NewAuthority(t)
	var calls atomic.Int32 // in plain text
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusBadRequest)
	}))
	defer refusing.Close()
	r := newStepRig(t, authority)
	r.at(t, wire.TLSAccept)
	for range 2 { // an answer of a node that takes plain text is no refusal
		_ = r.call(t, refusing.URL)
	}
	if calls.Load() != 2 {
		t.Errorf("%d calls in plain text", calls.Load())
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	serve := func(l net.Listener) func() {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Way", map[bool]string{true: "secured", false: "plain"}[r.TLS != nil])
		})}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		return func() {
			r.transport.CloseIdle()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-served
		}
	}
	end := serve(tls.NewListener(l, certstest.Open(t, authority, certs.Master, "b").Server("http/1.1")))
	_ = r.call(t, "http://"+address) // refused
	for range 2 {
		if way := r.call(t, "http://"+address); way != "secured" {
			t.Errorf("a node that refused plain text is called so: %s", way)
		}
	}
	end()
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	end = serve(l)
	defer end()
	r.transport.mu.Lock()
	peer := r.transport.peers[address]
	peer.asked = peer.asked.Add(-plainTime)
	r.transport.peers[address] = peer
	r.transport.mu.Unlock()
	if way := r.call(t, "http://"+address); way != "plain" {
		t.Errorf("a node that lost its certificates is called so: %s", way)
	}
}

// TestUnconfirmedAccept checks that a node calls over TLS those that speak it before a leader has confirmed the step
// accept: they may take no plain text by now. Afterwards it calls them in plain text.
func TestUnconfirmedAccept(t *testing.T) {
	authority := certstest.NewAuthority(t)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Way", map[bool]string{true: "secured", false: "plain"}[r.TLS != nil])
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secured := httptest.NewUnstartedServer(handler)
	address := secured.Listener.Addr().String()
	secured.Listener = tls.NewListener(secured.Listener,
		certstest.Open(t, authority, certs.Master, "b").Server("http/1.1"))
	secured.Start()
	defer secured.Close()
	mode, err := certs.OpenMode(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	r := &stepRig{mode: mode}
	r.transport = NewSecureTransport(certstest.Open(t, authority, certs.Master, "a"), mode, certs.Master)
	t.Cleanup(r.transport.CloseIdle)
	r.at(t, wire.TLSAccept)
	for range 2 {
		if way, other := r.call(t, "http://"+address), r.call(t, plain.URL); way != "secured" || other != "plain" {
			t.Errorf("unconfirmed: a node with TLS is called so: %s, and one in plain text so: %s", way, other)
		}
	}
	mode.Confirm()
	if way := r.call(t, plain.URL); way != "plain" {
		t.Errorf("confirmed: a node in plain text is called so: %s", way)
	}
	if way := r.call(t, "http://"+address); way == "secured" {
		t.Errorf("confirmed: a node with TLS is called so: %s", way)
	}
}

// TestAsksOnce makes many calls of a node in plain text at once. It is asked once whether it speaks TLS. A call that
// ends early does not answer for the others.
func TestAsksOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var hellos atomic.Int32
	held := make(chan struct{})
	served := make(chan struct{})
	go func() {
		defer close(served)
		var answering sync.WaitGroup
		defer answering.Wait()
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			answering.Go(func() {
				defer conn.Close()
				var first [1]byte
				if _, err := io.ReadFull(conn, first[:]); err != nil {
					return
				}
				if first[0] == 0x16 {
					hellos.Add(1)
					<-held
				}
				answer := "HTTP/1.1 200 OK\r\nWay: plain\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
				_, _ = conn.Write([]byte(answer))
				_, _ = io.Copy(io.Discard, conn) // until the caller has read that
			})
		}
	}()
	r := newStepRig(t, certstest.NewAuthority(t))
	r.at(t, wire.TLSPrefer)
	asked := func() int {
		r.transport.mu.Lock()
		defer r.transport.mu.Unlock()
		return len(r.transport.asking)
	}
	var calls sync.WaitGroup
	ended, early := context.WithCancel(t.Context())
	calls.Go(func() { r.transport.speaksTLS(ended, l.Addr().String()) })
	for hellos.Load() == 0 {
		runtime.Gosched()
	}
	early()
	for asked() > 0 {
		runtime.Gosched()
	}
	for range 20 {
		calls.Go(func() {
			if way := r.call(t, "http://"+l.Addr().String()); way != "plain" {
				t.Errorf("a node in plain text is called so: %s", way)
			}
		})
	}
	for hellos.Load() < 2 {
		runtime.Gosched()
	}
	close(held)
	calls.Wait()
	if n := hellos.Load(); n != 2 {
		t.Errorf("it was asked %d times", n)
	}
	r.transport.CloseIdle()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-served
}

// TestCheckTLS tries TLS with nodes, whatever the step is. The certificate must be that of the role.
func TestCheckTLS(t *testing.T) {
	authority := certstest.NewAuthority(t)
	node := func(authority certs.Pair, role string) string {
		server := httptest.NewUnstartedServer(http.NotFoundHandler())
		server.Listener = tls.NewListener(server.Listener, certstest.Open(t, authority, role, "b").Server("http/1.1"))
		server.Start()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	r := newStepRig(t, authority)
	r.transport = NewSecureTransport(certstest.Open(t, authority, certs.Master, "a"), r.mode, certs.Storage,
		certs.Miner)
	t.Cleanup(r.transport.CloseIdle)
	storage, miner := node(authority, certs.Storage), node(authority, certs.Miner)
	for _, row := range []struct {
		url, role string
		ok        bool
	}{
		{"http://" + storage, certs.Storage, true},
		{"https://" + storage, certs.Storage, true},
		{"http://" + miner, certs.Miner, true},
		{"http://" + miner, certs.Storage, false},
		{plain.URL, certs.Storage, false},
		{"http://" + node(certstest.NewAuthority(t), certs.Storage), certs.Storage, false},
		{"http://" + node(authority, certs.Master), certs.Master, false}, // not one that this transport calls
	} {
		for _, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire} {
			r.at(t, step)
			if err := r.transport.CheckTLS(t.Context(), row.url, row.role); (err == nil) != row.ok {
				t.Errorf("%s: %+v: %v", step, row, err)
			}
		}
	}
	if err := NewTransport().CheckTLS(t.Context(), "http://"+storage, certs.Storage); err == nil {
		t.Error("a node without certificates speaks TLS")
	}
}

// TestSecuredIsSeen asks nodes that say how they were asked. Only an answer that came over TLS, from the certificate
// that the node says it has, counts as one over TLS.
func TestSecuredIsSeen(t *testing.T) {
	authority := certstest.NewAuthority(t)
	b := certstest.Open(t, authority, certs.Storage, "b")
	own := b.Identity().String()
	var use wire.TLSUse
	var certificate *wire.Certificate
	status := func() wire.StorageStatus {
		said := use
		return wire.StorageStatus{TLS: &said, Certificate: certificate}
	}
	notNext := false
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == wire.PathSession:
			refuse(http.StatusNotFound, wire.ErrNoSuchRoute.Name)(w, r)
		case notNext && r.Method == http.MethodPut:
			w.Header().Set("Content-Type", wire.TypeProblem)
			w.WriteHeader(http.StatusConflict)
			problem := wire.Problem{Type: wire.ProblemBase + wire.ErrNotNext.Name, Status: http.StatusConflict}
			if err := json.NewEncoder(w).Encode(wire.NotNext{Problem: problem, StorageStatus: status()}); err != nil {
				t.Error(err)
			}
		default:
			reply(w, http.StatusOK, status()) // the other kinds of answers have the same fields
		}
	})
	plain := httptest.NewServer(handler)
	defer plain.Close()
	secured := httptest.NewUnstartedServer(handler)
	secured.Listener = tls.NewListener(secured.Listener, b.Server("http/1.1"))
	secured.Start()
	defer secured.Close()
	overTLS := "https" + strings.TrimPrefix(secured.URL, "http")
	r := newStepRig(t, authority)
	r.transport = NewSecureTransport(certstest.Open(t, authority, certs.Master, "a"), r.mode, certs.Storage)
	r.transport.Identify(nodeauth.NewProcess(), func() string { return "test" }, func() bool { return true })
	t.Cleanup(r.transport.CloseIdle)
	workers := NewWorkers(r.transport, testSecrets)
	workers.ToOlder(func() bool { return true })
	masters := NewMasters(r.transport, testSecrets.For(nodeauth.Masters))
	r.at(t, wire.TLSAccept)
	for _, row := range []struct {
		url         string
		says        bool
		certificate *wire.Certificate
		want        bool
	}{
		{overTLS, true, &wire.Certificate{Identity: own}, true},
		{overTLS, false, &wire.Certificate{Identity: own}, false},
		{overTLS, true, &wire.Certificate{Identity: own + "x"}, false}, // a relay with another certificate
		{overTLS, true, nil, false},
		{plain.URL, true, &wire.Certificate{Identity: own}, false},
	} {
		use, certificate = wire.TLSUse{Step: wire.TLSPrefer, Secured: row.says}, row.certificate
		check := func(call string, got *wire.TLSUse, err error) {
			t.Helper()
			if err != nil || got == nil || got.Secured != row.want || got.Step != wire.TLSPrefer {
				t.Errorf("%s at %s, which says %v with %+v: %+v, %v", call, row.url, row.says, row.certificate, got,
					err)
			}
		}
		ctx, w, order := t.Context(), olderWorker(row.url), wire.Order{Epoch: 1, Term: 1}
		s, err := workers.StorageStatus(ctx, w, order)
		check("the status of a storage node", s.TLS, err)
		miner, err := workers.MinerStatus(ctx, w, order)
		check("the status of a miner", miner.TLS, err)
		member, err := masters.Member(ctx, row.url)
		check("a master", member.TLS, err)
		s, err = workers.PutBlock(ctx, w, order, 1, []byte("block"))
		check("a block", s.TLS, err)
		notNext = true
		_, err = workers.PutBlock(ctx, w, order, 1, []byte("block"))
		if has, ok := errors.AsType[*wire.NotNextError](err); !ok {
			t.Errorf("a block that is not next: %v", err)
		} else {
			check("a block that is not next", has.Status.TLS, nil)
		}
		notNext = false
	}
}

// TestPortOfHTTP checks that a URL without a port keeps that of http when it is called over TLS.
func TestPortOfHTTP(t *testing.T) {
	r := newStepRig(t, certstest.NewAuthority(t))
	r.at(t, wire.TLSRequire)
	for url, want := range map[string]string{
		"http://127.0.0.1/x": "https://127.0.0.1:80/x", "http://[::1]/x": "https://[::1]:80/x",
		"http://127.0.0.1:8000/x": "https://127.0.0.1:8000/x", "https://127.0.0.1/x": "https://127.0.0.1/x",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, sent := r.transport.choose(request); sent.URL.String() != want {
			t.Errorf("%s is called at %s, want %s", url, sent.URL, want)
		}
	}
}

// TestOnlyTLS sends a request with the token of a user to nodes in plain text and with TLS. One in the path that
// answers in plain text gets nothing.
func TestOnlyTLS(t *testing.T) {
	authority := certstest.NewAuthority(t)
	var reached atomic.Int32
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer plain.Close()
	secured := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("Authorization"))) // the client reports a failure
	}))
	secured.Listener = tls.NewListener(secured.Listener,
		certstest.Open(t, authority, certs.Master, "b").Server("http/1.1"))
	secured.Start()
	defer secured.Close()
	r := newStepRig(t, authority)
	for _, step := range []wire.TLSStep{wire.TLSAccept, wire.TLSPrefer, wire.TLSRequire} {
		r.at(t, step)
		ask := func(url string) (*exchange.Answer, error) {
			return exchange.Do(exchange.OnlyTLS(t.Context()), r.transport.RoundTrip, &exchange.Request{
				Method: http.MethodGet, Base: url, Limit: exchange.MaxSmall,
				Header: http.Header{"Authorization": {"Bearer admin"}},
			})
		}
		if _, err := ask(plain.URL); err == nil || !exchange.NoTLS(err) {
			t.Errorf("%s: a node in plain text: %v", step, err)
		}
		if a, err := ask(secured.URL); err != nil || string(a.Body) != "Bearer admin" {
			t.Errorf("%s: a node with TLS: %+v, %v", step, a, err)
		}
	}
	if reached.Load() != 0 {
		t.Errorf("%d requests in plain text", reached.Load())
	}
}

// TestCertificateInPlainText asks a node that says in plain text that it has certificates. In the step that prefers TLS
// it is not called in plain text any more: one in the path must not keep it from TLS.
func TestCertificateInPlainText(t *testing.T) {
	var calls atomic.Int32
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			refuse(http.StatusNotFound, wire.ErrNoSuchRoute.Name)(w, r)
			return
		}
		calls.Add(1)
		reply(w, http.StatusOK, wire.Member{
			TLS: &wire.TLSUse{Step: wire.TLSPrefer}, Certificate: &wire.Certificate{Identity: "spiffe://x/master/b"},
		})
	}))
	defer plain.Close()
	r := newStepRig(t, certstest.NewAuthority(t))
	r.transport.Identify(nodeauth.NewProcess(), func() string { return "test" }, func() bool { return true })
	masters := NewMasters(r.transport, testSecrets.For(nodeauth.Masters))
	ask := func() error {
		_, err := masters.Member(t.Context(), plain.URL)
		return err
	}
	r.at(t, wire.TLSAccept)
	for range 2 {
		if err := ask(); err != nil {
			t.Errorf("accept: %v", err)
		}
	}
	r.at(t, wire.TLSPrefer)
	if err := ask(); err != nil {
		t.Errorf("prefer: %v", err)
	}
	for range 2 {
		if err := ask(); !exchange.NoTLS(err) {
			t.Errorf("after it has said that it has certificates: %v", err)
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls in plain text", calls.Load())
	}
}
