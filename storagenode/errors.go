package storagenode

import (
	"fmt"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// Errors of this package besides those of wire's table.
var (
	// ErrConflict: the node has another block of that number. It wraps wire.ErrNotNext.
	ErrConflict = fmt.Errorf("%w: another block of that number is here", wire.ErrNotNext)
	// ErrFailed: a write or sync failed. The node takes no more blocks until it is started again.
	ErrFailed = wire.ErrUnavailable.Variant("storage node stopped after a failed write")
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
