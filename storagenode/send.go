package storagenode

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// sendJob is a transfer to another node that runs, or the one that ran last.
type sendJob struct {
	job
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

// Send starts a transfer of blocks to another storage node, or tells how it goes: an order with ticket and attempt of the one that
// runs, or that ran last, starts nothing, any other ends the one that runs.
//
// The error wraps ErrFailed, or says what the order lacks.
func (n *Node) Send(o wire.SendOrder) (wire.SendStatus, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.jobs.mu.Lock()
	defer n.jobs.mu.Unlock()
	if s := n.jobs.send; s != nil && s.order.Ticket == o.Ticket && s.order.Attempt == o.Attempt {
		return s.status(), nil
	}
	if n.jobs.closed {
		return wire.SendStatus{}, fmt.Errorf("nothing is sent: %w", ErrFailed)
	}
	if n.cfg.Transfer == nil {
		return wire.SendStatus{}, errors.New("nothing is sent: this node was started without a way to other nodes")
	}
	if err := checkPieces(o.Pieces); err != nil {
		return wire.SendStatus{}, err
	}
	if n.jobs.send != nil {
		n.jobs.send.stop()
	}
	o.Pieces = slices.Clone(o.Pieces)
	s := &sendJob{order: o}
	n.jobs.send = s
	s.job = startJob(func(ctx context.Context) { n.runSend(ctx, s) })
	return s.status(), nil
}

// checkPieces looks over the pieces of an order. The error wraps ErrBadBlock.
func checkPieces(pieces []wire.Piece) error {
	last := uint64(0)
	for _, p := range pieces {
		if p.From >= p.To || p.Len() > wire.MaxPiece || p.From < last || p.To == math.MaxUint64 {
			return fmt.Errorf("%w: a piece from block %d to %d, behind one to %d; pieces ascend and have 1 to %d blocks",
				ErrBadBlock, p.From, p.To, last, wire.MaxPiece)
		}
		last = p.To
	}
	return nil
}

func (n *Node) runSend(ctx context.Context, s *sendJob) {
	var mu sync.Mutex
	var writing sync.WaitGroup
	over := false
	own := error(nil) // what keeps this node from sending
	err := n.cfg.Transfer(ctx, s.order.To, s.order.Ticket, func(w io.Writer) error {
		mu.Lock()
		if over {
			mu.Unlock()
			return errors.New("the transfer is over")
		}
		writing.Add(1)
		mu.Unlock()
		defer writing.Done()
		mine, err := n.writeStream(ctx, s, w)
		mu.Lock()
		defer mu.Unlock()
		own = errors.Join(own, mine)
		return errors.Join(mine, err)
	})
	mu.Lock()
	over = true
	mu.Unlock()
	writing.Wait() // it fails at the latest when its writer does
	end := &sendEnd{err: err}
	if own != nil {
		end.err, end.faulty = own, true
	} else if errors.Is(err, ErrRefused) {
		end.faulty = true
	}
	n.log.Info("transfer ended", "to", s.order.To, "blocks", s.blocks.Load(), "bytes", s.bytes.Load(), "error", end.err)
	s.end.Store(end)
}

// writeStream writes all pieces. own is what is wrong with this node's blocks, err what keeps them from being written.
func (n *Node) writeStream(ctx context.Context, s *sendJob, to io.Writer) (own, err error) {
	w := bufio.NewWriterSize(to, BufferSize)
	if _, err := w.Write(AppendHeader(nil)); err != nil {
		return nil, err
	}
	b := &blockReader{n: n}
	var small []byte
	for _, p := range s.order.Pieces {
		head, err := b.head(p)
		if err != nil {
			return err, w.Flush() // what was whole goes out
		}
		small = head.AppendTo(small[:0])
		if _, err := w.Write(small); err != nil {
			return nil, err
		}
		for i := range head.Headers {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			data, err := b.block(p.From + uint64(i))
			if err == nil && string(data[:chain.HeaderSize]) != string(head.Headers[i].AppendTo(small[:0])) {
				err = fmt.Errorf("%w: block %d changed while it was read", ErrDamaged, p.From+uint64(i))
			}
			if err != nil {
				return err, w.Flush()
			}
			if _, err := w.Write(binary.BigEndian.AppendUint32(small[:0], uint32(len(data)))); err != nil {
				return nil, err
			}
			if _, err := w.Write(data); err != nil {
				return nil, err
			}
			s.blocks.Add(1)
			s.bytes.Add(uint64(len(data)))
		}
	}
	if _, err := w.Write(AppendEnd(small[:0])); err != nil {
		return nil, err
	}
	return nil, w.Flush()
}

// blockReader reads blocks one after the other into the same memory.
type blockReader struct {
	n   *Node
	buf []byte
}

// head reads what goes before a piece's blocks, and proves it.
func (b *blockReader) head(p wire.Piece) (*Piece, error) {
	n := b.n
	r := n.reader()
	defer r.release(n)
	head := &Piece{From: p.From}
	for number := p.From; number < p.To; number++ {
		h, err := r.header(n, number)
		if err != nil {
			return nil, err
		}
		head.Headers = append(head.Headers, h)
	}
	var err error
	if head.Tree, err = n.tiles.Tree(head.Headers[0].First); err != nil {
		return nil, err
	}
	if err := head.Prove(p.Hash); err != nil {
		return nil, fmt.Errorf("this node's blocks are not those that are asked for: %w", err)
	}
	// That the tree is right is shown by the first block, as the receiver will hold it.
	data, err := b.block(p.From)
	if err != nil {
		return nil, err
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return nil, fmt.Errorf("%w: block %d: %w", ErrDamaged, p.From, err)
	}
	v := chain.NewVerifier(chain.Head{Height: p.From, Hash: head.Headers[0].Prev, Tree: head.Tree})
	if _, err := v.Take(&block); err != nil {
		return nil, fmt.Errorf("%w, or hashes of the tree are: %w", ErrDamaged, err)
	}
	return head, nil
}

// block reads a block; it is good until the next call. Errors: ErrBehind, ErrDamaged.
func (b *blockReader) block(number uint64) (data []byte, err error) {
	err = b.n.steady(func() (err error) {
		p, seg, ok := b.n.index.Get(number)
		if !ok {
			return fmt.Errorf("%w: block %d", ErrBehind, number)
		}
		if p.Lost() {
			return fmt.Errorf("%w: block %d is lost", ErrDamaged, number)
		}
		err = b.n.files.with(seg, func(f segment.File) (err error) {
			b.buf, err = segment.ReadFrameInto(b.buf, f, p.Offset, p.Length)
			return err
		})
		if err != nil {
			return fmt.Errorf("block %d in %s: %w", number, segment.Name(seg), err)
		}
		data = b.buf[segment.FrameHeader:]
		if h, err := chain.ParseHeader(data); err != nil || h.Block != number {
			return fmt.Errorf("%w: the frame at offset %d of %s is not of block %d", ErrDamaged, p.Offset, segment.Name(seg), number)
		}
		return nil
	})
	return data, err
}
