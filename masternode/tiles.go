package masternode

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Tile returns the first width hashes, 1 to 256, of a tile of C2SP tlog-tiles, if the tree of the newest checkpoint has
// as many. It is final. Errors: wire.ErrNotFound, signing.ErrNoLogKey, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, level, index, width); err != nil {
		return nil, err
	}
	return n.prover.Tile(ctx, level, index, width)
}

// Entries returns the first width entries, 1 to 256, of the bundle below a tile of level 0: the data of leaves. It is
// final. Errors: those of Tile, prover.ErrBusy, and wire.ErrLost if the block of one of them is lost: the hash of its
// leaf remains, its data does not.
func (n *Node) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, 0, index, width); err != nil {
		return nil, err
	}
	return n.prover.Entries(ctx, index, width)
}

// published checks that the tree of the newest checkpoint has a tile. A negative answer is confirmed.
func (n *Node) published(ctx context.Context, level, index uint64, width int) error {
	var size uint64
	err := n.confirmedShared(ctx, func() error {
		checkpoint, err := n.checkpointHere()
		if err != nil {
			return err
		}
		if size = checkpoint.Boundary.Size; wire.WidthOfTile(level, index, size) < width {
			return errNotHere
		}
		return nil
	})
	if errors.Is(err, wire.ErrNotFound) {
		return fmt.Errorf("%w: the newest checkpoint has %d leaves, and its tree no such tile, or not so many hashes "+
			"in it", err, size)
	}
	return err
}

// Consistency proves that the tree of one size is a prefix of that of a larger one. Both are within the newest
// checkpoint, whose size nil stands for. Errors: wire.ErrBadRequest, wire.ErrNotFound, signing.ErrNoLogKey,
// wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Consistency(ctx context.Context, from uint64, to *uint64) (wire.Consistency, error) {
	answer := wire.Consistency{From: from}
	var size uint64
	err := n.confirmedShared(ctx, func() error {
		checkpoint, err := n.checkpointHere()
		if err != nil {
			return err
		}
		size = checkpoint.Boundary.Size
		if answer.To = size; to != nil {
			answer.To = *to
		}
		switch {
		case to != nil && from > *to:
			return fmt.Errorf("%w: from %d is beyond to %d", wire.ErrBadRequest, from, *to)
		case max(from, answer.To) > size:
			return errNotHere
		}
		return nil
	})
	if errors.Is(err, wire.ErrNotFound) {
		err = fmt.Errorf("%w: the newest checkpoint has %d leaves", err, size)
	}
	if err == nil {
		answer.Proof, err = n.prover.Consistency(ctx, from, answer.To)
	}
	return answer, err
}
