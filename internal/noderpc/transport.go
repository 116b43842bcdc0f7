package noderpc

import (
	"net/http"
	"time"

	"github.com/chainstore/chainstore/internal/exchange"
)

const (
	// dialTimeout bounds the connection setup between nodes, which are close to each other.
	dialTimeout = 2 * time.Second
	// keptConnections is the number of idle connections kept to each other node.
	keptConnections = 64
)

// Transport carries the calls between nodes. A role has one. It keeps connections, uses no proxy and follows no
// redirect. An answer must come at a least rate: see [exchange.Paced]. It may be used by many goroutines at once.
type Transport struct {
	kept, fresh *http.Transport
}

// NewTransport returns the transport of a role.
func NewTransport() *Transport {
	t := &Transport{
		kept: exchange.NewTransport(dialTimeout, keptConnections), fresh: exchange.NewTransport(dialTimeout, 0),
	}
	t.fresh.DisableKeepAlives = true
	return t
}

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
