package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// take is one transfer that is received. It holds no lock while it waits for the network.
type take struct {
	n      *Node
	r      *receipt
	turn   uint64
	stream *Reader
}

// inTurn runs what changes the node or the receipt, unless the receipt was closed or another transfer took this one's place.
func (t *take) inTurn(do func() error) error {
	t.n.life.RLock()
	defer t.n.life.RUnlock()
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	if t.r.closed {
		return ErrTicket
	}
	if t.r.turn != t.turn {
		return fmt.Errorf("%w: another transfer has taken this one's place", ErrTicket)
	}
	return do()
}

func (t *take) run(ctx context.Context) error {
	if err := t.stream.Header(); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		head, err := t.stream.Piece()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.piece(ctx, head); err != nil {
			return err
		}
	}
}

// piece receives the blocks of a piece.
func (t *take) piece(ctx context.Context, head *Piece) error {
	ordered, err := t.ordered(head)
	if err != nil {
		return err
	}
	if err := head.Prove(ordered.Hash); err != nil {
		return err
	}
	v := chain.NewVerifier(chain.Head{Height: head.From, Hash: head.Headers[0].Prev, Tree: head.Tree})
	for i := range head.Headers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := t.stream.Block()
		if err != nil {
			return err
		}
		number := head.From + uint64(i)
		block, err := parseBlock(number, data)
		if err != nil {
			return err
		}
		if block.Header != head.Headers[i] {
			return fmt.Errorf("%w: block %d has another header than the one that was proven", ErrBadBlock, number)
		}
		leaves, err := v.Take(&block)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrBadBlock, err)
		}
		keep := func() error { return t.keep(&block, leaves) }
		if err = t.inTurn(keep); errors.Is(err, errStanding) {
			if err = t.n.revive(t.r); err == nil {
				err = t.inTurn(keep)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ordered finds the piece of the order that a received one ends.
func (t *take) ordered(head *Piece) (wire.Piece, error) {
	end := head.From + uint64(len(head.Headers))
	for _, p := range t.r.pieces {
		if p.Holds(head.From) && end == p.To {
			return p, nil
		}
	}
	return wire.Piece{}, fmt.Errorf("%w: blocks %d to %d are no end of a piece that was ordered", ErrBadBlock, head.From, end)
}

// keep puts a proven block where it belongs.
func (t *take) keep(block *chain.Block, leaves []chain.Hash) error {
	n, r := t.n, t.r
	number := block.Header.Block
	if !r.wants(number) {
		return nil // it came twice
	}
	if number < n.index.Len() {
		return n.putHole(r, block)
	}
	if err := n.finishRewrite(r); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	if n.stopped != nil {
		return fmt.Errorf("%w: block %d cannot be added: %w", errStanding, number, n.stopped)
	}
	if height := n.verifier.Head().Height; number > height {
		return fmt.Errorf("%w: block %d, where block %d is due", ErrNotNext, number, height)
	}
	leaves, err := n.verifier.TakeHashed(block, leaves[:block.Header.Count])
	if err != nil {
		return fmt.Errorf("%w: block %d is good, and does not follow this node's last: %w", ErrNotNext, number, err)
	}
	if err := n.store(block, leaves); err != nil {
		return n.fail(err)
	}
	r.appended = addLast(r.appended, number)
	r.blocks++
	r.bytes += uint64(len(block.Bytes()))
	if n.unsynced.bytes < groupBytes && len(n.unsynced.places) < groupBlocks {
		return nil
	}
	if err := n.flushed(); err != nil {
		return err
	}
	r.synced()
	return nil
}

// errStanding: the node stands before a damaged block, and may go on when it is loaded again.
var errStanding = fmt.Errorf("%w: the node stands before a damaged block", ErrNotNext)

// settle makes durable what was received.
func (t *take) settle() error {
	if err := t.n.finishRewrite(t.r); err != nil {
		return err
	}
	t.n.mu.Lock()
	defer t.n.mu.Unlock()
	if errors.Is(t.n.stopped, ErrFailed) {
		return t.n.stopped
	}
	if err := t.n.flushed(); err != nil {
		return err
	}
	t.r.synced()
	return nil
}
