package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/transfer"
	"github.com/chainstore/chainstore/wire"
)

// incomingStream is one stream of blocks for a repair. It holds no lock while it waits for the network.
type incomingStream struct {
	n      *Node
	r      *incomingRepair
	number uint64
	reader *transfer.Reader
}

// ifCurrent runs a change of the node or the repair, unless the repair was closed or another stream replaced this one.
func (s *incomingStream) ifCurrent(change func() error) error {
	s.n.life.RLock()
	defer s.n.life.RUnlock()
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.closed {
		return ErrTicket
	}
	if s.r.stream != s.number {
		return fmt.Errorf("%w: another transfer has replaced this one", ErrTicket)
	}
	return change()
}

func (s *incomingStream) receive(ctx context.Context) error {
	if err := s.reader.Header(); err != nil {
		return err
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		piece, err := s.reader.Piece()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.receivePiece(ctx, piece); err != nil {
			return err
		}
	}
}

// receivePiece proves and keeps the blocks of a piece.
func (s *incomingStream) receivePiece(ctx context.Context, piece *transfer.Piece) error {
	ordered, err := s.orderedPiece(piece)
	if err != nil {
		return err
	}
	if err := piece.Prove(ordered.Hash); err != nil {
		return err
	}
	v := chain.NewVerifier(piece.Head())
	for i := range piece.Headers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := s.reader.Block()
		if err != nil {
			return err
		}
		number := piece.From + uint64(i)
		block, err := parseBlock(number, data)
		if err != nil {
			return err
		}
		if block.Header != piece.Headers[i] {
			return fmt.Errorf("%w: block %d has another header than the one that was proven", wire.ErrBadBlock, number)
		}
		leaves, err := v.Take(&block)
		if err != nil {
			return fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
		}
		keep := func() error { return s.keep(&block, leaves) }
		if err = s.ifCurrent(keep); errors.Is(err, errBlocked) {
			if err = s.n.reopenAfterRepair(s.r); err == nil {
				err = s.ifCurrent(keep)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// orderedPiece finds the piece of the order that a received one ends.
func (s *incomingStream) orderedPiece(piece *transfer.Piece) (wire.Piece, error) {
	for _, p := range s.r.pieces {
		if p.Holds(piece.From) && piece.End() == p.To {
			return p, nil
		}
	}
	return wire.Piece{}, fmt.Errorf("%w: blocks %d to %d are not the end of an ordered piece",
		wire.ErrBadBlock, piece.From, piece.End())
}

// keep puts a proven block where it belongs: in the place of a damaged or missing one, or at the chain's end.
func (s *incomingStream) keep(block *chain.Block, leaves []chain.Hash) error {
	n, r := s.n, s.r
	number := block.Header.Block
	if !r.wants(number) {
		return nil // it arrived twice
	}
	if number < n.index.Len() {
		return n.replaceBlock(r, block)
	}
	if err := n.finishRewrite(r); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil {
		return n.failure
	}
	if n.blockedByDamage != nil {
		return fmt.Errorf("%w: block %d cannot be added: %w", errBlocked, number, n.blockedByDamage)
	}
	if height := n.verifier.Head().Height; number > height {
		return fmt.Errorf("%w: block %d, block %d is due", wire.ErrNotNext, number, height)
	}
	leaves, err := n.verifier.TakeHashed(block, leaves[:block.Header.Count])
	if err != nil {
		return fmt.Errorf("%w: block %d is good, and does not follow this node's last: %w",
			wire.ErrNotNext, number, err)
	}
	if err := n.appendBlock(block, leaves); err != nil {
		return err
	}
	r.appended = audit.AddLast(r.appended, number)
	r.noteReceived(block)
	if len(n.unsynced.places) == 0 {
		r.noteSynced()
	}
	return nil
}

// sync makes durable what was received.
func (s *incomingStream) sync() error {
	if err := s.n.finishRewrite(s.r); err != nil {
		return err
	}
	s.n.mu.Lock()
	defer s.n.mu.Unlock()
	if s.n.failure != nil {
		return s.n.failure
	}
	if err := s.n.flushed(); err != nil {
		return err
	}
	s.r.noteSynced()
	return nil
}
