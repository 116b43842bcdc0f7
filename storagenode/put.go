package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// Put adds the next block: it verifies it against the node's head, appends it and syncs it, and returns when it would
// survive a power cut. A block that is here already changes nothing. data is not kept. The Status is that of the node
// after the call, whatever the outcome. If the context ends before the call's turn comes, nothing is changed.
//
// Errors: wire.ErrNotNext (ErrConflict), wire.ErrBadBlock, wire.ErrNoSpace, wire.ErrUnavailable, ErrFailed, ErrDamaged
// if the node cannot go on before a block is repaired, and the cause of the context's end.
func (n *Node) Put(ctx context.Context, number uint64, data []byte) (Status, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := context.Cause(ctx)
	if err == nil {
		err = n.put(number, data)
	}
	if err == nil {
		err = n.drain(ctx)
	}
	return n.Status(), err
}

// PutAll adds the blocks that next returns, each as Put does, and syncs them in groups: until PutAll returns, fewer may
// be durable than were added. It ends with [io.EOF] of next, or with the first error.
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
		if err := n.stopped(); err != nil {
			return err
		}
		if err := n.add(&block); err != nil {
			return err
		}
	}
}

// parseBlock checks the bytes of a block against its number. The error wraps wire.ErrBadBlock.
func parseBlock(number uint64, data []byte) (chain.Block, error) {
	if uint64(len(data)) > segment.MaxBlock {
		return chain.Block{}, fmt.Errorf("%w: %d bytes, the limit is %d",
			wire.ErrBadBlock, len(data), uint64(segment.MaxBlock))
	}
	block, err := chain.ParseBlock(data)
	if err != nil {
		return chain.Block{}, fmt.Errorf("%w: block %d: %w", wire.ErrBadBlock, number, err)
	}
	if block.Header.Block != number {
		return chain.Block{}, fmt.Errorf("%w: block %d was named block %d",
			wire.ErrBadBlock, block.Header.Block, number)
	}
	return block, nil
}

func (n *Node) put(number uint64, data []byte) error {
	if n.failure != nil {
		return n.failure
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
		return n.compareHeader(&block.Header)
	}
	if err := n.stopped(); err != nil {
		return err
	}
	if err := n.cfg.Room(); err != nil {
		return err
	}
	if number > height {
		return fmt.Errorf("%w: block %d, block %d is due", wire.ErrNotNext, number, height)
	}
	if err := n.add(&block); err != nil {
		return err
	}
	return n.flushed()
}

// add verifies the next block and appends it. The error wraps wire.ErrBadBlock or ErrFailed.
func (n *Node) add(block *chain.Block) error {
	leaves, err := n.verifier.Take(block)
	if err != nil {
		return fmt.Errorf("%w: %w", wire.ErrBadBlock, err)
	}
	return n.appendBlock(block, leaves)
}

// compareHeader compares a header with that of the block of its number that is here.
func (n *Node) compareHeader(h *chain.Header) error {
	here, err := n.header(h.Block)
	if err != nil {
		return fmt.Errorf("%w: block %d is below the height, and cannot be compared: %w", wire.ErrNotNext, h.Block, err)
	}
	if here != *h {
		return fmt.Errorf("%w: block %d is %v here, not %v", ErrConflict, h.Block, here.Hash(), h.Hash())
	}
	return nil
}

// unsyncedBlocks are blocks at the end of the chain that are written and not synced. Index file and status do not show
// them yet.
type unsyncedBlocks struct {
	blocks uint64
	bytes  int64
}

// Bounds of the unsynced blocks, in blocks and bytes.
const (
	groupBlocks = 256
	groupBytes  = 4 << 20
)

// appendBlock writes a verified block, and syncs if many are not synced. After an error that wraps ErrFailed the node
// is stopped. After any other the block is not here.
func (n *Node) appendBlock(block *chain.Block, leaves []chain.Hash) error {
	if err := n.fail(n.write(block, leaves)); err != nil {
		n.verifier = chain.NewVerifier(n.stored) // it has taken the block
		return err
	}
	if n.unsynced.bytes >= groupBytes || n.unsynced.blocks >= groupBlocks {
		return n.flushed()
	}
	return nil
}

// write writes a verified block: segment, tiles, index. It is durable, and shown, after flush.
func (n *Node) write(block *chain.Block, leaves []chain.Hash) error {
	if err := n.makeRoom(block.Header.Block); err != nil {
		return err
	}
	offset, err := n.writer.Write(block.Bytes())
	if err != nil {
		return err
	}
	if err := n.tiles.Append(leaves, n.verifier.Subtrees()); err != nil {
		if cutErr := n.writer.Remove(offset); cutErr != nil {
			return cutErr
		}
		return err
	}
	n.unsynced.blocks++
	n.unsynced.bytes += int64(len(block.Bytes()))
	n.index.Add(blockindex.Place{
		First: block.Header.First, Offset: offset, Length: uint32(n.writer.ContentLength(block.Bytes())),
		Count: block.Header.Count,
	})
	n.stored = n.verifier.Head()
	return nil
}

// flush syncs the blocks that were written, and shows them.
func (n *Node) flush() error {
	if n.unsynced.blocks == 0 {
		return nil
	}
	if err := n.writer.Sync(); err != nil {
		return err
	}
	for block := n.stored.Height - n.unsynced.blocks; block < n.stored.Height; block++ {
		if err := n.indexFile.Put(block); err != nil {
			return err
		}
	}
	n.unsynced = unsyncedBlocks{}
	if n.writer.Filled(n.cfg.SegmentBytes) || n.stored.Height-n.synced >= syncEvery {
		if err := n.sync(); err != nil {
			return err
		}
	}
	n.publish()
	return nil
}

// flushed is flush, after which an error stops the node, unless it only lacked a resource: then the blocks are shown
// later.
func (n *Node) flushed() error { return n.fail(n.flush()) }

// makeRoom makes sure that there is a segment to write the block to.
func (n *Node) makeRoom(number uint64) error {
	if n.writer != nil && !n.writer.Filled(n.cfg.SegmentBytes) {
		return nil
	}
	err := n.flush()
	if err == nil && n.writer != nil {
		err = n.writer.Sync() // nothing syncs the file after this
	}
	if err == nil {
		err = n.closeWriter()
	}
	if err == nil {
		n.writer, err = segment.Create(n.cfg.open, n.cfg.AtRest, n.dir.Segments(), number)
	}
	if err != nil {
		return err
	}
	n.index.AddSegment(number)
	return nil
}
