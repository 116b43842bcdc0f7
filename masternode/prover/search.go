package prover

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// FindRecords asks a node's index for the places of records. They are within the query and in order; nothing else about
// them is proven.
func (p *Prover) FindRecords(ctx context.Context, node masterfsm.Storage, q wire.RecordQuery) (wire.RecordHits, error) {
	found, err := ask(ctx, p, node, "no answer to a search",
		func(ctx context.Context, w wire.Worker) (wire.RecordHits, error) {
			return p.cfg.Storages.FindRecords(ctx, w, q)
		})
	if err != nil {
		return found, err
	}
	err = checkHits(&found, &q)
	if err != nil {
		p.Distrust(node, "places that cannot be", err)
	}
	return found, err
}

// checkHits checks that an answer is within its query and in order.
func checkHits(found *wire.RecordHits, q *wire.RecordQuery) error {
	next := q.From
	for _, hit := range found.Hits {
		if hit.Index < next || hit.Index >= found.End {
			return fmt.Errorf("leaf %d, where one from %d on and below %d is due", hit.Index, next, found.End)
		}
		next = hit.Index + 1
	}
	if found.End > q.To || found.End < q.From || len(found.Hits) > q.Limit {
		return fmt.Errorf("%d hits up to leaf %d, where %d up to %d were asked for", len(found.Hits), found.End,
			q.Limit, q.To)
	}
	return nil
}

// StartHits starts to read the records of hits. A read fails with ErrNoRecord if there is no record at its place.
func (p *Prover) StartHits(ctx context.Context, hits []wire.Hit) []*RecordRead {
	reads := make([]*RecordRead, len(hits))
	for i, hit := range hits {
		h, err := p.Header(ctx, hit.Block)
		switch {
		case errors.Is(err, ErrNoBlock):
			err = fmt.Errorf("%w: %w", ErrNoRecord, err)
		case err == nil && (hit.Offset >= h.Count || hit.Index != h.First+uint64(hit.Offset)):
			err = fmt.Errorf("%w: leaf %d at offset %d of block %d, which has %d from leaf %d on",
				ErrNoRecord, hit.Index, hit.Offset, hit.Block, h.Count, h.First)
		}
		if err != nil {
			reads[i] = batch.Failed[recordPlace, HashedRecord](err)
			continue
		}
		reads[i] = p.StartRecord(h, hit.Offset)
	}
	return reads
}

const (
	// maxHashHits is how many places of a hash are read. An honest node does not name more: they have the same first 8
	// bytes of the hash.
	maxHashHits = 16
	// enoughWithout is how many nodes must say that there is no such hash. None of them can prove it.
	enoughWithout = 2
)

// FindHash asks one node after the other for a hash, until one of them has it, or two whose index reaches up to the
// leaf upTo do not have it. complete means that at least one such node does not have it.
func (p *Prover) FindHash(ctx context.Context, h chain.Hash, upTo uint64) (found wire.FoundHash, ok, complete bool) {
	without := 0
	for node := range p.Nodes(ctx, 1) {
		answer, err := ask(ctx, p, node, "no answer to a search",
			func(ctx context.Context, w wire.Worker) (wire.RecordHits, error) {
				return p.cfg.Storages.FindHash(ctx, w, h)
			})
		if err != nil {
			continue
		}
		unproven := false
		for _, hit := range answer.Hits[:min(len(answer.Hits), maxHashHits)] {
			found, ok, err := p.hasHash(ctx, hit, h)
			if ok {
				return found, true, true
			}
			unproven = unproven || err != nil
		}
		if answer.End >= upTo && !unproven {
			if without++; without == enoughWithout {
				break
			}
		}
	}
	return found, false, without > 0
}

// hasHash reads the record at a place and reports whether it, or its block, has a hash.
func (p *Prover) hasHash(ctx context.Context, hit wire.Hit, h chain.Hash) (found wire.FoundHash, ok bool, err error) {
	header, err := p.Header(ctx, hit.Block)
	if err != nil {
		return found, false, err
	}
	if header.Hash() == h || header.SealHash() == h {
		return wire.FoundHash{Kind: wire.KindBlock, Block: hit.Block}, true, nil
	}
	if hit.Offset >= header.Count {
		return found, false, nil
	}
	record, err := p.Record(ctx, header, hit.Offset)
	if err != nil {
		return found, false, err
	}
	return FoundRecord(hit.Block, hit.Offset, header.First+uint64(hit.Offset)), record.Leaf == h, nil
}

// FoundRecord is the answer to a search by hash that found a record.
func FoundRecord(block uint64, offset uint32, index uint64) wire.FoundHash {
	return wire.FoundHash{Kind: wire.KindRecord, Block: block, Offset: &offset, Index: &index}
}
