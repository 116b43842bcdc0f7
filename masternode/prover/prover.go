package prover

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// Storages calls storage nodes. Their answers are not trusted. The methods may be called by many goroutines.
type Storages interface {
	// ReadRecords answers for each place, in order.
	ReadRecords(ctx context.Context, w wire.Worker, places []wire.Place) ([]wire.ProvenRecord, error)
	// Headers answers with up to limit headers from a block on, with inclusion proofs of their seals in the tree of a
	// size.
	Headers(ctx context.Context, w wire.Worker, from uint64, limit int, size uint64) ([]wire.ProvenHeader, error)
	// Locate returns the block of a leaf index.
	Locate(ctx context.Context, w wire.Worker, index uint64) (uint64, error)
	// ReadTiles answers with tiles of the tree's hashes, all or none.
	ReadTiles(ctx context.Context, w wire.Worker, tiles []tlog.Tile) (wire.TileData, error)
	// Entries answers with the data of count leaves from the first one on, all or none.
	Entries(ctx context.Context, w wire.Worker, first uint64, count int) (wire.Entries, error)
	// FindRecords returns places of records, in order, as the node's index has them, and the leaf up to which it
	// searched.
	FindRecords(ctx context.Context, w wire.Worker, q wire.RecordQuery) (wire.RecordHits, error)
	// FindHash returns the leaves that may have a hash, and the leaf up to which the node's index reaches.
	FindHash(ctx context.Context, w wire.Worker, h chain.Hash) (wire.RecordHits, error)
}

// Ledger gives access to the replicated state. Read calls f with the state, which does not change meanwhile. f must be
// quick and must not keep the state.
type Ledger interface {
	Read(f func(*masterfsm.State))
}

// Config describes a [Prover]. All fields are required.
type Config struct {
	// Self is the member id of this master. It decides which node is asked first, so that the masters spread over the
	// nodes.
	Self     string
	Ledger   Ledger
	Storages Storages
	Logger   hclog.Logger
	Clock    func() time.Time
}

// Prover reads from storage nodes. Its methods may be called by many goroutines.
type Prover struct {
	cfg  Config
	log  hclog.Logger
	tree *tree

	reads    *batch.Batcher[*RecordRead]
	fetches  batch.SingleFlight[uint64, struct{}] // of pages of headers, by first block
	suspects chan wire.Suspicion                  // nodes that answered wrong

	mu      sync.Mutex                 // guards all below
	headers [2]map[uint64]chain.Header // by block; the younger generation first
	unwell  map[string]time.Time       // by node id: ask last until then
}

const (
	headerGeneration = 8192 // headers kept in a generation
	headerPage       = 64   // headers fetched at a time
	readTimeout      = 2 * time.Second
	unwellFor        = time.Second      // after a call that failed at once
	hungFor          = 10 * time.Second // after a call that timed out
	distrustFor      = 60 * time.Second // after a wrong answer
	readLanes        = 4
	maxSuspects      = 64 // that wait to be reported; more are dropped
)

// New makes a prover. Reads of records wait until Run is called.
func New(cfg Config) *Prover {
	p := &Prover{
		cfg: cfg, log: cfg.Logger.Named("prover"),
		headers: [2]map[uint64]chain.Header{{}, {}}, unwell: map[string]time.Time{},
		suspects: make(chan wire.Suspicion, maxSuspects),
	}
	p.fetches.Detached = true // the page is kept, and a node that hangs is noticed
	p.reads = batch.New(batch.Config[*RecordRead]{
		Lanes: readLanes, Eager: 1, MaxCount: 128, MaxSize: 128,
		Size:   func(*RecordRead) int { return 1 },
		Handle: p.readBatch,
		Refuse: func(r *RecordRead, err error) { r.err = err; close(r.done) },
	})
	p.tree = newTree(p)
	return p
}

// Run reads records until ctx ends, and waits for all reads that are in flight.
func (p *Prover) Run(ctx context.Context) {
	p.reads.Run(ctx)
	stopping := fmt.Errorf("%w: this master is stopping: %w", wire.ErrUnavailable, context.Cause(ctx))
	p.fetches.Close(stopping)
	p.tree.close(stopping)
}

// Suspects gives the nodes that answered wrong, to be reported to the leader.
func (p *Prover) Suspects() <-chan wire.Suspicion { return p.suspects }

// RecordRead is a read of a record from a storage node. The batch that reads it sets the result and closes done.
type RecordRead struct {
	header chain.Header // of its block, proven
	offset uint32

	done    chan struct{}
	encoded []byte
	err     error
}

// Record reads one record of a block. The header must be proven.
func (p *Prover) Record(ctx context.Context, header chain.Header, offset uint32) ([]byte, error) {
	return p.StartRecord(header, offset).Wait(ctx)
}

// StartRecord starts to read a record of a block. The header must be proven.
func (p *Prover) StartRecord(header chain.Header, offset uint32) *RecordRead {
	r := &RecordRead{header: header, offset: offset, done: make(chan struct{})}
	p.reads.Add(r)
	return r
}

// Wait returns the encoded record.
func (r *RecordRead) Wait(ctx context.Context) ([]byte, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-r.done:
		return r.encoded, r.err
	}
}

// readBatch asks one node after the other for the records that are still missing.
func (p *Prover) readBatch(ctx context.Context, reads []*RecordRead) {
	missing := reads
	for node := range p.Nodes(ctx, func(masterfsm.Storage) bool { return true }) {
		if missing = p.readFrom(ctx, node, missing); len(missing) == 0 {
			break
		}
	}
	for _, r := range missing {
		r.err = fmt.Errorf("%w: record %d of block %d", wire.ErrUnavailable, r.offset, r.header.Block)
		close(r.done)
	}
}

// readFrom asks one node and returns the reads that it could not prove.
func (p *Prover) readFrom(ctx context.Context, node masterfsm.Storage, reads []*RecordRead) (missing []*RecordRead) {
	tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	places := make([]wire.Place, len(reads))
	for i, r := range reads {
		places[i] = wire.Place{Block: r.header.Block, Offset: r.offset}
	}
	answers, err := p.cfg.Storages.ReadRecords(tryCtx, workerOf(node), places)
	if err != nil || len(answers) != len(reads) {
		p.noAnswer(ctx, node, "no answer to a read", err)
		return reads
	}
	var wrong error
	for i, r := range reads {
		if err := r.check(&answers[i]); err != nil {
			if answers[i].Status != wire.ReadBehind && !(answers[i].Status == wire.ReadBad && p.lost(r.header.Block)) {
				wrong = err
			}
			missing = append(missing, r)
		}
	}
	if wrong != nil {
		p.Distrust(node, "a record that it cannot prove", wrong)
	}
	return missing
}

// check verifies an answer and completes the read if it is proven.
func (r *RecordRead) check(a *wire.ProvenRecord) error {
	if a.Status != wire.ReadFound {
		return fmt.Errorf("record %d of block %d: read status %d", r.offset, r.header.Block, a.Status)
	}
	leaf, err := leafOf(a.Record)
	if err != nil {
		return err
	}
	proof := chain.Proof{Index: r.header.First + uint64(r.offset), Size: r.header.Seal(), Path: a.Path}
	if err := proof.Check(leaf.Hash(), r.header.Root); err != nil {
		return err
	}
	r.encoded = a.Record
	close(r.done)
	return nil
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

// ExplainLost adds to the error of a read that its block is lost, if it is. The result wraps wire.ErrLost once a person
// has confirmed the loss.
func (p *Prover) ExplainLost(block uint64, err error) error {
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
