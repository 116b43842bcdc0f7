package prover

import (
	"context"
	"errors"
	"fmt"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Header returns the proven header of a mined block. The error wraps ErrNoBlock if this master does not know that the
// block is mined; the number may come from a storage node. It wraps ErrNoHeader if the block is lost, and a storage
// node answered that it does not have the header either.
func (p *Prover) Header(ctx context.Context, block uint64) (chain.Header, error) {
	if h, ok := p.headers.Get(block); ok {
		return h, nil
	}
	var height uint64
	p.cfg.Ledger.Read(func(s *masterfsm.State) { height = s.Head().Height })
	if block >= height {
		return chain.Header{}, fmt.Errorf("%w: block %d, %d are mined", ErrNoBlock, block, height)
	}
	page := block - block%headerPage
	h, err := p.fetches.Do(ctx, page, 2*readTimeout, func(ctx context.Context) (chain.Header, error) {
		return p.fetchHeaders(ctx, page, block)
	})
	absent, ok := errors.AsType[*noHeaderError](err)
	if ofOther := ok && absent.block != block || err == nil && h.Block != block; !ofOther {
		return h, err
	}
	if h, ok := p.headers.Get(block); ok {
		return h, nil
	}
	// The page was fetched for another block: from a node that did not have this one yet, or the other one is lost.
	return p.fetchHeaders(ctx, page, block)
}

// fetchHeaders gets and keeps a page of headers, from the first node that can prove the needed one among them, which it
// returns. A header that is lost, or that a node cannot read, does not prevent the others of its page from being read.
func (p *Prover) fetchHeaders(ctx context.Context, page, needed uint64) (chain.Header, error) {
	absent := false
	for node := range p.Nodes(ctx, needed+1) {
		var boundary masterfsm.Boundary
		var ok bool
		p.cfg.Ledger.Read(func(s *masterfsm.State) { boundary, ok = s.BoundaryAt(min(node.Height, s.Head().Height)) })
		if !ok {
			continue // the node is so far behind that the table no longer has a root that the node has
		}
		to := min(page+headerPage, boundary.Height)
		from := page
		headers, err := p.headersFrom(ctx, node, from, to, boundary)
		if err == nil && from+uint64(len(headers)) < needed || errors.Is(err, wire.ErrUnavailable) && from < needed {
			from = needed
			headers, err = p.headersFrom(ctx, node, from, to, boundary)
		}
		ok = err == nil
		switch {
		case ok && from+uint64(len(headers)) > needed:
			return headers[needed-from].Header, nil
		case ok && !p.lost(needed):
			p.Distrust(node, "a header that it cannot read", fmt.Errorf("block %d", needed))
		case ok:
			absent = true
		}
	}
	if absent && ctx.Err() == nil {
		return chain.Header{}, &noHeaderError{needed}
	}
	return chain.Header{}, Unavailable(ctx, "header of block %d", needed)
}

// noHeaderError is ErrNoHeader of a block.
type noHeaderError struct{ block uint64 }

func (e *noHeaderError) Error() string { return fmt.Sprintf("%v: block %d", ErrNoHeader, e.block) }

// Unwrap gives [ErrNoHeader].
func (e *noHeaderError) Unwrap() error { return ErrNoHeader }

// headersFrom keeps and returns the headers from one block up to another that a node proves. They end before one that
// is damaged there. The error says that the node did not answer, or answered wrong. It wraps wire.ErrUnavailable if the
// node's system could not read the first of them.
func (p *Prover) headersFrom(
	ctx context.Context, node masterfsm.Storage, from, to uint64, boundary masterfsm.Boundary,
) (headers []wire.ProvenHeader, err error) {
	headers, err = ask(ctx, p, node, "no answer for headers",
		func(ctx context.Context, w wire.Worker) ([]wire.ProvenHeader, error) {
			return p.cfg.Storages.Headers(ctx, w, from, int(to-from), boundary.Size)
		})
	if err != nil {
		return nil, err
	}
	if err := checkHeaders(headers, from, boundary); err != nil {
		p.Distrust(node, "headers that it cannot prove", err)
		return nil, err
	}
	for i := range headers {
		p.headers.Add(headers[i].Header.Block, headers[i].Header)
	}
	return headers, nil
}

// checkHeaders verifies headers from a block on.
func checkHeaders(headers []wire.ProvenHeader, from uint64, boundary masterfsm.Boundary) error {
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
	return nil
}

// Locate returns the position of a leaf index that the masters no longer hold. The node's answer is checked with the
// proven header. The error wraps wire.ErrSealIndex if the leaf is a seal.
func (p *Prover) Locate(ctx context.Context, index uint64) (masterfsm.Position, error) {
	var unread error
	for node := range p.Nodes(ctx, 0) {
		block, err := ask(ctx, p, node, "no answer for a leaf index",
			func(ctx context.Context, w wire.Worker) (uint64, error) { return p.cfg.Storages.Locate(ctx, w, index) })
		if err != nil {
			continue
		}
		h, err := p.Header(ctx, block)
		switch {
		case err != nil && !errors.Is(err, ErrNoBlock):
			unread = err // it may be another block that cannot be read than the one with the leaf
			continue
		case err != nil:
		case index == h.Seal():
			return masterfsm.Position{}, wire.ErrSealIndex
		case index >= h.First && index < h.Seal():
			return masterfsm.Position{Block: block, Offset: uint32(index - h.First), Index: index}, nil
		}
		p.Distrust(node, "a wrong block for a leaf index", fmt.Errorf("block %d for leaf %d", block, index))
	}
	if unread != nil && ctx.Err() == nil {
		return masterfsm.Position{}, unread
	}
	return masterfsm.Position{}, Unavailable(ctx, "leaf %d", index)
}
