package prover

import (
	"errors"
	"fmt"
)

// Errors of reads.
var (
	// ErrUnavailable: no storage node could prove the record now.
	ErrUnavailable = errors.New("no storage node could prove it")
	// ErrBusy: this master already reads as much as its limit allows. Nothing is wrong with the request.
	ErrBusy = errors.New("too much is being read at a time")
	// ErrLost: no storage node has a good copy of the record's block, and a person has confirmed that it is lost.
	ErrLost = errors.New("the block is lost for good")
	// ErrNotFound: there is no such record or block.
	ErrNotFound = errors.New("not found")
	// ErrSeal: the leaf of that index is a block's seal. It wraps ErrNotFound.
	ErrSeal = fmt.Errorf("%w: the leaf of that index is a block's seal, not a record", ErrNotFound)
	// ErrBadRequest: a field that cannot be used.
	ErrBadRequest = errors.New("bad request")
	// ErrNoRecord: a storage node returned the place of a record that does not exist.
	ErrNoRecord = errors.New("there is no such record")
)
