package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/wire"
)

// AnswerAs says as which problem an error of another package is answered, if it wraps none.
func (e *Engine) AnswerAs(err error, t *wire.ProblemType) {
	e.others = append(e.others, answeredAs{err, t})
}

// NoRetry declares errors for which a retry does not help soon: their answers have no Retry-After header, whatever the
// problem's type says.
func (e *Engine) NoRetry(errs ...error) { e.noRetry = append(e.noRetry, errs...) }

type answeredAs struct {
	err error
	t   *wire.ProblemType
}

// answeredByAll are the errors that every engine answers as a problem although they wrap none.
var answeredByAll = []answeredAs{
	{wire.ErrMalformed, wire.ErrBadRequest},
	{context.DeadlineExceeded, wire.ErrUnavailable},
	{context.Canceled, wire.ErrUnavailable},
}

// problemOf is the answer to an error. Where another node refused a request that was forwarded to it, its refusal is
// the answer, unless it refused this node's token. Any other error is an internal one; its text is only logged.
func (e *Engine) problemOf(err error) (*wire.ProblemType, wire.Problem) {
	if t := wire.ProblemOf(err); t != nil && t != wire.ErrInternal {
		return t, t.Problem(err)
	}
	for _, o := range slices.Concat(e.others, answeredByAll) {
		if errors.Is(err, o.err) {
			return o.t, o.t.Problem(err)
		}
	}
	if answer, ok := errors.AsType[*wire.Error](err); ok {
		switch t := answer.Type(); {
		case t == nil, t == wire.ErrUnauthorized, t == wire.ErrForbidden:
		case t.Status/100 == 4:
			return t, t.Problem(errors.New(answer.Problem.Detail))
		}
	}
	return wire.ErrInternal, wire.ErrInternal.Problem(errors.New("the log of this node has the cause"))
}

// Fail answers a request with the problem that its error is. Some problems carry data.
func (e *Engine) Fail(c *gin.Context, err error) {
	p := e.Failure(c, err)
	var body any = p
	if e, ok := errors.AsType[*wire.NotNextError](err); ok {
		body = wire.NotNext{Problem: p, StorageStatus: e.Status}
	} else if e, ok := errors.AsType[*wire.OtherStartError](err); ok {
		body = wire.OtherStart{Problem: p, Start: e.Start}
	} else if e, ok := errors.AsType[*wire.RemovedError](err); ok {
		body = wire.Removed{Problem: p, Master: e.Master, Epoch: e.Epoch, Signature: e.Signature}
	} else if e, ok := errors.AsType[*wire.FencedError](err); ok {
		body = wire.Fenced{Problem: p, Epoch: &e.Highest.Epoch, Term: e.Highest.Term}
	}
	e.AnswerFailure(c, p.Status, wire.TypeProblem, body)
}

// Failure is the problem that an error is answered with. It sets the headers that belong to it, and logs an internal
// error.
func (e *Engine) Failure(c *gin.Context, err error) wire.Problem {
	t, p := e.problemOf(err)
	c.Set(keyProblem, t.Name)
	if t == wire.ErrInternal {
		e.Log.Error("request failed", "method", c.Request.Method, "route", c.FullPath(), "error", err)
	}
	if hasBegun(c) {
		return p
	}
	retry := ""
	if t.Retry && !slices.ContainsFunc(e.noRetry, func(final error) bool { return errors.Is(err, final) }) {
		retry = "1"
	}
	if quota, ok := errors.AsType[*wire.QuotaError](err); ok {
		// Whole seconds, rounded up: a retry after that time is not refused for what was spent until now.
		retry = strconv.FormatUint((quota.Wait+999)/1000, 10)
		c.Header("RateLimit-Limit", strconv.FormatUint(quota.Limit, 10))
		c.Header("RateLimit-Remaining", strconv.FormatUint(quota.Left, 10))
		c.Header("RateLimit-Reset", retry)
	}
	if retry != "" {
		c.Header("Retry-After", retry)
	}
	switch t {
	case wire.ErrEncoding:
		c.Header("Accept-Encoding", identityCoding) // RFC 9110, section 15.5.16
	case wire.ErrUnauthorized:
		c.Header("WWW-Authenticate", "Bearer")
	}
	c.Header("Cache-Control", "no-store")
	return p
}

// keyProblem is the key of a request's context for the name of the problem that it is answered with.
const keyProblem = "problem"

// ProblemOf returns the name of the problem that a request was answered with, "" if it was none.
func ProblemOf(c *gin.Context) string { return c.GetString(keyProblem) }

// AnswerFailure ends a request with a body of JSON. Where the answer has begun, it can only be cut off.
func (e *Engine) AnswerFailure(c *gin.Context, status int, contentType string, body any) {
	signed, _ := c.Writer.(*signedAnswer)
	if hasBegun(c) {
		if signed != nil {
			signed.failed = true
		}
		return
	}
	if signed != nil {
		signed.reset()
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		e.Log.Error("encode problem", "error", err)
	}
	c.Header("Content-Type", contentType) // Data keeps the one that the handler may have set
	refuse(c, func() { c.Data(status, contentType, encoded) })
	c.Abort()
}
