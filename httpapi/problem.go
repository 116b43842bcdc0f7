package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// others are the errors of other packages that are answered as a problem although they wrap none.
var others = []struct {
	err error
	as  *wire.ProblemType
}{
	{wire.ErrMalformed, wire.ErrBadRequest},
	{storagenode.ErrDamaged, wire.ErrUnavailable},
	{context.DeadlineExceeded, wire.ErrUnavailable},
	{context.Canceled, wire.ErrUnavailable},
}

// problemOf is the answer to an error. A refusal that another node answered with is passed on, unless it refused this node's
// token. Anything else is an internal error, whose text is only logged.
func problemOf(err error) (*wire.ProblemType, wire.Problem) {
	t := wire.ProblemOf(err)
	for i := range others {
		if t == nil && errors.Is(err, others[i].err) {
			t = others[i].as
		}
	}
	var answered *wire.Error
	if t == nil && errors.As(err, &answered) {
		if t = answered.Type(); t != nil && t.Status/100 == 4 && t != wire.ErrUnauthorized && t != wire.ErrForbidden {
			return t, wire.Problem{Type: wire.ProblemBase + t.Name, Title: t.Title, Status: t.Status, Detail: answered.Problem.Detail}
		}
		t = nil
	}
	if t == nil || t == wire.ErrInternal {
		return wire.ErrInternal, wire.ErrInternal.Problem(errors.New("the log of this node has the cause"))
	}
	return t, t.Problem(err)
}

// Fail answers a request with the problem that its error stands for.
func (e *Engine) Fail(c *gin.Context, err error) {
	p := e.Failure(c, err)
	var notNext *wire.NotNextError
	if errors.As(err, &notNext) {
		e.AnswerFailure(c, p.Status, wire.TypeProblem, wire.NotNext{Problem: p, StorageStatus: notNext.Status})
		return
	}
	var other *wire.OtherStartError
	if errors.As(err, &other) {
		e.AnswerFailure(c, p.Status, wire.TypeProblem, wire.OtherStart{Problem: p, Start: other.Start})
		return
	}
	var fenced *wire.FencedError
	if errors.As(err, &fenced) {
		e.AnswerFailure(c, p.Status, wire.TypeProblem, wire.Fenced{Problem: p, Epoch: &fenced.Highest.Epoch,
			Term: fenced.Highest.Term})
		return
	}
	e.AnswerFailure(c, p.Status, wire.TypeProblem, p)
}

// Failure finds the answer to an error, sets the headers that go with it and logs what somebody must look at.
func (e *Engine) Failure(c *gin.Context, err error) wire.Problem {
	t, p := problemOf(err)
	if t == wire.ErrInternal {
		e.Log.Error("request failed", "method", c.Request.Method, "route", c.FullPath(), "error", err)
	}
	if c.Writer.Written() {
		return p
	}
	retry := ""
	if t.Retry {
		retry = "1"
	}
	var quota *masternode.QuotaError
	if errors.As(err, &quota) {
		// Whole seconds, rounded up: who waits as long as that is not refused again for what was spent until now.
		retry = strconv.FormatUint((quota.Wait+999)/1000, 10)
		c.Header("RateLimit-Limit", strconv.FormatUint(quota.Limit, 10))
		c.Header("RateLimit-Remaining", strconv.FormatUint(quota.Left, 10))
		c.Header("RateLimit-Reset", retry)
	}
	if retry != "" {
		c.Header("Retry-After", retry)
	}
	if t == wire.ErrEncoding {
		c.Header("Accept-Encoding", identityCoding) // RFC 9110, section 15.5.16
	}
	if t == wire.ErrUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	c.Header("Cache-Control", "no-store")
	return p
}

// AnswerFailure ends a request with a body of JSON.
func (e *Engine) AnswerFailure(c *gin.Context, status int, contentType string, body any) {
	if c.Writer.Written() {
		return // the answer has begun: all that is left is to end it
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		e.Log.Error("encode problem", "error", err)
	}
	c.Data(status, contentType, encoded)
	c.Abort()
}
