package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// DefaultSegmentBytes is the size at which a new segment is begun.
const DefaultSegmentBytes = 64 << 20

// syncEvery is after how many blocks index and tiles are synced at the latest: what a start after a crash has to verify.
const syncEvery = 4096

// Config of a storage node.
type Config struct {
	Dir          string // the data folder; made if it is not there
	SegmentBytes int64  // a segment of at least so many bytes gets no more blocks; 0 for DefaultSegmentBytes
	InboxBytes   int64  // what inbox/ may hold; 0 for DefaultInboxBytes
	CheckThreads int    // goroutines that hash during a check; 0 for 1
	Logger       hclog.Logger

	// Transfer brings a stream of blocks to the storage node at a URL, whose ticket it shows: it calls write once, with where the
	// stream goes, and when it returns that writer fails if it is still in use. Its error wraps ErrRefused when the receiver said that a block was bad.
	Transfer func(ctx context.Context, to, ticket string, write func(io.Writer) error) error

	open      segment.OpenFunc                                       // nil for the real file system
	writeFile func(path string, data []byte, mode os.FileMode) error // nil for durable.WriteFile
	// checkAgain is after how long a check that ended early is begun anew; 0 for the constant of that name.
	checkAgain time.Duration
}

// setDefaults fills in what was left out.
func (c *Config) setDefaults() {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.InboxBytes <= 0 {
		c.InboxBytes = DefaultInboxBytes
	}
	if c.CheckThreads <= 0 {
		c.CheckThreads = 1
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.open == nil {
		c.open = segment.OpenFile
	}
	if c.checkAgain == 0 {
		c.checkAgain = checkAgain
	}
	if c.writeFile == nil {
		c.writeFile = durable.WriteFile
	}
}

// Status is what a node has.
type Status struct {
	Height uint64     // blocks from 0 on that it has, verified
	Hash   chain.Hash // of the last of them
	Size   uint64     // of the tree, the last seal included
	// Inbox are the blocks that wait in the inbox: the run without a gap that ends with the last of them. Zero for none.
	Inbox chain.Range
}

// Node is a storage node. Its methods may be called from any goroutine.
type Node struct {
	cfg     Config
	log     hclog.Logger
	lock    *durable.Lock
	unclean atomic.Bool // set when the folder is loaded

	// life is held by every call while it uses what is below, and alone by what takes the node down and loads it again: Close, and
	// a repair that cuts the chain or finds out where it leads. The goroutines of checks and transfers do not hold it: they are
	// stopped before. Locks are taken in the order life, jobs, a receipt's, mu, and those of files and index.
	life sync.RWMutex

	index Index
	files files
	tiles *tiles.Store
	// status is what readers see. It moves last, after disk, tiles and index.
	status  atomic.Pointer[Status]
	readers sync.Pool     // of *reader
	bundles chan struct{} // holds one for each call of Entries that is at work
	// barred: blocks from the height on are on disk and cannot be proven, because one before them is damaged. Set by Open.
	barred bool
	// swaps counts segments that were replaced by a repair, each between the change of the places and the next read.
	swaps    atomic.Uint64
	jobs     jobs
	follower atomic.Pointer[follower] // nil while the node is being opened

	failed chan error

	mu        sync.Mutex // guards all below: one block is put at a time
	verifier  *chain.Verifier
	stored    chain.Head      // of the blocks that are written: the verifier may be one ahead
	writer    *segment.Writer // nil until the first block that needs it
	indexFile *File
	synced    uint64 // blocks that index and tiles have on disk for sure
	stopped   error  // why no more blocks are taken: wraps ErrFailed or ErrDamaged
	closed    bool
	unsynced  group
	inbox     inbox
	lost      []chain.Range   // confirmed as lost, as in DIR/lost
	rest      *leftover       // of load
	moved     []chain.Finding // what clear moved aside since the last check that was reported
}

func (n *Node) segmentsDir() string   { return filepath.Join(n.cfg.Dir, "segments") }
func (n *Node) tilesDir() string      { return filepath.Join(n.cfg.Dir, "tiles") }
func (n *Node) quarantineDir() string { return filepath.Join(n.cfg.Dir, "quarantine") }
func (n *Node) indexPath() string     { return filepath.Join(n.cfg.Dir, "index") }
func (n *Node) syncedPath() string    { return syncedPath(n.cfg.Dir) }

func syncedPath(dir string) string { return filepath.Join(dir, "tiles", "synced") }

// Status is what the node has now.
func (n *Node) Status() Status { return *n.status.Load() }

// publish shows readers the head of the blocks that are synced; mu is held, or nobody else has the node yet.
func (n *Node) publish() {
	if len(n.unsynced.places) > 0 {
		at := *n.status.Load()
		at.Inbox = n.inbox.run
		n.status.Store(&at)
		return
	}
	head := n.stored
	n.status.Store(&Status{Height: head.Height, Hash: head.Hash, Size: head.Tree.Size(), Inbox: n.inbox.run})
	n.follower.Load().poke()
}

// Failed delivers the error that stopped the node, once, and is closed behind it. The role must end: what is on disk is
// known again only after a new start.
func (n *Node) Failed() <-chan error { return n.failed }

// fail stops the node for good; mu is held.
func (n *Node) fail(err error) error {
	if n.stopped == nil || !errors.Is(n.stopped, ErrFailed) {
		n.stopped = fmt.Errorf("%w: %w", ErrFailed, err)
		n.log.Error("storage node stops: a write failed", "error", err)
		n.failed <- n.stopped
		close(n.failed)
	}
	return n.stopped
}

// Close syncs index and tiles and gives the folder back. Blocks that Put took are on disk already. A check and a transfer that
// run are stopped, and waited for.
func (n *Node) Close() error {
	var errs []error
	if f := n.follower.Load(); f != nil {
		errs = append(errs, f.stop())
	}
	n.life.Lock()
	defer n.life.Unlock()
	n.jobs.stop(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	if !errors.Is(n.stopped, ErrFailed) {
		err := n.sync()
		if err == nil {
			err = n.unmark()
		}
		errs = append(errs, err)
	}
	n.stopped = fmt.Errorf("%w: it was closed", ErrFailed)
	return errors.Join(append(errs, n.release())...)
}

// Abort ends the check, the transfer and the repair that run, and lets no other begin until the node is opened again.
// What was received is kept. The error means that the disk failed.
func (n *Node) Abort() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.jobs.stop(true)
	return n.abandon()
}

// Interrupt ends the check, the transfer and the repair that run; a later order may begin others. What was received is
// kept, and is durable when Interrupt returns. The error means that the disk failed.
func (n *Node) Interrupt() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.jobs.stop(false)
	if err := n.abandon(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if errors.Is(n.stopped, ErrFailed) {
		return n.stopped
	}
	return n.flushed()
}

// release closes whatever is open.
func (n *Node) release() error {
	errs := []error{n.unload(), n.files.close()}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// unload closes the files that are written.
func (n *Node) unload() error {
	var errs []error
	if n.writer != nil {
		errs = append(errs, n.writer.Close())
		n.writer = nil
	}
	if n.indexFile != nil {
		errs = append(errs, n.indexFile.file.Close())
		n.indexFile = nil
	}
	if n.tiles != nil {
		errs = append(errs, n.tiles.Close())
	}
	return errors.Join(errs...)
}

// sync makes index and tiles durable and notes the head that they go up to; mu is held.
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
	if err := n.inTiles(func() error {
		if err := n.tiles.Sync(); err != nil {
			return err
		}
		if err := writeSynced(n.syncedPath(), head); err != nil {
			return fmt.Errorf("write %s: %w", n.syncedPath(), err)
		}
		return nil
	}); err != nil {
		return err
	}
	n.synced = head.Height
	return nil
}

// tilesTries is how often the folder of the tree's hashes is made again in a row when somebody removes it.
const tilesTries = 5

// inTiles runs a write into the folder of the tree's hashes, once more where somebody removed the folder meanwhile,
// or put something else in the place of it or of a file in it: what was in it is computed again by the next check, or
// at the next start. mu is held.
func (n *Node) inTiles(write func() error) (err error) {
	for range tilesTries {
		gone := true
		if err = durable.MkdirAll(n.tilesDir()); err == nil {
			err = write()
			// Any other failure may be one of a write or a sync, after which nothing is written again.
			gone = durable.Absent(err) || errors.Is(err, syscall.EISDIR)
		}
		if err == nil || !gone {
			return err
		}
		if clearErr := n.clear(); clearErr != nil {
			return errors.Join(err, clearErr)
		}
	}
	return err
}
