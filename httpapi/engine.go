package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"

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
	noRetry []error // see NoRetry
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
	e.Use(e.recover)
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

// Health adds /livez and /readyz. Neither takes a token. ready returns why the node does not serve, nil where it does.
func (e *Engine) Health(ready func() error) {
	e.GET("/livez", func(c *gin.Context) { c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", e.Do(func(c *gin.Context) error {
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

// AnswerJSON answers with a value that may have changed by the next request.
func AnswerJSON(c *gin.Context, status int, v any) {
	c.Header("Cache-Control", "no-store")
	c.JSON(status, v)
}

// Answer returns a function that answers with the result of a call as AnswerJSON does, or returns the call's error.
func Answer(c *gin.Context, status int) func(v any, err error) error {
	return AnswerWith(c, status, "no-store")
}

// AnswerWith is Answer with another Cache-Control header, "" for none.
func AnswerWith(c *gin.Context, status int, cacheControl string) func(v any, err error) error {
	return func(v any, err error) error {
		if err == nil {
			c.Header("Cache-Control", cacheControl)
			c.JSON(status, v)
		}
		return err
	}
}

// ETag is the entity tag of an answer with that content.
func ETag(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// Unchanged sets the entity tag of the answer. If the client has the content of that tag, it answers so and returns
// true.
func Unchanged(c *gin.Context, tag string) bool {
	c.Header("ETag", tag)
	if !strings.Contains(c.GetHeader("If-None-Match"), tag) {
		return false
	}
	c.Status(http.StatusNotModified)
	return true
}
