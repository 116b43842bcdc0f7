package prover

import (
	"errors"

	"github.com/chainstore/chainstore/wire"
)

// Errors of reads beside those of wire's table.
var (
	// ErrBusy: this master already reads as much as its limit allows. Nothing is wrong with the request.
	ErrBusy = wire.ErrUnavailable.Variant("too many reads at a time")
	// ErrNoRecord: a storage node returned the place of a record that does not exist.
	ErrNoRecord = errors.New("there is no such record")
)
