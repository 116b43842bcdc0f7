package storagenode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// PutInbox keeps a block that is beyond the chain's end until the blocks before it are there. It returns when the
// block would survive a power cut. A block below the height, or one that is in the inbox, changes nothing. Blocks
// arrive in order, so blocks of the inbox behind a gap after this one are not the current leader's, and are moved
// aside. PutInbox does not check whether the block fits the chain. data is not kept.
//
// If the context ends before the call's turn comes, nothing is changed.
//
// Errors: wire.ErrBadBlock, wire.ErrInboxFull, wire.ErrNoSpace, wire.ErrUnavailable, ErrFailed, and the cause of the
// context's end.
func (n *Node) PutInbox(ctx context.Context, number uint64, data []byte) (Status, error) {
	n.life.RLock()
	defer n.life.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	err := context.Cause(ctx)
	if err == nil {
		err = n.putInbox(number, data)
	}
	return n.Status(), err
}

func (n *Node) putInbox(number uint64, data []byte) error {
	if n.failure != nil {
		return n.failure
	}
	if _, err := parseBlock(number, data); err != nil {
		return err
	}
	if number < n.Status().Height {
		return nil
	}
	for _, stray := range n.inbox.BehindGap(number) {
		n.log.Error("a file of the inbox that does not follow is moved aside", "block", stray, "after", number)
		if err := n.moveInboxAside(stray); err != nil {
			return err
		}
	}
	if n.inbox.Has(number) {
		return nil
	}
	if err := n.cfg.Room(); err != nil {
		return err
	}
	if space := n.inbox.Space(len(data)); n.inbox.Bytes()+space > n.cfg.InboxBytes {
		return fmt.Errorf("%w: it has %d blocks of %d bytes, block %d takes %d, the limit is %d; "+
			"the repair of the node makes room",
			wire.ErrInboxFull, n.inbox.Len(), n.inbox.Bytes(), number, space, n.cfg.InboxBytes)
	}
	if err := n.inbox.Put(number, data, n.cfg.writeFile); err != nil {
		return n.fail(err)
	}
	n.publish()
	return nil
}

// drain moves blocks from the inbox to the end of the chain, as far as they follow, and removes those that the chain
// has. During a repair it only removes: the chain's end may change. It leaves the rest in the inbox when the context
// ends. mu is held.
func (n *Node) drain(ctx context.Context) error {
	if n.inbox.Len() == 0 {
		return nil
	}
	if n.stopped() == nil && !n.incoming.isOpen() {
		if err := n.addFromInbox(ctx); err != nil {
			return err
		}
	}
	removed, err := n.inbox.RemoveBelow(n.Status().Height)
	if err != nil {
		return n.fail(err)
	}
	if removed {
		n.publish()
	}
	return nil
}

func (n *Node) addFromInbox(ctx context.Context) error {
	for {
		number := n.verifier.Head().Height
		if !n.inbox.Has(number) || ctx.Err() != nil || n.cfg.Room() != nil {
			return n.flushed() // a block that is there waits in the inbox
		}
		data, err := n.inbox.Read(number)
		if durable.NoResources(err) {
			return errors.Join(lacking(err), n.flushed())
		}
		if durable.CannotRead(err) {
			n.log.Error("a block of the inbox cannot be read; its file stays", "block", number, "error", err)
			n.inbox.Forget(number) // the leader sends it again
			n.publish()
			return n.flushed()
		}
		var block chain.Block
		if err == nil {
			block, err = parseBlock(number, data)
		}
		if err == nil && block.Header.Prev != n.verifier.Head().Hash {
			return n.flushed() // this chain's end is not the group's: a check finds that out
		}
		if err == nil {
			err = n.add(&block)
		}
		if errors.Is(err, ErrFailed) || errors.Is(err, wire.ErrNoSpace) || errors.Is(err, errLacking) {
			return err
		}
		if err != nil {
			n.log.Error("a bad block of the inbox is moved aside", "block", number, "error", err)
			return errors.Join(n.flushed(), n.moveInboxAside(number))
		}
	}
}

// rewriteInbox writes the blocks of the inbox again. A file that does not hold its block is moved aside. A block that
// cannot be read or written now is not reported, and comes again; its file stays.
func (n *Node) rewriteInbox() error {
	for _, number := range n.inbox.Numbers() {
		data, err := n.inbox.Read(number)
		read := err
		if err == nil {
			err = n.inbox.Rewrite(number, data, n.cfg.writeFile)
		}
		switch {
		case durable.CanRetry(err) || durable.CannotRead(read):
			n.log.Warn("a block of the inbox is left out now", "block", number, "error", err)
			n.inbox.Forget(number)
			err = nil
		case read == nil: // the error is that of the write
		case !errors.Is(err, durable.ErrNewerFormat):
			n.log.Error("a bad block of the inbox is moved aside", "block", number, "error", err)
			err = n.moveInboxAside(number)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveInboxAside moves a file of the inbox to quarantine/.
func (n *Node) moveInboxAside(number uint64) error {
	if _, err := n.dir.MoveAside(n.inbox.Path(number)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n.fail(err)
	}
	n.inbox.Forget(number)
	n.publish()
	return nil
}
