package storagenode

import (
	"context"
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
	if n.marked, err = n.dir.IsMarked(); err == nil {
		n.unclean.Store(n.marked)
		err = n.load(n.marked)
	}
	if err == nil || durable.NoSpace(err) { // else a newer ChainStore may have written the folder
		n.removeTemporary()
	}
	full := err
	if err == nil {
		full = n.noRoom
	}
	if durable.NoSpace(full) && !durable.IsSync(full) && durable.UseReserve(cfg.Dir) {
		n.log.Warn("the disk is full; the node starts with the room of its reserve", "error", full)
		err = n.chainState.close()
		if n.chainState = n.emptyState(); err == nil {
			err = n.load(n.marked)
		}
	}
	if err == nil {
		n.indexer, err = startRecordIndexer(n)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the storage node in %s: %w", cfg.Dir, err), n.release())
	}
	n.watcher = startJob(nil, n.watchBlocked)
	if cfg.AtRest.Has() {
		n.crypter = startJob(nil, n.followKeys)
	}
	return n, nil
}

// removeTemporary removes the temporary files of a process that was killed.
func (n *Node) removeTemporary() {
	dirs := []string{string(n.dir), n.dir.Tiles(), n.dir.Records(), n.dir.Quarantine(),
		filepath.Join(n.dir.Segments(), filepath.Base(n.dir.Quarantine()))}
	if err := durable.RemoveUnfinished(dirs...); err != nil {
		n.log.Warn("temporary files stay in the data folder", "error", err)
	}
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
	if err = n.passUnread(n.dir.Synced(), err); err != nil {
		return err
	}
	if err := tiles.CheckVersion(n.dir.Tiles()); err != nil {
		return err
	}
	if err := records.CheckVersion(n.dir.Records(), n.cfg.AtRest); err != nil {
		return err
	}
	if err := inbox.CheckKeys(n.dir.Inbox(), n.cfg.AtRest); err != nil {
		return err
	}
	n.lost, err = n.dir.ReadLost()
	if err = n.passUnread(n.dir.Lost(), err); err != nil {
		return err
	}
	found, err := blockindex.Find(n.blockFolder(), true)
	if errors.Is(err, blockindex.ErrUnread) {
		n.unread = err
	} else if err != nil {
		return err
	}
	n.index = found.Index
	n.files = newSegmentFiles(n.dir.Segments(), n.cfg.open, n.index)
	good := found.Known
	if found.IndexUnread != nil {
		good = 0 // the file is begun again
	}
	if found.Known < found.Entries || found.Entries < min(synced.Height, n.index.Len()) ||
		n.index.Len() < synced.Height ||
		n.unread != nil || found.IndexUnread != nil ||
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
	steps := []func() error{
		n.dir.Mark, n.dir.MakeSubfolders, n.removeUnfinished,
		func() error { return n.replaceUnread(n.dir.Index(), found.IndexUnread) },
		func() error { return n.fitSegmentEnds(found.Segments) },
	}
	if rewrite {
		good = min(good, synced.Height)
		steps = append(steps,
			func() error { return n.putOff(n.rewriteSegments(synced.Height)) }, n.rewriteSmallFiles)
	}
	steps = append(steps, func() error { return n.openIndexFile(min(good, n.index.Len())) })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	if n.tiles, err = tiles.Open(n.cfg.open, n.dir.Tiles(), n.keepTileFile); err != nil {
		n.tiles = tiles.Empty(n.cfg.open, n.dir.Tiles())
		return err
	}
	if n.inbox, err = inbox.Open(n.dir.Inbox(), n.cfg.AtRest); err != nil {
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
	if err := n.drain(context.Background()); errors.Is(err, ErrFailed) {
		return err
	}
	return nil // the inbox is drained later
}

// putOff passes over an error that says that there is no room to write again what the node is to report. It reports
// only what is before that, which is synced, and takes no blocks until there is room.
func (n *Node) putOff(err error) error {
	if !durable.NoSpace(err) || durable.IsSync(err) {
		return err
	}
	n.noRoom = err
	n.unclean.Store(true)
	return nil
}

// passUnread passes over the error of a small file that the system cannot read, and that is computed again or written
// again by the next check.
func (n *Node) passUnread(path string, err error) error {
	if !durable.OneUnreadable(err) {
		return err
	}
	n.log.Error("a file cannot be read; the node starts without it", "file", path, "error", err)
	n.unclean.Store(true)
	return nil
}

// replaceUnread moves a file to quarantine/ that the system cannot read and that is written again from the blocks. It
// does nothing if unread, the error of the read, is nil.
func (n *Node) replaceUnread(path string, unread error) error {
	if unread == nil {
		return nil
	}
	n.unclean.Store(true)
	to, err := n.dir.MoveAside(path)
	n.log.Error("a file that cannot be read is moved aside, and written again from the blocks",
		"file", path, "to", to, "error", unread)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// keepTileFile moves a file of the tree's hashes to quarantine/ that is damaged or cannot be read.
func (n *Node) keepTileFile(path string) error {
	n.unclean.Store(true)
	to, err := n.dir.MoveAside(path)
	if err == nil {
		n.log.Error("a file of the tree's hashes is damaged or cannot be read, and was moved aside",
			"file", path, "to", to)
	}
	return err
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
	if n.indexFile != nil && durable.CanRetry(err) {
		n.log.Warn("entries of the index are missing in its file; the next check writes them", "error", err)
		return nil
	}
	return err
}

// replay finds the head. It starts at the synced one, if tiles and segments agree with it, and verifies the blocks
// behind it as Put does. If nothing is synced, or does not fit, it verifies the whole chain. A block that the system
// cannot read is passed over like a damaged one and is not called damaged. For want of descriptors or memory, replay
// fails.
func (n *Node) replay(synced chain.Head) error {
	base, err := n.proveBase(synced)
	if err == nil {
		err = n.tiles.Reset(base.Tree.Size())
	}
	n.synced = synced.Height
	if durable.NoResources(err) {
		return err
	}
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
	for block := base.Height; n.noRoom == nil && block < n.index.Len(); block = n.verifier.Head().Height {
		before := n.verifier.Head()
		leaves, bad := n.verifyBlock(n.verifier, block)
		if bad == nil {
			if err := n.putOff(n.tiles.Append(leaves, n.verifier.Subtrees())); err != nil {
				return err
			}
			if n.noRoom != nil {
				n.verifier = chain.NewVerifier(before)
			}
			continue
		}
		if durable.NoResources(bad) {
			return bad
		}
		n.log.Error("a block is damaged or cannot be read", "block", block, "error", bad)
		n.unclean.Store(true)
		head, ok, err := n.bridge(block)
		if err != nil {
			return err
		}
		if ok {
			// The hashes between were not computed again, so nothing shows that they were synced.
			if err := n.putOff(n.tiles.Rewrite(n.tiles.Size(), head.Tree.Size())); err != nil {
				return err
			}
			ok = n.noRoom == nil && n.tiles.Reset(head.Tree.Size()) == nil
		}
		if !ok {
			n.blockAt(fmt.Errorf("the tree behind block %d is not known until it is repaired: %w", block, bad))
			break
		}
		n.verifier = chain.NewVerifier(head)
	}
	if n.noRoom != nil {
		n.blocked = lacking(n.noRoom)
		n.log.Error("no room to write blocks again that may not be on the disk; the node serves those before them",
			"height", n.verifier.Head().Height, "error", n.noRoom)
	} else if n.blocked == nil && n.unread != nil {
		n.blockAt(n.unread)
	}
	n.stored = n.verifier.Head()
	return n.sync() // so that the next start need not do this again
}

// blockAt keeps the node from adding blocks: what follows its height is on disk, and damaged or not readable.
func (n *Node) blockAt(because error) {
	if !durable.CannotRead(because) {
		because = fmt.Errorf("%w: %w", ErrDamaged, because)
	} else {
		because = cannotRead(because)
	}
	n.blocked = because
	n.log.Error("a block keeps the node from going on", "height", n.verifier.Head().Height, "error", because)
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
// hashes are those of the tree before it. The error is a lack of descriptors or memory.
func (n *Node) bridge(damaged uint64) (head chain.Head, ok bool, err error) {
	for number := damaged + 1; number < n.index.Len(); number++ {
		p, _, _ := n.index.Get(number)
		tree, err := n.tiles.Tree(p.First)
		var h chain.Header
		if err == nil {
			h, err = n.header(number)
		}
		head := chain.Head{Height: number, Hash: h.Prev, Tree: tree}
		if err == nil {
			_, err = n.verifyBlock(chain.NewVerifier(head), number)
		}
		if durable.NoResources(err) {
			return chain.Head{}, false, err
		}
		if err == nil {
			return head, true, nil
		}
	}
	return chain.Head{}, false, nil
}
