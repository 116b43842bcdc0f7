package exchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// slowest is the least rate at which another node must send the body of an answer, in bytes per second.
	slowest = 64 << 10
	// grace is how much longer that may take, and how long no byte at all may come.
	grace = 15 * time.Second
)

// ErrSlow is the error of an answer whose body comes too slowly.
var ErrSlow = errors.New("the answer comes too slowly")

// Paced makes a Send whose answers must come at a least rate: a node that sends a byte now and then does not hold a
// call that has no deadline. Only the time in which the caller waits for the body counts, and not the time before the
// answer begins. Reading fails with [ErrSlow] otherwise.
func Paced(send Send) Send {
	return func(r *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithCancelCause(r.Context())
		resp, err := send(r.WithContext(ctx))
		if err != nil {
			cancel(nil)
			return nil, err
		}
		b := &pacedBody{ReadCloser: resp.Body, ctx: ctx, cancel: cancel}
		b.timer = time.AfterFunc(grace, func() { cancel(ErrSlow) })
		b.timer.Stop()
		resp.Body = b
		return resp, nil
	}
}

// pacedBody is the body of an answer. One goroutine reads it.
type pacedBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc

	timer   *time.Timer // runs during a read
	arrived int64
	waited  time.Duration // for what arrived
}

// Read implements [io.Reader].
func (b *pacedBody) Read(p []byte) (int, error) {
	left := grace + time.Duration(b.arrived)*time.Second/slowest - b.waited
	b.timer.Reset(max(0, min(grace, left)))
	began := time.Now()
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	b.waited += time.Since(began)
	b.arrived += int64(n)
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), ErrSlow) {
		err = fmt.Errorf("%w: %d bytes of it came in %v", ErrSlow, b.arrived, b.waited.Round(time.Second))
	}
	return n, err
}

// Close implements [io.Closer]. It ends the call if the body was not read to its end.
func (b *pacedBody) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
