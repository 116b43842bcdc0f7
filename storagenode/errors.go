package storagenode

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/transfer"
)

// Errors of this package.
var (
	// ErrNotNext: the block does not follow the node's last one. The Status that comes with it says which is due.
	ErrNotNext = errors.New("not the next block")
	// ErrConflict: the node has another block of that number. It wraps ErrNotNext.
	ErrConflict = fmt.Errorf("%w: another block of that number is here", ErrNotNext)
	// ErrBadBlock: the block does not extend the chain. The error of package chain is wrapped beside it.
	ErrBadBlock = transfer.ErrBadBlock
	// ErrFailed: a write or sync failed. The node takes no more blocks until it is started again.
	ErrFailed = errors.New("storage node stopped after a failed write")
	// ErrBehind: the node does not have that block, leaf or tree size yet.
	ErrBehind = errors.New("not here yet")
	// ErrDamaged: the node has the block and cannot read it, or cannot go on because of a block that it cannot read.
	ErrDamaged = durable.ErrDamaged
	// ErrNewerFormat: a newer ChainStore wrote a file of the folder. Nothing was changed.
	ErrNewerFormat = durable.ErrNewerFormat
	// ErrInboxFull: the inbox takes no more blocks before the node is repaired.
	ErrInboxFull = errors.New("inbox is full")
	// ErrTicket: no repair is open under that ticket.
	ErrTicket = errors.New("no repair is open under that ticket")
	// ErrRefused: the receiver of a transfer found a bad block.
	ErrRefused = errors.New("the receiver refused a block")
)
