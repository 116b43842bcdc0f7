package storagenode

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/records"
	"github.com/chainstore/chainstore/wire"
)

// indexWait is how long a query waits for the index to reach a block that the chain has already.
const indexWait = time.Second

// Find looks records up in the index, in order. An answer is a hint: the reader proves each hit. Find has compared
// the key of each hit with the one in the query. If the index does not reach the query's begin, there are no hits,
// and End is that begin. Errors: ErrDamaged.
func (n *Node) Find(ctx context.Context, q wire.RecordQuery) (wire.RecordHits, error) {
	n.indexer.awaitQuery(ctx, min(q.To, n.Status().Size))
	n.life.RLock()
	defer n.life.RUnlock()
	from, to := n.leavesOf(&q)
	index := n.indexer.index
	_, indexed, _ := index.End()
	switch {
	case from >= to && to <= indexed && to < q.To, from == q.To:
		return wire.RecordHits{End: q.To}, nil
	case from >= indexed:
		return wire.RecordHits{End: from}, nil // nothing before Since is a hit
	}
	var found []uint64
	var end uint64
	var err error
	g := records.Range{From: from, To: to, Limit: q.Limit}
	if q.Key == "" {
		found, end, err = index.ByProject(q.Project, g)
	} else {
		found, end, err = index.ByKey(q.Project, q.Key, g)
	}
	if err != nil {
		return wire.RecordHits{}, err
	}
	hits, err := n.hitsOf(found)
	if err != nil {
		return wire.RecordHits{}, err
	}
	if q.Key != "" {
		hits = n.withKey(hits, q.Project, q.Key)
	}
	if end == to {
		end = q.To // the leaves between are after Until
	}
	return wire.RecordHits{Hits: hits, End: end}, nil
}

// FindHash finds the leaves that may have a hash, and the seal if it may be that of its block. End is the leaf up to
// which the index goes. FindHash waits for the index as Find does. Errors: ErrDamaged.
func (n *Node) FindHash(ctx context.Context, h chain.Hash) (wire.RecordHits, error) {
	n.indexer.awaitQuery(ctx, n.Status().Size)
	n.life.RLock()
	defer n.life.RUnlock()
	found, end, err := n.indexer.index.ByHash(h)
	if err != nil {
		return wire.RecordHits{}, err
	}
	hits, err := n.hitsOf(found)
	return wire.RecordHits{Hits: hits, End: end}, err
}

// hitsOf finds the blocks of leaves.
func (n *Node) hitsOf(leaves []uint64) ([]wire.Hit, error) {
	hits := make([]wire.Hit, 0, len(leaves))
	for _, leaf := range leaves {
		block, p, ok := n.index.Find(leaf)
		if !ok || p.Lost() || leaf > p.First+uint64(p.Count) {
			return nil, fmt.Errorf("%w: the index of records names leaf %d, which belongs to no block that is here",
				ErrDamaged, leaf)
		}
		hits = append(hits, wire.Hit{Index: leaf, Block: block, Offset: uint32(leaf - p.First)})
	}
	return hits, nil
}

// withKey drops the hits that have another key with the same tag. A record that cannot be read stays: another node may
// have it.
func (n *Node) withKey(hits []wire.Hit, project uint32, key string) []wire.Hit {
	r := n.reader()
	defer r.release(n)
	kept := hits[:0]
	for i, hit := range hits {
		r.left = len(hits) - i
		encoded, err := r.record(n, wire.Place{Block: hit.Block, Offset: hit.Offset})
		if err == nil {
			record, err := chain.ParseRecord(encoded)
			if err == nil && (record.Key != key || record.Project != project) {
				continue
			}
		}
		kept = append(kept, hit)
	}
	return kept
}

// leavesOf returns the leaves that a query covers: from its Since up to its Until. Times never run backwards along the
// chain. If the time of a block cannot be read, the bounds are wider than necessary.
func (n *Node) leavesOf(q *wire.RecordQuery) (from, to uint64) {
	from, to = q.From, q.To
	if q.Since > 0 {
		first, _, _ := n.leafAt(q.Since)
		from = max(from, min(first, to))
	}
	if q.Until > 0 {
		if _, last, ok := n.leafAt(q.Until); ok {
			to = min(to, last)
		}
	}
	return from, to
}

// leafAt finds the first leaf whose record is not earlier than a time. It is between first and last, which are equal
// unless its block, or the blocks before it, cannot be read. If there is none yet, last is the chain's size and ok is
// false.
func (n *Node) leafAt(time uint64) (first, last uint64, ok bool) {
	status := n.Status()
	r := n.reader()
	defer r.release(n)
	block := uint64(sort.Search(int(status.Height), func(i int) bool {
		for at := uint64(i); ; at-- { // a lost block is taken for the one before
			if h, err := r.header(n, at); err == nil || at == 0 {
				return err == nil && h.Time >= time
			}
		}
	}))
	last, ok = status.Size, block < status.Height
	p, _, _ := n.index.Get(block)
	if ok {
		last = p.First
	}
	start := block // the blocks from here on and before it cannot be read: they may have the leaf
	for start > 0 {
		if _, err := r.header(n, start-1); err == nil {
			break
		}
		start--
	}
	if start < block {
		before, _, _ := n.index.Get(start)
		return before.First, last, ok
	}
	if !ok {
		return last, last, false
	}
	blocks := blockReader{n: n}
	b, err := blocks.parsed(block)
	if err != nil {
		return p.First, p.Next(), true
	}
	offset := sort.Search(int(b.Header.Count), func(i int) bool {
		record, err := b.Record(uint32(i))
		return err != nil || record.Time >= time
	})
	leaf := p.First + uint64(offset)
	return leaf, leaf, true
}
