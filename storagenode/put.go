package storagenode

import (
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// Put takes the next block: it verifies it against the node's head, appends it and syncs it, and returns when it would
// survive a power cut. A block that is here already is taken again with no effect. data is not kept. The Status is the
// node's after the call, whatever its outcome.
//
// Errors: ErrNotNext (ErrConflict), ErrBadBlock, ErrFailed, and ErrDamaged for a node that cannot go on before a block
// is repaired.
func (n *Node) Put(number uint64, data []byte) (Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.put(number, data)
	return n.Status(), err
}

func (n *Node) put(number uint64, data []byte) error {
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	if uint64(len(data)) > segment.MaxBlock {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrBadBlock, len(data), uint64(segment.MaxBlock))
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return fmt.Errorf("%w: block %d: %w", ErrBadBlock, number, err)
	}
	if block.Header.Block != number {
		return fmt.Errorf("%w: block %d was named block %d", ErrBadBlock, block.Header.Block, number)
	}
	height := n.Status().Height
	if number < height {
		return n.same(&block.Header)
	}
	if n.stopped != nil {
		return n.stopped
	}
	if number > height {
		return fmt.Errorf("%w: block %d, where block %d is due", ErrNotNext, number, height)
	}
	leaves, err := n.verifier.Take(&block)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadBlock, err)
	}
	// The verifier has moved on: from here an error stops the node.
	if err := n.store(&block, leaves); err != nil {
		return n.fail(err)
	}
	n.publish()
	return nil
}

// same holds a header against that of the block of its number that is here.
func (n *Node) same(h *chain.Header) error {
	r := n.reader()
	defer r.release(n)
	here, err := r.header(n, h.Block)
	if err != nil {
		return fmt.Errorf("%w: block %d is below the height, and cannot be compared: %w", ErrNotNext, h.Block, err)
	}
	if here != *h {
		return fmt.Errorf("%w: block %d is %v here, not %v", ErrConflict, h.Block, here.Hash(), h.Hash())
	}
	return nil
}

// store writes a verified block: segment, sync, tiles, index.
func (n *Node) store(block *chain.Block, leaves []chain.Hash) error {
	number := block.Header.Block
	if err := n.room(number); err != nil {
		return err
	}
	offset, err := n.writer.Append(block.Bytes())
	if err != nil {
		return err
	}
	if err := n.tiles.Append(leaves); err != nil {
		return err
	}
	p := place{
		first: block.Header.First, offset: offset, length: uint32(len(block.Bytes())), count: block.Header.Count,
	}
	if err := n.indexFile.put(number, &p); err != nil {
		return err
	}
	n.index.add(p)
	if n.writer.Size() >= n.cfg.SegmentBytes || number+1-n.synced >= syncEvery {
		return n.sync()
	}
	return nil
}

// room makes sure that there is a segment to write the block into.
func (n *Node) room(number uint64) error {
	if n.writer != nil && n.writer.Size() < n.cfg.SegmentBytes {
		return nil
	}
	if n.writer != nil {
		full := n.writer
		n.writer = nil
		if err := full.Close(); err != nil {
			return err
		}
	}
	w, err := segment.Create(n.cfg.open, n.segmentsDir(), number)
	if err != nil {
		return err
	}
	n.writer = w
	n.index.addSegment(number)
	return nil
}
