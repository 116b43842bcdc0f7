package noderpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

const (
	// dialTimeout bounds the connection setup between nodes, which are close to each other.
	dialTimeout = 2 * time.Second
	// handshakeTimeout bounds the handshake of TLS.
	handshakeTimeout = 3 * time.Second
	// keptConnections is the number of idle connections kept to each other node.
	keptConnections = 64
)

// Transport carries the calls between nodes. A role has one. It keeps connections, uses no proxy and follows no
// redirect. An answer must come at a least rate: see [exchange.Paced]. It may be used by many goroutines at once.
type Transport struct {
	plain, secured pool // secured is zero for a node without certificates
	mode           *certs.Mode
	prefer         bool // see PreferTLS
	calls          *nodeauth.Caller

	mu      sync.Mutex         // guards all below
	changes uint64             // of the step of TLS, since the start
	peers   map[string]tlsPeer // by host:port, since the last change
	asking  map[string]*asking // by host:port: the questions under way whether a node speaks TLS
}

// asking is a question whether a node speaks TLS. Calls of that node wait for its end.
type asking struct {
	ended   chan struct{}
	answer  bool // when ended is closed
	aborted bool // there is no answer, because its caller gave up
}

// pool has the connections of one kind.
type pool struct{ kept, fresh *http.Transport }

// tlsPeer says whether a node speaks TLS.
type tlsPeer struct {
	secured bool      // it has spoken TLS, with the right certificate
	refused bool      // it has refused plain text since asked
	asked   time.Time // when it was last asked whether it speaks TLS
}

// plainTime is how long a node is called in plain text after it did not speak TLS, unless it refuses that. In the step
// [wire.TLSAccept] it is how long it is called over TLS after it spoke it.
const plainTime = 10 * time.Second

func newPool() pool {
	p := pool{
		kept: exchange.NewTransport(dialTimeout, keptConnections), fresh: exchange.NewTransport(dialTimeout, 0),
	}
	p.fresh.DisableKeepAlives = true
	return p
}

// NewTransport returns the transport of a role, for URLs that begin with http://.
func NewTransport() *Transport {
	t := &Transport{plain: newPool(), peers: map[string]tlsPeer{}, asking: map[string]*asking{}}
	t.Identify(nodeauth.NewProcess(), func() string { return "" }, nil)
	return t
}

// Identify sets the process of the node that calls, and its name for the reports of other nodes. older reports whether
// nodes that cannot verify a proof get a bearer token; nil for never. It must be called before the first call.
func (t *Transport) Identify(self nodeauth.Process, name func() string, older func() bool) {
	// A session is opened on a connection of its own: kept ones may be dead and not yet closed.
	t.calls = nodeauth.NewCaller(self, t.roundTripFresh, name, older)
}

// WarnBearer sets a function that is called before the first bearer token is sent to an address, which runs an older
// version. It must be called after [Transport.Identify].
func (t *Transport) WarnBearer(warn func(base string)) { t.calls.WarnBearer(warn) }

// As returns the function that sends requests with the proof of a credential.
func (t *Transport) As(cred nodeauth.Credential) exchange.Send {
	return func(r *http.Request) (*http.Response, error) { return t.calls.Do(r, cred, t.RoundTrip) }
}

// freshAs is As on a connection of its own.
func (t *Transport) freshAs(cred nodeauth.Credential) exchange.Send {
	return func(r *http.Request) (*http.Response, error) { return t.calls.Do(r, cred, t.roundTripFresh) }
}

// NewSecureTransport returns a transport to nodes with one of the roles. Without certificates it is [NewTransport].
// With them, URLs that begin with https:// are called over TLS, and the step of mode decides about those that begin
// with http://:
//
//   - [wire.TLSByFlags]: they are refused
//   - [wire.TLSAccept]: in plain text, unless the node refuses that and speaks TLS. The group may have gone on without
//     this node. Before a leader has confirmed the step, as in the next one
//   - [wire.TLSPrefer]: over TLS if the node speaks it, and otherwise in plain text. A node that has spoken TLS in this
//     step is not called in plain text any more, and no wrong certificate or broken connection leads to it
//   - [wire.TLSRequire]: over TLS
//
// In the last three steps a request with [exchange.OnlyTLS] is sent over TLS or not at all.
func NewSecureTransport(store *certs.Store, mode *certs.Mode, roles ...string) *Transport {
	t := NewTransport()
	if store == nil {
		return t
	}
	t.mode, t.secured = mode, newPool()
	mode.OnChange(t.forget)
	for _, h := range []*http.Transport{t.secured.kept, t.secured.fresh} {
		dial := h.DialContext
		h.DialTLSContext = func(ctx context.Context, network, hostPort string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(hostPort)
			if err != nil {
				return nil, err
			}
			plain, err := dial(ctx, network, hostPort)
			if err != nil {
				return nil, err
			}
			// Package http has no time limit for this handshake.
			ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
			defer cancel()
			secured := tls.Client(plain, store.Client(host, roles...))
			if err := secured.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, plain.Close())
			}
			return secured, nil
		}
		// A node with certificates sends its tokens to no other node in clear.
		h.DialContext = func(context.Context, string, string) (net.Conn, error) { return nil, errPlain }
	}
	return t
}

// forget forgets which nodes have spoken TLS, as the step of TLS has changed. On the way back from [wire.TLSPrefer] a
// node may lose its certificates.
func (t *Transport) forget(wire.TLSStep) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes++
	clear(t.peers)
}

// PreferTLS makes the step [wire.TLSAccept] be [wire.TLSPrefer] for this transport. A recovery needs that: without a
// leader nodes may take no plain text. It must be called before the first call.
func (t *Transport) PreferTLS() { t.prefer = true }

var errPlain = errors.New("this node has certificates (--tls-cert), and calls no URL that begins with " +
	"http:// before the group accepts both (chainstore tls accept)")

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	p, r := t.choose(r)
	return exchange.Paced(t.noting(p.kept.RoundTrip))(r)
}

// roundTripFresh is RoundTrip on a connection of its own.
func (t *Transport) roundTripFresh(r *http.Request) (*http.Response, error) {
	p, r := t.choose(r)
	return exchange.Paced(t.noting(p.fresh.RoundTrip))(r)
}

// choose returns the connections for a request, and the request as it is sent on them.
func (t *Transport) choose(r *http.Request) (pool, *http.Request) {
	if t.secured.kept == nil {
		return t.plain, r
	}
	ctx, step, node := r.Context(), t.mode.Step(), hostPort(r.URL)
	if step == wire.TLSAccept && (t.prefer || !t.mode.Confirmed()) {
		step = wire.TLSPrefer
	}
	switch {
	case r.URL.Scheme != "http" || step == wire.TLSByFlags:
		return t.secured, r
	case exchange.IsOnlyTLS(ctx):
	case step == wire.TLSAccept && !t.provesTLS(ctx, node), step == wire.TLSPrefer && !t.speaksTLS(ctx, node):
		return t.plain, r
	}
	secured, u := r.WithContext(ctx), *r.URL
	u.Scheme, u.Host = "https", node
	secured.URL = &u
	return t.secured, secured
}

// hostPort returns those of a URL that begins with http://. The port is named, so that it stays with https://.
func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80")) }

// speaksTLS reports whether a node is to be called over TLS. It is asked once with a connection of its own: a request
// whose body cannot be read again must not be sent to find out. A failure other than an answer that is not of TLS says
// nothing: then the call itself fails.
func (t *Transport) speaksTLS(ctx context.Context, hostPort string) bool {
	for {
		t.mu.Lock()
		peer, known := t.peers[hostPort]
		lasting := peer.secured && t.mode.Step() == wire.TLSPrefer
		if known && (lasting || time.Since(peer.asked) < plainTime) {
			t.mu.Unlock()
			return peer.secured
		}
		other := t.asking[hostPort]
		if other == nil {
			q := &asking{ended: make(chan struct{})}
			t.asking[hostPort] = q
			changes := t.changes
			t.mu.Unlock()
			q.answer = t.askTLS(ctx, hostPort, changes, peer)
			q.aborted = ctx.Err() != nil
			t.mu.Lock()
			delete(t.asking, hostPort)
			t.mu.Unlock()
			close(q.ended)
			return q.answer
		}
		t.mu.Unlock()
		select {
		case <-other.ended:
			if !other.aborted {
				return other.answer
			}
		case <-ctx.Done():
			return true // the call itself fails
		}
	}
}

// askTLS is the question of speaksTLS. peer is what was known before, and changes the number of changes of the step.
func (t *Transport) askTLS(ctx context.Context, hostPort string, changes uint64, peer tlsPeer) bool {
	conn, err := t.secured.fresh.DialTLSContext(ctx, "tcp", hostPort)
	switch {
	case err == nil:
		_ = conn.Close() // it has shown its certificate, which was its only purpose
	case !exchange.NoTLS(err):
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.peers[hostPort]; t.changes == changes && (!now.secured || now.asked == peer.asked) {
		t.peers[hostPort] = tlsPeer{secured: err == nil, asked: time.Now()}
	}
	return err == nil || t.peers[hostPort].secured
}

// errNoCertificates: this node cannot try TLS.
var errNoCertificates = errors.New("it has no certificates (--tls-cert)")

// CheckTLS checks that a node answers at a URL over TLS with a certificate of a role, which must be one of the
// transport's. It sends no request.
func (t *Transport) CheckTLS(ctx context.Context, nodeURL, role string) error {
	if t.secured.fresh == nil {
		return errNoCertificates
	}
	u, err := url.Parse(nodeURL)
	if err != nil {
		return err
	}
	address := hostPort(u)
	if u.Scheme == "https" {
		address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443"))
	}
	conn, err := t.secured.fresh.DialTLSContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // it has shown its certificate, which was its only purpose
	var state *tls.ConnectionState
	if secured, ok := conn.(*tls.Conn); ok {
		at := secured.ConnectionState()
		state = &at
	}
	if id, ok := certs.PeerOf(state); !ok || id.Role != role {
		return fmt.Errorf("the certificate there is that of %s, and not that of a %s", id, role)
	}
	return nil
}

// remember notes that a node speaks TLS. In the step [wire.TLSPrefer] it is not called in plain text any more.
func (t *Transport) remember(hostPort string) {
	if t.mode.Step() != wire.TLSPrefer {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peers[hostPort] = tlsPeer{secured: true, asked: time.Now()}
}

// noting is send that notes nodes which refuse plain text.
func (t *Transport) noting(send exchange.Send) exchange.Send {
	return func(r *http.Request) (*http.Response, error) {
		resp, err := send(r)
		// So package http answers plain text on a port with TLS. No other answer has this version.
		if err == nil && resp.StatusCode == http.StatusBadRequest && !resp.ProtoAtLeast(1, 1) && resp.TLS == nil {
			t.mu.Lock()
			defer t.mu.Unlock()
			if !t.peers[hostPort(r.URL)].secured {
				t.peers[hostPort(r.URL)] = tlsPeer{refused: true}
			}
		}
		return resp, err
	}
}

// provesTLS reports whether a node that has refused plain text shows the right certificate. The refusal has no MAC, so
// it proves nothing, and the answer is good for plainTime only.
func (t *Transport) provesTLS(ctx context.Context, hostPort string) bool {
	t.mu.Lock()
	changes, peer := t.changes, t.peers[hostPort]
	t.mu.Unlock()
	switch {
	case !peer.refused:
		return false
	case peer.secured && time.Since(peer.asked) < plainTime:
		return true
	}
	conn, err := t.secured.fresh.DialTLSContext(ctx, "tcp", hostPort)
	if err == nil {
		_ = conn.Close() // it has shown its certificate, which was its only purpose
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes == changes {
		t.peers[hostPort] = tlsPeer{secured: err == nil, refused: err == nil, asked: time.Now()}
	}
	return err == nil
}

// CloseIdle closes the connections that no call uses at the moment.
func (t *Transport) CloseIdle() {
	t.plain.kept.CloseIdleConnections()
	if t.secured.kept != nil {
		t.secured.kept.CloseIdleConnections()
	}
}
