package storagenode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/transfer"
	"github.com/chainstore/chainstore/wire"
)

// sendJob is a transfer to another node that runs, or the one that ran last.
type sendJob struct {
	job    *job
	order  wire.SendOrder
	blocks atomic.Uint64
	bytes  atomic.Uint64
	end    atomic.Pointer[sendEnd] // nil while it runs
}

type sendEnd struct {
	err    error
	faulty bool
}

func (s *sendJob) status() wire.SendStatus {
	end := s.end.Load()
	status := wire.SendStatus{Running: end == nil, Blocks: s.blocks.Load(), Bytes: s.bytes.Load()}
	if end != nil && end.err != nil {
		status.Error, status.Faulty = end.err.Error(), end.faulty
	}
	return status
}

// Send starts a transfer of blocks to another storage node, or returns the state of one. An order with the ticket and
// the attempt of the transfer that runs, or that ran last, starts nothing; any other ends the one that runs.
// The end of the context does not end a transfer. None is started after it.
//
// The error wraps ErrFailed, says what is wrong with the order, or is the cause of the context's end.
func (n *Node) Send(ctx context.Context, o wire.SendOrder) (wire.SendStatus, error) {
	answers := func(s *sendJob) bool { return s.order.Ticket == o.Ticket && s.order.Attempt == o.Attempt }
	start := func() (*sendJob, error) {
		if n.cfg.Transfer == nil {
			return nil, errors.New("the node has no connection to other nodes")
		}
		if err := transfer.CheckPieces(o.Pieces); err != nil {
			return nil, err
		}
		o.Pieces = slices.Clone(o.Pieces)
		s := &sendJob{order: o}
		if n.send != nil {
			s.job = n.send.job
		}
		s.job = startJob(s.job, func(ctx context.Context) { n.runSend(ctx, s) })
		return s, nil
	}
	s, err := findOrStart(ctx, n, &n.send, answers, start)
	if err != nil {
		return wire.SendStatus{}, fmt.Errorf("nothing is sent: %w", err)
	}
	return s.status(), nil
}

func (n *Node) runSend(ctx context.Context, s *sendJob) {
	var writing sync.Mutex // guards over and own
	over := false
	var own error // what keeps this node from sending
	err := n.cfg.Transfer(ctx, s.order.To, s.order.Ticket, func(w io.Writer) error {
		writing.Lock()
		defer writing.Unlock()
		if over {
			return errors.New("the transfer is over")
		}
		mine, err := n.writeStream(ctx, s, w)
		own = errors.Join(own, mine)
		return errors.Join(mine, err)
	})
	writing.Lock() // write ends at the latest when its writer fails
	over = true
	writing.Unlock()
	end := &sendEnd{err: err, faulty: own != nil && !durable.CannotRead(own) || errors.Is(err, wire.ErrBadBlock)}
	if own != nil {
		end.err = own
	}
	n.log.Info("transfer ended", "to", s.order.To, "blocks", s.blocks.Load(), "bytes", s.bytes.Load(), "error", end.err)
	s.end.Store(end)
}

// writeStream writes all pieces. own is what is wrong with this node's blocks, err what keeps them from being written.
func (n *Node) writeStream(ctx context.Context, s *sendJob, to io.Writer) (own, err error) {
	w := bufio.NewWriterSize(to, transfer.BufferSize)
	if _, err := w.Write(transfer.AppendHeader(nil)); err != nil {
		return nil, err
	}
	b := &blockReader{n: n}
	var small []byte
	for _, p := range s.order.Pieces {
		piece, err := b.piece(p)
		if err != nil {
			return err, w.Flush() // blocks that were whole are sent
		}
		small = piece.AppendTo(small[:0])
		if _, err := w.Write(small); err != nil {
			return nil, err
		}
		for i := range piece.Headers {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			data, err := b.block(p.From + uint64(i))
			if err == nil && string(data[:chain.HeaderSize]) != string(piece.Headers[i].AppendTo(small[:0])) {
				err = fmt.Errorf("%w: block %d changed while it was read", ErrDamaged, p.From+uint64(i))
			}
			if err != nil {
				return err, w.Flush()
			}
			if err := transfer.WriteBlock(w, data); err != nil {
				return nil, err
			}
			s.blocks.Add(1)
			s.bytes.Add(uint64(len(data)))
		}
	}
	if _, err := w.Write(transfer.AppendEnd(small[:0])); err != nil {
		return nil, err
	}
	return nil, w.Flush()
}

// piece reads what precedes the blocks of a piece, and proves it.
func (b *blockReader) piece(p wire.Piece) (*transfer.Piece, error) {
	n := b.n
	piece := &transfer.Piece{From: p.From}
	for number := p.From; number < p.To; number++ {
		h, err := n.header(number)
		if err != nil {
			return nil, err
		}
		piece.Headers = append(piece.Headers, h)
	}
	var err error
	if piece.Tree, err = n.tiles.Tree(piece.Headers[0].First); err != nil {
		return nil, err
	}
	if err := piece.Prove(p.Hash); err != nil {
		return nil, fmt.Errorf("this node's blocks are not those of the order: %w", err)
	}
	// The first block proves the tree, as it will for the receiver.
	if _, err := n.verifyBlock(chain.NewVerifier(piece.Head()), p.From); err != nil {
		if durable.CannotRead(err) {
			return nil, cannotRead(err)
		}
		return nil, fmt.Errorf("%w: block %d, or hashes of the tree: %w", ErrDamaged, p.From, err)
	}
	return piece, nil
}
