package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// Config says what an audit reads. The functions may be nil.
type Config struct {
	Segments string // the folder
	Open     segment.OpenFunc
	Index    *blockindex.Index
	Height   uint64         // number of blocks to check, from block 0 on
	Threads  int            // goroutines that read and hash
	Lost     []chain.Range  // blocks that are confirmed as lost; that they are bad is no finding
	Levels   []segment.File // files of the stored hashes, by stored level; nil for a missing one
	Unopened []error        // by stored level, why a file that exists cannot be opened: its hashes are not compared
	TilesTo  uint64         // the leaves whose hashes must be stored
	// UnreadApart: a block that the system cannot read is not bad. It is reported apart, as one whose state is unknown.
	UnreadApart bool

	// Entered is called for each segment before its blocks are judged; file is nil if the segment is missing.
	Entered func(first uint64, file segment.File) error
	// HeaderBad is called if the header of a segment is damaged and a block in it is good. If HeaderBad is nil, the
	// segment's first block counts as damaged instead.
	HeaderBad func(first uint64, err error) error
	// Read is called after each block with the number of bytes that were read. It may wait.
	Read func(ctx context.Context, bytes int64) error
}

// Audit is one audit. It belongs to one goroutine.
type Audit struct {
	Config

	Findings  []wire.Finding // at most chain.MaxFindings
	Bad       []chain.Range  // damaged and missing blocks, those confirmed as lost left out
	Confirmed []chain.Range  // bad blocks that are confirmed as lost
	Unchecked uint64         // the first block that could not be checked; Height if all were
	Unread    Unread         // the blocks that the system could not read; not those confirmed as lost

	verifier *chain.Verifier
	builder  tiles.Builder
	scratch  []byte // of storedLeaves
	hashes   []chain.Hash
	onDisk   []byte // of compare

	fromBad      *bridge // where the proven tree ends; nil while no bad block hides the tree
	fromMismatch *bridge // before the first block since which stored leaf hashes differ from computed ones
	mismatched   []chain.Range
	rewriteFrom  *position                // before the first block whose hashes are to be written again
	mismatch     struct{ any, leaf bool } // what compare found in the block at hand

	undecided []badBlock // whole blocks behind a bad one that no bridge has reached

	firstBad   *chain.BlockError
	goodPrefix chain.Head // before firstBad
	beforeLast chain.Head // before the last good block
	tilesErr   error
}

// position is where the audit was before a block.
type position struct {
	head    chain.Head
	builder tiles.Builder
}

// bridge is a tree that grows by stored leaf hashes.
type bridge struct {
	position
	tree   chain.Tree
	broken bool // stored hashes are missing

	// Of a bridge that begins at a block that is whole and does not follow from the one before it:
	hash   chain.Hash // of that block
	follow bool       // the next block follows from it
}

// Unread is what an audit could not read because of errors of the system.
type Unread struct {
	Blocks   []chain.Range
	Findings []wire.Finding // at most chain.MaxFindings
	Err      error          // of the first
	prefix   chain.Head     // before the first block
}

// badBlock says what is wrong with a block.
type badBlock struct {
	number uint64
	what   string
	detail wire.Message
	err    error
}

// maxUndecided is the number of undecided blocks that are kept. The rest is not reported one by one.
const maxUndecided = 1 << 16

// New returns an audit that has not run.
func New(cfg Config) *Audit {
	return &Audit{Config: cfg, Unchecked: cfg.Height, verifier: chain.NewVerifier(chain.Head{})}
}

// Run judges all blocks. The error is that of the disk, of the context or of a function of the Config. A bad block is
// no error, nor is one that the system cannot read, with Config.UnreadApart.
func (a *Audit) Run(ctx context.Context) error {
	reader := newReader(a)
	defer reader.close()
	for number := uint64(0); number < a.Height; number++ {
		s, err := reader.next(ctx, number)
		if err != nil {
			return err
		}
		if s.file != nil && s.file.headerErr != nil && a.HeaderBad == nil {
			if s.err == nil {
				s.err = fmt.Errorf("the header of the file: %w", s.file.headerErr)
				s.why = s.fileMessage(wire.CodeHeaderDamaged)
			}
			s.file.headerErr = nil
		}
		if err := a.judge(s); err != nil {
			return err
		}
		if s.file != nil && s.file.headerErr != nil && a.fromBad == nil {
			err, s.file.headerErr = s.file.headerErr, nil
			a.Report(wire.NewFinding(s.segment, chain.WrongFrame, s.fileMessage(wire.CodeHeaderRestored)))
			if err := a.HeaderBad(s.segment, err); err != nil {
				return err
			}
		}
		if a.Read != nil {
			if err := a.Read(ctx, segment.FrameHeader+int64(s.place.Length)); err != nil {
				return err
			}
		}
	}
	a.end()
	return nil
}

// judge decides about the next block.
func (a *Audit) judge(s *slot) error {
	before := a.verifier.Head()
	var refused error
	if s.parsed && a.fromBad == nil {
		var leaves []chain.Hash
		if leaves, refused = a.verifier.TakeHashed(&s.block, s.leaves); refused == nil {
			s.leaves = leaves
			a.addBadFrame(s, before)
			return a.addGood(s, before)
		}
	}
	if s.parsed && a.tryBridges(s) {
		a.addBadFrame(s, before)
		return nil
	}
	b := a.diagnose(s, refused)
	if a.fromBad == nil {
		a.fromBad = &bridge{position: position{before, a.builder}, tree: before.Tree}
		if errors.Is(refused, chain.ErrLink) {
			a.fromBad.hash = s.block.Header.Hash()
		}
		a.addBad(b, before)
		return nil
	}
	if s.parsed && s.number == a.fromBad.head.Height+1 {
		a.fromBad.follow = s.block.Header.Prev == a.fromBad.hash
	}
	if len(a.undecided) == 0 && (s.err != nil || !s.parsed || s.block.Header.Block != s.number) {
		a.addBad(b, before)
		return nil
	}
	if len(a.undecided) < maxUndecided {
		a.undecided = append(a.undecided, b)
	}
	return nil
}

// addBadFrame reports a block that is good in a frame that is not.
func (a *Audit) addBadFrame(s *slot, before chain.Head) {
	if s.err != nil {
		a.addBad(badBlock{s.number, chain.WrongFrame, s.why, s.err}, before)
	}
}

// addGood adds a block's hashes to the tree, and compares the stored hashes with them.
func (a *Audit) addGood(s *slot, before chain.Head) error {
	at := position{before, a.builder}
	a.beforeLast = before
	a.mismatch.any, a.mismatch.leaf = false, false
	if err := a.builder.Append(s.leaves, a.verifier.Subtrees(), a.compare); err != nil {
		return err
	}
	if a.mismatch.any && a.rewriteFrom == nil {
		a.rewriteFrom = &at
	}
	if a.mismatch.leaf {
		if a.fromMismatch == nil {
			a.fromMismatch = &bridge{position: at, tree: before.Tree}
		}
		a.mismatched = AddLast(a.mismatched, s.number)
	}
	return nil
}

// tryBridges tries to reach the block at hand along stored hashes. If it returns true, the block is good.
func (a *Audit) tryBridges(s *slot) bool {
	h := &s.block.Header
	if h.Block != s.number || h.First != s.place.First {
		return false
	}
	for _, b := range []*bridge{a.fromBad, a.fromMismatch} {
		if b == nil || !a.extend(b, h.First) {
			continue
		}
		before := chain.Head{Height: s.number, Hash: h.Prev, Time: b.head.Time, Tree: b.tree}
		v := chain.NewVerifier(before)
		leaves, err := v.TakeHashed(&s.block, s.leaves)
		if err != nil {
			continue
		}
		s.leaves = leaves
		if b == a.fromMismatch {
			a.addMismatched(s.number)
		}
		for _, p := range a.undecided {
			a.addBad(p, b.head)
		}
		a.undecided, a.fromBad = nil, nil
		a.builder = b.builder
		if a.appendStored(b.position, h.First) != nil {
			return false
		}
		a.verifier = v
		return a.addGood(s, before) == nil
	}
	return false
}

// addMismatched reports the blocks that passed by themselves and differ from the hashes that the block at hand
// confirms.
func (a *Audit) addMismatched(confirmedBy uint64) {
	head := a.fromMismatch.head
	for _, r := range a.mismatched {
		for b := r.From; b < r.To; b++ {
			a.addBad(a.changed(b, confirmedBy), head)
		}
	}
	if a.rewriteFrom != nil && a.rewriteFrom.head.Height >= head.Height {
		a.rewriteFrom = nil
	}
	a.fromMismatch, a.mismatched = nil, nil
}

// appendStored appends proven hashes from disk to the builder, up to a leaf. The audit was at the position from before
// the first of them.
func (a *Audit) appendStored(from position, to uint64) error {
	for a.builder.Size() < to {
		leaves, err := a.storedLeaves(a.builder.Size(), min(to, a.builder.Size()+maxChunk))
		if err != nil {
			return err
		}
		a.mismatch.any = false
		if err := a.builder.Append(leaves, nil, a.compare); err != nil {
			return err
		}
		if a.mismatch.any && a.rewriteFrom == nil {
			a.rewriteFrom = &from
		}
	}
	return nil
}

// extend grows a bridge's tree up to a leaf.
func (a *Audit) extend(b *bridge, to uint64) bool {
	for !b.broken && b.tree.Size() < to {
		leaves, err := a.storedLeaves(b.tree.Size(), min(to, b.tree.Size()+maxChunk))
		if err != nil {
			b.broken = true
			return false
		}
		b.tree = b.tree.Append(leaves...)
	}
	return !b.broken && b.tree.Size() == to
}

// addBad reports a bad block, once; before is the head before it, if it is the first.
func (a *Audit) addBad(b badBlock, before chain.Head) {
	if chain.HoldsBlock(a.Lost, b.number) {
		a.Confirmed = AddLast(a.Confirmed, b.number)
		return
	}
	if chain.HoldsBlock(a.Bad, b.number) {
		return
	}
	if a.UnreadApart && durable.CannotRead(b.err) {
		a.addUnread(b, before)
		return
	}
	if a.firstBad == nil || b.number < a.firstBad.Block {
		a.firstBad = &chain.BlockError{Block: b.number, Err: b.err}
		a.goodPrefix = before
	}
	a.Report(wire.NewFinding(b.number, b.what, b.detail))
	a.Bad = AddLast(a.Bad, b.number)
	if len(a.Bad) > 4*chain.MaxFindings {
		a.Bad = chain.BoundRanges(a.Bad, chain.MaxFindings)
	}
}

// addUnread reports a block that the system could not read.
func (a *Audit) addUnread(b badBlock, before chain.Head) {
	u := &a.Unread
	if chain.HoldsBlock(u.Blocks, b.number) {
		return
	}
	if u.Err == nil {
		u.Err, u.prefix = fmt.Errorf("block %d: %w", b.number, b.err), before
	}
	u.Blocks = AddLast(u.Blocks, b.number)
	if len(u.Blocks) > 4*chain.MaxFindings {
		u.Blocks = chain.BoundRanges(u.Blocks, chain.MaxFindings)
	}
	if len(u.Findings) < chain.MaxFindings {
		u.Findings = append(u.Findings, wire.NewFinding(b.number, b.what, b.detail))
	}
}

// StillUnread reads the unread blocks once more after Run, and returns those that the system still cannot read because
// of their file or its device. If the whole process lacks descriptors or memory, that says nothing about the block.
// sectors: for each of them the file can be opened, and the device reports an error of the read.
func (a *Audit) StillUnread(ctx context.Context) (list []chain.Range, sectors bool, err error) {
	sectors = true
	for _, r := range a.Unread.Blocks {
		for number := r.From; number < r.To; number++ {
			if ctx.Err() != nil {
				return nil, false, context.Cause(ctx)
			}
			s := a.reread(number)
			why := s.unread
			if !ofFile(why) {
				why = a.headerUnread(s)
			}
			if ofFile(why) {
				list = AddLast(list, number)
				sectors = sectors && badSector(why)
			}
		}
	}
	return list, sectors, nil
}

// badSector reports whether an error is one of the device, of a read.
func badSector(err error) bool {
	failed, ok := errors.AsType[*os.PathError](err)
	return ok && failed.Op == "read" && errors.Is(err, syscall.EIO)
}

// ofFile reports whether an error of the system is about a file or its device, and not about the whole process.
func ofFile(err error) bool { return err != nil && !durable.NoResources(err) }

// Report adds a finding, unless there are chain.MaxFindings already.
func (a *Audit) Report(f wire.Finding) {
	if len(a.Findings) < chain.MaxFindings {
		a.Findings = append(a.Findings, f)
	}
}

// end decides about the blocks that no bridge has reached.
func (a *Audit) end() {
	if len(a.undecided) == 0 || a.fromBad == nil {
		return
	}
	a.Unchecked = a.undecided[0].number
	// If a block does not follow from the one before it, and the next block follows from it, the one before was
	// probably changed. Without stored hashes to decide, both are reported.
	if k := a.fromBad.head.Height; k > 0 && a.fromBad.follow {
		detail := wire.Message{Code: wire.CodeNotFollowed, Args: wire.Args{"block": k, "next": k + 1}}
		a.addBad(badBlock{k - 1, chain.WrongLink, detail, chain.ErrLink}, a.beforeLast)
	}
}

// Head returns the head behind the last block. ok is false if that block is bad or its connection to block 0 is not
// proven; the head's hash means nothing then.
func (a *Audit) Head() (head chain.Head, ok bool) { return a.verifier.Head(), a.fromBad == nil }

// AddLast adds a block to a list of ranges, in most cases at its end.
func AddLast(list []chain.Range, number uint64) []chain.Range {
	if n := len(list); n > 0 && list[n-1].To == number {
		list[n-1].To++
		return list
	} else if n == 0 || list[n-1].To < number {
		return append(list, chain.Range{From: number, To: number + 1})
	}
	return chain.AddRange(list, chain.Range{From: number, To: number + 1})
}
