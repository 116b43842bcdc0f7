package client

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/chainstore/chainstore/wire"
)

// What can go wrong besides a problem that the other side names.
var (
	// ErrUnreachable: no answer came: nobody listens there, the connection broke, or the time was over. Whether the
	// request was carried out is not known.
	ErrUnreachable = wire.ErrNoAnswer
	// ErrAnswer: what came is no answer of ChainStore: another program listens there, or the answer is damaged.
	ErrAnswer = errors.New("answer is not acceptable")
	// ErrMismatch: a record that does not match its own commitment or leaf, or is not the one that was asked for; or a
	// block that does not match its hash. It wraps ErrAnswer.
	ErrMismatch = fmt.Errorf("%w: the content does not match its hash", ErrAnswer)
	// ErrReceipt: a record is appended, and the receipt that came with it is not one of it. It wraps [ErrAnswer].
	ErrReceipt = fmt.Errorf("%w: the record is appended, and its receipt does not hold", ErrAnswer)
	// ErrConfig: a [Config] that cannot work.
	ErrConfig = errors.New("client configuration not acceptable")
	// ErrClosed: the [Batcher] takes no more entries.
	ErrClosed = errors.New("batcher is closed")
)

// Problems that a ChainStore answers with, for [errors.Is] on an [*Error]. docs/api.md tells more of each.
var (
	ErrBadRequest   = errors.New("request not acceptable")
	ErrEmptyBody    = fmt.Errorf("%w: a record without a payload", ErrBadRequest)
	ErrUnauthorized = errors.New("no token, or one that is not known")
	ErrForbidden    = errors.New("the token does not open this")
	ErrNotFound     = errors.New("not found")
	ErrSealIndex    = fmt.Errorf("%w: the leaf of that index is a block's seal", ErrNotFound)
	ErrMethod       = errors.New("method not allowed")
	ErrNotMined     = errors.New("the block is committed and not yet mined")
	ErrNotSealed    = errors.New("the proof is not yet sealed")
	ErrNotCovered   = errors.New("no signed checkpoint covers the record yet")
	ErrNameTaken    = errors.New("the name is taken")
	ErrTooMany      = errors.New("no more projects or tokens fit")
	ErrTooFewCopies = errors.New("too few good copies would remain")
	// ErrTooFewMasters: the masters that would remain could not elect a leader.
	ErrTooFewMasters = errors.New("too few masters would remain")
	ErrOtherGroup    = errors.New("the master belongs to another group")
	ErrNotVoter      = errors.New("that master cannot take the leadership")
	ErrLastKey       = errors.New("the only log key that signs")
	ErrNotLost       = errors.New("the block is not reported as lost")
	ErrLost          = errors.New("the block is lost for good")
	ErrTooLarge      = errors.New("over the size limit")
	ErrEncoding      = errors.New("the body's content coding is not supported") // a proxy may have compressed it
	ErrKeyReused     = errors.New("the idempotency key was used for another body")
	ErrInternal      = errors.New("internal error of the server")
	ErrBacklog       = errors.New("backlog full: appends are refused until blocks are stored")
	// ErrQuota: the project has spent what its quota gives in a second. [Error.RetryAfter] says when more is there; the client waits for it
	// as long as Config.RetryFor lets it.
	ErrQuota       = errors.New("the project's quota is spent")
	ErrNoLeader    = fmt.Errorf("the masters have no leader: %w", wire.ErrNotLeader)
	ErrUnavailable = errors.New("no storage node could give the record")
	// ErrStaleFolder: the node's data folder is an older copy of itself, so it serves nothing; another may.
	ErrStaleFolder = errors.New("the node's data folder is an older copy of itself")
	// ErrTooManyStreams: the master serves as many streams as it can; another may serve this one.
	ErrTooManyStreams = errors.New("too many streams")
	// ErrUnknownOutcome: an append may or may not have been committed; see [UnknownOutcomeError].
	ErrUnknownOutcome = wire.ErrOutcomeUnknown

	// Of workers.
	ErrFenced = errors.New("order of a deposed leader " +
		"refused") // with a [*wire.FencedError] where the worker names the newer one
	ErrNotNext   = errors.New("the block does not follow the node's last") // see [NotNextError]
	ErrBadBlock  = errors.New("the block fails the verifier")
	ErrInboxFull = errors.New("the storage node's inbox is full until it is repaired")

	// For masters.
	ErrForgotten = errors.New("the table does not remember the submission, or another of its name")

	// For workers.
	ErrRemoved    = errors.New("the node was taken out of the cluster for good")
	ErrOtherStart = errors.New("the masters have another start of the worker") // see [OtherStartError]
)

// sentinel is the error that stands for a problem of that name, nil where there is none.
func sentinel(name string) error {
	switch name {
	case wire.ProblemBadRequest:
		return ErrBadRequest
	case wire.ProblemEmptyBody:
		return ErrEmptyBody
	case wire.ProblemUnauthorized:
		return ErrUnauthorized
	case wire.ProblemForbidden:
		return ErrForbidden
	case wire.ProblemNotFound:
		return ErrNotFound
	case wire.ProblemSealIndex:
		return ErrSealIndex
	case wire.ProblemMethod:
		return ErrMethod
	case wire.ProblemNotMined:
		return ErrNotMined
	case wire.ProblemNotSealed:
		return ErrNotSealed
	case wire.ProblemNotCovered:
		return ErrNotCovered
	case wire.ProblemNameTaken:
		return ErrNameTaken
	case wire.ProblemTooMany:
		return ErrTooMany
	case wire.ProblemQuota:
		return ErrQuota
	case wire.ProblemTooFewCopies:
		return ErrTooFewCopies
	case wire.ProblemTooFewMasters:
		return ErrTooFewMasters
	case wire.ProblemOtherGroup:
		return ErrOtherGroup
	case wire.ProblemNotVoter:
		return ErrNotVoter
	case wire.ProblemForgotten:
		return ErrForgotten
	case wire.ProblemLastKey:
		return ErrLastKey
	case wire.ProblemNotLost:
		return ErrNotLost
	case wire.ProblemInboxFull:
		return ErrInboxFull
	case wire.ProblemLost:
		return ErrLost
	case wire.ProblemRemoved:
		return ErrRemoved
	case wire.ProblemOtherStart:
		return ErrOtherStart
	case wire.ProblemFenced:
		return ErrFenced
	case wire.ProblemNotNext:
		return ErrNotNext
	case wire.ProblemTooLarge:
		return ErrTooLarge
	case wire.ProblemEncoding:
		return ErrEncoding
	case wire.ProblemKeyReused:
		return ErrKeyReused
	case wire.ProblemBadBlock:
		return ErrBadBlock
	case wire.ProblemInternal:
		return ErrInternal
	case wire.ProblemBacklog:
		return ErrBacklog
	case wire.ProblemNoLeader:
		return ErrNoLeader
	case wire.ProblemUnknownOutcome:
		return ErrUnknownOutcome
	case wire.ProblemStaleFolder:
		return ErrStaleFolder
	case wire.ProblemTooManyStreams:
		return ErrTooManyStreams
	case wire.ProblemUnavailable:
		return ErrUnavailable
	}
	return nil
}

// Error is a problem that a node answered with. [errors.Is] finds the sentinel of its type.
type Error struct {
	URL        string // of the node
	Problem    wire.Problem
	RetryAfter time.Duration // how long the node asks to wait, 0 where it does not
}

// Error says what was wrong in the node's own words.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.URL)
	b.WriteString(": ")
	b.WriteString(e.Problem.Title)
	if e.Problem.Detail != "" && e.Problem.Detail != e.Problem.Title {
		b.WriteString(": ")
		b.WriteString(e.Problem.Detail)
	}
	if name := e.name(); name != "" {
		fmt.Fprintf(&b, " (%s, HTTP %d)", name, e.Problem.Status)
	} else {
		fmt.Fprintf(&b, " (HTTP %d)", e.Problem.Status)
	}
	return b.String()
}

// Is makes the problem's sentinel match, and what that wraps.
func (e *Error) Is(target error) bool {
	s := sentinel(e.name())
	return s != nil && errors.Is(s, target)
}

// name is the problem's name without [wire.ProblemBase], "" for one that is not ChainStore's.
func (e *Error) name() string {
	name, ok := strings.CutPrefix(e.Problem.Type, wire.ProblemBase)
	if !ok {
		return ""
	}
	return name
}

// NotNextError is [ErrNotNext] with what the storage node has.
type NotNextError struct {
	Problem *Error
	Status  wire.StorageStatus
}

// Error says what was wrong in the node's own words.
func (e *NotNextError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *NotNextError) Unwrap() error { return e.Problem }

// OtherStartError is [ErrOtherStart] with the start that the masters have of the worker.
type OtherStartError struct {
	Problem *Error
	Start   string
}

// Error says what was wrong in the master's own words.
func (e *OtherStartError) Error() string { return e.Problem.Error() }

// Unwrap gives the problem.
func (e *OtherStartError) Unwrap() error { return e.Problem }

// UnknownOutcomeError: the call was given up after a try that may have been carried out. To find out, and to append if it
// was not, call again with the same content and this IdempotencyKey. [errors.Is] finds [ErrUnknownOutcome] and what Err wraps.
type UnknownOutcomeError struct {
	IdempotencyKey string
	Err            error // why it was given up
}

// Error names the key to retry with.
func (e *UnknownOutcomeError) Error() string {
	return fmt.Sprintf("%v; the records may or may not have been appended: retry with the idempotency key %q", e.Err, e.IdempotencyKey)
}

// Unwrap gives the reason.
func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// Is makes [ErrUnknownOutcome] match.
func (e *UnknownOutcomeError) Is(target error) bool { return target == ErrUnknownOutcome }
