package wire

import "errors"

// Problem is an error on the wire, RFC 9457. Type is stable; docs/api.md lists all of them.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// Fenced is the problem [ProblemFenced] of an order: it names the newest order that the worker has let in. Older
// workers leave both out, and so does a miner that mines another header meanwhile.
type Fenced struct {
	Problem
	Epoch *uint64 `json:"epoch,omitempty"`
	Term  uint64  `json:"term,omitempty"`
}

// FencedError is a worker's refusal of an order, with the newest order that the worker has let in.
type FencedError struct {
	Highest Order
	Err     error // what the worker says
}

// Error says what the worker says.
func (e *FencedError) Error() string { return e.Err.Error() }

// Unwrap gives what the worker says.
func (e *FencedError) Unwrap() error { return e.Err }

// ProblemBase stands before the name of each problem type.
const ProblemBase = "https://chainstore.dev/problems/"

// Names of problem types, without ProblemBase.
const (
	ProblemBadRequest     = "bad-request"        // 400: not a number, not JSON, a field over its limit
	ProblemEmptyBody      = "empty-body"         // 400: an append without a payload
	ProblemUnauthorized   = "unauthorized"       // 401: no token, or one that is not known
	ProblemForbidden      = "forbidden"          // 403: the token does not open this
	ProblemNotFound       = "not-found"          // 404: no such record, block, project or route
	ProblemSealIndex      = "seal-index"         // 404: the leaf of that index is a block's seal
	ProblemMethod         = "method-not-allowed" // 405
	ProblemNotMined       = "not-mined"          // 409: the block is committed and not yet mined
	ProblemNotSealed      = "not-sealed"         // 409: the proof is not yet sealed
	ProblemNotCovered     = "not-covered"        // 409: no signed checkpoint covers the record's block yet
	ProblemNameTaken      = "name-taken"         // 409
	ProblemTooMany        = "too-many"           // 409: the table takes no more projects, or the project no more tokens
	ProblemFenced         = "fenced"             // 409: an order of a deposed leader
	ProblemNotNext        = "not-next"           // 409: a block that does not follow the node's last
	ProblemTooFewCopies   = "too-few-copies"     // 409: without that storage node too few good copies would remain
	ProblemTooFewMasters  = "too-few-masters"    // 409: the masters that would remain could not elect a leader
	ProblemOtherGroup     = "other-group"        // 409: the master belongs to another group
	ProblemOtherStart     = "other-start"        // 409: the masters have another start of the worker: OtherStart
	ProblemNotVoter       = "not-voter"          // 409: that master cannot lead: it is still catching up, or leads already
	ProblemNotLost        = "not-lost"           // 409: the block is not reported as lost
	ProblemForgotten      = "forgotten"          // 409, between masters: the table does not remember that submission, or another of its name
	ProblemLastKey        = "last-key"           // 409: without that key nothing would sign the checkpoints
	ProblemInboxFull      = "inbox-full"         // 409: the storage node's inbox takes no more until it is repaired
	ProblemLost           = "lost"               // 410: the block is lost for good, as a person has confirmed
	ProblemRemoved        = "removed"            // 410: the worker or master was taken out of the cluster for good
	ProblemTooLarge       = "too-large"          // 413: a body, record or batch over its limit
	ProblemEncoding       = "content-encoding"   // 415 with Accept-Encoding: a body in a content coding other than identity
	ProblemKeyReused      = "key-reused"         // 422: the idempotency key was used for another body
	ProblemBadBlock       = "bad-block"          // 422: a block that fails the verifier
	ProblemQuota          = "quota"              // 429 with Retry-After and RateLimit-*: the project has spent its quota
	ProblemInternal       = "internal"           // 500
	ProblemBacklog        = "backlog-full"       // 503 with Retry-After: the masters hold max_pending_bytes
	ProblemNoLeader       = "no-leader"          // 503 with Retry-After: no leader within the time that the request could wait
	ProblemUnknownOutcome = "unknown-outcome"    // 503: the append may or may not have been committed; retry with the same Idempotency-Key
	ProblemTooManyStreams = "too-many-streams"   // 503 with Retry-After: the master serves as many streams as it can
	ProblemStaleFolder    = "stale-folder"       // 503: the node's data folder is an older copy of itself, so it serves nothing; ask another
	ProblemUnavailable    = "unavailable"        // 503: no storage node could prove the record, or no checkpoint can be shown
)

// How calls on the replicated state end that were not carried out, or may not have been. Calls between masters wrap them too.
var (
	// ErrNotLeader: the master that was asked does not lead and did nothing. It stands for the answer [ProblemNoLeader].
	ErrNotLeader = errors.New("not the leader")
	// ErrOutcomeUnknown: it may have been carried out, or may be yet. It stands for the answer [ProblemUnknownOutcome].
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrNoAnswer: the other node gave no answer. Whether it did anything is not known.
	ErrNoAnswer = errors.New("no answer")
)
