package masterapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// forwarder brings requests of administration to the leader. Appends do not use it: masternode forwards them in
// batches. Unlike masternode's calls of the leader, a forwarded request continues when the leader changes, since a
// transfer of the leadership is such a request.
type forwarder struct {
	leader func() (url string, self bool) // masternode.Node.LeaderURL
	caller func() wire.Caller             // masternode.Node.Caller
	send   exchange.Send                  // see Config.Forward
	judge  func(c *gin.Context) error     // refuses a request whose token does not permit it any more
	source func(c *gin.Context) trail.Source
	sign   func(message []byte) string // masternode.Node.Sign
}

// leaderWait is how long a request of administration may wait for a leader, leaderPause the time between two tries.
const (
	leaderWait  = 5 * time.Second
	leaderPause = 100 * time.Millisecond
)

// do runs act where this master leads, after it has judged the token again. Otherwise it forwards the request to the
// leader, once: a request that another master forwarded is refused. act must do nothing when its error wraps
// wire.ErrNotLeader.
func (f *forwarder) do(c *gin.Context, body []byte, act func() error) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), leaderWait)
	defer cancel()
	for {
		url, self := f.leader()
		var err error
		switch {
		case self:
			if err = f.judge(c); err == nil {
				err = act()
			}
		case url == "":
			err = fmt.Errorf("%w: no leader is known", wire.ErrNotLeader)
		case c.GetHeader(wire.HeaderHops) != "":
			return wire.ErrNotLeader
		default:
			err = f.forward(ctx, c, url, body)
		}
		if !errors.Is(err, wire.ErrNotLeader) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w within %v", wire.ErrNoLeader, leaderWait)
		case <-time.After(leaderPause):
		}
	}
}

// forward sends the request to the leader and answers with the leader's answer. The error wraps wire.ErrNotLeader
// where the request was certainly not sent, because nothing listens at the address, or no session was opened: another
// master will lead. A request that changes something is sent once, since the header does not say that it may be
// repeated.
func (f *forwarder) forward(ctx context.Context, c *gin.Context, leader string, body []byte) error {
	path, caller := c.Request.URL.RequestURI(), f.caller().String()
	hop := origin.Hop{Source: f.source(c)}
	hop.Signature = f.sign(hop.Message(origin.Request{
		Caller: caller, Method: c.Request.Method, URI: path, Authorization: c.GetHeader("Authorization"),
		Body: sha256.Sum256(body),
	}))
	header := http.Header{wire.HeaderHops: {hop.String()}, wire.HeaderCaller: {caller}}
	for _, name := range []string{"Authorization", "Content-Type", "Accept"} {
		if value := c.GetHeader(name); value != "" {
			header.Set(name, value)
		}
	}
	if c.Request.TLS != nil {
		ctx = exchange.OnlyTLS(ctx) // while the cluster moves to TLS the token must not cross in plain text
	}
	answer, err := exchange.Do(ctx, f.send, &exchange.Request{
		Method: c.Request.Method, Base: leader, Path: path, Header: header, Body: body,
		Limit: exchange.MaxMedium,
	})
	switch {
	case err != nil && exchange.NoTLS(err):
		return fmt.Errorf("%w: the request came over TLS, and the leader at %s does not speak it: start the leader "+
			"with certificates (--tls-cert), or send the request to the leader itself", wire.ErrUnavailable, leader)
	case err != nil && (exchange.NotSent(err) || nodeauth.NotSent(err)):
		return fmt.Errorf("%w: it cannot be reached: %w", wire.ErrNotLeader, err)
	case err != nil:
		return fmt.Errorf("%w: the connection to the leader broke: %w", wire.ErrUnknownOutcome, err)
	case answer.Header.Get(wire.HeaderAuth) == nodeauth.Refused:
		// It is about this master's secret, not about the user's token, and not signed.
		return fmt.Errorf("%w: the request was not sent: the leader refuses the proof of this master with status %d; "+
			"check that all masters have the same cluster token", wire.ErrNoLeader, answer.Status)
	case answer.Status/100 == 3:
		return fmt.Errorf("%w: the leader's address answers with a redirect, so another program may listen there",
			wire.ErrUnknownOutcome)
	}
	for _, name := range []string{"Retry-After", "Cache-Control"} {
		c.Header(name, answer.Header.Get(name))
	}
	c.Set(keyForwarded, true)
	c.Data(answer.Status, answer.Header.Get("Content-Type"), answer.Body)
	return nil
}
