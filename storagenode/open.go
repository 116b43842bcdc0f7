package storagenode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/inbox"
	"github.com/chainstore/chainstore/storagenode/records"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// Open opens a data folder as a node. What a crash left behind the last whole block is moved to quarantine/. A
// damaged block before that is logged and reads as damaged. If the tree behind it cannot be known, the node's height
// ends before it, and Put says why.
//
// The error wraps [durable.ErrLocked] if another process has the folder, ErrNewerFormat if a newer ChainStore wrote it.
func Open(cfg Config) (*Node, error) {
	cfg.setDefaults()
	if err := durable.MkdirAll(cfg.Dir); err != nil {
		return nil, err
	}
	lock, err := durable.LockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, dir: folder.Dir(cfg.Dir), log: cfg.Logger, lock: lock, failed: make(chan error, 1),
		bundles: make(chan struct{}, bundleWorkers),
	}
	n.chainState = n.emptyState()
	n.readers.New = func() any { return new(reader) }
	n.status.Store(&Status{})
	marked, err := n.dir.IsMarked()
	if err == nil {
		n.unclean.Store(marked)
		err = n.load(marked)
	}
	if durable.NoSpace(err) && !durable.IsSync(err) && durable.UseReserve(cfg.Dir) {
		n.log.Warn("the disk is full; the node starts with the room of its reserve", "error", err)
		err = n.chainState.close()
		if n.chainState = n.emptyState(); err == nil {
			err = n.load(marked)
		}
	}
	if err == nil {
		n.indexer, err = startRecordIndexer(n)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the storage node in %s: %w", cfg.Dir, err), n.release())
	}
	return n, nil
}

func (n *Node) blockFolder() blockindex.Folder {
	return blockindex.Folder{Segments: n.dir.Segments(), Index: n.dir.Index(), Open: n.cfg.open, Log: n.log}
}

// load fills an empty chainState from the folder. It changes nothing on disk before all files were found to be of a
// version that it knows.
//
// rewrite: the last process may not have synced what it wrote. All of that is written again and synced before the node
// shows it.
func (n *Node) load(rewrite bool) error {
	synced, err := n.dir.ReadSynced()
	if err != nil {
		return err
	}
	if err := tiles.CheckVersion(n.dir.Tiles()); err != nil {
		return err
	}
	if err := records.CheckVersion(n.dir.Records()); err != nil {
		return err
	}
	if n.lost, err = n.dir.ReadLost(); err != nil {
		return err
	}
	found, err := blockindex.Find(n.blockFolder(), true)
	if err != nil {
		return err
	}
	n.index = found.Index
	n.files = newSegmentFiles(n.dir.Segments(), n.cfg.open, n.index)
	if found.Known < found.Entries || found.Entries < min(synced.Height, n.index.Len()) ||
		n.index.Len() < synced.Height ||
		slices.ContainsFunc(found.Segments, func(s blockindex.Segment) bool { return !s.HeaderGood && s.Size > 0 }) {
		n.unclean.Store(true)
	}
	moved := len(n.moved)
	if err := n.moveMisplaced(); err != nil {
		return err
	}
	if len(n.moved) > moved {
		n.unclean.Store(true)
	}
	good := found.Known
	steps := []func() error{
		n.dir.Mark, n.dir.MakeSubfolders, n.removeUnfinished,
		func() error { return n.fitSegmentEnds(found.Segments) },
	}
	if rewrite {
		good = min(good, synced.Height)
		steps = append(steps,
			func() error { return n.rewriteSegments(synced.Height) }, n.rewriteSmallFiles)
	}
	steps = append(steps, func() error { return n.openIndexFile(min(good, n.index.Len())) })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if n.tiles, err = tiles.Open(n.cfg.open, n.dir.Tiles()); err != nil {
		n.tiles = tiles.Empty(n.cfg.open, n.dir.Tiles())
		return err
	}
	if n.inbox, err = inbox.Open(n.dir.Inbox()); err != nil {
		n.inbox = new(inbox.Inbox)
		return err
	}
	if rewrite {
		if err := n.rewriteInbox(); err != nil {
			return err
		}
	}
	if err := n.replay(synced); err != nil {
		return err
	}
	n.publish()
	if err := n.drain(); errors.Is(err, ErrFailed) {
		return err
	}
	return nil // the inbox is drained later
}

// removeUnfinished removes segments that were being rewritten when the process ended.
func (n *Node) removeUnfinished() error {
	left, err := filepath.Glob(filepath.Join(n.dir.Segments(), "*"+newSuffix))
	if err != nil {
		return err
	}
	for _, path := range left {
		if err := n.moveMisplacedSegment(path, 0); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// openIndexFile writes the places of all blocks into the index file, whose first entries are good already.
func (n *Node) openIndexFile(good uint64) (err error) {
	n.indexFile, err = blockindex.OpenFile(n.cfg.open, n.dir.Index(), n.index, good)
	for block := good; err == nil && block < n.index.Len(); block++ {
		err = n.indexFile.Put(block)
	}
	if n.indexFile != nil && errors.Is(err, durable.ErrExhausted) {
		n.log.Warn("entries of the index are missing in its file; the next check writes them", "error", err)
		return nil
	}
	return err
}

// replay finds the head. It starts at the synced one, if tiles and segments agree with it, and verifies the blocks
// behind it as Put does. If nothing is synced, or does not fit, it verifies the whole chain.
func (n *Node) replay(synced chain.Head) error {
	base, err := n.proveBase(synced)
	if err == nil {
		err = n.tiles.Reset(base.Tree.Size())
	}
	n.synced = synced.Height
	if err != nil {
		n.log.Warn("the tree's hashes are computed again from the blocks", "blocks", n.index.Len(), "because", err)
		if n.index.Len() > 0 {
			n.unclean.Store(true)
		}
		base, n.synced = chain.Head{}, 0
		if err := n.tiles.Reset(0); err != nil {
			return err
		}
	}
	n.verifier = chain.NewVerifier(base)
	for block := base.Height; block < n.index.Len(); block = n.verifier.Head().Height {
		leaves, bad := n.verifyBlock(n.verifier, block)
		if bad == nil {
			if err := n.tiles.Append(leaves, n.verifier.Subtrees()); err != nil {
				return err
			}
			continue
		}
		n.log.Error("a block is damaged", "block", block, "error", bad)
		n.unclean.Store(true)
		head, ok := n.bridge(block)
		if ok {
			// The hashes between were not computed again, so nothing shows that they were synced.
			if err := n.tiles.Rewrite(n.tiles.Size(), head.Tree.Size()); err != nil {
				return err
			}
			ok = n.tiles.Reset(head.Tree.Size()) == nil
		}
		if !ok {
			n.blockedByDamage = fmt.Errorf("%w: the tree behind block %d is not known until it is repaired: %w",
				ErrDamaged, block, bad)
			n.log.Error("a damaged block keeps the node from going on", "height", block, "error", n.blockedByDamage)
			break
		}
		n.verifier = chain.NewVerifier(head)
	}
	n.stored = n.verifier.Head()
	return n.sync() // so that the next start need not do this again
}

// proveBase proves that tiles and blocks fit the synced head, or the last head before it if blocks are missing since.
func (n *Node) proveBase(synced chain.Head) (chain.Head, error) {
	height := min(synced.Height, n.index.Len())
	if height == 0 {
		if n.index.Len() > 0 {
			return chain.Head{}, errors.New("no head was synced")
		}
		return chain.Head{}, nil
	}
	head := synced
	h, err := n.header(height - 1)
	if err == nil {
		before, err := n.tiles.Tree(h.Seal())
		if err != nil {
			return chain.Head{}, err
		}
		if before.Root() != h.Root {
			return chain.Head{}, fmt.Errorf("%w: at block %d", tiles.ErrMismatch, height-1)
		}
		head = chain.Head{Height: height, Hash: h.Hash(), Time: h.Time, Tree: before.Append(h.SealHash())}
	}
	if height == synced.Height {
		// The synced head is known even if the last block is damaged.
		if head.Hash != synced.Hash || head.Tree.Root() != synced.Tree.Root() {
			return chain.Head{}, fmt.Errorf("the synced head of height %d is of another chain", height)
		}
	} else if err != nil {
		return chain.Head{}, err
	}
	tree, err := n.tiles.Tree(head.Tree.Size())
	if err != nil {
		return chain.Head{}, err
	}
	if tree.Root() != head.Tree.Root() {
		return chain.Head{}, fmt.Errorf("%w: at block %d", tiles.ErrMismatch, height-1)
	}
	return head, nil
}

// verifyBlock has a verifier judge a block from disk.
func (n *Node) verifyBlock(v *chain.Verifier, number uint64) ([]chain.Hash, error) {
	b := blockReader{n: n}
	block, err := b.parsed(number)
	if err != nil {
		return nil, err
	}
	return v.Take(&block)
}

// bridge looks for a block behind a damaged one from which the chain goes on: one whose root proves that the stored
// hashes are those of the tree before it.
func (n *Node) bridge(damaged uint64) (chain.Head, bool) {
	for number := damaged + 1; number < n.index.Len(); number++ {
		p, _, _ := n.index.Get(number)
		tree, err := n.tiles.Tree(p.First)
		if err != nil {
			continue
		}
		h, err := n.header(number)
		if err != nil {
			continue
		}
		head := chain.Head{Height: number, Hash: h.Prev, Tree: tree}
		if _, err := n.verifyBlock(chain.NewVerifier(head), number); err == nil {
			return head, true
		}
	}
	return chain.Head{}, false
}
