package masterfsm

import (
	"fmt"
	"slices"
	"sort"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// heldBlock is a block whose body the masters hold, or the open one. It is never changed once it is cut, so that
// snapshots share it: when it is mined another takes its place.
type heldBlock struct {
	number  uint64
	first   uint64 // leaf index of its first record
	time    uint64 // of the cut; while the block is open, of its first record
	ends    []uint32
	records []byte       // append-only: what is written stays
	leaves  []chain.Hash // of its records
	mined   bool
	block   chain.Block // once it is mined
}

func (b *heldBlock) count() uint32 {
	if b.mined {
		return b.block.Header.Count
	}
	return uint32(len(b.ends))
}

// header is a copy of the block's header, nil as long as it is not mined.
func (b *heldBlock) header() *chain.Header {
	if !b.mined {
		return nil
	}
	return new(b.block.Header)
}

// encoded is the encoded record at an offset below count.
func (b *heldBlock) encoded(offset uint32) []byte {
	if b.mined {
		return b.block.Encoded(offset)
	}
	start := uint32(0)
	if offset > 0 {
		start = b.ends[offset-1]
	}
	return b.records[start:b.ends[offset]:b.ends[offset]]
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
	cut := s.open
	cut.time = s.now
	s.held = append(s.held, &cut)
	// Under load one block is about as large as the one before: room for it at once saves moving it again and again. A
	// small margin keeps the last record of a block of the same size from doubling it.
	s.open = heldBlock{
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
	s.replace(minedBlock(block, held.leaves))
	tree := s.waiting.tree.Append(header.SealHash())
	s.extend(chain.Head{Height: header.Block + 1, Hash: hash, Time: header.Time, Tree: tree})
	s.prepare()
	s.advanceStored()
	return nil, nil
}

// extend moves the head of the mined chain, and remembers its boundary.
func (s *State) extend(head chain.Head) {
	s.head = head
	if len(s.boundaries) == Boundaries {
		s.boundaries = s.boundaries[1:] // never moved within the array: a snapshot may share it
	}
	s.boundaries = append(s.boundaries, Boundary{
		Height: head.Height, Hash: head.Hash, Size: head.Tree.Size(), Root: head.Tree.Root(),
	})
}

// countBytes computes the bytes of the bodies from the blocks.
func (s *State) countBytes() {
	s.pendingBytes, s.retained = s.open.size(), 0
	for _, b := range s.held {
		if b.number < s.stored {
			s.retained += b.size()
		} else {
			s.pendingBytes += b.size()
		}
	}
}

// minedBlock is a held block once it is mined, with the leaf hashes of its records. Its records are part of the mined
// block, so that the unmined copy can go.
func minedBlock(b chain.Block, leaves []chain.Hash) *heldBlock {
	return &heldBlock{
		number: b.Header.Block, first: b.Header.First, time: b.Header.Time, leaves: leaves,
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

// advanceStored computes from the nodes' heights which blocks are stored, and drops bodies that are not needed now.
// A body is dropped when Replicas nodes and every node that counts as a copy have it. If the masters retain more than
// RetainBytes, they do not wait for the slowest node, which becomes Invalid. From protocol level 3 on the Replicas
// nodes must count as copies now: that they had the block once is not enough. This does not let the retained bytes
// grow, because no block becomes stored while fewer nodes have the stored ones.
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
	copied := s.stored
	if s.level >= LevelCopies {
		copied = min(copied, s.replicated())
	}
	drop := 0
	for drop < len(s.held) && s.held[drop].number < copied &&
		(s.held[drop].number < slowest || s.retained > s.settings.RetainBytes) {
		s.retained -= s.held[drop].size()
		drop++
	}
	if drop > 0 {
		s.held = slices.Clone(s.held[drop:])
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

// advanceCheckpoint moves the checkpoint up to the newest boundary that enough storage nodes have now. It does nothing
// before there is a key: a table restored from a snapshot of version 3 does not know what was stored when. It does not
// use stored, which may be too high after a recovery: see Recovery.Finish.
func (s *State) advanceCheckpoint() {
	if len(s.log.Keys) == 0 {
		return
	}
	i := atMost(s.boundaries, s.replicated(), (*Boundary).height)
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

// HeldBlock is a copy of a block that the masters hold, taken at one moment. Callers may keep it and must not change
// it.
type HeldBlock struct {
	Block  uint64
	First  uint64        // leaf index of its first record
	Header *chain.Header // nil as long as the block is not mined
	Stored bool

	body *heldBlock
}

// Count is the number of records.
func (s *HeldBlock) Count() uint32 { return s.body.count() }

// Next is the leaf index behind the last record.
func (s *HeldBlock) Next() uint64 { return s.First + uint64(s.Count()) }

// Encoded is the encoded record at an offset below Count.
func (s *HeldBlock) Encoded(offset uint32) []byte { return s.body.encoded(offset) }

// Find returns the offset of the record with a leaf hash.
func (s *HeldBlock) Find(leaf chain.Hash) (offset uint32, ok bool) {
	i := slices.Index(s.body.leaves, leaf)
	return uint32(max(0, i)), i >= 0
}

// HeldBlocks returns the blocks that the masters hold, starting with the first that does not end before a leaf. The
// open block is the last.
func (s *State) HeldBlocks(leaf uint64) []HeldBlock {
	from := sort.Search(len(s.held), func(i int) bool {
		b := s.held[i]
		return b.first+uint64(b.count()) >= leaf // its seal
	})
	blocks := make([]HeldBlock, 0, len(s.held)-from+1)
	for _, b := range s.held[from:] {
		blocks = append(blocks, s.exported(b))
	}
	if len(s.open.ends) > 0 {
		blocks = append(blocks, s.exported(new(s.open)))
	}
	return blocks
}

// HeldBlock returns the block of a number if the masters hold it.
func (s *State) HeldBlock(block uint64) (HeldBlock, bool) {
	b := s.bodyAt(block)
	if b == nil || b.count() == 0 {
		return HeldBlock{}, false
	}
	return s.exported(new(*b)), true
}

func (s *State) exported(b *heldBlock) HeldBlock {
	return HeldBlock{Block: b.number, First: b.first, Header: b.header(), Stored: b.number < s.stored, body: b}
}

// oldest is the first block that the masters hold, the open one where it is the only one.
func (s *State) oldest() *heldBlock {
	if len(s.held) == 0 {
		return &s.open
	}
	return s.held[0]
}

// HeldLeaf is the leaf index from which on the masters hold all records. Only storage nodes have the records before it.
func (s *State) HeldLeaf() uint64 { return s.oldest().first }

// heldFrom is the number of the first block that the masters hold.
func (s *State) heldFrom() uint64 { return s.oldest().number }

// heldAt is the block of a number if it is cut and the masters hold it.
func (s *State) heldAt(number uint64) *heldBlock {
	from := s.heldFrom()
	if number < from || number-from >= uint64(len(s.held)) {
		return nil
	}
	return s.held[number-from]
}

// bodyAt is heldAt, and the open block of its number.
func (s *State) bodyAt(number uint64) *heldBlock {
	if number == s.open.number {
		return &s.open
	}
	return s.heldAt(number)
}

// Block is a mined block that the masters hold.
func (s *State) Block(number uint64) (chain.Block, bool) {
	b := s.heldAt(number)
	if b == nil || !b.mined {
		return chain.Block{}, false
	}
	return b.block, true
}

// Found says what the table knows about a position.
type Found uint8

const (
	// FoundNothing: the position is not given out yet.
	FoundNothing Found = iota
	// FoundRecord: the masters hold the record.
	FoundRecord
	// FoundElsewhere: the block was stored and dropped; storage nodes have it, the offset unchecked.
	FoundElsewhere
	// FoundBeyond: the block is known, is complete and has fewer records.
	FoundBeyond
	// FoundSeal: the leaf index is that of a seal.
	FoundSeal
)

// Position is the position of a record.
type Position struct {
	Block  uint64
	Offset uint32
	Index  uint64
}

// Record looks up the record at an offset of a block. It returns the encoded record if the masters hold it; callers may
// keep it and must not change it. header is nil until the block is mined.
func (s *State) Record(block uint64, offset uint32) (found Found, at Position, encoded []byte, header *chain.Header) {
	at = Position{Block: block, Offset: offset}
	b := s.bodyAt(block)
	switch {
	case block < s.heldFrom():
		return FoundElsewhere, at, nil, nil
	case b == nil || b == &s.open && offset >= b.count():
		return FoundNothing, at, nil, nil
	}
	at.Index = b.first + uint64(offset)
	if offset >= b.count() {
		return FoundBeyond, at, nil, nil
	}
	return FoundRecord, at, b.encoded(offset), b.header()
}

// Locate finds the position of a leaf index. FoundElsewhere means that a storage node must be asked for the block.
func (s *State) Locate(index uint64) (Found, Position) {
	if index >= s.NextIndex() {
		return FoundNothing, Position{}
	}
	b := &s.open
	for i := len(s.held) - 1; index < b.first; i-- {
		if i < 0 {
			return FoundElsewhere, Position{Index: index}
		}
		b = s.held[i]
	}
	offset := index - b.first
	if offset >= uint64(b.count()) {
		return FoundSeal, Position{Block: b.number, Index: index}
	}
	return FoundRecord, Position{Block: b.number, Offset: uint32(offset), Index: index}
}
