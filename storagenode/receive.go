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
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// receipt is a repair that this node receives blocks for. Its ticket is in memory only: after a start the leader opens it again.
type receipt struct {
	ticket string
	pieces []wire.Piece

	mu      sync.Mutex // guards all below
	turn    uint64     // counts transfers: a new one takes the place of one that hangs
	missing []chain.Range
	blocks  uint64
	bytes   uint64
	changed []string
	rewrite *rewrite // the segment that is being made anew, nil for none
	// appended are blocks at the chain's end that may wait for the sync of their group.
	appended []chain.Range
	revived  bool // the node was loaded again since the last hole was filled
	closed   bool
}

// wants reports whether a block is still to be received.
func (r *receipt) wants(number uint64) bool {
	holds := func(list []chain.Range) bool {
		return slices.ContainsFunc(list, func(m chain.Range) bool { return m.Holds(number) })
	}
	return holds(r.missing) && !holds(r.appended) && (r.rewrite == nil || !holds(r.rewrite.got))
}

// synced takes note that all blocks which were appended are durable.
func (r *receipt) synced() {
	r.missing = chain.CutRanges(r.missing, r.appended)
	r.appended = nil
}

// maxChanged bounds what is told of replaced blocks.
const maxChanged = 64

// Receive opens the node for a repair under a ticket, or tells how that goes. Where the chain is another one, its blocks from
// Keep on are moved to quarantine/ first; that is done once for a ticket, whatever the node is started between.
//
// Errors: ErrFailed, ErrBadBlock for an order that makes no sense.
func (n *Node) Receive(o wire.ReceiveOrder) (wire.ReceiveStatus, error) {
	r, err := n.receipt(o)
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
	at := n.Status()
	status := wire.ReceiveStatus{
		StorageStatus: wire.StorageStatus{Height: at.Height, Hash: at.Hash, Size: at.Size, Inbox: at.Inbox},
		Missing:       slices.Clone(r.missing), Blocks: r.blocks, Bytes: r.bytes, Changed: slices.Clone(r.changed),
	}
	return status, nil
}

// receipt finds the receipt of an order, or opens it.
func (n *Node) receipt(o wire.ReceiveOrder) (*receipt, error) {
	n.life.RLock()
	n.jobs.mu.Lock()
	r := n.jobs.receipt
	n.jobs.mu.Unlock()
	n.life.RUnlock()
	if r != nil && r.ticket == o.Ticket {
		return r, nil
	}
	if o.Ticket == "" {
		return nil, fmt.Errorf("%w: a repair needs a ticket", ErrBadBlock)
	}
	if err := checkPieces(o.Pieces); err != nil {
		return nil, err
	}
	n.life.Lock()
	defer n.life.Unlock()
	if n.jobs.receipt != nil && n.jobs.receipt.ticket == o.Ticket {
		return n.jobs.receipt, nil // another call was faster
	}
	n.mu.Lock()
	stopped := n.stopped
	n.mu.Unlock()
	if n.jobs.closed || errors.Is(stopped, ErrFailed) {
		return nil, fmt.Errorf("no repair is opened: %w", errors.Join(ErrFailed, stopped))
	}
	if err := n.abandon(); err != nil {
		return nil, err
	}
	if err := n.cutFor(o.Ticket, o.Keep); err != nil {
		return nil, err
	}
	r = &receipt{ticket: o.Ticket, pieces: slices.Clone(o.Pieces)}
	for _, p := range o.Pieces {
		r.missing = chain.AddRange(r.missing, p.Range)
	}
	if have := n.Status().Height; o.Keep < have { // received under this ticket before a start
		r.missing = chain.CutRanges(r.missing, []chain.Range{{From: o.Keep, To: have}})
	}
	n.jobs.mu.Lock()
	n.jobs.receipt = r
	n.jobs.open.Store(true)
	n.jobs.mu.Unlock()
	n.log.Info("open for a repair", "blocks", chain.CountBlocks(r.missing), "keep", o.Keep)
	return r, nil
}

// abandon closes the receipt that is open; what it has received is kept. life is held alone.
func (n *Node) abandon() error {
	n.jobs.mu.Lock()
	r := n.jobs.receipt
	n.jobs.receipt = nil
	n.jobs.open.Store(false)
	n.jobs.mu.Unlock()
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	return n.finishRewrite(r)
}

// complete closes a receipt when nothing is missing any more: the chain goes on from there, with what waits in the inbox. The node is
// loaded again where it stood before a damaged block.
func (n *Node) complete(r *receipt) error {
	if err := n.revive(r); err != nil {
		return err
	}
	n.life.RLock()
	defer n.life.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.missing) > 0 || r.rewrite != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	r.closed = true
	n.jobs.open.Store(false)
	n.log.Info("repair ended", "blocks", r.blocks, "height", n.Status().Height)
	return n.drain()
}

// revive loads a node again that stands before a damaged block, when no block that it has is missing any more.
func (n *Node) revive(r *receipt) error {
	due := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		standing := n.stopped != nil && !errors.Is(n.stopped, ErrFailed)
		return standing && !r.closed && !r.revived && r.rewrite == nil &&
			(len(r.missing) == 0 || r.missing[0].From >= n.index.Len())
	}
	n.life.RLock()
	found := due()
	n.life.RUnlock()
	if !found {
		return nil
	}
	n.life.Lock()
	defer n.life.Unlock()
	if !due() {
		return nil
	}
	r.mu.Lock()
	r.revived = true
	r.mu.Unlock()
	return n.reload()
}

// reload takes the node down and loads it again from its files; life is held alone.
func (n *Node) reload() error {
	n.jobs.stop(false)
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	if err := n.sync(); err != nil {
		return n.fail(err)
	}
	return n.loadAgain()
}

// loadAgain is load in a node that was loaded before; life and mu are held.
func (n *Node) loadAgain() error {
	n.barred, n.stopped = false, nil
	err := errors.Join(n.unload(), n.files.forgetAll())
	n.index.Reset()
	if err == nil {
		err = n.load()
	}
	if err != nil {
		return n.fail(err)
	}
	n.swaps.Add(1)
	return nil
}

// cut moves the blocks from a number on to quarantine/, and loads the node again; life is held alone. Segments go from the last to
// the first, so that after a crash in the midst the next start finds a chain that ends earlier.
func (n *Node) cut(keep uint64) error {
	n.jobs.stop(false)
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	if err := n.sync(); err != nil {
		return n.fail(err)
	}
	n.log.Error("the chain is another one than the group's, and is moved aside from there on", "from", keep, "height", n.index.Len())
	if n.writer != nil {
		err := n.writer.Close()
		n.writer = nil
		if err != nil {
			return n.fail(err)
		}
	}
	segments, err := n.survey()
	if err != nil {
		return n.fail(err)
	}
	for i := len(segments) - 1; i >= 0; i-- {
		s := segments[i]
		if s.first >= keep {
			if err := n.quarantine(s); err != nil {
				return n.fail(err)
			}
			continue
		}
		if end := n.endBelow(s.first, keep); end < s.size {
			if err := n.cutTail(s, end); err != nil {
				return n.fail(err)
			}
		}
		break
	}
	n.index.Cut(keep)
	if err := n.indexFile.file.Truncate(indexHeader + int64(keep)*indexEntry); err != nil {
		return n.fail(err)
	}
	if err := n.indexFile.Sync(); err != nil {
		return n.fail(err)
	}
	return n.loadAgain()
}

// endBelow is where the blocks of a segment end that are below a number.
func (n *Node) endBelow(seg, keep uint64) int64 {
	for block := min(keep, n.index.Len()); block > seg; block-- {
		p, s, ok := n.index.Get(block - 1)
		if ok && s == seg && !p.Lost() {
			return p.End()
		}
	}
	return segment.HeaderSize
}

// Take receives a transfer. What is whole is kept whatever the outcome. A new transfer takes the place of one that hangs.
//
// Errors: ErrTicket; ErrBadBlock where the stream does not prove itself; ErrFailed; else what kept the stream from being read.
func (n *Node) Take(ctx context.Context, ticket string, from io.Reader) error {
	n.life.RLock()
	n.jobs.mu.Lock()
	r := n.jobs.receipt
	n.jobs.mu.Unlock()
	n.life.RUnlock()
	if r == nil || subtle.ConstantTimeCompare([]byte(r.ticket), []byte(ticket)) != 1 {
		return ErrTicket
	}
	r.mu.Lock()
	r.turn++
	t := &take{n: n, r: r, turn: r.turn, stream: NewReader(from)}
	closed := r.closed
	r.mu.Unlock()
	if closed {
		return ErrTicket
	}
	err := t.run(ctx)
	if endErr := t.inTurn(func() error { return t.settle() }); endErr != nil && !errors.Is(endErr, ErrTicket) {
		err = errors.Join(err, endErr)
	}
	if completeErr := n.complete(r); completeErr != nil {
		err = errors.Join(err, completeErr)
	}
	return err
}
