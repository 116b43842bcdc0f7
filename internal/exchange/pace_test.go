package exchange

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// dripping is a body of which n bytes come at a time, after a pause each, until its request ends.
type dripping struct {
	ctx   context.Context
	pause time.Duration
	n     int
	left  int
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	select {
	case <-time.After(d.pause):
	case <-d.ctx.Done():
		return 0, context.Cause(d.ctx)
	}
	n := min(len(p), d.n, d.left)
	d.left -= n
	return n, nil
}

func (d *dripping) Close() error { return nil }

// TestSlowAnswers checks that an answer that comes too slowly ends a call without a deadline, and that one at a fair
// rate does not, however long it takes.
func TestSlowAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		pause   time.Duration
		n, size int
		slow    bool
	}{
		"a byte a second":       {time.Second, 1, 1 << 20, true},
		"nothing":               {time.Hour, 1, 1 << 20, true},
		"half the rate":         {100 * time.Millisecond, slowest / 20, 4 << 20, true},
		"the rate":              {100 * time.Millisecond, slowest / 10, 4 << 20, false},
		"a pause now and then":  {grace - time.Second, slowest * 20, 4 << 20, false},
		"a small one in a time": {grace - time.Second, 100, 100, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			send := Paced(func(r *http.Request) (*http.Response, error) {
				body := &dripping{ctx: r.Context(), pause: c.pause, n: c.n, left: c.size}
				return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(c.size), Body: body}, nil
			})
			began := time.Now()
			a, err := Do(context.Background(), send, &Request{Base: "http://x", Limit: MaxMedium})
			switch took := time.Since(began); {
			case !c.slow && (err != nil || len(a.Body) != c.size):
				t.Errorf("%s: %v", name, err)
			case c.slow && (!errors.Is(err, ErrSlow) || !errors.Is(err, wire.ErrNoAnswer)):
				t.Errorf("%s: %v", name, err)
			case c.slow && took > 2*grace:
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}
