package prover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Nodes gives the storage nodes of at least a height by the table, in the order in which they should be asked, until
// ctx ends.
func (p *Prover) Nodes(ctx context.Context, height uint64) iter.Seq[masterfsm.Storage] {
	return p.nodes(ctx, height, nil)
}

// nodes is Nodes with more nodes that are asked last until a time.
func (p *Prover) nodes(ctx context.Context, height uint64, last map[string]time.Time) iter.Seq[masterfsm.Storage] {
	return func(yield func(masterfsm.Storage) bool) {
		for _, node := range p.candidates(height, last) {
			if ctx.Err() != nil || !yield(node) {
				return
			}
		}
	}
}

// candidates lists the storage nodes of at least a height, the best first: nodes that answered last time before others,
// Valid nodes before others, and equal ones in an order that differs between masters.
func (p *Prover) candidates(height uint64, last map[string]time.Time) []masterfsm.Storage {
	var nodes []masterfsm.Storage
	p.cfg.Ledger.Read(func(s *masterfsm.State) { nodes = s.Storages() })
	nodes = slices.DeleteFunc(nodes, func(n masterfsm.Storage) bool { return n.Height < height })
	now := p.cfg.Clock()
	p.mu.Lock()
	defer p.mu.Unlock()
	rank := func(n masterfsm.Storage) int {
		r := 0
		if now.Before(last[n.ID]) {
			r += 4
		}
		if now.Before(p.unwell[n.ID]) {
			r += 2
		}
		if n.State != masterfsm.Valid {
			r++
		}
		return r
	}
	slices.SortFunc(nodes, func(a, b masterfsm.Storage) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)), cmp.Compare(p.affinity(a.ID), p.affinity(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return nodes
}

// affinity orders the nodes differently for each master (rendezvous hashing).
func (p *Prover) affinity(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(p.cfg.Self)) // a hash does not fail
	_, _ = h.Write([]byte(id))
	return h.Sum64()
}

// Unavailable is the error of a read that no node could prove: the cause of the end of ctx, or wire.ErrUnavailable.
func Unavailable(ctx context.Context, what string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("%w: %s", wire.ErrUnavailable, fmt.Sprintf(what, args...))
}

// Distrust asks a node that answered wrong last for a while, and reports it, so that the leader has it checked. A node
// that is not Valid is being checked or repaired already.
func (p *Prover) Distrust(node masterfsm.Storage, what string, err error) {
	p.askLast(p.unwell, node, distrustFor, what, err)
	if node.State != masterfsm.Valid && node.State != masterfsm.Sending {
		return
	}
	select {
	case p.suspects <- wire.Suspicion{ID: node.ID, Cause: fmt.Sprintf("%s: %v", what, err)}:
	default:
	}
}

// ask calls a storage node for a read. If there is no answer, the node is asked last for a while.
func ask[T any](
	ctx context.Context, p *Prover, node masterfsm.Storage, what string,
	call func(context.Context, wire.Worker) (T, error),
) (T, error) {
	asking, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := call(asking, workerOf(node))
	if err != nil {
		p.noAnswer(ctx, p.unwell, node, what, err)
	}
	return answer, err
}

// noAnswer asks a node that did not answer a call last for a while. If ctx has ended, the reader has gone or ran out of
// time, and the node is not at fault.
func (p *Prover) noAnswer(
	ctx context.Context, last map[string]time.Time, node masterfsm.Storage, what string, err error,
) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, context.DeadlineExceeded):
		p.askLast(last, node, hungFor, what, err)
	default:
		p.askLast(last, node, unwellFor, what, err)
	}
}

// askLast asks a node after all others for a while. last is one of the maps that mu guards.
func (p *Prover) askLast(
	last map[string]time.Time, node masterfsm.Storage, d time.Duration, what string, err error,
) {
	p.log.Warn("storage node passed over", "node", node.ID, "url", node.URL, "for", d, "because", what, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	last[node.ID] = p.cfg.Clock().Add(d)
}

func workerOf(n masterfsm.Storage) wire.Worker { return n.Worker() }
