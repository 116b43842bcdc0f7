package storagenode

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/inbox"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// syncEvery is the number of blocks after which index and tiles are synced at the latest. A start after a crash has to
// verify at most that many.
const syncEvery = 4096

// chainState is everything that a node loads from its folder. It is replaced as a whole when the node is loaded again:
// after a repair cut the chain, or brought a block that kept the node from going on.
type chainState struct {
	index *blockindex.Index
	files *segmentFiles
	tiles *tiles.Store

	// blockedByDamage is set if the tree is not known behind a damaged block: why no blocks are added. Blocks from the
	// height on are on disk then and cannot be proven. It does not change after the load.
	blockedByDamage error

	// Guarded by Node.mu:
	verifier  *chain.Verifier
	stored    chain.Head      // of the blocks that are written; the verifier may be one ahead
	writer    *segment.Writer // nil until the first block that needs it
	indexFile *blockindex.File
	synced    uint64 // blocks for which index and tiles are durable
	unsynced  unsyncedBlocks
	inbox     *inbox.Inbox
	lost      []chain.Range // confirmed as lost, as in the file "lost"
}

// emptyState is the state of a node that is not loaded.
func (n *Node) emptyState() *chainState {
	index := new(blockindex.Index)
	return &chainState{
		index: index,
		files: newSegmentFiles(n.dir.Segments(), n.cfg.open, index),
		tiles: tiles.Empty(n.cfg.open, n.dir.Tiles()),
		inbox: new(inbox.Inbox),
	}
}

// close closes all files without syncing them.
func (s *chainState) close() error {
	errs := []error{s.closeWriter(), s.tiles.Close(), s.files.close()}
	if s.indexFile != nil {
		errs = append(errs, s.indexFile.Close())
		s.indexFile = nil
	}
	return errors.Join(errs...)
}

func (s *chainState) closeWriter() error {
	if s.writer == nil {
		return nil
	}
	err := s.writer.Close()
	s.writer = nil
	return err
}

// reload syncs what is written, runs a change of the files, and replaces the chainState with what the folder holds
// then. An error stops the node, unless a resource is missing before anything is changed. life is held exclusively.
func (n *Node) reload(change func() error) error {
	n.stopJobs(false)
	return n.locked(func() error {
		err := durable.HaveDescriptors(loadDescriptors)
		if err == nil {
			err = n.sync()
		}
		if errors.Is(err, durable.ErrExhausted) {
			return n.fail(err)
		}
		if err == nil {
			err = change()
		}
		if err == nil {
			err = n.chainState.close()
			n.chainState = n.emptyState()
		}
		if err == nil {
			err = n.load(false)
		}
		return n.stop(err) // in any case: the chainState may not fit the files
	})
}

// loadDescriptors is more than the number of files that are open at a time while a folder is loaded.
const loadDescriptors = 32

// sync makes index and tiles durable and notes the head that they reach. If that lacks a resource, it is done later:
// the next start verifies more blocks. mu is held.
func (n *Node) sync() error {
	if err := n.flush(); err != nil {
		return err
	}
	head := n.stored
	if head.Height == n.synced {
		return nil
	}
	if err := n.indexFile.Sync(); err != nil {
		return err
	}
	if err := n.writeTiles(func() error {
		if err := n.tiles.Sync(); err != nil {
			return err
		}
		return n.dir.WriteSynced(head)
	}); errors.Is(err, durable.ErrExhausted) {
		return nil
	} else if err != nil {
		return err
	}
	n.synced = head.Height
	return nil
}

// tilesTries is how often the folder tiles/ is created again in a row if something removes it.
const tilesTries = 5

// writeTiles runs a write into the folder tiles/. If the folder was removed meanwhile, or the path of the folder or
// of a file in it holds something else, it restores the folder and tries again. The next check, or the next start,
// computes the hashes that were in it. mu is held.
func (n *Node) writeTiles(write func() error) (err error) {
	for range tilesTries {
		gone := true
		if err = durable.MkdirAll(n.dir.Tiles()); err == nil {
			err = write()
			// Any other failure may be that of a write or a sync, after which nothing is written again.
			gone = durable.Absent(err) || errors.Is(err, syscall.EISDIR)
		}
		if err == nil || !gone {
			return err
		}
		if moveErr := n.moveMisplaced(); moveErr != nil {
			return errors.Join(err, moveErr)
		}
	}
	return err
}

// stopped returns why no blocks are added, nil if they are. mu is held.
func (n *Node) stopped() error {
	if n.failure != nil {
		return n.failure
	}
	return n.blockedByDamage
}

// errBlocked: a damaged block keeps the node from adding blocks. It may go on after it is loaded again.
var errBlocked = fmt.Errorf("%w: the node waits for the repair of a damaged block", wire.ErrNotNext)
