package storagenode

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// What a check puts right by itself: index, tiles and tiles/synced, which are computed from the blocks.

// healIndex holds the index file against memory, and writes again what differs.
func (n *Node) healIndex(ctx context.Context) error {
	if err := n.returnIndex(); err != nil {
		return err
	}
	wrong := 0
	var buf, want []byte
	for from := uint64(0); ; from += indexChunk {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		more, found, err := n.compareIndex(from, &buf, &want)
		wrong += found
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	if wrong == 0 {
		return nil
	}
	n.log.Error("entries of the index were wrong and are written again", "file", n.indexPath(), "entries", wrong)
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.indexSynced()
}

// returnIndex begins the index anew where its file is not at its path any more, or has no good header.
func (n *Node) returnIndex() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	mine, err := n.indexFile.file.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(n.indexPath())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil || !os.SameFile(mine, there) {
		n.log.Error("the index was removed or replaced while it was open, and is written again", "file", n.indexPath())
		if err == nil {
			if _, err := n.moveAside(n.indexPath()); err != nil {
				return err
			}
		}
		f, err := OpenFile(n.cfg.open, n.cfg.Dir, n.indexPath(), 0)
		if err != nil {
			return n.fail(err)
		}
		_ = n.indexFile.file.Close() // nobody needs it any more
		n.indexFile = f
		return nil
	}
	header := make([]byte, indexHeader)
	if _, err := n.indexFile.file.ReadAt(header, 0); err != nil || string(header) != string(indexFileHeader()) {
		n.log.Error("the header of the index was wrong and is written again", "file", n.indexPath())
		if _, err := n.indexFile.file.WriteAt(indexFileHeader(), 0); err != nil {
			return n.fail(err)
		}
		return n.indexSynced()
	}
	return nil
}

// indexSynced syncs the index file, after which an error stops the node; mu is held.
func (n *Node) indexSynced() error {
	if err := n.indexFile.Sync(); err != nil {
		return n.fail(err)
	}
	return nil
}

// indexChunk is how many entries are compared at a time.
const indexChunk = 2048

// compareIndex writes again what differs of the entries from a block on, and counts it.
func (n *Node) compareIndex(from uint64, buf, want *[]byte) (more bool, wrong int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return false, 0, n.stopped
	}
	if err := n.flushed(); err != nil {
		return false, 0, err
	}
	height := n.index.Len()
	if from >= height {
		return false, 0, nil
	}
	count := min(indexChunk, height-from)
	if *buf == nil {
		*buf = make([]byte, indexChunk*indexEntry)
	}
	got, err := n.indexFile.file.ReadAt((*buf)[:count*indexEntry], indexHeader+int64(from)*indexEntry)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, 0, err
	}
	for i := range count {
		p, _, _ := n.index.Get(from + i)
		*want = appendEntry((*want)[:0], from+i, &p)
		if end := int(i+1) * indexEntry; end <= got && string((*buf)[end-indexEntry:end]) == string(*want) {
			continue
		}
		wrong++
		if err := n.indexFile.Put(from+i, &p); err != nil {
			return false, wrong, n.fail(err)
		}
	}
	return from+count < height, wrong, nil
}

// returnTiles puts files of the tree's hashes back to their paths that were removed or replaced while they were open, and writes
// their headers again where those are damaged. It returns how many hashes are at their place again, a header counted as one.
func (n *Node) returnTiles() (fixed uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return 0, n.stopped
	}
	strayed, err := n.tiles.Strayed()
	if err != nil {
		return 0, err
	}
	for _, stored := range strayed {
		n.log.Error("a file of the tree's hashes was removed or replaced while it was open, and is written again", "level", 4*stored)
		if err := n.inTiles(func() error { return n.tiles.Return(stored) }); err != nil {
			return fixed, n.fail(err)
		}
		fixed += tiles.Complete(n.tiles.Size(), stored)
	}
	levels, err := tiles.Files(n.tilesDir())
	if err != nil {
		return fixed, err
	}
	defer closeAll(levels)
	for stored, f := range levels {
		if f == nil || tiles.CheckHeader(f, stored) || tiles.Complete(n.tiles.Size(), stored) == 0 {
			continue
		}
		n.log.Error("the header of a file of the tree's hashes was wrong and is written again", "file", f.Name())
		if err := n.tiles.FixHeader(stored); err != nil {
			return fixed, n.fail(err)
		}
		fixed++
	}
	return fixed, nil
}

// healTiles goes over the blocks once more from the first on whose hashes were wrong on disk, and writes those again. The chain has
// been proven up to the check's target, so that a hash that differs is wrong, and not the block that it is of. Where a block is
// bad, its leaves are taken from disk: they were proven by the blocks behind.
func (n *Node) healTiles(ctx context.Context, a *Audit) (fixed uint64, err error) {
	if a.redo == nil {
		return 0, nil
	}
	h := healer{n: n, a: a, builder: a.redo.builder, verifier: chain.NewVerifier(a.redo.head)}
	for number := a.redo.head.Height; number < a.Height; number++ {
		if ctx.Err() != nil {
			return h.fixed, context.Cause(ctx)
		}
		if err := h.block(number); err != nil {
			return h.fixed, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if h.fixed > 0 {
		n.log.Error("hashes of the tree were wrong and were written again", "hashes", h.fixed)
		if err := n.tiles.Sync(); err != nil {
			return h.fixed, n.fail(err)
		}
	}
	return h.fixed, nil
}

type healer struct {
	n        *Node
	a        *Audit
	builder  tiles.Builder
	verifier *chain.Verifier
	fixed    uint64
	raw      []byte
}

// block writes the hashes again that a block adds, where they are wrong.
func (h *healer) block(number uint64) error {
	s := h.a.reread(number)
	if !s.parsed || s.block.Header.First < h.builder.Size() {
		return nil // the next good one tells where it ends
	}
	first := s.block.Header.First
	head := h.verifier.Head()
	if head.Height != number {
		// Bad blocks before it: what is on disk, as the check has proven.
		tree := head.Tree
		builder := h.builder
		for tree.Size() < first {
			leaves, err := h.a.tileLeaves(tree.Size(), min(first, tree.Size()+maxChunk))
			if err != nil {
				return nil
			}
			tree = tree.Append(leaves...)
			if err := builder.Append(leaves, nil, h.compare); err != nil {
				return err
			}
		}
		h.builder = builder
		h.verifier = chain.NewVerifier(chain.Head{Height: number, Hash: s.block.Header.Prev, Time: head.Time, Tree: tree})
	}
	leaves, err := h.verifier.TakeHashed(&s.block, s.leaves)
	if err != nil {
		return nil
	}
	return h.builder.Append(leaves, h.verifier.Subtrees(), h.compare)
}

// compare writes a run of hashes again where it differs from the file.
func (h *healer) compare(level int, first uint64, run []chain.Hash) error {
	if sameHashes(h.a.Levels[level], first, run, &h.raw) {
		return nil
	}
	for i := range run {
		if !sameHashes(h.a.Levels[level], first+uint64(i), run[i:i+1], &h.raw) {
			h.fixed++
		}
	}
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	if errors.Is(h.n.stopped, ErrFailed) {
		return h.n.stopped
	}
	if err := h.n.tiles.Fix(level, first, run); err != nil {
		return h.n.fail(err)
	}
	return nil
}

// healSynced writes tiles/synced again where it is damaged.
func (n *Node) healSynced() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	head, err := readSynced(n.syncedPath())
	if err == nil && head.Height == n.synced {
		return nil
	}
	n.log.Error("the head in tiles/synced is not the one that was written, and is written again", "height", head.Height, "error", err)
	n.synced = ^uint64(0)
	if err := n.sync(); err != nil {
		return n.fail(err)
	}
	return nil
}
