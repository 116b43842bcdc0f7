package client

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/internal/exchange"
	"github.com/chainstore/chainstore/wire"
)

// Errors of this package. A call that gets no answer ends with an error that wraps [wire.ErrNoAnswer], and a problem
// that the other side answered with is a [*wire.Error], in which [errors.Is] finds the errors of wire's table,
// [wire.ErrNotFound] and others.
var (
	// ErrAnswer: the answer is not one of ChainStore: from another program, damaged or too long.
	ErrAnswer = exchange.ErrAnswer
	// ErrMismatch: a record or block does not match its hashes, or is not the requested one. It wraps ErrAnswer.
	ErrMismatch = fmt.Errorf("%w: the content does not match its hash", ErrAnswer)
	// ErrReceipt: a record is appended, and the receipt in the answer does not prove it. It wraps [ErrAnswer].
	ErrReceipt = fmt.Errorf("%w: the record is appended, and its receipt does not hold", ErrAnswer)
	// ErrConfig: a [Config] that cannot work.
	ErrConfig = errors.New("client configuration not acceptable")
	// ErrClosed: the [Batcher] or [AppendStream] takes no more entries.
	ErrClosed = errors.New("it is closed and takes no more entries")
)

// UnknownOutcomeError ends a call that was given up after a try which may have been carried out. To find out, and to
// append if it was not, call again with the same content and this IdempotencyKey. A record of an append stream has
// Stream and Number instead: continue the stream with the same record under that number. [errors.Is] finds
// [wire.ErrUnknownOutcome] and what Err wraps.
type UnknownOutcomeError struct {
	IdempotencyKey string
	Stream         string // id of the append stream
	Number         uint64 // of the record in it
	Err            error  // why it was given up
}

// Error is the reason and how to retry.
func (e *UnknownOutcomeError) Error() string {
	if e.Stream != "" {
		return fmt.Sprintf("%v; number %d of the append stream %q may or may not have been appended: continue the "+
			"stream with that number", e.Err, e.Number, e.Stream)
	}
	return fmt.Sprintf("%v; the records may or may not have been appended: retry with the idempotency key %q",
		e.Err, e.IdempotencyKey)
}

// Unwrap is the reason.
func (e *UnknownOutcomeError) Unwrap() error { return e.Err }

// Is makes [wire.ErrUnknownOutcome] match.
func (e *UnknownOutcomeError) Is(target error) bool { return target == wire.ErrUnknownOutcome }
