package storagenode

import (
	"fmt"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// lacking is the error of an operation that may be tried again when there is room, or a free descriptor.
func lacking(err error) error {
	if durable.NoSpace(err) {
		return fmt.Errorf("%w: %w", wire.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", errLacking, err)
}

// Errors of this package besides those of wire's table.
var (
	// ErrConflict: the node has another block of that number. It wraps wire.ErrNotNext.
	ErrConflict = fmt.Errorf("%w: another block of that number is here", wire.ErrNotNext)
	// ErrFailed: a write or sync failed, other than a write for which there was no room. The node takes no more blocks
	// until it is started again.
	ErrFailed = wire.ErrUnavailable.Variant("storage node stopped after a failed write")
	// errLacking: no file descriptor or no memory was free. Nothing was changed.
	errLacking = wire.ErrUnavailable.Variant("no file descriptor or no memory is free; nothing was changed")
	// ErrBehind: the node does not have that block, leaf or tree size yet.
	ErrBehind = wire.ErrNotFound.Variant("not here yet")
	// ErrDamaged: the node has the block and cannot read it, or cannot go on because of a block that it cannot read.
	ErrDamaged = durable.ErrDamaged
	// ErrCannotRead: the system could not open or read a file of the node. Nothing is known about its bytes. See
	// [durable.CannotRead].
	ErrCannotRead = wire.ErrUnavailable.Variant("the storage node cannot read a file now")
	// ErrNewerFormat: a newer ChainStore wrote a file of the folder. Nothing was changed.
	ErrNewerFormat = durable.ErrNewerFormat
	// ErrTicket: no repair is open under that ticket.
	ErrTicket = wire.ErrUnauthorized.Variant("no repair is open under that ticket")
)
