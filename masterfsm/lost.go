package masterfsm

import (
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Lost reports whether no storage node has a good copy of a block, and whether a person has confirmed that.
func (s *State) Lost(block uint64) (lost, confirmed bool) {
	return chain.HoldsBlock(s.integrity.Lost, block), chain.HoldsBlock(s.integrity.Confirmed, block)
}

// unrepaired returns the bad blocks of a node that are not confirmed as lost.
func (s *State) unrepaired(n *Storage) []chain.Range {
	return chain.CutRanges(n.Bad, s.integrity.Confirmed)
}

// moveByBad makes a node Valid, or Invalid if it has bad blocks that are not confirmed as lost.
func (s *State) moveByBad(n *Storage) {
	if bad := s.unrepaired(n); len(bad) > 0 {
		n.move(Invalid, s.damaged(bad), s.now)
	} else {
		n.move(Valid, Cause{}, s.now)
	}
}

// countsAsCopy reports whether a node counts as a copy of all blocks that it acknowledged. It does in a state that
// retains its blocks. It also does if it lacks only blocks that are lost everywhere: no repair can help it, and the
// cluster must continue with it.
func (s *State) countsAsCopy(n *Storage) bool {
	return n.State.RetainsBlocks() ||
		n.State == Invalid && n.OnGroupChain && n.Unchecked == 0 && len(n.Bad) > 0 && len(chain.CutRanges(n.Bad,
			s.integrity.Lost)) == 0
}

// recomputeDerived recomputes which blocks are lost and which nodes count as copies, from the blocks that the nodes
// lack.
func (s *State) recomputeDerived() {
	if lost := s.lost(); !slices.Equal(lost, s.integrity.Lost) {
		s.recordBlocks(EventLost, chain.CutRanges(lost, s.integrity.Lost), wire.CodeBlocksLost)
		if found := chain.CutRanges(s.integrity.Lost, lost); len(found) > 0 {
			s.recordBlocks(EventFound, found, wire.CodeBlocksFound)
			s.integrity.Confirmed = chain.CutRanges(s.integrity.Confirmed, found)
			for i := range s.storages { // they were Valid because no node had a copy
				if n := &s.storages[i]; n.State == Valid && len(s.unrepaired(n)) > 0 {
					s.moveByBad(n)
				}
			}
		}
		s.integrity.Lost = lost
	}
	for i := range s.storages {
		s.storages[i].CountsAsCopy = s.countsAsCopy(&s.storages[i])
	}
}

// lost returns the blocks that every registered node lacks and the masters do not hold. A node that is not live may
// have what it acknowledged.
func (s *State) lost() []chain.Range {
	if len(s.storages) == 0 || s.heldFrom() == 0 {
		return nil
	}
	lost := []chain.Range{{To: s.heldFrom()}}
	for i := range s.storages {
		lost = chain.CommonRanges(lost, s.storages[i].Lacks(s.heldFrom()))
	}
	return lost
}

// Lacks are the blocks below a height that the node is known not to have.
func (n *Storage) Lacks(height uint64) []chain.Range {
	list := chain.CommonRanges(n.Bad, []chain.Range{{To: height}})
	return chain.AddRange(list, chain.Range{From: n.Height, To: height})
}

// ConfirmLost records that a person has confirmed a block as lost. Nodes that lack only confirmed blocks are Valid from
// then on.
type ConfirmLost struct {
	Block uint64 `json:"block"`
	Time  uint64 `json:"time"`
}

func (c *ConfirmLost) apply(s *State) (any, error) {
	one := chain.Range{From: c.Block, To: c.Block + 1}
	if len(chain.CommonRanges(s.integrity.Lost, []chain.Range{one})) == 0 {
		return nil, fmt.Errorf("%w: block %d", wire.ErrNotLost, c.Block)
	}
	s.tick(c.Time)
	if len(chain.CutRanges([]chain.Range{one}, s.integrity.Confirmed)) == 0 {
		return nil, nil // it was confirmed before
	}
	s.integrity.Confirmed = chain.AddRange(s.integrity.Confirmed, one)
	s.recordEvent(Event{
		Kind: EventConfirmed, Ranges: []chain.Range{one}, Blocks: 1,
		Cause: s.cause(wire.CodeLossConfirmed, wire.Args{"block": c.Block}),
	})
	for i := range s.storages {
		n := &s.storages[i]
		if n.State == Invalid && n.CountsAsCopy && len(s.unrepaired(n)) == 0 {
			n.move(Valid, Cause{}, s.now)
		}
	}
	s.advanceStored()
	return nil, nil
}
