// Package ginceiling has the ceilings of an HTTP server with gin: a handler that reads each body and answers 201, at
// once or at the next tick of a shared clock.
package ginceiling

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

// Handler reads the body of POST /v1/records and answers 201 with a short JSON object. With a clock, it answers at the
// clock's next tick, or 503 when the client has gone; clock may be nil.
func Handler(clock *Clock) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.POST("/v1/records", func(c *gin.Context) {
		if _, err := io.ReadAll(c.Request.Body); err != nil {
			c.Status(http.StatusBadRequest)
			return
		}
		if clock != nil && !clock.wait(c.Request.Context()) {
			c.Status(http.StatusServiceUnavailable)
			return
		}
		c.Data(http.StatusCreated, "application/json", []byte(`{"block":0,"offset":0}`))
	})
	return e
}

// Clock wakes all waiting handlers together, as a group commit does.
type Clock struct {
	next atomic.Pointer[chan struct{}] // closed by the next tick
}

// NewClock makes a clock that does not tick until Run.
func NewClock() *Clock {
	c := &Clock{}
	c.turn()
	return c
}

// Run ticks until ctx ends.
func (c *Clock) Run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			close(*c.turn())
		case <-ctx.Done():
			return
		}
	}
}

// turn begins the next period and returns the channel of the one before it, nil for the first.
func (c *Clock) turn() *chan struct{} {
	next := make(chan struct{})
	return c.next.Swap(&next)
}

// wait waits for the next tick. It returns false if ctx ends first.
func (c *Clock) wait(ctx context.Context) bool {
	select {
	case <-*c.next.Load():
		return true
	case <-ctx.Done():
		return false
	}
}
