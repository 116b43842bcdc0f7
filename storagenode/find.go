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

// Find looks records up in the index, in order. An answer is a hint: the reader proves each hit. That a hit has the key that was asked
// for was looked at. Where the index does not reach the query's begin there are none, and End is that begin. Errors: ErrDamaged.
func (n *Node) Find(ctx context.Context, q wire.RecordQuery) (wire.RecordHits, error) {
	n.follower.Load().reach(ctx, min(q.To, n.Status().Size))
	n.life.RLock()
	defer n.life.RUnlock()
	from, to := n.bound(&q)
	_, indexed, _ := n.follower.Load().index.End()
	switch {
	case from >= to && to <= indexed && to < q.To, from == q.To:
		return wire.RecordHits{End: q.To}, nil
	case from >= indexed:
		return wire.RecordHits{End: from}, nil // what is before Since is told all the same
	}
	g := records.Range{From: from, To: to, Limit: q.Limit}
	found, end, err := n.lookUp(&q, g)
	if err != nil {
		return wire.RecordHits{}, err
	}
	hits, err := n.places(found)
	if err != nil {
		return wire.RecordHits{}, err
	}
	if q.Key != "" {
		hits = n.withKey(hits, q.Project, q.Key)
	}
	if end == to {
		end = q.To // what is between is too young
	}
	return wire.RecordHits{Hits: hits, End: end}, nil
}

func (n *Node) lookUp(q *wire.RecordQuery, g records.Range) ([]uint64, uint64, error) {
	index := n.follower.Load().index
	if q.Key == "" {
		return index.ByProject(q.Project, g)
	}
	return index.ByKey(q.Project, q.Key, g)
}

// FindHash finds the leaves that may have a hash, a seal where it may be its block's. End is up to which leaf the index goes, for which
// it waits as Find does. Errors: ErrDamaged.
func (n *Node) FindHash(ctx context.Context, h chain.Hash) (wire.RecordHits, error) {
	n.follower.Load().reach(ctx, n.Status().Size)
	n.life.RLock()
	defer n.life.RUnlock()
	found, end, err := n.follower.Load().index.ByHash(h)
	if err != nil {
		return wire.RecordHits{}, err
	}
	hits, err := n.places(found)
	return wire.RecordHits{Hits: hits, End: end}, err
}

// reach is await for as long as a query waits.
func (f *follower) reach(ctx context.Context, leaf uint64) {
	ctx, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	f.await(ctx, leaf)
}

// places finds the blocks of leaves.
func (n *Node) places(leaves []uint64) ([]wire.Hit, error) {
	hits := make([]wire.Hit, 0, len(leaves))
	for _, leaf := range leaves {
		block, p, ok := n.index.Find(leaf)
		if !ok || p.Lost() || leaf > p.First+uint64(p.Count) {
			return nil, fmt.Errorf("%w: the index of records tells of leaf %d, which is of no block that is here", ErrDamaged, leaf)
		}
		hits = append(hits, wire.Hit{Index: leaf, Block: block, Offset: uint32(leaf - p.First)})
	}
	return hits, nil
}

// withKey drops the hits that have another key of the same tag. One that cannot be read stays: another node may have it.
func (n *Node) withKey(hits []wire.Hit, project uint32, key string) []wire.Hit {
	r := n.reader()
	defer r.release(n)
	kept := hits[:0]
	for i, hit := range hits {
		r.left = len(hits) - i
		p, seg, _ := n.index.Get(hit.Block)
		encoded, err := n.readAt(r, &p, seg, hit.Offset)
		if err == nil {
			if record, err := chain.ParseRecord(encoded); err == nil && (record.Key != key || record.Project != project) {
				continue
			}
		}
		kept = append(kept, hit)
	}
	return kept
}

// bound gives the leaves that a query goes through: from its Since, and up to its Until, as times never run backwards along the chain.
// Where the time of a block cannot be read, the bounds are wider than they need be.
func (n *Node) bound(q *wire.RecordQuery) (from, to uint64) {
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

// leafAt is the first leaf whose record is not earlier than a time: one within first and last, which are the same unless its block cannot
// be read. Where there is none yet they are the chain's size, and ok is false.
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
	if block >= status.Height {
		return status.Size, status.Size, false
	}
	p, _, _ := n.index.Get(block)
	data, err := n.block(block)
	if err != nil {
		return p.First, p.Next(), true
	}
	b, err := chain.ParseBlock(data)
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
