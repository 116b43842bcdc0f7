package storagenode

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

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
// after a repair cut the chain, or when a block that kept the node from going on is good: a repair brought it, or the
// device can read it again.
type chainState struct {
	index *blockindex.Index
	files *segmentFiles
	tiles *tiles.Store

	// blocked is set if the tree is not known behind a block that is damaged or cannot be read, or if there was no room
	// to write blocks again: why no blocks are added. It wraps ErrDamaged, ErrCannotRead or wire.ErrNoSpace. From the
	// height on, blocks are on disk then and cannot be proven, or may not be synced. It does not change after the load.
	blocked error
	unread  error // why the index has not all blocks; set during the load
	noRoom  error // why what may not be synced was not written again, or its hashes; set during the load

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
		rewrite := n.unwritten()
		err := durable.HaveDescriptors(loadDescriptors)
		if err == nil {
			err = n.sync()
		}
		if durable.CanRetry(err) {
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
			err = n.load(rewrite)
		}
		return n.stop(err) // in any case: the chainState may not fit the files
	})
}

// loadDescriptors is more than the number of files that are open at a time while a folder is loaded.
const loadDescriptors = 32

// unwritten reports whether the last load passed over blocks that may not be synced, because it could not read them, or
// had no room to write them again. The next load must do that.
func (n *Node) unwritten() bool { return n.marked && (n.unread != nil || n.noRoom != nil) }

// Pauses before the next try to read what blocks the node. They double up to the longest.
const (
	unblockPause = 2 * time.Second
	unblockMost  = 30 * time.Second
)

// watchBlocked has a blocked node go on when what blocks it can be read again and is good, without a repair, or when
// there is room. It ends with its context, or when the node has stopped.
func (n *Node) watchBlocked(ctx context.Context) {
	for pause := n.cfg.unblockPause; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		blocked, err := n.unblock(ctx)
		switch {
		case errors.Is(err, ErrFailed):
			return
		case blocked:
			pause = min(2*pause, unblockMost)
		default:
			pause = n.cfg.unblockPause
		}
	}
}

// unblock replaces the chainState of a blocked node if what blocks it is good now, and reports whether the node is
// blocked after that. A repair that is open is closed first: what it was to bring may be here.
func (n *Node) unblock(ctx context.Context) (blocked bool, err error) {
	n.life.RLock()
	blocked, good, err := n.readBlocking()
	n.life.RUnlock()
	if err != nil || !good {
		return blocked, err
	}
	n.life.Lock()
	defer n.life.Unlock()
	if err := n.mayStart(ctx); err != nil {
		return true, err
	}
	if n.blocked == nil {
		return false, nil // a repair was faster
	}
	n.log.Warn("what kept the node from going on is over", "height", n.Status().Height)
	if err := n.closeRepair(ctx); err != nil {
		return true, err
	}
	err = n.reload(func() error { return nil })
	return n.blocked != nil, err
}

// readBlocking reports whether the node is blocked, and whether what blocks it is good now. It reads the files at their
// paths, as a start would: they may have been put back. life is held. The error wraps ErrFailed.
func (n *Node) readBlocking() (blocked, good bool, err error) {
	n.mu.Lock()
	head, err := n.stored, n.failure
	if n.closed {
		err = ErrFailed
	}
	n.mu.Unlock()
	if err != nil || n.blocked == nil {
		return false, false, err
	}
	if n.noRoom != nil {
		return true, n.cfg.Room() == nil, nil
	}
	if n.unread != nil {
		quiet := n.blockFolder()
		quiet.Log = hclog.NewNullLogger()
		_, err := blockindex.Find(quiet, true)
		return true, err == nil, nil
	}
	_, seg, _ := n.index.Get(head.Height)
	if n.files.forget(seg) != nil {
		return true, false, nil
	}
	_, bad := n.verifyBlock(chain.NewVerifier(head), head.Height)
	return true, bad == nil, nil
}

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
	}); durable.CanRetry(err) {
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
	return n.blocked
}

// errBlocked: a damaged or unreadable block keeps the node from adding blocks. It may go on after it is loaded again.
var errBlocked = fmt.Errorf("%w: the node waits for the repair of a block", wire.ErrNotNext)
