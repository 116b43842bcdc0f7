package workerapi

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// gate lets the orders of the newest leader in.
type gate struct {
	fence *worker.Fence
	fail  func(error)
	group func() string // the worker's group, "" before it is registered
	came  func()        // called when an order has come, before the fence is asked; nil for nothing
}

// pass reads the order's fence and refuses an order of a deposed leader.
func (g *gate) pass(c *gin.Context) error {
	return g.do(c, func(context.Context) error { return nil })
}

// do calls act if the order passes the fence. No newer order passes before act has returned. The context of act ends
// when a newer order waits, or the caller is gone: act then has no effect, or a whole one. act must not answer: its
// caller may be slow to read the answer.
func (g *gate) do(c *gin.Context, act func(context.Context) error) error {
	order, err := wire.ParseOrder(c.GetHeader(wire.HeaderFence))
	if err != nil {
		return fmt.Errorf("header %s: %w", wire.HeaderFence, err)
	}
	if err := g.checkGroup(c); err != nil {
		return err
	}
	if g.came != nil {
		g.came()
	}
	var failed error
	err = g.fence.Do(c.Request.Context(), order, func(ctx context.Context) error {
		failed = act(ctx)
		return nil
	})
	if err != nil && !errors.Is(err, wire.ErrFenced) {
		g.failed(err)
	}
	return cmp.Or(err, failed)
}

// checkGroup refuses an order of a leader of another group, whose epochs and terms mean nothing here. Leaders before
// protocol level 3 do not name their group, and a worker that is not registered yet has none.
func (g *gate) checkGroup(c *gin.Context) error {
	text := c.GetHeader(wire.HeaderCaller)
	if text == "" {
		return nil
	}
	caller, err := wire.ParseCaller(text)
	if err != nil {
		return fmt.Errorf("header %s: %w", wire.HeaderCaller, err)
	}
	if own := g.group(); own != "" && caller.Group != own {
		return fmt.Errorf("%w: the order is of a leader of group %s, this worker is of group %s",
			wire.ErrOtherGroup, caller.Group, own)
	}
	return nil
}

// failed stops the role after the fence could not be written, unless that can be tried again.
func (g *gate) failed(err error) {
	if !worker.CanRetry(err) {
		g.fail(err)
	}
}

// refusal is why a worker that the masters have refused does nothing, nil for any other worker.
func refusal(ready func() error) error {
	if err := ready(); errors.Is(err, worker.ErrRefused) {
		return err
	}
	return nil
}

// notRefused is middleware that refuses all requests once the masters have refused the worker.
func notRefused(e *httpapi.Engine, ready func() error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := refusal(ready); err != nil {
			e.Fail(c, err)
		}
	}
}
