package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestServeDrains checks that a server that is stopped ends its endless responses, waits for the others, and accepts no
// more requests.
func TestServeDrains(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("shutdown")
	ctx, cancel := context.WithCancelCause(t.Context())
	entered, ended := make(chan string, 2), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- r.URL.Path
		if r.URL.Path == "/stream" {
			ctx, stopped := UntilDrain(r.Context())
			defer stopped()
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), stop) {
				t.Errorf("the stream ended because of %v", context.Cause(ctx))
			}
			close(ended)
			return
		}
		<-ended
		if r.Context().Err() != nil {
			t.Error("a request was cancelled by the stop")
		}
		_, _ = io.WriteString(w, "done")
	})
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, h, hclog.NewNullLogger()) }()
	answers := make(chan string, 2)
	for _, path := range []string{"/stream", "/work"} {
		go func() {
			response, err := http.Get("http://" + listener.Addr().String() + path)
			if err != nil {
				answers <- err.Error()
				return
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			answers <- string(body)
		}()
	}
	<-entered
	<-entered
	cancel(stop)
	if got := <-answers + <-answers; got != "done" {
		t.Errorf("the answers are %q", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}

// TestLongHead checks that the head of a request is bounded.
func TestLongHead(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	go func() { served <- Serve(ctx, listener, h, hclog.NewNullLogger()) }()
	for size, want := range map[int]int{maxHead: http.StatusOK, 2 * maxHead: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+listener.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X", strings.Repeat("x", size))
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil || answer.StatusCode != want {
			t.Errorf("%d bytes: %s, %v", size, answer.Status, err)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// TestUntilDrainWithoutServer checks that a context without a server ends with the request.
func TestUntilDrainWithoutServer(t *testing.T) {
	ctx, stop := UntilDrain(t.Context())
	if ctx.Err() != nil {
		t.Error(ctx.Err())
	}
	stop()
	if ctx.Err() == nil {
		t.Error("it goes on")
	}
}
