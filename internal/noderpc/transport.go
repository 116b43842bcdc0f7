package noderpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
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
	kept, fresh *http.Transport
	calls       *nodeauth.Caller
}

// NewTransport returns the transport of a role, for URLs that begin with http://.
func NewTransport() *Transport {
	t := &Transport{
		kept: exchange.NewTransport(dialTimeout, keptConnections), fresh: exchange.NewTransport(dialTimeout, 0),
	}
	t.fresh.DisableKeepAlives = true
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

// NewSecureTransport returns a transport to nodes with one of the roles, for URLs that begin with https://. Without
// certificates it is [NewTransport].
func NewSecureTransport(store *certs.Store, roles ...string) *Transport {
	t := NewTransport()
	if store == nil {
		return t
	}
	for _, h := range []*http.Transport{t.kept, t.fresh} {
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

var errPlain = errors.New("this node has certificates (--tls-cert), and calls no URL that begins with http://")

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	return exchange.Paced(t.kept.RoundTrip)(r)
}

// roundTripFresh is RoundTrip on a connection of its own.
func (t *Transport) roundTripFresh(r *http.Request) (*http.Response, error) {
	return exchange.Paced(t.fresh.RoundTrip)(r)
}

// CloseIdle closes the connections that no call uses at the moment.
func (t *Transport) CloseIdle() { t.kept.CloseIdleConnections() }
