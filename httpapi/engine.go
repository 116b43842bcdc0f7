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

// Handler is a route's work. An error that it returns is answered as a problem; nil means that it has answered.
type Handler func(c *gin.Context) error

// Engine is gin as all roles use it.
type Engine struct {
	*gin.Engine
	Log     hclog.Logger
	others  []answeredAs
	noRetry []error     // see NoRetry
	plain   func() bool // see TakePlain
	strangers
}

// New makes an engine that answers an unknown route, a wrong method and a panic with a problem.
func New(log hclog.Logger) *Engine {
	gin.SetMode(gin.ReleaseMode)
	e := &Engine{Engine: gin.New(), Log: log.Named("http")}
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	e.ContextWithFallback = false
	// A record's key or a worker's address may be part of a path, with its slashes escaped.
	e.UseRawPath = true
	e.UnescapePathValues = true
	e.Use(e.safe, e.recover, e.pace)
	e.NoRoute(e.Do(func(c *gin.Context) error {
		return fmt.Errorf("%w: there is no %s; docs/api.md lists all routes", wire.ErrNoSuchRoute, c.Request.URL.Path)
	}))
	e.NoMethod(e.Do(func(c *gin.Context) error {
		return fmt.Errorf("%w: %s of %s", wire.ErrMethod, c.Request.Method, c.Request.URL.Path)
	}))
	return e
}

// Do makes a gin handler of h.
func (e *Engine) Do(h Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			e.Fail(c, err)
		}
	}
}

// GetAndHead adds a route for GET and HEAD.
func (e *Engine) GetAndHead(path string, h gin.HandlerFunc) {
	e.GET(path, h)
	e.HEAD(path, h)
}

// Health adds /livez and /readyz. Neither takes a token. ready returns why the node does not serve, nil where it does.
func (e *Engine) Health(ready func() error) {
	e.GetAndHead("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	e.GetAndHead("/readyz", e.Do(func(c *gin.Context) error {
		if err := ready(); err != nil {
			return err
		}
		c.String(http.StatusOK, "ok\n")
		return nil
	}))
}

// recover turns a panic into a 500 and a line of the log, so that one request does not end the role.
func (e *Engine) recover(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p) // net/http's own way to close a connection
		}
		e.Log.Error("handler panicked", "route", c.FullPath(), "panic", p, "stack", string(debug.Stack()))
		e.Fail(c, wire.ErrInternal)
	}()
	c.Next()
}
