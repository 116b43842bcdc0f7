package storagenode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/folder"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// Defaults of a [Config], in bytes.
const (
	DefaultSegmentBytes = 64 << 20
	DefaultInboxBytes   = 256 << 20
)

// Config of a storage node.
type Config struct {
	Dir          string // the data folder; created if it is missing
	SegmentBytes int64  // a segment of at least this size gets no more blocks; 0 for DefaultSegmentBytes
	InboxBytes   int64  // the space that the inbox may take; 0 for DefaultInboxBytes
	CheckThreads int    // goroutines that hash during a check; 0 for 1
	Logger       hclog.Logger
	Mark         *durable.SyncMark // remembers failed syncs of the folder; nil for none
	AtRest       *atrest.Ring      // keys that encrypt blocks, inbox and index of records; nil for no encryption

	// Transfer connects to the storage node at a URL, shows it the ticket of a repair, and calls write once with a
	// writer that leads there. When Transfer returns, that writer fails if it is still in use. The error wraps
	// [wire.ErrBadBlock] if the receiver reported a bad block.
	Transfer func(ctx context.Context, to, ticket string, write func(io.Writer) error) error

	// Room returns why nothing is to be added to the folder: an error that wraps [wire.ErrNoSpace] while too little of
	// the disk is free, else nil. nil for no limit.
	Room func() error

	open      segment.OpenFunc                                       // nil for the real file system
	writeFile func(path string, data []byte, mode os.FileMode) error // nil for durable.WriteFile
	// checkAgain is the pause after which a check that ended early is begun again, unblockPause the one after which a
	// blocked node is tried again; 0 for the constants of these names.
	checkAgain, unblockPause time.Duration
	keysPause                time.Duration // between two looks at the file of keys; 0 for the constant of that name
	convertRate              int64         // bytes per second; 0 for the constant of that name
}

func (c *Config) setDefaults() {
	c.SegmentBytes = cmp.Or(max(c.SegmentBytes, 0), DefaultSegmentBytes)
	c.InboxBytes = cmp.Or(max(c.InboxBytes, 0), DefaultInboxBytes)
	c.CheckThreads = max(c.CheckThreads, 1)
	c.checkAgain = cmp.Or(c.checkAgain, checkAgain)
	c.unblockPause = cmp.Or(c.unblockPause, unblockPause)
	c.keysPause = cmp.Or(c.keysPause, keysPause)
	c.convertRate = cmp.Or(c.convertRate, convertRate)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.open == nil {
		c.open = segment.OpenFile
	}
	c.open = segment.WithKeys(c.open, c.AtRest)
	if c.Room == nil {
		c.Room = func() error { return nil }
	}
	if c.writeFile == nil {
		c.writeFile = durable.WriteFile
	}
}

// Status is what a node has verified. The node does not know its ID.
type Status = wire.StorageStatus

// Node is a storage node. Its methods may be called from any goroutine.
//
// DESIGN.md says in which order its locks are taken, and which goroutines hold them.
type Node struct {
	cfg     Config
	dir     folder.Dir
	log     hclog.Logger
	lock    *durable.Lock
	failed  chan error
	readers sync.Pool      // of *reader
	bundles chan struct{}  // holds a value for each call of Entries that is reading
	indexer *recordIndexer // nil while the node is being opened
	watcher *job           // runs watchBlocked; nil while the node is being opened
	crypter *job           // runs followKeys; nil without keys, and while the node is being opened
	unclean atomic.Bool
	marked  bool // the process before this one may not have synced what it wrote

	encrypting sync.Mutex // held while files are brought under the current key; before life

	// status is what readers see. It changes last, after disk, tiles and index.
	status atomic.Pointer[Status]

	life sync.RWMutex
	*chainState

	mu       sync.Mutex // guards all below, and the fields of chainState that say so
	failure  error      // why nothing is written any more: wraps ErrFailed
	closed   bool
	incoming *incomingRepair // nil if none was opened
	moved    []wire.Finding  // what was moved to quarantine/ since the last check that was reported
	lacked   time.Time       // when a missing resource was logged last

	jobs    sync.Mutex // guards all below
	closing bool       // no more jobs are started
	check   *checkJob
	send    *sendJob
}

// Status returns what the node has now.
func (n *Node) Status() Status { return *n.status.Load() }

// Unclean reports whether the start was one after which the chain should be checked: the previous start ended without
// Close, or Open found damage.
func (n *Node) Unclean() bool { return n.unclean.Load() }

// publish shows readers the head of the blocks that are synced. mu is held, or the node is being opened.
func (n *Node) publish() {
	at := n.Status()
	if head := n.stored; n.unsynced.blocks == 0 {
		at = Status{Height: head.Height, Hash: head.Hash, Size: head.Tree.Size()}
	}
	at.Inbox = n.inbox.Run()
	n.status.Store(&at)
	if n.indexer != nil {
		n.indexer.chainGrew()
	}
}

// Failed delivers the error that stopped the node, once, and is closed then. The role must end: what is on disk is
// known again only after a new start.
func (n *Node) Failed() <-chan error { return n.failed }

// locked runs a change with mu held, unless the node has stopped.
func (n *Node) locked(change func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil {
		return n.failure
	}
	return change()
}

// lackedEvery is the shortest time between two lines of the log that say that a resource is missing.
const lackedEvery = time.Minute

// fail stops the node permanently if a write failed: if err is not nil. If a resource was missing and nothing was
// changed, it does not stop the node, and the caller's operation may be tried again. mu is held.
func (n *Node) fail(err error) error {
	if !durable.CanRetry(err) || n.failure != nil {
		return n.stop(err)
	}
	if now := time.Now(); n.lacked.IsZero() || now.Sub(n.lacked) > lackedEvery {
		n.lacked = now
		n.log.Warn("a write is put off, because a resource is exhausted", "error", err)
	}
	return lacking(err)
}

// stop stops the node permanently if err is not nil. mu is held.
func (n *Node) stop(err error) error {
	if err == nil {
		return nil
	}
	if _, markErr := n.cfg.Mark.Note(err); markErr != nil {
		err = errors.Join(err, markErr)
	}
	if n.failure == nil {
		n.failure = fmt.Errorf("%w: %w", ErrFailed, err)
		n.log.Error("storage node stops: a write failed", "error", err)
		n.failed <- n.failure
		close(n.failed)
	}
	return n.failure
}

// failUnlocked is fail for a caller that does not hold mu.
func (n *Node) failUnlocked(err error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fail(err)
}

// Close syncs index and tiles and releases the folder. Blocks that Put accepted are durable already. Close stops a
// check and a transfer that run, and waits for them.
func (n *Node) Close() error {
	var errs []error
	if n.indexer != nil {
		errs = append(errs, n.indexer.stop()) // before life, which its goroutine takes
	}
	n.watcher.stop() // for the same reason
	n.crypter.stop()
	n.life.Lock()
	defer n.life.Unlock()
	n.stopJobs(true)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	if n.failure == nil {
		err := n.sync()
		if err == nil && !n.unwritten() {
			err = n.dir.Unmark()
		}
		errs = append(errs, err)
	}
	n.failure = fmt.Errorf("%w: it was closed", ErrFailed)
	return errors.Join(append(errs, n.release())...)
}

// Abort ends the check, the transfer and the repair that run, and lets no other begin until the node is opened again.
// What was received is kept. The error means that the disk failed.
func (n *Node) Abort() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.stopJobs(true)
	return n.closeRepair(context.Background())
}

// Interrupt ends the check, the transfer and the repair that run. A later order may begin others. What was received is
// kept, and is durable when Interrupt returns. The error means that the disk failed.
func (n *Node) Interrupt() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.stopJobs(false)
	if err := n.closeRepair(context.Background()); err != nil {
		return err
	}
	return n.locked(n.flushed)
}

// release closes all files and unlocks the folder.
func (n *Node) release() error { return errors.Join(n.chainState.close(), n.lock.Close()) }

// lacking is the error of an operation that may be tried again when there is room, or a free descriptor.
func lacking(err error) error {
	if durable.NoSpace(err) {
		return fmt.Errorf("%w: %w", wire.ErrNoSpace, err)
	}
	return fmt.Errorf("%w: %w", errLacking, err)
}

// Errors of this package besides those of wire's table.
var (
	// ErrConflict: the node has another block of that number. It wraps wire.ErrNotNext.
	ErrConflict = fmt.Errorf("%w: another block of that number is here", wire.ErrNotNext)
	// ErrFailed: a write or sync failed, other than a write for which there was no room. The node takes no more blocks
	// until it is started again.
	ErrFailed = wire.ErrUnavailable.Variant("storage node stopped after a failed write")
	// errLacking: no file descriptor or no memory was free. Nothing was changed.
	errLacking = wire.ErrUnavailable.Variant("no file descriptor or no memory is free; nothing was changed")
	// ErrBehind: the node does not have that block, leaf or tree size yet.
	ErrBehind = wire.ErrNotFound.Variant("not here yet")
	// ErrDamaged: the node has the block and cannot read it, or cannot go on because of a block that it cannot read.
	ErrDamaged = durable.ErrDamaged
	// ErrCannotRead: the system could not open or read a file of the node. Nothing is known about its bytes. See
	// [durable.CannotRead].
	ErrCannotRead = wire.ErrUnavailable.Variant("the storage node cannot read a file now")
	// ErrNewerFormat: a newer ChainStore wrote a file of the folder. Nothing was changed.
	ErrNewerFormat = durable.ErrNewerFormat
	// ErrTicket: no repair is open under that ticket.
	ErrTicket = wire.ErrUnauthorized.Variant("no repair is open under that ticket")
)
