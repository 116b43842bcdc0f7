package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/minernode"
	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// Errors of this package itself.
var (
	errNoRoute      = errors.New("no such route")
	errMethod       = errors.New("this route does not take that method")
	errBadRequest   = errors.New("request cannot be used")
	errUnauthorized = errors.New("a token is needed: send the header Authorization: Bearer TOKEN")
	errForbidden    = errors.New("that token does not open this route")
	errTooLarge     = errors.New("body over the limit")
	errEncoding     = errors.New("content coding not supported")
	errInternal     = errors.New("something failed that should not")
)

// answers says how each error is answered; the first that matches counts. retry is the Retry-After in seconds, 0 for none.
var answers = []struct {
	err    error
	status int
	name   string
	title  string
	retry  string
}{
	{errNoRoute, http.StatusNotFound, wire.ProblemNotFound, "No such route", ""},
	{errMethod, http.StatusMethodNotAllowed, wire.ProblemMethod, "Method not allowed", ""},
	{errUnauthorized, http.StatusUnauthorized, wire.ProblemUnauthorized, "Token needed", ""},
	{masternode.ErrUnauthorized, http.StatusUnauthorized, wire.ProblemUnauthorized, "Unknown token", ""},
	{errForbidden, http.StatusForbidden, wire.ProblemForbidden, "Not with this token", ""},
	{masternode.ErrForbidden, http.StatusForbidden, wire.ProblemForbidden, "Not with this token", ""},
	{masternode.ErrSeal, http.StatusNotFound, wire.ProblemSealIndex, "Index of a seal", ""},
	{masternode.ErrNotFound, http.StatusNotFound, wire.ProblemNotFound, "Not found", ""},
	{storagenode.ErrBehind, http.StatusNotFound, wire.ProblemNotFound, "Not on this node", ""},
	{masternode.ErrNotMined, http.StatusConflict, wire.ProblemNotMined, "Not mined yet", "1"},
	{masterfsm.ErrTooMany, http.StatusConflict, wire.ProblemTooMany, "No more fit", ""},
	{masternode.ErrNotSealed, http.StatusConflict, wire.ProblemNotSealed, "Not sealed yet", "1"},
	{masternode.ErrNotCovered, http.StatusConflict, wire.ProblemNotCovered, "No checkpoint yet", "1"},
	{masternode.ErrTooManyStreams, http.StatusServiceUnavailable, wire.ProblemTooManyStreams, "Too many streams", "1"},
	{masterfsm.ErrNameTaken, http.StatusConflict, wire.ProblemNameTaken, "Name taken", ""},
	{worker.ErrFenced, http.StatusConflict, wire.ProblemFenced, "Order of a deposed leader", ""},
	{worker.ErrOtherCluster, http.StatusConflict, wire.ProblemOtherGroup, "Of another group", ""},
	{storagenode.ErrNotNext, http.StatusConflict, wire.ProblemNotNext, "Not the next block", ""},
	{minernode.ErrSuperseded, http.StatusConflict, wire.ProblemFenced, "Another header is being mined", ""},
	{masterfsm.ErrOtherStart, http.StatusConflict, wire.ProblemOtherStart, "Another start of the worker", ""},
	{masterfsm.ErrTooFewCopies, http.StatusConflict, wire.ProblemTooFewCopies, "Too few copies", ""},
	{masternode.ErrTooFewMasters, http.StatusConflict, wire.ProblemTooFewMasters, "Too few masters", ""},
	{masternode.ErrOtherGroup, http.StatusConflict, wire.ProblemOtherGroup, "Of another group", ""},
	{masternode.ErrNotVoter, http.StatusConflict, wire.ProblemNotVoter, "Cannot lead", ""},
	{masternode.ErrRemoved, http.StatusGone, wire.ProblemRemoved, "Taken out of the group", ""},
	{masterfsm.ErrMasterRemoved, http.StatusGone, wire.ProblemRemoved, "Taken out of the group", ""},
	{masterfsm.ErrNotLost, http.StatusConflict, wire.ProblemNotLost, "Not lost", ""},
	{masterfsm.ErrUnknownProject, http.StatusNotFound, wire.ProblemNotFound, "No such project", ""},
	{masterfsm.ErrUnknownToken, http.StatusNotFound, wire.ProblemNotFound, "No such token", ""},
	{masterfsm.ErrUnknownLogKey, http.StatusNotFound, wire.ProblemNotFound, "No such key", ""},
	{masterfsm.ErrLastLogKey, http.StatusConflict, wire.ProblemLastKey, "The last key", ""},
	{masterfsm.ErrUnknownNode, http.StatusNotFound, wire.ProblemNotFound, "No such node", ""},
	{masternode.ErrLost, http.StatusGone, wire.ProblemLost, "Lost for good", ""},
	{masterfsm.ErrRemoved, http.StatusGone, wire.ProblemRemoved, "Taken out of the cluster", ""},
	{storagenode.ErrInboxFull, http.StatusConflict, wire.ProblemInboxFull, "Inbox full", ""},
	{storagenode.ErrTicket, http.StatusUnauthorized, wire.ProblemUnauthorized, "Unknown ticket", ""},
	{masternode.ErrTooLarge, http.StatusRequestEntityTooLarge, wire.ProblemTooLarge, "Too large", ""},
	{errTooLarge, http.StatusRequestEntityTooLarge, wire.ProblemTooLarge, "Too large", ""},
	{errEncoding, http.StatusUnsupportedMediaType, wire.ProblemEncoding, "Content coding not supported", ""},
	{masterfsm.ErrOversize, http.StatusRequestEntityTooLarge, wire.ProblemTooLarge, "Too large for the quota", ""},
	{masterfsm.ErrQuota, http.StatusTooManyRequests, wire.ProblemQuota, "Quota spent", "1"},
	{masterfsm.ErrKeyReused, http.StatusUnprocessableEntity, wire.ProblemKeyReused, "Idempotency key reused", ""},
	{storagenode.ErrBadBlock, http.StatusUnprocessableEntity, wire.ProblemBadBlock, "Bad block", ""},
	{masternode.ErrEmpty, http.StatusBadRequest, wire.ProblemEmptyBody, "Empty body", ""},
	{errBadRequest, http.StatusBadRequest, wire.ProblemBadRequest, "Bad request", ""},
	{masternode.ErrBadRequest, http.StatusBadRequest, wire.ProblemBadRequest, "Bad request", ""},
	{masterfsm.ErrBadCommand, http.StatusBadRequest, wire.ProblemBadRequest, "Bad request", ""},
	{wire.ErrMalformed, http.StatusBadRequest, wire.ProblemBadRequest, "Bad request", ""},
	{masterfsm.ErrBacklog, http.StatusServiceUnavailable, wire.ProblemBacklog, "Backlog full", "1"},
	{masternode.ErrUnknownOutcome, http.StatusServiceUnavailable, wire.ProblemUnknownOutcome, "Outcome not known", "1"},
	{masternode.ErrForgotten, http.StatusConflict, wire.ProblemForgotten, "Submission not remembered", ""},
	{masternode.ErrOutcomeUnknown, http.StatusServiceUnavailable, wire.ProblemUnknownOutcome, "Outcome not known", "1"},
	{masternode.ErrStaleFolder, http.StatusServiceUnavailable, wire.ProblemStaleFolder, "Data folder is an older copy", ""},
	{masternode.ErrNoLeader, http.StatusServiceUnavailable, wire.ProblemNoLeader, "No leader", "1"},
	{masternode.ErrNotLeader, http.StatusServiceUnavailable, wire.ProblemNoLeader, "Not the leader", "1"},
	{masternode.ErrUnavailable, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Not readable now", "1"},
	{signing.ErrNoCheckpoint, http.StatusServiceUnavailable, wire.ProblemUnavailable, "No checkpoint", "1"},
	{masternode.ErrBusy, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Busy", "1"},
	{worker.ErrRefused, http.StatusServiceUnavailable, wire.ProblemStaleFolder, "Data folder is an older copy", ""},
	{worker.ErrNotRegistered, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Not registered yet", "1"},
	{storagenode.ErrFailed, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Node has failed", ""},
	{storagenode.ErrDamaged, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Damaged on this node", ""},
	{minernode.ErrDifficulty, http.StatusBadRequest, wire.ProblemBadRequest, "Bad request", ""},
	{minernode.ErrClosed, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Stopping", ""},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Took too long", "1"},
	{context.Canceled, http.StatusServiceUnavailable, wire.ProblemUnavailable, "Given up", "1"},
}

// problemOf finds the answer to an error. What is not in the table is a 500, and its text goes to the log alone.
func problemOf(err error) (p wire.Problem, retry string) {
	for i := range answers {
		if a := &answers[i]; errors.Is(err, a.err) {
			return wire.Problem{Type: wire.ProblemBase + a.name, Title: a.title, Status: a.status, Detail: err.Error()}, a.retry
		}
	}
	return wire.Problem{
		Type: wire.ProblemBase + wire.ProblemInternal, Title: "Internal error", Status: http.StatusInternalServerError,
		Detail: "something failed that should not; this node's log says what",
	}, ""
}

// fail answers a request with the problem that its error stands for.
func (e *engine) fail(c *gin.Context, err error) {
	p := e.failing(c, err)
	var notNext *notNextError
	if errors.As(err, &notNext) {
		e.answerFailure(c, p.Status, wire.TypeProblem, wire.NotNext{Problem: p, StorageStatus: notNext.status})
		return
	}
	var other *masterfsm.OtherStartError
	if errors.As(err, &other) {
		e.answerFailure(c, p.Status, wire.TypeProblem, wire.OtherStart{Problem: p, Start: other.Boot})
		return
	}
	var fenced *wire.FencedError
	if errors.As(err, &fenced) {
		e.answerFailure(c, p.Status, wire.TypeProblem, wire.Fenced{Problem: p, Epoch: &fenced.Highest.Epoch,
			Term: fenced.Highest.Term})
		return
	}
	e.answerFailure(c, p.Status, wire.TypeProblem, p)
}

// failing finds the answer to an error, sets the headers that go with it and logs what somebody must look at.
func (e *engine) failing(c *gin.Context, err error) wire.Problem {
	p, retry := problemOf(err)
	if p.Status == http.StatusInternalServerError {
		e.log.Error("request failed", "method", c.Request.Method, "route", c.FullPath(), "error", err)
	}
	if c.Writer.Written() {
		return p
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
	if p.Status == http.StatusUnsupportedMediaType {
		c.Header("Accept-Encoding", identityCoding) // RFC 9110, section 15.5.16
	}
	if p.Status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	c.Header("Cache-Control", "no-store")
	return p
}

// answerFailure ends a request with a body of JSON.
func (e *engine) answerFailure(c *gin.Context, status int, contentType string, body any) {
	if c.Writer.Written() {
		return // the answer has begun: all that is left is to end it
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		e.log.Error("encode problem", "error", err)
	}
	c.Data(status, contentType, encoded)
	c.Abort()
}
