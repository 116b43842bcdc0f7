package prover

import (
	"context"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Header returns the proven header of a mined block.
func (p *Prover) Header(ctx context.Context, block uint64) (chain.Header, error) {
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
	// The page was fetched for an earlier block, from a node that did not have this one yet.
	if err := p.fetchHeaders(ctx, page, block); err != nil {
		return chain.Header{}, err
	}
	if h, ok := p.known(block); ok {
		return h, nil
	}
	return chain.Header{}, fmt.Errorf("%w: header of block %d was dropped at once, since many are being read",
		wire.ErrUnavailable, block)
}

func (p *Prover) known(block uint64) (chain.Header, bool) {
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

// keep puts a header into the younger generation. mu is held.
func (p *Prover) keep(h chain.Header) {
	if len(p.headers[0]) >= headerGeneration {
		p.headers = [2]map[uint64]chain.Header{make(map[uint64]chain.Header, headerGeneration), p.headers[0]}
	}
	p.headers[0][h.Block] = h
}

// fetchHeaders gets a page of headers, with the needed one among them, from the first node that can prove them. A
// header that is lost, or that a node cannot read, does not prevent the others of its page from being read.
func (p *Prover) fetchHeaders(ctx context.Context, page, needed uint64) error {
	for node := range p.Nodes(ctx, func(n masterfsm.Storage) bool { return n.Height > needed }) {
		var boundary masterfsm.Boundary
		var ok bool
		p.cfg.Ledger.Read(func(s *masterfsm.State) { boundary, ok = s.BoundaryAt(min(node.Height, s.Head().Height)) })
		if !ok {
			continue // the node is so far behind that the table no longer has a root that the node has
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
			p.Distrust(node, "a header that it cannot read", fmt.Errorf("block %d", needed))
		}
	}
	return Unavailable(ctx, "header of block %d", needed)
}

// headersFrom keeps the headers from one block up to another that a node proves. They end before one that the node
// cannot read: next is the first block that is not among them. If ok is false, the node did not answer, or answered
// wrong.
func (p *Prover) headersFrom(
	ctx context.Context, node masterfsm.Storage, from, to uint64, boundary masterfsm.Boundary,
) (next uint64, ok bool) {
	tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	headers, err := p.cfg.Storages.Headers(tryCtx, workerOf(node), from, int(to-from), boundary.Size)
	if err != nil {
		p.noAnswer(ctx, node, "no answer for headers", err)
		return 0, false
	}
	if err := p.checkHeaders(headers, from, boundary); err != nil {
		p.Distrust(node, "headers that it cannot prove", err)
		return 0, false
	}
	return from + uint64(len(headers)), true
}

// checkHeaders verifies headers from a block on and keeps them.
func (p *Prover) checkHeaders(headers []wire.ProvenHeader, from uint64, boundary masterfsm.Boundary) error {
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

// Locate returns the position of a leaf index that the masters no longer hold. The node's answer is checked with the
// proven header. The error wraps wire.ErrSealIndex if the leaf is a seal.
func (p *Prover) Locate(ctx context.Context, index uint64) (masterfsm.Position, error) {
	for node := range p.Nodes(ctx, func(masterfsm.Storage) bool { return true }) {
		tryCtx, cancel := context.WithTimeout(ctx, readTimeout)
		block, err := p.cfg.Storages.Locate(tryCtx, workerOf(node), index)
		cancel()
		if err != nil {
			p.noAnswer(ctx, node, "no answer for a leaf index", err)
			continue
		}
		h, err := p.Header(ctx, block)
		switch {
		case err != nil:
			return masterfsm.Position{}, err
		case index == h.Seal():
			return masterfsm.Position{}, wire.ErrSealIndex
		case index >= h.First && index < h.Seal():
			return masterfsm.Position{Block: block, Offset: uint32(index - h.First), Index: index}, nil
		}
		p.Distrust(node, "a wrong block for a leaf index", fmt.Errorf("block %d for leaf %d", block, index))
	}
	return masterfsm.Position{}, Unavailable(ctx, "leaf %d", index)
}
