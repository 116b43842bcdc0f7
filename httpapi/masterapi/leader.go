package masterapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// leaderProxy brings requests of administration to the leader. Appends have a way of their own: they go in batches.
type leaderProxy struct {
	node      *masternode.Node
	transport http.RoundTripper
}

// leaderWait is how long a request of administration may wait for a leader, leaderPause the time between two tries.
const (
	leaderWait  = 5 * time.Second
	leaderPause = 100 * time.Millisecond
)

// maxLeaderAnswer bounds what the leader may answer.
const maxLeaderAnswer = 4 << 20

func newLeaderProxy(node *masternode.Node, transport http.RoundTripper) *leaderProxy {
	return &leaderProxy{node: node, transport: transport}
}

// do runs act where this master leads; otherwise it sends the request on to the leader, once: a request that came from a
// master already ends here. act must do nothing when its error wraps wire.ErrNotLeader.
func (l *leaderProxy) do(c *gin.Context, body []byte, act func() error) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), leaderWait)
	defer cancel()
	for {
		url, self := l.node.LeaderURL()
		var err error
		switch {
		case self:
			err = act()
		case url == "":
			err = fmt.Errorf("%w: none is known", wire.ErrNotLeader)
		case c.GetHeader(wire.HeaderHops) != "":
			return wire.ErrNotLeader
		default:
			err = l.forward(ctx, c, url, body)
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

// forward sends the request to the leader and its answer back. The error wraps wire.ErrNotLeader where the request surely was
// not sent: nobody listens there, so another will lead.
func (l *leaderProxy) forward(ctx context.Context, c *gin.Context, leader string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, c.Request.Method, leader+c.Request.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range []string{"Authorization", "Content-Type", "Accept"} {
		if value := c.GetHeader(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	request.Header.Set(wire.HeaderHops, "1")
	response, err := l.transport.RoundTrip(request) // its errors do not have the URL, whose query may be confidential
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w: it cannot be reached: %w", wire.ErrNotLeader, err)
	}
	if err != nil {
		return fmt.Errorf("%w: the connection to the leader broke: %w", wire.ErrUnknownOutcome, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxLeaderAnswer))
	if err != nil {
		return fmt.Errorf("%w: the connection to the leader broke: %w", wire.ErrUnknownOutcome, err)
	}
	for _, name := range []string{"Retry-After", "Cache-Control"} {
		if value := response.Header.Get(name); value != "" {
			c.Header(name, value)
		}
	}
	c.Data(response.StatusCode, response.Header.Get("Content-Type"), answer)
	return nil
}
