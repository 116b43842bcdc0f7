package storagenode

import (
	"context"
	"errors"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// A check rebuilds what can be computed from the blocks: index, tiles and tiles/synced.

// indexChunk is the number of entries that are compared at a time.
const indexChunk = 2048

// checkIndexFile compares the index file with the index in memory, and writes again what differs.
func (n *Node) checkIndexFile(ctx context.Context) error {
	if err := n.locked(n.restoreIndexFile); err != nil {
		return err
	}
	wrong, err := n.fixIndexFile(ctx)
	if durable.OneUnreadable(err) && !errors.Is(err, ErrFailed) {
		n.log.Error("the index cannot be read, and is written again to a new file", "file", n.dir.Index(), "error", err)
		if err = n.locked(func() error { return n.beginIndexFile(true) }); err == nil {
			wrong, err = n.fixIndexFile(ctx)
		}
	}
	if err != nil || wrong == 0 {
		return err
	}
	n.log.Error("entries of the index were wrong and are written again", "file", n.dir.Index(), "entries", wrong)
	return n.locked(func() error { return n.fail(n.indexFile.Sync()) })
}

// fixIndexFile writes the entries of the index file again that differ, and counts them. They are not synced.
func (n *Node) fixIndexFile(ctx context.Context) (wrong int, err error) {
	for from, more := uint64(0), true; more; from += indexChunk {
		if ctx.Err() != nil {
			return wrong, context.Cause(ctx)
		}
		if err := n.locked(func() error {
			if err := n.flushed(); err != nil {
				return err
			}
			to := min(n.index.Len(), from+indexChunk)
			if more = from < to; !more {
				return nil
			}
			blocks, err := n.indexFile.Differing(from, to)
			wrong += len(blocks)
			if err != nil {
				return err
			}
			return n.fail(n.indexFile.Put(blocks...))
		}); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// restoreIndexFile begins the index file again if the one at its path is not the one that is open, and writes its
// header again if that is damaged. mu is held.
func (n *Node) restoreIndexFile() error {
	same, exists, err := durable.AtPath(n.indexFile, n.dir.Index())
	if err != nil || same && n.indexFile.HeaderGood() {
		return err
	}
	if same {
		n.log.Error("the header of the index was wrong and is written again", "file", n.dir.Index())
		return n.fail(n.indexFile.RestoreHeader())
	}
	n.log.Error("the index was removed or replaced while it was open, and is written again", "file", n.dir.Index())
	return n.beginIndexFile(exists)
}

// beginIndexFile begins the index file again, without entries. It moves a file that is at its path to quarantine/.
// mu is held.
func (n *Node) beginIndexFile(exists bool) error {
	if exists {
		if _, err := n.moveAside(n.dir.Index()); err != nil {
			return err
		}
	}
	f, err := blockindex.OpenFile(n.cfg.open, n.dir.Index(), n.index, 0)
	if err != nil {
		return n.fail(err)
	}
	_ = n.indexFile.Close() // it is not at its path any more
	n.indexFile = f
	return nil
}

// checkTileFiles puts files of the tree's hashes back at their paths that were removed or replaced while they were
// open, and writes damaged headers again. It counts the hashes that are at their place again, and each header as one.
// mu is held.
func (n *Node) checkTileFiles() (fixed uint64, err error) {
	replaced, err := n.tiles.ReplacedOnDisk()
	if err != nil {
		return 0, err
	}
	for _, stored := range replaced {
		n.log.Error("a file of the tree's hashes was removed or replaced while it was open, and is written again",
			"level", 4*stored)
		if err := n.writeTiles(func() error { return n.tiles.Return(stored) }); err != nil {
			return fixed, n.fail(err)
		}
		fixed += tiles.Complete(n.tiles.Size(), stored)
	}
	levels, unopened := tiles.Files(n.cfg.open, n.dir.Tiles())
	defer tiles.CloseFiles(levels)
	for stored, err := range unopened {
		if err == nil {
			continue
		}
		if !durable.OneUnreadable(err) {
			return fixed, err
		}
		n.log.Error("a file of the tree's hashes cannot be opened, and is written again to a new file", "error", err)
		hashes := uint64(0)
		err = n.writeTiles(func() (err error) { hashes, err = n.tiles.Replace(stored, n.keepTileFile); return err })
		if durable.OneUnreadable(err) && !durable.IsSync(err) {
			return fixed, err // the open file is still used
		}
		if err != nil {
			return fixed, n.fail(err)
		}
		fixed += hashes
	}
	for stored, f := range levels {
		if f == nil || tiles.CheckHeader(f, stored) || tiles.Complete(n.tiles.Size(), stored) == 0 {
			continue
		}
		n.log.Error("the header of a file of the tree's hashes was wrong and is written again", "level", 4*stored)
		if err := n.tiles.FixHeader(stored); err != nil {
			return fixed, n.fail(err)
		}
		fixed++
	}
	return fixed, nil
}

// rewriteHashes writes again the hashes that the audit of a proven chain found to be wrong on disk, and counts them.
func (n *Node) rewriteHashes(ctx context.Context, a *audit.Audit) (fixed uint64, err error) {
	fixed, err = a.RewriteHashes(ctx, func(level int, first uint64, run []chain.Hash) error {
		return n.locked(func() error { return n.fail(n.tiles.Fix(level, first, run)) })
	})
	if err != nil || fixed == 0 {
		return fixed, err
	}
	n.log.Error("hashes of the tree were wrong and were written again", "hashes", fixed)
	return fixed, n.locked(func() error { return n.fail(n.tiles.Sync()) })
}

// checkSynced writes tiles/synced again if it is damaged. mu is held.
func (n *Node) checkSynced() error {
	head, err := n.dir.ReadSynced()
	if err == nil && head.Height == n.synced {
		return nil
	}
	n.log.Error("the head in tiles/synced is not the one that was written, and is written again",
		"height", head.Height, "error", err)
	n.synced = ^uint64(0)
	return n.fail(n.sync())
}
