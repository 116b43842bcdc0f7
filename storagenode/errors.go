package storagenode

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// Errors of this package beside those of wire's table.
var (
	// ErrConflict: the node has another block of that number. It wraps wire.ErrNotNext.
	ErrConflict = fmt.Errorf("%w: another block of that number is here", wire.ErrNotNext)
	// ErrFailed: a write or sync failed, and the node takes no more blocks until it is started again.
	ErrFailed = wire.ErrUnavailable.Variant("storage node stopped after a failed write")
	// ErrBehind: the node does not have that block, leaf or tree size yet.
	ErrBehind = wire.ErrNotFound.Variant("not here yet")
	// ErrDamaged: the node has the block and cannot read it, or cannot go on because of a block that it cannot read.
	ErrDamaged = segment.ErrDamaged
	// ErrNewerFormat: a newer ChainStore wrote a file of the folder. Nothing was changed.
	ErrNewerFormat = segment.ErrNewerFormat
	// ErrTicket: no repair is open under that ticket.
	ErrTicket = wire.ErrUnauthorized.Variant("no repair is open under that ticket")
	// ErrRefused: the receiver of a transfer found that a block was bad.
	ErrRefused = errors.New("the receiver refused a block")
	// ErrMisplaced: something else stands in the place of files or folders of the node. All blocks are good.
	ErrMisplaced = errors.New("something else stands in the place of a file of the node")
	// ErrTiles: the files of the tree's hashes do not fit the blocks, which are good.
	ErrTiles = errors.New("hashes of the tree do not fit the blocks")
)
