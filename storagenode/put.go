package storagenode

import (
	"errors"
	"fmt"
	"io"

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
	n.life.RLock()
	defer n.life.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := n.put(number, data)
	if err == nil {
		err = n.drain()
	}
	return n.Status(), err
}

// PutAll takes the blocks that next gives, each the one behind the one before it, as Put does, and syncs them in groups: until it returns, fewer may be durable than
// were taken. It ends with [io.EOF] of next, or with the first error.
func (n *Node) PutAll(next func() (chain.Block, error)) error {
	n.life.RLock()
	defer n.life.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		block, err := next()
		if errors.Is(err, io.EOF) {
			return n.flushed()
		}
		if err != nil {
			return errors.Join(err, n.flushed())
		}
		if n.stopped != nil {
			return n.stopped
		}
		if err := n.extend(&block); err != nil {
			return err
		}
		if n.unsynced.bytes >= groupBytes || len(n.unsynced.places) >= groupBlocks {
			if err := n.flushed(); err != nil {
				return err
			}
		}
	}
}

// parseBlock looks over the bytes of a block that was named. The error wraps ErrBadBlock.
func parseBlock(number uint64, data []byte) (chain.Block, error) {
	if uint64(len(data)) > segment.MaxBlock {
		return chain.Block{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrBadBlock, len(data), uint64(segment.MaxBlock))
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return chain.Block{}, fmt.Errorf("%w: block %d: %w", ErrBadBlock, number, err)
	}
	if block.Header.Block != number {
		return chain.Block{}, fmt.Errorf("%w: block %d was named block %d", ErrBadBlock, block.Header.Block, number)
	}
	return block, nil
}

func (n *Node) put(number uint64, data []byte) error {
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	block, err := parseBlock(number, data)
	if err != nil {
		return err
	}
	if err := n.flushed(); err != nil {
		return err
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
	if err := n.extend(&block); err != nil {
		return err
	}
	return n.flushed()
}

// extend verifies the next block and writes it; it is durable after flush.
func (n *Node) extend(block *chain.Block) error {
	leaves, err := n.verifier.Take(block)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadBlock, err)
	}
	// The verifier has moved on: from here an error stops the node.
	if err := n.store(block, leaves); err != nil {
		return n.fail(err)
	}
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

// group are blocks at the end of the chain that are written and not synced: the index file and the status do not tell of them.
type group struct {
	from   uint64 // the first
	places []Place
	bytes  int64
}

// Bounds of a group, in blocks and bytes.
const (
	groupBlocks = 256
	groupBytes  = 4 << 20
)

// store writes a verified block: segment, tiles, index. It is durable, and shown, after flush.
func (n *Node) store(block *chain.Block, leaves []chain.Hash) error {
	number := block.Header.Block
	if err := n.room(number); err != nil {
		return err
	}
	offset, err := n.writer.Write(block.Bytes())
	if err != nil {
		return err
	}
	if err := n.tiles.Append(leaves, n.verifier.Subtrees()); err != nil {
		return err
	}
	p := Place{
		First: block.Header.First, Offset: offset, Length: uint32(len(block.Bytes())), Count: block.Header.Count,
	}
	if len(n.unsynced.places) == 0 {
		n.unsynced.from = number
	}
	n.unsynced.places = append(n.unsynced.places, p)
	n.unsynced.bytes += int64(p.Length)
	n.index.Add(p)
	n.stored = n.verifier.Head()
	return nil
}

// flush syncs the blocks that were stored, and shows them.
func (n *Node) flush() error {
	if len(n.unsynced.places) == 0 {
		return nil
	}
	if err := n.writer.Sync(); err != nil {
		return err
	}
	for i := range n.unsynced.places {
		if err := n.indexFile.Put(n.unsynced.from+uint64(i), &n.unsynced.places[i]); err != nil {
			return err
		}
	}
	n.unsynced = group{places: n.unsynced.places[:0]}
	height := n.stored.Height
	if n.writer.Size() >= n.cfg.SegmentBytes || height-n.synced >= syncEvery {
		if err := n.sync(); err != nil {
			return err
		}
	}
	n.publish()
	return nil
}

// flushed is flush, after which an error stops the node.
func (n *Node) flushed() error {
	if err := n.flush(); err != nil {
		return n.fail(err)
	}
	return nil
}

// room makes sure that there is a segment to write the block into.
func (n *Node) room(number uint64) error {
	if n.writer != nil && n.writer.Size() < n.cfg.SegmentBytes {
		return nil
	}
	if n.writer != nil {
		if err := n.flush(); err != nil {
			return err
		}
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
	n.index.AddSegment(number)
	return nil
}
