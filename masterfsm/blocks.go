package masterfsm

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// buffer holds the records of the open block.
type buffer struct {
	number  uint64 // of the block
	first   uint64 // leaf index of its first record
	oldest  uint64 // time of its first record
	ends    []uint32
	records []byte // append-only: what is written stays
	leaves  []chain.Hash
}

// heldBlock is a block whose body the masters hold. It is never changed, so that snapshots share it: once it is mined
// another takes its place.
type heldBlock struct {
	number, first uint64
	time          uint64 // of the cut
	ends          []uint32
	records       []byte
	leaves        []chain.Hash // until it is mined
	mined         bool
	block         chain.Block // once it is mined
}

func (b *heldBlock) size() uint64 { return uint64(len(b.records)) }

// waiting is the header of the block that is to be mined next, and the tree up to its last record.
type waiting struct {
	header chain.Header
	tree   chain.Tree
}

// cut closes the open buffer and opens the next.
func (s *State) cut() {
	b := &s.open
	if len(b.ends) == 0 {
		return
	}
	s.held = append(s.held, &heldBlock{
		number: b.number, first: b.first, time: s.now, ends: b.ends, records: b.records, leaves: b.leaves,
	})
	// Under load one block is about as large as the one before: room for it at once saves moving it again and again. A
	// small margin keeps the last record of a block of the same size from doubling it.
	s.open = buffer{
		number: b.number + 1, first: b.first + uint64(len(b.ends)) + 1,
		ends: make([]uint32, 0, len(b.ends)), leaves: make([]chain.Hash, 0, len(b.leaves)),
		records: make([]byte, 0, len(b.records)+len(b.records)/32),
	}
	if s.waiting == nil {
		s.prepare()
	}
}

// prepare makes the header of the next block to be mined, if one is cut.
func (s *State) prepare() {
	s.waiting = nil
	b := s.heldAt(s.head.Height)
	if b == nil {
		return
	}
	tree := s.head.Tree.Append(b.leaves...)
	s.waiting = &waiting{tree: tree, header: chain.Header{
		Version: chain.Version, Block: b.number, First: b.first, Count: uint32(len(b.ends)),
		Prev: s.head.Hash, Root: tree.Root(), Time: b.time, Difficulty: s.settings.Difficulty,
	}}
}

func (c *Cut) apply(s *State) (any, error) {
	if c.Block != s.open.number || len(s.open.ends) == 0 {
		return nil, fmt.Errorf("%w: block %d is not the open one", ErrStale, c.Block)
	}
	s.tick(c.Time)
	s.cut()
	return nil, nil
}

func (c *Mined) apply(s *State) (any, error) {
	if s.waiting == nil || c.Block != s.waiting.header.Block {
		return nil, fmt.Errorf("%w: block %d does not wait for a nonce", ErrStale, c.Block)
	}
	header := s.waiting.header
	header.Nonce = c.Nonce
	hash := header.Hash()
	if !chain.Mined(hash, header.Difficulty) {
		return nil, fmt.Errorf("%w: block %d, nonce %d: %d leading zero bits, %d are due",
			ErrNonce, c.Block, c.Nonce, chain.LeadingZeros(hash), header.Difficulty)
	}
	held := s.heldAt(c.Block)
	block, err := chain.NewBlock(header, held.ends, held.records)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCommand, err) // the state does not fit itself: stop
	}
	s.tick(c.Time)
	s.replace(minedBlock(block))
	tree := s.waiting.tree.Append(header.SealHash())
	s.head = chain.Head{Height: header.Block + 1, Hash: hash, Time: header.Time, Tree: tree}
	if len(s.boundaries) == Boundaries {
		s.boundaries = s.boundaries[1:] // never moved within the array: a snapshot may share it
	}
	s.boundaries = append(s.boundaries, Boundary{Height: s.head.Height, Hash: hash, Size: tree.Size(),
		Root: tree.Root()})
	s.prepare()
	s.advanceStored()
	return nil, nil
}

// minedBlock is a held block once it is mined. Its records are part of the mined block, so that the unmined copy can
// go.
func minedBlock(b chain.Block) *heldBlock {
	return &heldBlock{
		number: b.Header.Block, first: b.Header.First, time: b.Header.Time,
		mined: true, block: b, records: b.Bytes()[chain.BlockOverhead(b.Header.Count):],
	}
}

// replace replaces the held block of the same number.
func (s *State) replace(b *heldBlock) { s.held[b.number-s.heldFrom()] = b }

func (c *Acknowledge) apply(s *State) (any, error) {
	s.tick(c.Time)
	for _, n := range c.Nodes {
		if node := s.storage(n.ID); node != nil && node.CountsAsCopy && node.Version == n.Version &&
			n.Height <= s.head.Height {
			node.Height = max(node.Height, n.Height)
		}
	}
	s.advanceStored()
	return nil, nil
}

// advanceStored draws the conclusions from the nodes' heights: which blocks are stored, and which bodies the masters
// need no longer. A body goes when Replicas nodes have it and every whole node has it too; past RetainBytes the slow
// node is left behind, which makes it Invalid.
func (s *State) advanceStored() {
	s.recomputeDerived()
	stored := max(s.stored, s.replicated())
	for _, b := range s.held {
		if b.number >= s.stored && b.number < stored {
			s.pendingBytes -= b.size()
			s.retained += b.size()
		}
	}
	s.stored = stored
	s.advanceCheckpoint()
	s.publish()

	slowest := s.stored
	for i := range s.storages {
		if n := &s.storages[i]; n.CountsAsCopy {
			slowest = min(slowest, n.Height)
		}
	}
	drop := 0
	for drop < len(s.held) && s.held[drop].number < s.stored &&
		(s.held[drop].number < slowest || s.retained > s.settings.RetainBytes) {
		s.retained -= s.held[drop].size()
		drop++
	}
	if drop > 0 {
		s.held = append([]*heldBlock(nil), s.held[drop:]...)
	}
	behind := false
	for i := range s.storages {
		if n := &s.storages[i]; n.CountsAsCopy && n.Height < s.heldFrom() {
			s.leaveRepair(n)
			n.OnGroupChain, behind = false, true
			n.move(Invalid, s.cause(wire.CodeLeftBehind, nil), s.now)
		}
	}
	if drop > 0 || behind {
		s.recomputeDerived()
	}
}

// advanceCheckpoint moves the checkpoint up to the newest boundary that enough storage nodes have now. It stands still
// until there is a key: a table that was restored from a snapshot of old does not know what was stored when. After a
// recovery stored tells less: see Recovery.Finish.
func (s *State) advanceCheckpoint() {
	if len(s.log.Keys) == 0 {
		return
	}
	i, exact := slices.BinarySearchFunc(s.boundaries, s.replicated(),
		func(b Boundary, h uint64) int { return cmp.Compare(b.Height, h) })
	if !exact {
		i--
	}
	if i >= 0 && s.boundaries[i].Height > s.checkpoint.Height {
		s.checkpoint = s.boundaries[i]
	}
}

// replicated returns the number of blocks that at least Replicas nodes have on disk.
func (s *State) replicated() uint64 {
	var heights []uint64
	for i := range s.storages {
		if s.storages[i].CountsAsCopy {
			heights = append(heights, s.storages[i].Height)
		}
	}
	return ReplicatedHeight(heights, int(s.settings.Replicas))
}

// ReplicatedHeight returns the greatest height that at least replicas of some nodes have reached, 0 if there are fewer
// nodes.
func ReplicatedHeight(heights []uint64, replicas int) uint64 {
	replicas = max(1, replicas)
	if len(heights) < replicas {
		return 0
	}
	return slices.Sorted(slices.Values(heights))[len(heights)-replicas]
}
