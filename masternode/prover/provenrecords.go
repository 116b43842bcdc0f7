package prover

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// RecordRead is a read of a record from a storage node. Its result is the encoded record.
type RecordRead = batch.Call[recordPlace, []byte]

type recordPlace struct {
	header chain.Header // of its block, proven
	offset uint32
}

// Record reads one record of a block. The header must be proven.
func (p *Prover) Record(ctx context.Context, header chain.Header, offset uint32) ([]byte, error) {
	return p.StartRecord(header, offset).Wait(ctx)
}

// StartRecord starts to read a record of a block. The header must be proven.
func (p *Prover) StartRecord(header chain.Header, offset uint32) *RecordRead {
	return p.reads.Start(recordPlace{header: header, offset: offset})
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
		r.End(nil, fmt.Errorf("%w: record %d of block %d", wire.ErrUnavailable, r.Value.offset, r.Value.header.Block))
	}
}

// readFrom asks one node and returns the reads that it could not prove.
func (p *Prover) readFrom(ctx context.Context, node masterfsm.Storage, reads []*RecordRead) (missing []*RecordRead) {
	places := make([]wire.Place, len(reads))
	for i, r := range reads {
		places[i] = wire.Place{Block: r.Value.header.Block, Offset: r.Value.offset}
	}
	answers, err := ask(ctx, p, node, "no answer to a read",
		func(ctx context.Context, w wire.Worker) ([]wire.ProvenRecord, error) {
			return p.cfg.Storages.ReadRecords(ctx, w, places)
		})
	if err != nil || len(answers) != len(reads) {
		return reads
	}
	var wrong, failed error
	for i, r := range reads {
		a := &answers[i]
		if err := r.Value.check(a); err == nil {
			r.End(a.Record, nil)
			continue
		} else if a.Status == wire.ReadFailed {
			failed = err
		} else if a.Status != wire.ReadBehind && !(a.Status == wire.ReadBad && p.lost(r.Value.header.Block)) {
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

// check verifies an answer.
func (r *recordPlace) check(a *wire.ProvenRecord) error {
	if a.Status != wire.ReadFound {
		return fmt.Errorf("record %d of block %d: read status %d", r.offset, r.header.Block, a.Status)
	}
	leaf, err := leafOf(a.Record)
	if err != nil {
		return err
	}
	proof := chain.Proof{Index: r.header.First + uint64(r.offset), Size: r.header.Seal(), Path: a.Path}
	return proof.Check(leaf.Hash(), r.header.Root)
}

// leafOf returns the leaf of an encoded record that has not been validated.
func leafOf(encoded []byte) (chain.Leaf, error) {
	size, err := chain.EncodedRecordSize(encoded)
	if err != nil {
		return chain.Leaf{}, err
	}
	if size != len(encoded) {
		return chain.Leaf{}, fmt.Errorf("a record of %d bytes in %d", size, len(encoded))
	}
	return chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded)), nil
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
		return fmt.Errorf("%w: block %d: a person has confirmed it; the proof that the record was there still stands",
			wire.ErrLost, block)
	case lost:
		return fmt.Errorf("%w: no storage node has a good copy of block %d; an operator must bring one back or "+
			"confirm the loss", err, block)
	}
	return err
}
