package masternode

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/wire"
)

// Tile is the first width hashes, 1 to 256, of a tile of C2SP tlog-tiles, as long as the tree of the newest checkpoint has so many. It is final.
// Errors: wire.ErrNotFound, ErrNoLogKey, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, level, index, width); err != nil {
		return nil, err
	}
	return n.prover.Tile(ctx, level, index, width)
}

// Entries is the bundle of the first width entries, 1 to 256, below a tile of level 0: the data of leaves. It is final. Errors: those of Tile, prover.ErrBusy, and
// wire.ErrLost where a block of them is lost: its leaves cannot be made again, though their hashes are there.
func (n *Node) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	if err := n.published(ctx, 0, index, width); err != nil {
		return nil, err
	}
	return n.prover.Entries(ctx, index, width)
}

// published tells whether the tree of the newest checkpoint has a tile. That it has not is the leader's word.
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
		return fmt.Errorf("%w: the newest checkpoint has %d leaves, and its tree no such tile, or not so many hashes in it", err, size)
	}
	return err
}

// Consistency proves that the tree of a size goes on from that of a smaller one; both are within the newest checkpoint, whose size nil stands
// for. Errors: wire.ErrBadRequest, wire.ErrNotFound, ErrNoLogKey, wire.ErrNoLeader, wire.ErrUnavailable.
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
