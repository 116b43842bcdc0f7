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

	"github.com/chainstore/chainstore/wire"
)

// forwarder brings requests of administration to the leader. Appends do not use it: masternode forwards them in
// batches. Unlike masternode's calls of the leader, a forwarded request goes on when the leader changes: to transfer
// the leadership is such a request.
type forwarder struct {
	leader func() (url string, self bool) // masternode.Node.LeaderURL
	// send follows no redirect and uses no proxy: the request has the administrator's token, which goes to the leader
	// only.
	send http.RoundTripper
}

// leaderWait is how long a request of administration may wait for a leader, leaderPause the time between two tries.
const (
	leaderWait  = 5 * time.Second
	leaderPause = 100 * time.Millisecond
)

// maxLeaderAnswer bounds the leader's answer, in bytes.
const maxLeaderAnswer = 4 << 20

// do runs act where this master leads. Otherwise it forwards the request to the leader, once: a request that another
// master forwarded is refused. act must do nothing when its error wraps wire.ErrNotLeader.
func (f *forwarder) do(c *gin.Context, body []byte, act func() error) error {
	ctx, cancel := context.WithTimeout(c.Request.Context(), leaderWait)
	defer cancel()
	for {
		url, self := f.leader()
		var err error
		switch {
		case self:
			err = act()
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
// where the request was certainly not sent, because nothing listens at the address: another master will lead.
func (f *forwarder) forward(ctx context.Context, c *gin.Context, leader string, body []byte) error {
	url := leader + c.Request.URL.RequestURI()
	request, err := http.NewRequestWithContext(ctx, c.Request.Method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range []string{"Authorization", "Content-Type", "Accept"} {
		if value := c.GetHeader(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	request.Header.Set(wire.HeaderHops, "1")
	response, err := f.send.RoundTrip(request)
	if dial := (*net.OpError)(nil); errors.As(err, &dial) && dial.Op == "dial" {
		return fmt.Errorf("%w: it cannot be reached: %w", wire.ErrNotLeader, err)
	}
	if err != nil {
		return fmt.Errorf("%w: the connection to the leader broke: %w", wire.ErrUnknownOutcome, err)
	}
	defer response.Body.Close()
	if response.StatusCode/100 == 3 {
		return fmt.Errorf("%w: the leader's address answers with a redirect, so another program may listen there",
			wire.ErrUnknownOutcome)
	}
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
