package storagenode

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/transfer"
	"github.com/chainstore/chainstore/wire"
)

// incomingRepair is a repair that this node receives blocks for. It exists in memory only: after a start, the leader
// opens it again with the same ticket.
type incomingRepair struct {
	ticket string
	pieces []wire.Piece

	mu      sync.Mutex // guards all below
	stream  uint64     // counts streams: a new one replaces one that hangs
	missing []chain.Range
	lost    []chain.Range // could not be copied from a segment that was written again, and are not to be received
	blocks  uint64
	bytes   uint64
	changed []string
	rewrite *rewrite // the segment that is being rewritten, nil for none
	// appended are blocks at the chain's end that may not be synced yet.
	appended []chain.Range
	reloaded bool // the chainState was replaced since the last block was put into a segment
	closed   bool // changes with mu and Node.mu held, so that either is enough to read it
}

// isOpen reports whether the repair may still change the chain's end. r may be nil. Node.mu is held.
func (r *incomingRepair) isOpen() bool { return r != nil && !r.closed }

// wants reports whether a block is still to be received.
func (r *incomingRepair) wants(number uint64) bool {
	return chain.HoldsBlock(r.missing, number) && !chain.HoldsBlock(r.appended, number) &&
		(r.rewrite == nil || !chain.HoldsBlock(r.rewrite.received, number))
}

// noteSynced notes that all appended blocks are durable.
func (r *incomingRepair) noteSynced() {
	r.missing = chain.CutRanges(r.missing, r.appended)
	r.appended = nil
}

// noteReceived counts a block.
func (r *incomingRepair) noteReceived(block *chain.Block) {
	r.blocks++
	r.bytes += uint64(len(block.Bytes()))
}

// maxChanged bounds the descriptions of replaced blocks in a status.
const maxChanged = 64

// Receive opens the node for a repair under a ticket, or returns the state of that repair. If the node's chain is
// another one, its blocks from Keep on are moved to quarantine/ first. That is done once for a ticket, even if the
// node is started again in between.
//
// The end of the context ends the wait for a repair under another ticket to be closed. That repair then goes on, with
// the blocks that it has received. No repair is opened after it.
//
// Errors: ErrFailed, wire.ErrBadBlock for an order that makes no sense, and the cause of the context's end.
func (n *Node) Receive(ctx context.Context, o wire.ReceiveOrder) (wire.ReceiveStatus, error) {
	r, err := n.openRepair(ctx, o)
	if err != nil {
		return wire.ReceiveStatus{}, err
	}
	if err := n.complete(r); err != nil {
		return wire.ReceiveStatus{}, err
	}
	n.life.RLock()
	defer n.life.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	return wire.ReceiveStatus{
		StorageStatus: n.Status(), Missing: slices.Clone(r.missing), Blocks: r.blocks, Bytes: r.bytes,
		Changed: slices.Clone(r.changed), Lost: chain.BoundRanges(slices.Clone(r.lost), chain.MaxFindings),
		Complete: len(r.missing) == 0,
	}, nil
}

// lastRepair returns the repair that was opened last, nil for none.
func (n *Node) lastRepair() *incomingRepair {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.incoming
}

// openRepair returns the repair of an order. It opens it if it is not the last one.
func (n *Node) openRepair(ctx context.Context, o wire.ReceiveOrder) (*incomingRepair, error) {
	if r := n.lastRepair(); r != nil && r.ticket == o.Ticket {
		return r, nil
	}
	if o.Ticket == "" {
		return nil, fmt.Errorf("%w: a repair needs a ticket", wire.ErrBadBlock)
	}
	if err := transfer.CheckPieces(o.Pieces); err != nil {
		return nil, err
	}
	n.life.Lock()
	defer n.life.Unlock()
	if r := n.lastRepair(); r != nil && r.ticket == o.Ticket {
		return r, nil // another call opened it meanwhile
	}
	if err := n.cfg.Room(); err != nil {
		return nil, fmt.Errorf("no repair is opened: %w", err)
	}
	if err := n.mayStart(ctx); err != nil {
		return nil, fmt.Errorf("no repair is opened: %w", err)
	}
	if err := n.closeRepair(ctx); err != nil {
		return nil, err
	}
	if err := n.cutFor(o.Ticket, o.Keep); err != nil {
		return nil, err
	}
	r := &incomingRepair{ticket: o.Ticket, pieces: slices.Clone(o.Pieces)}
	for _, p := range o.Pieces {
		r.missing = chain.AddRange(r.missing, p.Range)
	}
	if have := n.Status().Height; o.Keep < have { // received under this ticket before a start
		r.missing = chain.CutRanges(r.missing, []chain.Range{{From: o.Keep, To: have}})
	}
	n.mu.Lock()
	n.incoming = r
	n.mu.Unlock()
	n.log.Info("open for a repair", "blocks", chain.CountBlocks(r.missing), "keep",
		min(o.Keep, n.Status().Height)) // a repair that cuts nothing keeps any height
	return r, nil
}

// closeRepair closes the repair that is open. What it has received is kept. If the context ends before that is in its
// place, the repair stays open, and the error is the cause. life is held exclusively.
func (n *Node) closeRepair(ctx context.Context) error {
	r := n.lastRepair()
	if r == nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	err := n.copyRewrite(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	n.mu.Lock()
	r.closed = true
	n.incoming = nil
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return n.finishRewrite(r)
}

// cutFor cuts the chain for a ticket, unless that was done before. life is held exclusively.
func (n *Node) cutFor(ticket string, keep uint64) error {
	done, err := n.dir.IsTicket(ticket)
	if err != nil || done {
		return err
	}
	if keep < n.Status().Height {
		n.log.Error("the chain is not the group's, and is moved aside from a block on",
			"from", keep, "height", n.index.Len())
		if err := n.reload(func() error { return n.cutChain(keep) }); err != nil {
			return err
		}
	}
	return n.failUnlocked(n.cfg.writeFile(n.dir.Ticket(), folder.EncodeTicket(ticket), 0o600))
}

// complete closes a repair if nothing is missing any more. The chain goes on with what is in the inbox.
func (n *Node) complete(r *incomingRepair) error {
	if err := n.reopenAfterRepair(r); err != nil {
		return err
	}
	n.life.RLock()
	defer n.life.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.missing) > 0 || r.rewrite != nil {
		return nil
	}
	return n.locked(func() error {
		r.closed = true
		n.log.Info("repair ended", "blocks", r.blocks, "height", n.Status().Height)
		return n.drain(context.Background())
	})
}

// reopenAfterRepair replaces the chainState of a node that is blocked by damage, when none of its blocks is missing any
// more.
func (n *Node) reopenAfterRepair(r *incomingRepair) error {
	isDue := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.failure == nil && n.blocked != nil && !r.closed && !r.reloaded && r.rewrite == nil &&
			(len(r.missing) == 0 || r.missing[0].From >= n.index.Len())
	}
	n.life.RLock()
	due := isDue()
	n.life.RUnlock()
	if !due {
		return nil // the usual case, which must not wait for all reads to end
	}
	n.life.Lock()
	defer n.life.Unlock()
	if !isDue() {
		return nil // another call was faster
	}
	r.mu.Lock()
	r.reloaded = true
	r.mu.Unlock()
	return n.reload(func() error { return nil })
}

// Take receives a stream of blocks for the repair under a ticket. Blocks that arrived whole are kept whatever the
// outcome. A new stream replaces one that hangs.
//
// Errors: ErrTicket; wire.ErrBadBlock if the stream does not prove itself; ErrFailed; else what kept the stream from
// being read.
func (n *Node) Take(ctx context.Context, ticket string, from io.Reader) error {
	r := n.lastRepair()
	if r == nil || subtle.ConstantTimeCompare([]byte(r.ticket), []byte(ticket)) != 1 {
		return ErrTicket
	}
	r.mu.Lock()
	r.stream++
	s := &incomingStream{n: n, r: r, number: r.stream, reader: transfer.NewReader(from)}
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return ErrTicket
	}
	err := s.receive(ctx)
	if syncErr := s.ifCurrent(s.sync); !errors.Is(syncErr, ErrTicket) {
		err = errors.Join(err, syncErr)
	}
	return errors.Join(err, n.complete(r))
}

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
	if err := n.cfg.Room(); err != nil {
		return err
	}
	if number < n.index.Len() {
		return n.replaceBlock(r, block)
	}
	if err := n.finishRewrite(r); err != nil {
		return err
	}
	return n.locked(func() error { return s.appendNext(block, leaves) })
}

// appendNext adds a proven block to the chain's end. The repair's mu and Node.mu are held.
func (s *incomingStream) appendNext(block *chain.Block, leaves []chain.Hash) error {
	n, r := s.n, s.r
	number := block.Header.Block
	if n.blocked != nil {
		return fmt.Errorf("%w: block %d cannot be added: %w", errBlocked, number, n.blocked)
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
	if n.unsynced.blocks == 0 {
		r.noteSynced()
	}
	return nil
}

// sync makes durable what was received.
func (s *incomingStream) sync() error {
	if err := s.n.finishRewrite(s.r); err != nil {
		return err
	}
	if err := s.n.locked(s.n.flushed); err != nil {
		return err
	}
	s.r.noteSynced()
	return nil
}
