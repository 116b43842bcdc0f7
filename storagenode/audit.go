package storagenode

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// Audit reads blocks from the files, as they are at their paths, and judges each with chain.Verifier. The check of a running node
// and the offline [Verify] are both made of it.
//
// A bad block hides the tree behind it. The hashes on disk show it again: with those of the bad block's leaves behind the tree
// before it, the next good block's root must come out. Where it does, the blocks before and behind hang together and the check goes
// on. Where it does not, what is behind stays unchecked.
//
// A block that was changed and mined again passes by itself; the next one then does not follow. If the hashes on disk differed from
// the changed block's, and lead to the one that does not follow, it is the changed one that is bad, and that one is good.
type Audit struct {
	Dir     string // of the segments
	Open    segment.OpenFunc
	Index   *Index
	Height  uint64 // blocks to look at, from 0 on
	Threads int
	Lost    []chain.Range // confirmed: bad blocks in it are no findings
	Levels  []*os.File    // files of the tree's hashes at their paths, nil where there is none
	TilesTo uint64        // leaves whose hashes must be there

	// entered is told of each segment before its blocks are judged, file nil where it is gone; headerBad that its header is damaged,
	// when a block of it was good; where it is nil, the first block counts as damaged then. read is told of bytes that were read,
	// and may wait. All may be nil.
	entered   func(seg uint64, file segment.File) error
	headerBad func(seg uint64, err error) error
	read      func(ctx context.Context, bytes int64) error

	verifier *chain.Verifier
	builder  tiles.Builder
	scratch  []byte // of tileLeaves, as hashes
	onDisk   []byte // of compare
	hashes   []chain.Hash

	near  *bridgehead // where the tree ends before a bad block; nil while there is none
	far   *bridgehead // the first block since which hashes on disk differ from computed ones
	redo  *mark       // the same, upper levels counted: from there on hashes are to be written again
	doubt []chain.Range
	wrong struct{ any, leaf bool } // what compare found in the block at hand

	pending []verdict // blocks that are whole, and do not hang together with the tree before the bad ones

	findings  []chain.Finding
	bad       []chain.Range
	confirmed []chain.Range // bad ones that are confirmed as lost
	first     *chain.BlockError
	last      chain.Head // before the last good block
	prefix    chain.Head // before the first bad block that is not confirmed
	unchecked uint64
	tilesErr  error
}

// mark is where the audit stood before a block.
type mark struct {
	head    chain.Head
	builder tiles.Builder
}

// bridgehead is a tree that grows by hashes from disk.
type bridgehead struct {
	mark
	tree   chain.Tree
	broken bool       // hashes are missing
	hash   chain.Hash // of the bad block behind it, if that does not follow from the one before
	follow bool       // the block behind that follows from it
}

// verdict is what is wrong with a block.
type verdict struct {
	number uint64
	what   string
	detail string
	err    error
}

// maxPending bounds the blocks behind a bad one whose verdict is kept.
const maxPending = 1 << 16

// run judges all blocks. The error is the disk's, or that of ctx, and no block's.
func (a *Audit) run(ctx context.Context) error {
	a.verifier = chain.NewVerifier(chain.Head{})
	a.unchecked = a.Height
	reader := newAuditReader(a)
	defer reader.close()
	for number := uint64(0); number < a.Height; number++ {
		s, err := reader.next(ctx, number)
		if err != nil {
			return err
		}
		if s.file != nil && s.file.headerErr != nil && a.headerBad == nil {
			if s.err == nil {
				s.err = fmt.Errorf("the header of the file: %w", s.file.headerErr)
			}
			s.file.headerErr = nil
		}
		if err := a.judge(s); err != nil {
			return err
		}
		if s.file != nil && s.file.headerErr != nil && a.near == nil {
			err, s.file.headerErr = s.file.headerErr, nil
			if err := a.damagedHeader(s, err); err != nil {
				return err
			}
		}
		if a.read != nil {
			if err := a.read(ctx, segment.FrameHeader+int64(s.place.Length)); err != nil {
				return err
			}
		}
	}
	a.end()
	return nil
}

// damagedHeader is told when a block of a segment was good whose header is not.
func (a *Audit) damagedHeader(s *slot, err error) error {
	a.find(chain.Finding{Block: s.seg, What: chain.WrongFrame, Detail: fmt.Sprintf(
		"the header of %s was damaged and was written again: %v", segment.Name(s.seg), err)})
	return a.headerBad(s.seg, err)
}

// judge takes the next block.
func (a *Audit) judge(s *slot) error {
	before := a.verifier.Head()
	var refused error
	if s.parsed && a.near == nil {
		var leaves []chain.Hash
		if leaves, refused = a.verifier.TakeHashed(&s.block, s.leaves); refused == nil {
			s.leaves = leaves
			if s.err != nil {
				a.condemn(verdict{number: s.number, what: chain.WrongFrame, err: s.err, detail: s.where() + ": " + s.err.Error()}, before)
			}
			return a.good(s, before)
		}
	}
	if s.parsed && a.bridge(s) {
		if s.err != nil {
			a.condemn(verdict{number: s.number, what: chain.WrongFrame, err: s.err, detail: s.where() + ": " + s.err.Error()}, before)
		}
		return nil
	}
	v := a.diagnose(s, refused)
	if a.near == nil {
		a.near = &bridgehead{mark: mark{before, a.builder}, tree: before.Tree}
		if errors.Is(refused, chain.ErrLink) {
			a.near.hash = s.block.Header.Hash()
		}
		a.condemn(v, before)
		return nil
	}
	if s.parsed && s.number == a.near.head.Height+1 {
		a.near.follow = s.block.Header.Prev == a.near.hash
	}
	if len(a.pending) == 0 && (s.err != nil || !s.parsed || s.block.Header.Block != s.number) {
		a.condemn(v, before)
		return nil
	}
	if len(a.pending) < maxPending {
		a.pending = append(a.pending, v)
	}
	return nil
}

// good adds a block's hashes to the tree, and holds the files against them.
func (a *Audit) good(s *slot, before chain.Head) error {
	at := mark{before, a.builder}
	a.last = before
	a.wrong.any, a.wrong.leaf = false, false
	if err := a.builder.Append(s.leaves, a.verifier.Subtrees(), a.compare); err != nil {
		return err
	}
	if a.wrong.any && a.redo == nil {
		a.redo = &at
	}
	if a.wrong.leaf {
		if a.far == nil {
			a.far = &bridgehead{mark: at, tree: before.Tree}
		}
		a.doubt = addLast(a.doubt, s.number)
	}
	return nil
}

// bridge tries to go on behind bad blocks, and reports whether the block at hand is good.
func (a *Audit) bridge(s *slot) bool {
	h := &s.block.Header
	if h.Block != s.number || h.First != s.place.First {
		return false
	}
	for _, b := range []*bridgehead{a.near, a.far} {
		if b == nil || !a.extend(b, h.First) {
			continue
		}
		v := chain.NewVerifier(chain.Head{Height: s.number, Hash: h.Prev, Time: b.head.Time, Tree: b.tree})
		leaves, err := v.TakeHashed(&s.block, s.leaves)
		if err != nil {
			continue
		}
		s.leaves = leaves
		if b == a.far {
			a.retract(s.number)
		}
		for _, p := range a.pending {
			a.condemn(p, b.head)
		}
		a.pending, a.near = nil, nil
		a.builder = b.builder
		before := chain.Head{Height: s.number, Hash: h.Prev, Time: b.head.Time, Tree: b.tree}
		if a.feed(b.mark, h.First) != nil {
			return false
		}
		a.verifier = v
		return a.good(s, before) == nil
	}
	return false
}

// retract condemns the blocks that were taken for good and differ from the hashes that the block at hand confirms.
func (a *Audit) retract(number uint64) {
	head := a.far.head
	for _, r := range a.doubt {
		for b := r.From; b < r.To; b++ {
			a.condemn(a.changed(b, number), head)
		}
	}
	if a.redo != nil && a.redo.head.Height >= head.Height {
		a.redo = nil
	}
	a.far, a.doubt = nil, nil
}

// feed gives the builder proven hashes from disk up to a leaf; at is where the audit stood before the first of them.
func (a *Audit) feed(at mark, to uint64) error {
	for a.builder.Size() < to {
		leaves, err := a.tileLeaves(a.builder.Size(), min(to, a.builder.Size()+maxChunk))
		if err != nil {
			return err
		}
		a.wrong.any = false
		if err := a.builder.Append(leaves, nil, a.compare); err != nil {
			return err
		}
		if a.wrong.any && a.redo == nil {
			a.redo = &at
		}
	}
	return nil
}

// extend grows a bridgehead's tree up to a leaf.
func (a *Audit) extend(b *bridgehead, to uint64) bool {
	for !b.broken && b.tree.Size() < to {
		leaves, err := a.tileLeaves(b.tree.Size(), min(to, b.tree.Size()+maxChunk))
		if err != nil {
			b.broken = true
			return false
		}
		b.tree = b.tree.Append(leaves...)
	}
	return !b.broken && b.tree.Size() == to
}

// condemn notes a bad block; before is the head before it, if it is the first.
func (a *Audit) condemn(v verdict, before chain.Head) {
	for _, r := range a.Lost {
		if r.Holds(v.number) {
			a.confirmed = addLast(a.confirmed, v.number)
			return
		}
	}
	for i := len(a.bad) - 1; i >= 0 && a.bad[i].To > v.number; i-- {
		if a.bad[i].Holds(v.number) {
			return
		}
	}
	if a.first == nil || v.number < a.first.Block {
		a.first = &chain.BlockError{Block: v.number, Err: v.err}
		a.prefix = before
	}
	a.find(chain.Finding{Block: v.number, What: v.what, Detail: v.detail})
	a.bad = addLast(a.bad, v.number)
	if len(a.bad) > 4*chain.MaxFindings {
		a.bad = chain.BoundRanges(a.bad, chain.MaxFindings)
	}
}

func (a *Audit) find(f chain.Finding) {
	if len(a.findings) < chain.MaxFindings {
		a.findings = append(a.findings, f)
	}
}

// end judges what is left when no block follows.
func (a *Audit) end() {
	if a.near == nil {
		return
	}
	if len(a.pending) > 0 {
		a.unchecked = a.pending[0].number
		// A block that does not follow from the one before, while the next one follows from it: then it is likely the one before that
		// was changed. Without hashes that tell, both are sent.
		if k := a.near.head.Height; k > 0 && a.near.follow {
			a.condemn(verdict{number: k - 1, what: chain.WrongLink, err: chain.ErrLink,
				detail: fmt.Sprintf("block %d does not follow from it, and block %d follows from that", k, k+1)}, a.last)
		}
	}
}

// complete tells that the last block is good and hangs together with all before: its hash can be held against the target's.
func (a *Audit) complete() bool { return a.near == nil }

// addLast puts a block into a list of ranges, mostly at its end.
func addLast(list []chain.Range, number uint64) []chain.Range {
	if n := len(list); n > 0 && list[n-1].To == number {
		list[n-1].To++
		return list
	} else if n == 0 || list[n-1].To < number {
		return append(list, chain.Range{From: number, To: number + 1})
	}
	return chain.AddRange(list, chain.Range{From: number, To: number + 1})
}
