package suite

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// rpcClient makes requests through another system's client of type C, one request at a time. One goroutine uses it.
type rpcClient[C io.Closer] struct {
	dial func(ctx context.Context) (C, error)      // connects
	call func(ctx context.Context, client C) error // makes one request

	client C
	ctx    context.Context // of the requests; it ends at the deadline that until has set
	cancel context.CancelFunc
	base   context.Context
	closed bool
}

func (c *rpcClient[C]) connect(ctx context.Context) error {
	client, err := c.dial(ctx)
	if err != nil {
		return err
	}
	c.client, c.closed = client, false
	c.base, c.ctx, c.cancel = ctx, ctx, func() {}
	return nil
}

func (c *rpcClient[C]) until(t time.Time) error {
	c.cancel()
	c.ctx, c.cancel = context.WithDeadline(c.base, t)
	return nil
}

// request makes one request. The error is a *refusal if the connection can be used further.
func (c *rpcClient[C]) request() error {
	err := c.call(c.ctx, c.client)
	var r *refusal
	if errors.As(err, &r) {
		return err
	}
	switch status.Code(err) {
	case codes.OK:
		return nil
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Unknown:
		return err
	default:
		return &refusal{err.Error()}
	}
}

// close may be called twice.
func (c *rpcClient[C]) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.cancel()
	if err := c.client.Close(); !errors.Is(err, c.base.Err()) {
		return err
	}
	return nil
}
