package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

const secretToken = "the-secret-of-the-nodes-0123456789"

// receiver is a node with routes for each kind of body.
type receiver struct {
	http.Handler
	acts   atomic.Int32 // requests that had an effect
	secret *nodeauth.Secret
}

// answers are by path.
var answers = map[string]string{
	"/small": "small", "/large": strings.Repeat("large ", 50_000), "/nothing": "",
}

func newReceiver(self nodeauth.Process, bearers bool, tokens ...string) *receiver {
	r := &receiver{secret: nodeauth.NewSecret(tokens...)}
	e := httpapi.New(hclog.NewNullLogger())
	nodes := &httpapi.Nodes{
		Accept: map[string]nodeauth.Accepted{
			nodeauth.Masters: {Secret: r.secret}, nodeauth.Miner: {Secret: r.secret},
			nodeauth.Orders: {Secret: r.secret, Bound: "master-token"},
		},
		Process: self, Bearers: func() bool { return bearers }, Streamed: "/streamed",
	}
	e.Authenticate(nodes)
	routes := e.Group("/", e.Requires(nodes, nodeauth.Masters, nodeauth.Orders))
	for path, answer := range answers {
		routes.Any(path, e.Do(func(c *gin.Context) error {
			if _, err := httpapi.ReadBody(c.Request, 1<<20); err != nil {
				return err
			}
			r.acts.Add(1)
			if answer == "" {
				c.Status(http.StatusNoContent)
				return nil
			}
			c.String(http.StatusOK, answer)
			return nil
		}))
	}
	routes.POST("/streamed", e.Do(func(c *gin.Context) error {
		_, err := io.Copy(io.Discard, c.Request.Body)
		c.String(http.StatusOK, "taken")
		return err
	}))
	for path, size := range map[string]int{"/fails": 10, "/breaks": 100_000} {
		routes.GET(path, e.Do(func(c *gin.Context) error {
			c.Header("Content-Length", "1000000")
			_, err := c.Writer.Write(make([]byte, size))
			return errors.Join(err, wire.ErrInboxFull)
		}))
	}
	routes.GET("/panics", func(*gin.Context) { panic("for the test") })
	r.Handler = e
	return r
}

// call sends a request with a proof.
func call(
	t *testing.T, send exchange.Send, method, url string, body []byte, header http.Header,
) (*exchange.Answer, error) {
	t.Helper()
	h := http.Header{wire.HeaderFence: {"1.2"}, wire.HeaderCaller: {"g#1 1.2"}, "Content-Type": exchange.TypeOctets}
	for name, values := range header {
		h[name] = values
	}
	base, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return exchange.Do(t.Context(), send, &exchange.Request{
		Method: method, Base: "http://" + base, Path: "/" + path, Header: h, Body: body, Limit: exchange.MaxSmall,
	})
}

func newSend(t *testing.T, cred nodeauth.Credential) exchange.Send {
	t.Helper()
	transport := noderpc.NewTransport()
	t.Cleanup(transport.CloseIdle)
	return transport.As(cred)
}

var asMaster = nodeauth.Shared(secretToken).For(nodeauth.Masters)

// TestCallsWithProofs checks calls with all kinds of bodies and answers, after a restart of the other side too.
func TestCallsWithProofs(t *testing.T) {
	var current atomic.Pointer[receiver]
	current.Store(newReceiver(nodeauth.Process{}, false, secretToken))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		current.Load().ServeHTTP(w, r)
	}))
	defer server.Close()
	send := newSend(t, asMaster)
	for range 2 {
		for path, want := range answers {
			for _, body := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("body"), 20_000)} {
				a, err := call(t, send, http.MethodPost, server.URL+path+"?a=b%2Fc", body, nil)
				if err != nil || a.Status/100 != 2 || string(a.Body) != want {
					t.Errorf("%s with %d bytes: %+.200v, %v", path, len(body), a, err)
				}
			}
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+"/small", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(wire.HeaderCaller, "of no group ") // with a space that is not sent
		if resp, err := send(r); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("HEAD: %v, %v", resp, err)
		}
		if a, err := call(t, send, http.MethodGet, server.URL+"/missing", nil, nil); err != nil || a.Status != 404 {
			t.Errorf("no such route: %+v, %v", a, err)
		}
		_, err = call(t, send, http.MethodGet, server.URL+"/panics", nil, nil)
		if !errors.Is(err, nodeauth.ErrAnswer) {
			t.Errorf("a panic: %v", err)
		}
		current.Store(newReceiver(nodeauth.Process{}, false, "the next one", secretToken))
	}
	// The session is one that this node does not know.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/streamed",
		io.MultiReader(strings.NewReader("streamed")))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := send(r); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("a stream: %v, %v", resp, err)
	}
	r, err = http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/small",
		io.MultiReader(strings.NewReader("streamed")))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := send(r); !errors.Is(err, nodeauth.ErrAnswer) {
		t.Errorf("a body without a MAC: %v, %v", resp, err)
	}
}

// TestAnswerThatFails checks that a part of an answer is never signed as the whole of it. While nothing was sent, the
// problem is answered.
func TestAnswerThatFails(t *testing.T) {
	server := httptest.NewServer(newReceiver(nodeauth.Process{}, false, secretToken))
	defer server.Close()
	send := newSend(t, asMaster)
	a, err := call(t, send, http.MethodGet, server.URL+"/fails", nil, nil)
	if err != nil || !errors.Is(a.Problem(), wire.ErrInboxFull) {
		t.Errorf("in the buffer: %v, %v", a, err)
	}
	a, err = call(t, send, http.MethodGet, server.URL+"/breaks", nil, nil)
	if !errors.Is(err, nodeauth.ErrAnswer) {
		t.Errorf("on its way: %v, %v", a, err)
	}
}

// TestProofsOfOthers checks which credentials a node accepts.
func TestProofsOfOthers(t *testing.T) {
	r := newReceiver(nodeauth.Process{}, false, secretToken, "the next secret")
	server := httptest.NewServer(r)
	defer server.Close()
	shared := nodeauth.Shared(secretToken)
	for name, c := range map[string]struct {
		cred nodeauth.Credential
		want int
	}{
		"a master":                   {asMaster, 200},
		"the next secret":            {nodeauth.Shared("the next secret").For(nodeauth.Masters), 200},
		"the second of two":          {nodeauth.Shared("a new one", secretToken).For(nodeauth.Masters), 200},
		"another secret":             {nodeauth.Shared("another").For(nodeauth.Masters), 401},
		"another purpose":            {shared.For(nodeauth.Miner), 403},
		"a purpose that none has":    {shared.For(nodeauth.Recovery), 401},
		"an order":                   {shared.ForWorker(false, "master-token"), 200},
		"an order to another worker": {shared.ForWorker(false, "another"), 401},
	} {
		a, err := call(t, newSend(t, c.cred), http.MethodPost, server.URL+"/small", []byte("x"), nil)
		if err != nil || a.Status != c.want {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if _, err := call(t, newSend(t, nodeauth.Credential{Purpose: nodeauth.Masters}), http.MethodPost,
		server.URL+"/small", nil, nil); !errors.Is(err, wire.ErrNoAnswer) {
		t.Errorf("without a secret: %v", err)
	}
}

// TestBearersBetweenNodes checks when the token itself is accepted, and when it is sent.
func TestBearersBetweenNodes(t *testing.T) {
	for _, accepted := range []bool{true, false} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/small", nil)
		r.Header.Set("Authorization", "Bearer "+secretToken)
		newReceiver(nodeauth.Process{}, accepted, secretToken).ServeHTTP(w, r)
		if accepted != (w.Code == http.StatusOK) {
			t.Errorf("accepted: %v, status %d", accepted, w.Code)
		}
	}
	var bearers atomic.Int32
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "Bearer "+secretToken {
			bearers.Add(1)
		} else {
			http.NotFound(w, r)
		}
	}))
	defer older.Close()
	if _, err := call(t, newSend(t, asMaster), http.MethodPost, older.URL+"/small", nil, nil); !errors.Is(err,
		nodeauth.ErrUnsigned) || bearers.Load() != 0 {
		t.Errorf("to an older node: %v, %d tokens were sent", err, bearers.Load())
	}
	transport := noderpc.NewTransport()
	defer transport.CloseIdle()
	var allowed atomic.Bool
	allowed.Store(true)
	transport.Identify(nodeauth.NewProcess(), func() string { return "" }, allowed.Load)
	if a, err := call(t, transport.As(asMaster), http.MethodPost, older.URL+"/small", nil, nil); err != nil ||
		a.Status != http.StatusOK || bearers.Load() != 1 {
		t.Errorf("to an older node, which is allowed: %v, %v", a, err)
	}
	allowed.Store(false) // the group's level was raised
	if _, err := call(t, transport.As(asMaster), http.MethodPost, older.URL+"/small", nil, nil); !errors.Is(err,
		nodeauth.ErrUnsigned) || bearers.Load() != 1 {
		t.Errorf("not allowed any more: %v, %d tokens were sent", err, bearers.Load())
	}
}

// recorder passes connections on to a server, and keeps all bytes of each.
type recorder struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	sides [][2]*bytes.Buffer // requests, answers
}

func newRecorder(t *testing.T, to string) *recorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener: l, to: to}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.pass(c)
		}
	}()
	return r
}

func (r *recorder) pass(c net.Conn) {
	s, err := net.Dial("tcp", r.to)
	if err != nil {
		_ = c.Close()
		return
	}
	var both [2]*bytes.Buffer
	for i := range both {
		both[i] = &bytes.Buffer{}
	}
	r.mu.Lock()
	r.sides = append(r.sides, both)
	r.mu.Unlock()
	go func() {
		_, _ = io.Copy(s, io.TeeReader(c, r.locked(both[0])))
		_ = s.Close()
	}()
	_, _ = io.Copy(c, io.TeeReader(s, r.locked(both[1])))
	_ = c.Close()
}

// locked is a writer that holds the mutex.
func (r *recorder) locked(b *bytes.Buffer) io.Writer {
	return writer(func(p []byte) (int, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return b.Write(p)
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// recorded returns what was sent in both directions.
func (r *recorder) recorded() (requests, all []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sides {
		requests = append(requests, s[0].String())
		all = append(all, s[0].String(), s[1].String())
	}
	return requests, all
}

// TestRecordingGainsNothing records calls between two nodes. The secret is not in the bytes, and a replay of all
// requests has no effect, also after a restart of the node.
func TestRecordingGainsNothing(t *testing.T) {
	node := newReceiver(nodeauth.Process{}, false, secretToken)
	server := httptest.NewServer(node)
	defer server.Close()
	r := newRecorder(t, strings.TrimPrefix(server.URL, "http://"))
	url := "http://" + r.listener.Addr().String()
	send := newSend(t, asMaster)
	const calls = 8
	for i := range calls {
		a, err := call(t, send, http.MethodPost, url+"/small", fmt.Append(nil, i), nil)
		if err != nil || a.Status != http.StatusOK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	requests, all := r.recorded()
	for _, text := range all {
		for _, form := range []string{
			secretToken, hex.EncodeToString([]byte(secretToken)),
			base64.StdEncoding.EncodeToString([]byte(secretToken)),
			base64.RawURLEncoding.EncodeToString([]byte(secretToken)),
		} {
			if strings.Contains(text, form) {
				t.Errorf("the secret crossed the network: %q", text)
			}
		}
	}
	if got := node.acts.Load(); got != calls || !strings.Contains(strings.Join(all, ""), "/small") {
		t.Fatalf("%d calls, recorded %d bytes", got, len(strings.Join(all, "")))
	}
	restarted := newReceiver(nodeauth.Process{}, false, secretToken)
	again := httptest.NewServer(restarted)
	defer again.Close()
	for _, to := range []*httptest.Server{server, again} {
		replayed := replay(t, strings.TrimPrefix(to.URL, "http://"), requests)
		for _, status := range replayed {
			// A hello gets a challenge, which the one who replays cannot answer.
			if status != http.StatusUnauthorized && status != http.StatusOK {
				t.Errorf("a replay is answered with %d", status)
			}
		}
		if len(replayed) < calls+2 {
			t.Errorf("%d requests were replayed", len(replayed))
		}
	}
	if node.acts.Load() != calls || restarted.acts.Load() != 0 {
		t.Errorf("%d calls had an effect, %d after a restart", node.acts.Load(), restarted.acts.Load())
	}
}

// replay sends recorded requests and returns the statuses of the answers.
func replay(t *testing.T, to string, connections []string) (statuses []int) {
	t.Helper()
	for _, text := range connections {
		in := bufio.NewReader(strings.NewReader(text))
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				break
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Fatal(err)
			}
			again, err := http.NewRequestWithContext(t.Context(), r.Method, "http://"+to+r.RequestURI,
				bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			again.Header = r.Header
			answer, err := http.DefaultClient.Do(again)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			statuses = append(statuses, answer.StatusCode)
		}
	}
	return statuses
}

// TestChangesInThePathAreDetected changes a part of each request or answer on its way. No changed request has an
// effect, and no changed answer is accepted.
func TestChangesInThePathAreDetected(t *testing.T) {
	request := func(change func(r *http.Request)) func(*http.Request, *httptest.ResponseRecorder) {
		return func(r *http.Request, answer *httptest.ResponseRecorder) {
			if answer == nil {
				change(r)
			}
		}
	}
	answer := func(change func(w *httptest.ResponseRecorder)) func(*http.Request, *httptest.ResponseRecorder) {
		return func(_ *http.Request, answer *httptest.ResponseRecorder) {
			if answer != nil {
				change(answer)
			}
		}
	}
	header := func(name, value string) func(*http.Request, *httptest.ResponseRecorder) {
		return request(func(r *http.Request) { r.Header.Set(name, value) })
	}
	body := func(text string) func(r *http.Request) {
		return func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		}
	}
	proof := func(part int, change func(string) string) func(*http.Request, *httptest.ResponseRecorder) {
		return request(func(r *http.Request) {
			parts := strings.Split(r.Header.Get(wire.HeaderAuth), " ")
			parts[part] = change(parts[part])
			r.Header.Set(wire.HeaderAuth, strings.Join(parts, " "))
		})
	}
	zeros := func(string) string { return base64.RawURLEncoding.EncodeToString(make([]byte, 32)) }
	for name, change := range map[string]func(*http.Request, *httptest.ResponseRecorder){
		"the path":            request(func(r *http.Request) { r.URL.Path, r.RequestURI = "/large", "/large" }),
		"the query":           request(func(r *http.Request) { r.RequestURI += "?x" }),
		"the method":          request(func(r *http.Request) { r.Method = http.MethodPut }),
		"the body":            request(body("Body")),
		"a longer body":       request(body("body and more")),
		"a shorter body":      request(body("bod")),
		"no body":             request(body("")),
		"a body in chunks":    request(func(r *http.Request) { body("Body")(r); r.ContentLength = -1 }),
		"the order":           header(wire.HeaderFence, "1.3"),
		"the caller":          header(wire.HeaderCaller, "g#2 1.2"),
		"a hop":               header(wire.HeaderHops, "1"),
		"a token":             header("Authorization", "Bearer "+secretToken),
		"the type":            header("Content-Type", "text/plain"),
		"a coding":            header("Content-Encoding", "gzip"),
		"the counter":         proof(1, func(string) string { return "7" }),
		"the digest":          proof(2, zeros),
		"no digest":           proof(2, func(string) string { return "-" }),
		"the MAC":             proof(3, zeros),
		"no proof":            request(func(r *http.Request) { r.Header.Del(wire.HeaderAuth) }),
		"the status":          answer(func(w *httptest.ResponseRecorder) { w.Code = http.StatusCreated }),
		"the answer":          answer(func(w *httptest.ResponseRecorder) { w.Body = bytes.NewBufferString("smaLl") }),
		"a shorter answer":    answer(func(w *httptest.ResponseRecorder) { w.Body = bytes.NewBufferString("smal") }),
		"no answer":           answer(func(w *httptest.ResponseRecorder) { w.Body = &bytes.Buffer{}; w.Code = 204 }),
		"the answer's type":   answer(func(w *httptest.ResponseRecorder) { w.Header().Set("Content-Type", "text/x") }),
		"the answer's MAC":    answer(func(w *httptest.ResponseRecorder) { w.Header().Set(wire.HeaderAuth, "x") }),
		"the answer's no MAC": answer(func(w *httptest.ResponseRecorder) { w.Header().Del(wire.HeaderAuth) }),
	} {
		t.Run(name, func(t *testing.T) {
			node := newReceiver(nodeauth.Process{}, false, secretToken)
			var changing atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				changed := changing.Load() && r.URL.Path != wire.PathSession
				r = r.WithContext(context.WithoutCancel(r.Context()))
				if changed {
					change(r, nil)
				}
				answer := httptest.NewRecorder()
				node.ServeHTTP(answer, r)
				if changed {
					change(r, answer)
				}
				for name, values := range answer.Header() {
					if name != "Content-Length" {
						w.Header()[name] = values
					}
				}
				w.WriteHeader(answer.Code)
				_, _ = w.Write(answer.Body.Bytes())
			}))
			defer server.Close()
			send := newSend(t, asMaster)
			if a, err := call(t, send, http.MethodPost, server.URL+"/small", []byte("body"), nil); err != nil ||
				string(a.Body) != "small" {
				t.Fatalf("unchanged: %v, %v", a, err)
			}
			changing.Store(true)
			a, err := call(t, send, http.MethodPost, server.URL+"/small", []byte("body"), nil)
			if err == nil && a.Status != http.StatusUnauthorized {
				t.Errorf("it was accepted: %d %.100s", a.Status, a.Body)
			}
			isAnswer := strings.Contains(name, "answer") || name == "the status"
			if acts := node.acts.Load(); !isAnswer && acts != 1 {
				t.Errorf("%d requests had an effect", acts)
			}
		})
	}
}

// TestAnswersOfOtherRequests checks that an answer to one request is not accepted for another one.
func TestAnswersOfOtherRequests(t *testing.T) {
	node := newReceiver(nodeauth.Process{}, false, secretToken)
	var kept atomic.Pointer[httptest.ResponseRecorder]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := kept.Load()
		if answer == nil || r.URL.Path == wire.PathSession {
			answer = httptest.NewRecorder()
			node.ServeHTTP(answer, r)
		}
		if r.URL.Path != wire.PathSession {
			kept.CompareAndSwap(nil, answer)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	defer server.Close()
	send := newSend(t, asMaster)
	if _, err := call(t, send, http.MethodPost, server.URL+"/small", nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := call(t, send, http.MethodPost, server.URL+"/small", nil, nil); !errors.Is(err, nodeauth.ErrAnswer) {
		t.Errorf("the answer to an earlier request: %v", err)
	}
}

// TestReflectionFails checks that a node cannot be made to call itself, and that a session of one node is of no use at
// another one.
func TestReflectionFails(t *testing.T) {
	self := nodeauth.NewProcess()
	node := newReceiver(self, false, secretToken)
	server := httptest.NewServer(node)
	defer server.Close()
	transport := noderpc.NewTransport()
	defer transport.CloseIdle()
	transport.Identify(self, func() string { return "" }, nil)
	if a, err := call(t, transport.As(asMaster), http.MethodPost, server.URL+"/small", nil, nil); err == nil ||
		node.acts.Load() != 0 {
		t.Errorf("a node called itself: %v", a)
	}

	// The session is opened at one node, and its requests go to another one.
	other := newReceiver(nodeauth.Process{}, false, secretToken)
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wire.PathSession {
			node.ServeHTTP(w, r)
		} else {
			other.ServeHTTP(w, r)
		}
	}))
	defer relay.Close()
	if a, err := call(t, newSend(t, asMaster), http.MethodPost, relay.URL+"/small", nil, nil); !errors.Is(err,
		nodeauth.ErrAnswer) || other.acts.Load() != 0 {
		t.Errorf("a session of another node: %v, %v", a, err)
	}
}

// TestRotatedSecret replaces the secret of both sides step by step. No call fails.
func TestRotatedSecret(t *testing.T) {
	node := newReceiver(nodeauth.Process{}, false, "old")
	server := httptest.NewServer(node)
	defer server.Close()
	own := nodeauth.NewSecret("old")
	send := newSend(t, nodeauth.Credential{Secret: own, Purpose: nodeauth.Masters})
	for _, step := range [][2][]string{
		{{"old"}, {"old"}}, {{"old", "new"}, {"old"}}, {{"old", "new"}, {"old", "new"}},
		{{"new", "old"}, {"old", "new"}}, {{"new", "old"}, {"new", "old"}}, {{"new"}, {"new", "old"}},
		{{"new"}, {"new"}},
	} {
		own.Set(step[0]...)
		node.secret.Set(step[1]...)
		if a, err := call(t, send, http.MethodPost, server.URL+"/small", nil, nil); err != nil || a.Status != 200 {
			t.Errorf("%v: %v, %v", step, a, err)
		}
	}
	node.secret.Set("newer")
	if a, err := call(t, send, http.MethodPost, server.URL+"/small", nil, nil); err != nil || a.Status != 401 {
		t.Errorf("a session under a secret that was removed: %v, %v", a, err)
	}
}
