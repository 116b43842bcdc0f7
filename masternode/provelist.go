package masternode

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// begin starts to read a record of a block whose header is proven; wait ends it.
func (p *prover) begin(header chain.Header, offset uint32) *pendingRead {
	r := &pendingRead{header: header, offset: offset, done: make(chan struct{})}
	p.reads.Add(r)
	return r
}

// failedRead is a read that ended before it began.
func failedRead(err error) *pendingRead {
	r := &pendingRead{err: err, done: make(chan struct{})}
	close(r.done)
	return r
}

func (r *pendingRead) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-r.done:
		return r.err
	}
}

// find asks a node's index for the places of records. That they ascend within what was asked for is all that is known of them.
func (p *prover) find(ctx context.Context, node masterfsm.Storage, q wire.RecordQuery) (wire.RecordHits, error) {
	tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	found, err := p.workers.FindRecords(tryCtx, worker(node), q)
	if err != nil {
		p.noAnswer(ctx, node, "no answer to a search", err)
		return found, err
	}
	err = ordered(&found, &q)
	if err != nil {
		p.distrust(node, "places that cannot be", err)
	}
	return found, err
}

// ordered holds an answer against its query.
func ordered(found *wire.RecordHits, q *wire.RecordQuery) error {
	next := q.From
	for _, hit := range found.Hits {
		if hit.Index < next || hit.Index >= found.End {
			return fmt.Errorf("leaf %d, where one from %d on and below %d is due", hit.Index, next, found.End)
		}
		next = hit.Index + 1
	}
	if found.End > q.To || found.End < q.From || len(found.Hits) > q.Limit {
		return fmt.Errorf("%d hits up to leaf %d, where %d up to %d were asked for", len(found.Hits), found.End, q.Limit, q.To)
	}
	return nil
}

// findHash asks the nodes for a hash, one after the other, until one of them has it. complete tells that the index of one that has not goes
// up to a leaf.
func (p *prover) findHash(ctx context.Context, h chain.Hash, upTo uint64) (found wire.FoundHash, ok, complete bool) {
	for node := range p.asked(ctx, func(n masterfsm.Storage) bool { return n.Height > 0 }) {
		tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
		answer, err := p.workers.FindHash(tryCtx, worker(node), h)
		cancel()
		if err != nil {
			p.noAnswer(ctx, node, "no answer to a search", err)
			continue
		}
		unproven := false
		for _, hit := range answer.Hits {
			found, ok, err := p.isHash(ctx, hit, h)
			if ok {
				return found, true, true
			}
			unproven = unproven || err != nil
		}
		if answer.End >= upTo && !unproven {
			complete = true
			break
		}
	}
	return found, false, complete
}

// isHash proves what stands at a place, and reports whether a hash is that of it.
func (p *prover) isHash(ctx context.Context, hit wire.Hit, h chain.Hash) (found wire.FoundHash, ok bool, err error) {
	header, err := p.header(ctx, hit.Block)
	if err != nil {
		return found, false, err
	}
	if header.Hash() == h || header.SealHash() == h {
		return wire.FoundHash{Kind: wire.KindBlock, Block: hit.Block}, true, nil
	}
	if hit.Offset >= header.Count {
		return found, false, nil
	}
	encoded, err := p.record(ctx, header, hit.Offset)
	if err != nil {
		return found, false, err
	}
	leaf := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
	return foundRecord(hit.Block, hit.Offset, header.First+uint64(hit.Offset)), leaf.Hash() == h, nil
}

func foundRecord(block uint64, offset uint32, index uint64) wire.FoundHash {
	return wire.FoundHash{Kind: wire.KindRecord, Block: block, Offset: &offset, Index: &index}
}

// encodedLeaf is the leaf of an encoded record that nobody has looked at.
func encodedLeaf(encoded []byte) (chain.Leaf, error) {
	size, err := chain.EncodedRecordSize(encoded)
	if err != nil {
		return chain.Leaf{}, err
	}
	if size != len(encoded) {
		return chain.Leaf{}, fmt.Errorf("a record of %d bytes in %d", size, len(encoded))
	}
	return chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded)), nil
}
