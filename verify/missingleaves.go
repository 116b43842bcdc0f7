package verify

import (
	"context"
	"fmt"
	"net/http"

	"github.com/chainstore/chainstore/chain"
)

// hole is a range of leaves whose data no node has any more. Their hashes are still in the tree. So verification
// resumes at the first seal after them whose root shows that the hashes are right.
type hole struct {
	from uint64     // the first block that cannot be checked
	tree chain.Tree // all leaves up to here
}

// skip takes what a bundle still has before its first lost leaf, and the hashes of the other leaves. The log may give
// the headers of their blocks.
func (a *audit) skip(ctx context.Context, b *bundle) error {
	if a.hole == nil {
		if err := a.takeBeforeLost(ctx, b); err != nil {
			return err
		}
	}
	data, _, err := a.f.tile(ctx, 0, b.number, b.width, tileWidth*chain.HashSize)
	if err != nil {
		return err
	}
	if uint64(len(data)) < b.width*chain.HashSize {
		return a.fail(CodeTile, "tile %d of the leaves' hashes has %d bytes, and %d hashes are due", b.number,
			len(data), b.width)
	}
	if a.hole == nil {
		if taken, err := a.takeHeaders(ctx, b, data); taken || err != nil {
			return err
		}
		a.hole = &hole{from: a.verifier.Head().Height, tree: a.verifier.Open()}
		a.hashed = false
		a.payloads.drop()
	}
	for n := a.at - b.number*tileWidth; n < b.width; n++ {
		a.hole.tree = a.hole.tree.Append(chain.Hash(data[n*chain.HashSize:][:chain.HashSize]))
		a.at++
		if err := a.meet(a.hole.tree); err != nil {
			return err
		}
	}
	return nil
}

// takeBeforeLost takes the leaves of a bundle before the first one that is lost. A log serves them as a partial bundle,
// whose width is found by bisection.
func (a *audit) takeBeforeLost(ctx context.Context, b *bundle) error {
	known, gone := a.at-b.number*tileWidth, b.width
	var before *bundle
	for gone-known > 1 {
		width := (known + gone) / 2
		switch part := a.f.bundle(ctx, b.number, width); {
		case part.gone:
			gone = width
		case hasStatus(part.err, http.StatusNotFound): // a log need not serve partial bundles of full ones
			return nil
		default:
			before, known = &part, width
			if part.err != nil {
				gone = known
			}
		}
	}
	if before == nil {
		return nil
	}
	return a.take(before)
}

// bridge takes the leaves after a hole up to the first seal, where the verifier continues.
func (a *audit) bridge(entries []entry) error {
	for i := range entries {
		e := &entries[i]
		before := a.hole.tree
		a.hole.tree = before.Append(e.hash())
		a.at++
		if err := a.meet(a.hole.tree); err != nil {
			return err
		}
		if !e.seal {
			continue
		}
		h := &e.header
		head := a.verifier.Head()
		switch {
		case h.Block < a.hole.from:
			return a.fail(CodeNumber, "leaf %d is the seal of block %d, and stands behind that of block %d", a.at-1,
				h.Block, a.hole.from-1)
		case h.Seal() != a.at-1 || h.First < head.Tree.Size():
			return a.fail(CodeFirst, "leaf %d is the seal of block %d, which says that it is leaf %d and begins at %d",
				a.at-1, h.Block, h.Seal(), h.First)
		case h.Time < head.Time:
			return a.fail(CodeTime, "block %d is of %d, and block %d before it of %d", h.Block, h.Time, a.hole.from-1,
				head.Time)
		case h.Root != before.Root():
			return a.fail(CodeRoot, "block %d behind leaves that are gone says that the tree before its seal has "+
				"the root %v; by the log's hashes it is %v", h.Block, h.Root, before.Root())
		case !chain.Mined(h.Hash(), h.Difficulty):
			return a.fail(CodeWork, "block %d: the hash %v has fewer than %d leading zero bits", h.Block, h.Hash(),
				h.Difficulty)
		}
		a.lost += h.Size() - head.Tree.Size()
		a.unchecked = chain.AddRange(a.unchecked, chain.Range{From: a.hole.from, To: h.Block + 1})
		a.verifier = chain.NewVerifier(chain.Head{Height: h.Block + 1, Hash: h.Hash(), Time: h.Time, Tree: a.hole.tree})
		a.report.Difficulty = min(a.report.Difficulty, h.Difficulty)
		a.hole = nil
		if err := a.boundary(); err != nil {
			return err
		}
		return a.entries(entries[i+1:])
	}
	return nil
}

// endInHole ends an audit whose log has no seal after a hole.
func (a *audit) endInHole() error {
	if root := a.hole.tree.Root(); root != a.now.Root {
		return a.fail(CodeRoot, "with the log's hashes of the leaves that are gone, the root of %d leaves is %v, "+
			"and it has signed %v", a.now.Size, root, a.now.Root)
	}
	a.report.Remarks = append(a.report.Remarks, fmt.Sprintf(
		"leaves of block %d or of blocks after it are lost. The log serves leaves in bundles of %d, and of a bundle "+
			"only those before the first lost one. So the blocks from %d on could not be checked, %d leaves; their "+
			"hashes are those of the signed tree. The next run tries again, and checks the blocks after the bundle",
		a.hole.from, tileWidth, a.hole.from, a.now.Size-a.verifier.Head().Tree.Size()))
	a.report.Unchecked = chain.AddRange(a.report.Unchecked, chain.Range{From: a.hole.from, To: a.hole.from + 1})
	return nil
}
