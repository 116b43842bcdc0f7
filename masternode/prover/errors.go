package prover

import (
	"errors"

	"github.com/chainstore/chainstore/wire"
)

// Errors of reads beside those of wire's table.
var (
	// ErrBusy: this master already reads as much as its limit allows. Nothing is wrong with the request.
	ErrBusy = wire.ErrUnavailable.Variant("too many reads at a time")
	// ErrNoBlock: the block is not mined, as far as this master knows.
	ErrNoBlock = wire.ErrUnavailable.Variant("the block is not mined yet")
	// ErrNoHeader: no storage node could prove the header of a lost block, and one answered that it does not have it.
	ErrNoHeader = wire.ErrUnavailable.Variant("no storage node has the header of the lost block")
	// ErrNoRecord: a storage node returned the place of a record that does not exist.
	ErrNoRecord = errors.New("there is no such record")
)
