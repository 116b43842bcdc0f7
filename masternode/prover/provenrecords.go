package prover

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// HashedRecord is an encoded record with the hashes that were computed from it.
type HashedRecord struct {
	Encoded []byte
	Commit  chain.Hash // commitment to the content
	Leaf    chain.Hash // hash of the leaf
}

// HashRecord hashes an encoded record that has not been validated. It is the only hash of the payload in a read. The
// error wraps [chain.ErrFrame] if the bytes are not one record.
func HashRecord(encoded []byte) (HashedRecord, error) {
	size, err := chain.EncodedRecordSize(encoded)
	if err != nil {
		return HashedRecord{}, err
	}
	if size != len(encoded) {
		return HashedRecord{}, fmt.Errorf("%w: a record of %d bytes in %d", chain.ErrFrame, size, len(encoded))
	}
	commit := chain.EncodedCommit(encoded)
	leaf := chain.EncodedLeaf(encoded, commit)
	return HashedRecord{Encoded: encoded, Commit: commit, Leaf: leaf.Hash()}, nil
}

// RecordRead is a read of a record from a storage node. Its result is proven.
type RecordRead = batch.Call[recordPlace, HashedRecord]

type recordPlace struct {
	header chain.Header // of its block, proven
	offset uint32
}

// Record reads one record of a block, from the cache or a storage node. The header must be proven. The caller must not
// change the record.
func (p *Prover) Record(ctx context.Context, header chain.Header, offset uint32) (HashedRecord, error) {
	at := recordPlace{header: header, offset: offset}
	if kept, ok := p.records.get(&at); ok {
		return kept, nil
	}
	record, err := p.reads.Start(at).Wait(ctx)
	if err == nil {
		p.records.keep(&at, record)
	}
	return record, err
}

// StartRecord starts to read a record of a block, one of many that are read in order. The header must be proven. A
// record that is not in the cache is not put there: the reader of a list or a stream does not come back for it.
func (p *Prover) StartRecord(header chain.Header, offset uint32) *RecordRead {
	at := recordPlace{header: header, offset: offset}
	if kept, ok := p.records.get(&at); ok {
		return batch.Ended[recordPlace](kept)
	}
	return p.reads.Start(at)
}

// readBatch asks one node after the other for the records that are still missing.
func (p *Prover) readBatch(ctx context.Context, reads []*RecordRead) {
	missing := reads
	for node := range p.Nodes(ctx, 0) {
		if missing = p.readFrom(ctx, node, missing); len(missing) == 0 {
			break
		}
	}
	for _, r := range missing {
		err := fmt.Errorf("%w: record %d of block %d", wire.ErrUnavailable, r.Value.offset, r.Value.header.Block)
		r.End(HashedRecord{}, err)
	}
}

// readFrom asks one node and returns the reads that it could not prove.
func (p *Prover) readFrom(ctx context.Context, node masterfsm.Storage, reads []*RecordRead) (missing []*RecordRead) {
	reads, leaves := p.knownFirst(reads)
	places := make([]wire.Place, len(reads))
	for i, r := range reads {
		places[i] = wire.Place{Block: r.Value.header.Block, Offset: r.Value.offset}
	}
	answers, err := ask(ctx, p, node, "no answer to a read",
		func(ctx context.Context, w wire.Worker) ([]wire.ProvenRecord, error) {
			return p.cfg.Storages.ReadRecords(ctx, w, places, len(leaves))
		})
	if err != nil || len(answers) != len(reads) {
		return reads
	}
	var wrong, failed error
	for i, r := range reads {
		a := &answers[i]
		var record HashedRecord
		var err error
		if i < len(leaves) {
			record, err = r.Value.compare(a, leaves[i])
		} else if record, err = r.Value.check(a); err == nil {
			p.leafTiles.note(r.Value.leaf())
		}
		switch {
		case err == nil:
			r.End(record, nil)
			continue
		case a.Status == wire.ReadFailed:
			failed = err
		case a.Status == wire.ReadBehind:
		case (a.Status == wire.ReadBad || a.Status == wire.ReadFound) && p.lost(r.Value.header.Block):
			// The damage of the block is known. The node does not compare what it reads with the leaf.
		default:
			wrong = err
		}
		missing = append(missing, r)
	}
	if failed != nil {
		p.noAnswer(ctx, p.unwell, node, "a record that its system cannot read now", failed)
	}
	if wrong != nil {
		p.Distrust(node, "a record that it cannot prove", wrong)
	}
	return missing
}

// knownFirst orders reads: first those whose leaf hashes are known, which it returns.
func (p *Prover) knownFirst(reads []*RecordRead) (ordered []*RecordRead, leaves []chain.Hash) {
	ordered = make([]*RecordRead, 0, len(reads))
	var others []*RecordRead
	for _, r := range reads {
		if leaf, ok := p.leaf(r.Value.leaf()); ok {
			ordered, leaves = append(ordered, r), append(leaves, leaf)
		} else {
			others = append(others, r)
		}
	}
	return append(ordered, others...), leaves
}

// leaf is the index of the record's leaf.
func (r *recordPlace) leaf() uint64 { return r.header.First + uint64(r.offset) }

// found returns the record of an answer, hashed and not proven.
func (r *recordPlace) found(a *wire.ProvenRecord) (HashedRecord, error) {
	if a.Status != wire.ReadFound {
		return HashedRecord{}, fmt.Errorf("record %d of block %d: read status %d", r.offset, r.header.Block, a.Status)
	}
	return HashRecord(a.Record)
}

// compare compares the record of an answer with its leaf hash, which is proven, and returns it. A path of an older node
// is not needed.
func (r *recordPlace) compare(a *wire.ProvenRecord, leaf chain.Hash) (HashedRecord, error) {
	record, err := r.found(a)
	if err != nil {
		return HashedRecord{}, err
	}
	if record.Leaf != leaf {
		return HashedRecord{}, fmt.Errorf("record %d of block %d: it has leaf hash %s, not %s",
			r.offset, r.header.Block, record.Leaf, leaf)
	}
	return record, nil
}

// check verifies the record of an answer by its path, and returns it.
func (r *recordPlace) check(a *wire.ProvenRecord) (HashedRecord, error) {
	record, err := r.found(a)
	if err != nil {
		return HashedRecord{}, err
	}
	proof := chain.Proof{Index: r.leaf(), Size: r.header.Seal(), Path: a.Path}
	if err := proof.Check(record.Leaf, r.header.Root); err != nil {
		return HashedRecord{}, fmt.Errorf("record %d of block %d: %w", r.offset, r.header.Block, err)
	}
	return record, nil
}

// lost reports whether no storage node has a good copy of a block. A node that reports its own copy as bad then is not
// at fault.
func (p *Prover) lost(block uint64) (lost bool) {
	p.cfg.Ledger.Read(func(s *masterfsm.State) { lost, _ = s.Lost(block) })
	return lost
}

// ExplainLost adds to the error of a read, if there is one, that its block is lost, if it is. The result wraps
// wire.ErrLost once a person has confirmed the loss.
func (p *Prover) ExplainLost(block uint64, err error) error {
	if err == nil {
		return nil
	}
	var lost, confirmed bool
	p.cfg.Ledger.Read(func(s *masterfsm.State) { lost, confirmed = s.Lost(block) })
	switch {
	case confirmed:
		return fmt.Errorf("%w: block %d: a person has confirmed it; the hashes of its leaves are still in the tree",
			wire.ErrLost, block)
	case lost:
		return fmt.Errorf("%w: no storage node has a good copy of block %d; an operator must bring one back or "+
			"confirm the loss", err, block)
	}
	return err
}
