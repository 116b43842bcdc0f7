package chain

import (
	"errors"
	"fmt"
)

// Errors in the form of bytes. Every error of this package wraps one of these.
var (
	// ErrRecord: a record is over a limit of the format or has a forbidden value.
	ErrRecord = errors.New("record not acceptable")
	// ErrFrame: bytes that do not have the form of a record, a leaf, a header or a block.
	ErrFrame = errors.New("malformed bytes")
	// ErrVersion: the form is of a version that this program does not know. It wraps ErrFrame.
	ErrVersion = fmt.Errorf("%w: unknown version", ErrFrame)
	// ErrTree: the parts of a compact range do not match.
	ErrTree = errors.New("not a tree")
	// ErrProof: an inclusion proof does not prove its claim.
	ErrProof = errors.New("proof does not hold")
)

// Reasons why a block does not extend a chain. The [Verifier] returns a [*BlockError] around one of these, or around
// [ErrFrame].
var (
	// ErrNumber: the block's number is not the chain's height.
	ErrNumber = errors.New("wrong block number")
	// ErrLink: prev is not the hash of the block before.
	ErrLink = errors.New("broken link to the block before")
	// ErrFirst: first is not the size of the tree before the block.
	ErrFirst = errors.New("wrong first leaf index")
	// ErrCount: the block holds no record.
	ErrCount = errors.New("wrong record count")
	// ErrTime: the block is older than the one before, or one of its records is out of order.
	ErrTime = errors.New("time runs backwards")
	// ErrRoot: the records do not hash to the root that the header names: a payload, salt, key, type, time or project
	// was changed.
	ErrRoot = errors.New("records do not match the root")
	// ErrWork: the block's hash has too few leading zero bits.
	ErrWork = errors.New("no proof of work")
)

// BlockError names a bad block and the reason.
type BlockError struct {
	Block uint64 // the number that the block should have: the height of the chain before it
	Err   error
}

// Error names the block and the reason.
func (e *BlockError) Error() string { return fmt.Sprintf("block %d: %v", e.Block, e.Err) }

// Unwrap returns the reason.
func (e *BlockError) Unwrap() error { return e.Err }
