package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
)

// drainTime is how long running requests may take after the server was told to stop.
const drainTime = 2 * time.Second

// maxHead bounds the head of a request. net/http adds 4 KiB to it.
const maxHead = 16 << 10

// drainKey is the key of a request's context for the context that ends when the server is told to stop.
type drainKey struct{}

// UntilDrain is a request's context for an answer that may take long, or has no end: it also ends when the server is
// told to stop.
func UntilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := func() bool { return false }
	if serving, ok := ctx.Value(drainKey{}).(context.Context); ok {
		stop = context.AfterFunc(serving, func() { cancel(context.Cause(serving)) })
	}
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// Serve answers requests on a listener until ctx ends. Then it accepts no more, waits for the running ones, and
// returns nil. It closes the listener. The connections of a [Listener] are limited. h must be of an [Engine] for the
// limits of bodies and answers.
func Serve(ctx context.Context, listener net.Listener, h http.Handler, log hclog.Logger) error {
	return serve(ctx, listener, h, log, func(*http.Server) {})
}

// ServeUsers is Serve which also accepts HTTP/2, with and without TLS.
func ServeUsers(ctx context.Context, listener net.Listener, h http.Handler, log hclog.Logger) error {
	return serve(ctx, listener, h, log, acceptHTTP2)
}

func serve(
	ctx context.Context, listener net.Listener, h http.Handler, log hclog.Logger, change func(*http.Server),
) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHead, // a client needs no token to make the server hold so much
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.WithoutCancel(ctx), drainKey{}, ctx)
		},
		ConnContext: withConnection,
		ErrorLog: log.Named("http").StandardLogger(&hclog.StandardLoggerOptions{
			InferLevels: true, ForceLevel: hclog.Debug,
		}),
	}
	change(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve %v: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close() // a request that waits for longer than drainTime
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
