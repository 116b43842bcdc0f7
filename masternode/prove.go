package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// prover reads from storage nodes and believes nothing that it cannot prove from a root that the group committed:
//
//	record ─► its leaf ─path─► header.Root ─► header ─► its seal ─path─► root of a block boundary in the table
//
// Headers that were proven once are kept, so a record costs one path. A node that answers wrong is passed over for a while,
// as is one that does not answer; the read goes to another.
type prover struct {
	self    string // member id: it decides which node this master asks first, so that masters spread over the nodes
	ledger  Ledger
	workers Workers
	log     hclog.Logger
	clock   func() time.Time

	reads   *batch.Batcher[*pendingRead]
	fetches batch.SingleFlight[uint64, struct{}] // of pages of headers, by first block

	suspects chan wire.Suspicion // nodes that answered wrong, for the leader

	mu      sync.Mutex                 // guards all below
	headers [2]map[uint64]chain.Header // by block; the younger generation first
	unwell  map[string]time.Time       // node id: do not ask before
}

const (
	headerGeneration = 8192 // headers kept in a generation
	headerPage       = 64   // headers fetched at a time
	readTimeout      = 2 * time.Second
	unwellFor        = time.Second      // after an answer that came at once and was none
	hungFor          = 10 * time.Second // after no answer in time
	distrustFor      = 60 * time.Second // after a wrong answer
	readLanes        = 4
	maxSuspects      = 64 // that wait to be reported; more are forgotten
)

// pendingRead is a record on its way from a storage node. The lane that takes it fills in the result and closes done.
type pendingRead struct {
	header chain.Header // of its block, proven
	offset uint32

	done    chan struct{}
	encoded []byte
	err     error
}

func newProver(cfg Config) *prover {
	p := &prover{
		self: cfg.Member.ID, ledger: cfg.Ledger, workers: cfg.Workers, log: cfg.Logger.Named("prover"), clock: cfg.Clock,
		headers: [2]map[uint64]chain.Header{{}, {}}, unwell: map[string]time.Time{}, suspects: make(chan wire.Suspicion, maxSuspects),
	}
	p.reads = batch.New(batch.Config[*pendingRead]{
		Lanes: readLanes, Eager: 1, MaxCount: 128, MaxSize: 128,
		Size:   func(*pendingRead) int { return 1 },
		Handle: p.readBatch,
		Refuse: func(r *pendingRead, err error) { r.err = err; close(r.done) },
	})
	return p
}

// run reads records until ctx ends, and waits for all reads.
func (p *prover) run(ctx context.Context) {
	p.reads.Run(ctx)
	p.fetches.Close(context.Cause(ctx))
}

// record reads one record of a block whose header is proven.
func (p *prover) record(ctx context.Context, header chain.Header, offset uint32) ([]byte, error) {
	r := p.begin(header, offset)
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	return r.encoded, nil
}

// readBatch asks one node after the other for what is still missing.
func (p *prover) readBatch(ctx context.Context, batch []*pendingRead) {
	missing := batch
	for node := range p.asked(ctx, func(masterfsm.Storage) bool { return true }) {
		if missing = p.readFrom(ctx, node, missing); len(missing) == 0 {
			break
		}
	}
	for _, r := range missing {
		r.err = fmt.Errorf("%w: record %d of block %d", ErrUnavailable, r.offset, r.header.Block)
		close(r.done)
	}
}

// readFrom asks one node and returns the reads that it could not prove.
func (p *prover) readFrom(ctx context.Context, node masterfsm.Storage, batch []*pendingRead) (missing []*pendingRead) {
	tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	places := make([]wire.Place, len(batch))
	for i, r := range batch {
		places[i] = wire.Place{Block: r.header.Block, Offset: r.offset}
	}
	answers, err := p.workers.ReadRecords(tryCtx, worker(node), places)
	if err != nil || len(answers) != len(batch) {
		p.noAnswer(ctx, node, "no answer to a read", err)
		return batch
	}
	var wrong error
	for i, r := range batch {
		if err := p.take(r, &answers[i]); err != nil {
			if answers[i].Status != wire.ReadBehind && !(answers[i].Status == wire.ReadBad && p.lost(r.header.Block)) {
				wrong = err
			}
			missing = append(missing, r)
		}
	}
	if wrong != nil {
		p.distrust(node, "a record that it cannot prove", wrong)
	}
	return missing
}

// lost reports whether nobody has a good copy of a block: that a node says so of itself is no news.
func (p *prover) lost(block uint64) (lost bool) {
	p.ledger.Read(func(s *masterfsm.State) { lost, _ = s.Lost(block) })
	return lost
}

// orLost says of a block that could not be proven whether it is lost.
func (p *prover) orLost(block uint64, err error) error {
	var lost, confirmed bool
	p.ledger.Read(func(s *masterfsm.State) { lost, confirmed = s.Lost(block) })
	switch {
	case confirmed:
		return fmt.Errorf("%w: block %d: a person has confirmed it; the proof that the record was there still stands", ErrLost, block)
	case lost:
		return fmt.Errorf("%w: no storage node has a good copy of block %d; an operator must bring one back or confirm the loss", err, block)
	}
	return err
}

// take checks an answer and finishes the read when it is proven.
func (p *prover) take(r *pendingRead, a *wire.ProvenRecord) error {
	if a.Status != wire.ReadFound {
		return fmt.Errorf("record %d of block %d: read status %d", r.offset, r.header.Block, a.Status)
	}
	leaf, err := encodedLeaf(a.Record)
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

// header is the proven header of a mined block.
func (p *prover) header(ctx context.Context, block uint64) (chain.Header, error) {
	if h, ok := p.known(block); ok {
		return h, nil
	}
	page := block - block%headerPage
	_, err := p.fetches.Do(ctx, page, 2*readTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, p.fetchHeaders(ctx, page, block)
	})
	if err != nil {
		return chain.Header{}, err
	}
	if h, ok := p.known(block); ok {
		return h, nil
	}
	// The page came for an earlier block, from a node that did not have this one yet.
	if err := p.fetchHeaders(ctx, page, block); err != nil {
		return chain.Header{}, err
	}
	if h, ok := p.known(block); ok {
		return h, nil
	}
	return chain.Header{}, fmt.Errorf("%w: header of block %d was forgotten at once, so much is read", ErrUnavailable, block)
}

func (p *prover) known(block uint64) (chain.Header, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h, ok := p.headers[0][block]; ok {
		return h, true
	}
	h, ok := p.headers[1][block]
	if ok {
		p.keep(h)
	}
	return h, ok
}

// keep puts a header into the younger generation; mu is held.
func (p *prover) keep(h chain.Header) {
	if len(p.headers[0]) >= headerGeneration {
		p.headers = [2]map[uint64]chain.Header{make(map[uint64]chain.Header, headerGeneration), p.headers[0]}
	}
	p.headers[0][h.Block] = h
}

// fetchHeaders gets a page of headers, the needed one among them, from the first node that can prove them. A header that is lost, or that a node
// cannot read, does not take from the others of its page.
func (p *prover) fetchHeaders(ctx context.Context, page, needed uint64) error {
	for node := range p.asked(ctx, func(n masterfsm.Storage) bool { return n.Height > needed }) {
		var boundary masterfsm.Boundary
		var ok bool
		p.ledger.Read(func(s *masterfsm.State) { boundary, ok = s.BoundaryAt(min(node.Height, s.Head().Height)) })
		if !ok {
			continue // it is so far behind that the table has forgotten a root that it has
		}
		to := min(page+headerPage, boundary.Height)
		next, ok := p.headersFrom(ctx, node, page, to, boundary)
		if ok && next < needed {
			next, ok = p.headersFrom(ctx, node, needed, to, boundary)
		}
		switch {
		case ok && next > needed:
			return nil
		case ok && !p.lost(needed):
			p.distrust(node, "a header that it cannot read", fmt.Errorf("block %d", needed))
		}
	}
	return unavailable(ctx, "header of block %d", needed)
}

// headersFrom keeps the headers of a run of blocks that a node proves. They end before one that it cannot read: next is the first block that is not among
// them. A node that is not ok did not answer, or answered wrong.
func (p *prover) headersFrom(ctx context.Context, node masterfsm.Storage, from, to uint64, boundary masterfsm.Boundary) (next uint64, ok bool) {
	tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	headers, err := p.workers.Headers(tryCtx, worker(node), from, int(to-from), boundary.Size)
	if err != nil {
		p.noAnswer(ctx, node, "no answer for headers", err)
		return 0, false
	}
	if err := p.takeHeaders(headers, from, boundary); err != nil {
		p.distrust(node, "headers that it cannot prove", err)
		return 0, false
	}
	return from + uint64(len(headers)), true
}

func (p *prover) takeHeaders(headers []wire.ProvenHeader, from uint64, boundary masterfsm.Boundary) error {
	for i := range headers {
		h := &headers[i].Header
		if h.Block != from+uint64(i) {
			return fmt.Errorf("header of block %d where that of block %d is due", h.Block, from+uint64(i))
		}
		proof := chain.Proof{Index: h.Seal(), Size: boundary.Size, Path: headers[i].Path}
		if err := proof.Check(h.SealHash(), boundary.Root); err != nil {
			return fmt.Errorf("seal of block %d: %w", h.Block, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range headers {
		p.keep(headers[i].Header)
	}
	return nil
}

// locate finds the block of a leaf index that the masters no longer hold. A node's word for it is checked by the proven header.
func (p *prover) locate(ctx context.Context, index uint64) (masterfsm.Position, error) {
	for node := range p.asked(ctx, func(masterfsm.Storage) bool { return true }) {
		tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
		block, err := p.workers.Locate(tryCtx, worker(node), index)
		cancel()
		if err != nil {
			p.noAnswer(ctx, node, "no answer for a leaf index", err)
			continue
		}
		h, err := p.header(ctx, block)
		switch {
		case err != nil:
			return masterfsm.Position{}, err
		case index == h.Seal():
			return masterfsm.Position{}, ErrSeal
		case index >= h.First && index < h.Seal():
			return masterfsm.Position{Block: block, Offset: uint32(index - h.First), Index: index}, nil
		}
		p.distrust(node, "a wrong block for a leaf index", fmt.Errorf("block %d for leaf %d", block, index))
	}
	return masterfsm.Position{}, unavailable(ctx, "leaf %d", index)
}

// asked gives the candidates one after the other, until ctx ends: who has gone away needs nobody to be asked.
func (p *prover) asked(ctx context.Context, fits func(masterfsm.Storage) bool) iter.Seq[masterfsm.Storage] {
	return func(yield func(masterfsm.Storage) bool) {
		for _, node := range p.candidates(fits) {
			if ctx.Err() != nil || !yield(node) {
				return
			}
		}
	}
}

// unavailable is how a read ends that no node could prove, or whose time was over before one could.
func unavailable(ctx context.Context, what string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(what, args...))
}

// candidates lists the storage nodes that may be asked, the best first: those that answered last time before those that did
// not, Valid ones before others, and among equals in an order of this master's own.
func (p *prover) candidates(fits func(masterfsm.Storage) bool) []masterfsm.Storage {
	var nodes []masterfsm.Storage
	p.ledger.Read(func(s *masterfsm.State) { nodes = s.Storages() })
	nodes = slices.DeleteFunc(nodes, func(n masterfsm.Storage) bool { return !fits(n) })
	now := p.clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	rank := func(n masterfsm.Storage) int {
		r := 0
		if now.Before(p.unwell[n.ID]) {
			r += 2
		}
		if n.State != masterfsm.Valid {
			r++
		}
		return r
	}
	slices.SortFunc(nodes, func(a, b masterfsm.Storage) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(p.affinity(a.ID), p.affinity(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return nodes
}

// affinity orders the nodes differently for each master (rendezvous hashing).
func (p *prover) affinity(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.self)) // a hash does not fail
	_, _ = h.Write([]byte(id))
	return h.Sum64()
}

// distrust passes a node over that answered wrong, and has it reported to the leader, who has it checked at once. A node that is not Valid is
// being looked after already.
func (p *prover) distrust(node masterfsm.Storage, what string, err error) {
	p.passOver(node, distrustFor, what, err)
	if node.State != masterfsm.Valid && node.State != masterfsm.Sending {
		return
	}
	select {
	case p.suspects <- wire.Suspicion{ID: node.ID, Cause: fmt.Sprintf("it answered with %s: %v", what, err)}:
	default:
	}
}

// noAnswer passes a node over that gave no answer to a call. That the time of the reader himself was over, or that he went away, which ends ctx, is no
// fault of the node.
func (p *prover) noAnswer(ctx context.Context, node masterfsm.Storage, what string, err error) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, context.DeadlineExceeded):
		p.passOver(node, hungFor, what, err)
	default:
		p.passOver(node, unwellFor, what, err)
	}
}

// passOver asks a node last for a while.
func (p *prover) passOver(node masterfsm.Storage, d time.Duration, what string, err error) {
	p.log.Warn("storage node passed over", "node", node.ID, "url", node.URL, "for", d, "because", what, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unwell[node.ID] = p.clock().Add(d)
}

func worker(n masterfsm.Storage) wire.Worker { return wire.Worker{URL: n.URL, Token: n.MasterToken} }
