package masternode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
)

// Record is a record that was read.
type Record struct {
	chain.Record
	ProjectName string // the project's name
	At          masterfsm.Position
	Commit      chain.Hash
	Leaf        chain.Hash
	Sealed      bool // its block is mined: nothing about it changes any more
	Stored      bool // its block is on as many storage nodes as the settings ask
}

// Record reads the record at an offset of a block, if the reader may. Errors: wire.ErrNotFound, wire.ErrForbidden,
// wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) Record(
	ctx context.Context, reader masterfsm.Access, block uint64, offset uint32,
) (_ Record, err error) {
	defer n.cfg.Histograms.Read.Done(time.Now(), &err)
	r, err := n.anyRecord(ctx, block, offset)
	return n.permitted(ctx, reader, r, err)
}

// anyRecord reads a record without checking permission.
func (n *Node) anyRecord(ctx context.Context, block uint64, offset uint32) (r Record, err error) {
	err = n.confirmed(ctx, func() (err error) {
		r, err = n.lookUp(ctx, block, offset)
		return err
	})
	return r, err
}

// RecordByIndex reads the record of a leaf index. Errors: as Record, and wire.ErrSealIndex.
func (n *Node) RecordByIndex(
	ctx context.Context, reader masterfsm.Access, index uint64,
) (r Record, err error) {
	defer n.cfg.Histograms.Read.Done(time.Now(), &err)
	err = n.confirmed(ctx, func() error {
		var found masterfsm.Found
		var at masterfsm.Position
		var next uint64
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			found, at = s.Locate(index)
			next = s.NextIndex()
		})
		var err error
		switch found {
		case masterfsm.FoundNothing:
			return notHere(fmt.Sprintf("the next record gets index %d", next))
		case masterfsm.FoundSeal:
			return wire.ErrSealIndex
		case masterfsm.FoundElsewhere:
			if at, err = n.prover.Locate(ctx, index); err != nil {
				return err
			}
		}
		r, err = n.lookUp(ctx, at.Block, at.Offset)
		return err
	})
	return n.permitted(ctx, reader, r, err)
}

// permitted adds the project's name to the result of a read, if the reader may read the record.
func (n *Node) permitted(ctx context.Context, reader masterfsm.Access, r Record, err error) (Record, error) {
	if err != nil {
		return Record{}, err
	}
	owner, err := n.MayRead(ctx, reader, r.Project)
	if err != nil {
		return Record{}, err
	}
	r.ProjectName = owner.Name
	return r, nil
}

// lookUp finds a record in the state, or has a storage node prove it. The error wraps errNotHere if this state does not
// have it.
func (n *Node) lookUp(ctx context.Context, block uint64, offset uint32) (Record, error) {
	var found masterfsm.Found
	var at masterfsm.Position
	var encoded []byte
	var header *chain.Header
	var stored uint64
	var next masterfsm.Position
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		found, at, encoded, header = s.Record(block, offset)
		stored, next = s.Stored(), s.NextPosition()
	})
	switch found {
	case masterfsm.FoundNothing:
		return Record{}, notHere(fmt.Sprintf("the next record gets block %d, offset %d, or a later position",
			next.Block, next.Offset))
	case masterfsm.FoundBeyond:
		return Record{}, fmt.Errorf("%w: block %d has fewer records", wire.ErrNotFound, block)
	case masterfsm.FoundRecord:
		//mutant:found-record
		return heldRecord(encoded, at, header != nil, block < stored)
	}
	h, err := n.prover.Header(ctx, block)
	if err != nil {
		return Record{}, n.prover.ExplainLost(block, err)
	}
	if offset >= h.Count {
		return Record{}, fmt.Errorf("%w: block %d has %d records", wire.ErrNotFound, block, h.Count)
	}
	proven, err := n.prover.Record(ctx, h, offset)
	if err != nil {
		return Record{}, n.prover.ExplainLost(block, err)
	}
	at.Index = h.First + uint64(offset)
	return newRecord(proven, at, true, true)
}

// newRecord returns a record that was hashed.
func newRecord(h prover.HashedRecord, at masterfsm.Position, sealed, stored bool) (Record, error) {
	r, err := chain.ParseRecord(h.Encoded)
	if err != nil {
		return Record{}, err
	}
	return Record{Record: r, At: at, Commit: h.Commit, Leaf: h.Leaf, Sealed: sealed, Stored: stored}, nil
}

// heldRecord returns a record of the state.
func heldRecord(encoded []byte, at masterfsm.Position, sealed, stored bool) (Record, error) {
	h, err := prover.HashRecord(encoded)
	if err != nil {
		return Record{}, err
	}
	return newRecord(h, at, sealed, stored)
}

// Position returns the record's position in the form of the API.
func (r *Record) Position() wire.Position {
	state := wire.StateCommitted
	if r.Stored {
		state = wire.StateStored
	}
	return wire.Position{
		Block: r.At.Block, Offset: r.At.Offset, Index: r.At.Index, Time: r.Time, Leaf: r.Leaf, State: state,
	}
}

// Block reads a block's header. Errors: wire.ErrNotFound, wire.ErrNotMined, wire.ErrNoLeader, wire.ErrUnavailable, and
// wire.ErrLost if no storage node has the header and a person has confirmed that the block is lost.
func (n *Node) Block(ctx context.Context, number uint64) (chain.Header, error) {
	var h chain.Header
	err := n.confirmed(ctx, func() error {
		var mined, exists bool
		var height uint64
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			v := s.View()
			height = v.Head.Height
			mined = number < height
			exists = number < v.OpenBlock || number == v.OpenBlock && v.OpenRecords > 0
			if b, ok := s.Block(number); ok {
				h = b.Header
			}
		})
		switch {
		case !mined && exists:
			return errNotMinedHere
		case !mined:
			return notHere(fmt.Sprintf("the number of mined blocks is %d", height))
		case h.Version != 0:
			return nil
		}
		var err error
		h, err = n.prover.Header(ctx, number)
		if errors.Is(err, prover.ErrNoHeader) { // and not if no node answers now: the header may be there
			err = n.prover.ExplainLost(number, err)
		}
		return err
	})
	return h, err
}

// MaxBlocksPage is how many headers a page of Blocks may hold.
const MaxBlocksPage = 256

// Blocks lists mined blocks, the newest first: up to limit headers of blocks before a number (math.MaxUint64 for the
// newest). A full page may begin at an older block than the newest one; that a page has less is confirmed with the
// leader. Errors: wire.ErrBadRequest, wire.ErrNoLeader, and those of Block.
func (n *Node) Blocks(ctx context.Context, before uint64, limit int) ([]chain.Header, error) {
	if limit < 1 || limit > MaxBlocksPage {
		return nil, fmt.Errorf("%w: limit %d is not within 1 and %d", wire.ErrBadRequest, limit, MaxBlocksPage)
	}
	height := n.height()
	if height < before && height < uint64(limit) { // another master may know of more blocks
		if err := n.confirm(ctx); err != nil {
			return nil, err
		}
		height = n.height()
	}
	before = min(before, height)
	headers := make([]chain.Header, 0, min(uint64(limit), before))
	for before > 0 && len(headers) < limit {
		before--
		h, err := n.Block(ctx, before)
		if err != nil {
			return nil, err
		}
		headers = append(headers, h)
	}
	return headers, nil
}

// height is the number of blocks that are mined, as far as this master knows.
func (n *Node) height() (height uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { height = s.Head().Height })
	return height
}

// WaitStored waits until enough storage nodes have a block on disk.
func (n *Node) WaitStored(ctx context.Context, block uint64) error {
	return n.waitFor(ctx, func(s *masterfsm.State) bool { return block < s.Stored() })
}

// waitFor waits until the state fulfils a condition. The error is the cause of the end of ctx.
func (n *Node) waitFor(ctx context.Context, holds func(*masterfsm.State) bool) error {
	for {
		changed := n.cfg.Ledger.StateChanged()
		var now bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) { now = holds(s) })
		if now {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// FindHash finds the block with a hash or a seal's hash, or the record with a leaf hash. Errors: wire.ErrNotFound,
// wire.ErrNoLeader, and wire.ErrUnavailable if no storage node answered whose index has everything that the masters do
// not hold.
func (n *Node) FindHash(ctx context.Context, h chain.Hash) (found wire.FoundHash, err error) {
	err = n.confirmed(ctx, func() error {
		var blocks []masterfsm.HeldBlock
		var block, held uint64
		var ok bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			block, ok = s.BlockOfHash(h)
			blocks, held = s.HeldBlocks(0), s.HeldLeaf()
		})
		if ok {
			found = wire.FoundHash{Kind: wire.KindBlock, Block: block}
			return nil
		}
		var complete bool
		if found, ok, complete = n.prover.FindHash(ctx, h, held); ok {
			return nil
		}
		if found, ok = n.findHeld(ctx, blocks, h); ok {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case held > 0 && !complete:
			return fmt.Errorf("%w: no storage node that could be asked has all records in its index",
				wire.ErrUnavailable)
		}
		return errNotHere
	})
	return found, err
}

// findHeld searches the records that the masters hold, one search at a time.
func (n *Node) findHeld(ctx context.Context, blocks []masterfsm.HeldBlock, h chain.Hash) (wire.FoundHash, bool) {
	select {
	case n.searching <- struct{}{}:
		defer func() { <-n.searching }()
	case <-ctx.Done():
		return wire.FoundHash{}, false
	}
	for i := range blocks {
		s := &blocks[i]
		if ctx.Err() != nil {
			break
		}
		if s.Header != nil && s.Header.SealHash() == h {
			return wire.FoundHash{Kind: wire.KindBlock, Block: s.Block}, true
		}
		if offset, ok := s.Find(h); ok {
			return prover.FoundRecord(s.Block, offset, s.First+uint64(offset)), true
		}
	}
	return wire.FoundHash{}, false
}
