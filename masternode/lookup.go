package masternode

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/prover"
	"github.com/chainstore/chainstore/wire"
)

// BlockRecord is a record of a block, or the place alone of one that the reader may not read.
type BlockRecord struct {
	Record
	Hidden bool
}

// BlockRecords lists the records of a block from an offset on: up to limit, and up to wire.PageBytes of payloads. more tells that others
// follow; a block that is open may get more later. Errors: wire.ErrNotFound, wire.ErrLost, wire.ErrBadRequest, wire.ErrNoLeader, wire.ErrUnavailable.
func (n *Node) BlockRecords(ctx context.Context, reader masterfsm.Access, block uint64, from uint32, limit int) (list []BlockRecord, more bool, err error) {
	if limit < 1 || limit > wire.MaxPage {
		return nil, false, fmt.Errorf("%w: limit %d is not within 1 and %d", wire.ErrBadRequest, limit, wire.MaxPage)
	}
	var span masterfsm.HeldBlock
	var held bool
	err = n.confirmed(ctx, func() error {
		var before bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			span, held = s.HeldBlock(block)
			found, _, _, _ := s.Record(block, 0)
			before = found == masterfsm.FoundElsewhere
		})
		if !held && !before {
			return errNotHere
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	p := blockPage{n: n, reader: reader, limit: limit, bytes: wire.PageBytes, owners: map[uint32]masterfsm.Project{}}
	if held {
		for offset := from; offset < span.Count(); offset++ {
			if p.full() {
				return p.list, true, nil
			}
			at := masterfsm.Position{Block: block, Offset: offset, Index: span.First + uint64(offset)}
			if err := p.take(span.Encoded(offset), at, span.Header != nil, span.Stored); err != nil {
				return nil, false, err
			}
		}
		return p.list, false, nil
	}
	h, err := n.prover.Header(ctx, block)
	if err != nil {
		return nil, false, n.prover.ExplainLost(block, err)
	}
	for from < h.Count {
		if p.full() {
			return p.list, true, nil
		}
		var reads []*prover.RecordRead
		first := from
		for offset := first; offset < min(h.Count, first+firstHits); offset++ {
			reads = append(reads, n.prover.StartRecord(h, offset))
		}
		for i, r := range reads {
			if p.full() {
				return p.list, true, nil
			}
			encoded, err := r.Wait(ctx)
			if err != nil {
				return nil, false, n.prover.ExplainLost(block, err)
			}
			offset := first + uint32(i)
			at := masterfsm.Position{Block: block, Offset: offset, Index: h.First + uint64(offset)}
			if err := p.take(encoded, at, true, true); err != nil {
				return nil, false, err
			}
			from = offset + 1
		}
	}
	return p.list, false, nil
}

// blockPage gathers a page of a block's records.
type blockPage struct {
	n      *Node
	reader masterfsm.Access
	owners map[uint32]masterfsm.Project // by id; the zero one where the reader may not read
	list   []BlockRecord
	limit  int
	bytes  int
}

func (p *blockPage) full() bool { return len(p.list) >= p.limit || p.bytes <= 0 }

func (p *blockPage) take(encoded []byte, at masterfsm.Position, sealed, stored bool) error {
	r, err := newRecord(encoded, at, sealed, stored)
	if err != nil {
		return err
	}
	owner, ok := p.owners[r.Project]
	if !ok {
		owner, _ = p.n.MayRead(p.reader, r.Project)
		p.owners[r.Project] = owner
	}
	if owner.ID == 0 {
		p.list = append(p.list, BlockRecord{Record: Record{At: at}, Hidden: true})
		return nil
	}
	r.ProjectName = owner.Name
	p.bytes -= len(r.Payload)
	p.list = append(p.list, BlockRecord{Record: r})
	return nil
}

// FindHash finds what a hash is of: a block, by its hash or its seal's, or a record, by its leaf hash. Errors: wire.ErrNotFound, wire.ErrNoLeader, and
// wire.ErrUnavailable where no storage node could be asked that knows all that the masters do not hold.
func (n *Node) FindHash(ctx context.Context, h chain.Hash) (found wire.FoundHash, err error) {
	err = n.confirmed(ctx, func() error {
		var spans []masterfsm.HeldBlock
		var block, held uint64
		var ok bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) {
			block, ok = s.BlockOfHash(h)
			spans, held = s.HeldBlocks(0), s.HeldLeaf()
		})
		if ok {
			found = wire.FoundHash{Kind: wire.KindBlock, Block: block}
			return nil
		}
		var complete bool
		if found, ok, complete = n.prover.FindHash(ctx, h, held); ok {
			return nil
		}
		if found, ok = n.findHeld(ctx, spans, h); ok {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case held > 0 && !complete:
			return fmt.Errorf("%w: no storage node that could be asked has all records in its index", wire.ErrUnavailable)
		}
		return errNotHere
	})
	return found, err
}

// findHeld hashes the records that the masters hold, one search at a time.
func (n *Node) findHeld(ctx context.Context, spans []masterfsm.HeldBlock, h chain.Hash) (wire.FoundHash, bool) {
	n.hashing.Lock()
	defer n.hashing.Unlock()
	for i := range spans {
		s := &spans[i]
		if ctx.Err() != nil {
			return wire.FoundHash{}, false
		}
		if s.Header != nil && s.Header.SealHash() == h {
			return wire.FoundHash{Kind: wire.KindBlock, Block: s.Block}, true
		}
		for offset := range s.Count() {
			encoded := s.Encoded(offset)
			if leaf := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded)); leaf.Hash() == h {
				return prover.FoundRecord(s.Block, offset, s.First+uint64(offset)), true
			}
		}
	}
	return wire.FoundHash{}, false
}
