package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// handler is a route's work. What it returns is answered as a problem; nil means that it has answered.
type handler func(c *gin.Context) error

// engine is gin as all roles use it.
type engine struct {
	*gin.Engine
	log hclog.Logger
}

// newEngine makes an engine that answers an unknown route, a wrong method and a panic with a problem.
func newEngine(log hclog.Logger) *engine {
	gin.SetMode(gin.ReleaseMode)
	e := &engine{Engine: gin.New(), log: log.Named("http")}
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.ContextWithFallback = false
	// A record's key or a worker's address may stand in a path with its slashes escaped.
	e.UseRawPath = true
	e.UnescapePathValues = true
	e.Use(e.recover)
	e.NoRoute(e.do(func(c *gin.Context) error {
		return fmt.Errorf("%w: there is no %s; docs/api.md lists what there is", wire.ErrNoSuchRoute, c.Request.URL.Path)
	}))
	e.NoMethod(e.do(func(c *gin.Context) error {
		return fmt.Errorf("%w: %s of %s", wire.ErrMethod, c.Request.Method, c.Request.URL.Path)
	}))
	return e
}

// do makes a handler one of gin's.
func (e *engine) do(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			e.fail(c, err)
		}
	}
}

// recover turns a panic into a 500 and a line in the log, so that one bad request does not end the role.
func (e *engine) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // the server's own way to cut a connection
		}
		e.log.Error("handler panicked", "route", c.FullPath(), "panic", p, "stack", string(debug.Stack()))
		e.fail(c, wire.ErrInternal)
	}()
	c.Next()
}
