package verify

import (
	"context"
	"fmt"
	"net/http"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
)

// checkpoint fetches the log's checkpoint and compares it with the earlier one.
func (a *audit) checkpoint(ctx context.Context) error {
	signed, err := a.f.get(ctx, "checkpoint", maxNote)
	if err != nil {
		return err
	}
	cp, found := a.o.Trust.open(signed)
	a.report.SignaturesChecked = len(a.o.Trust.keys) > 0
	if a.found = append(a.found, found...); len(a.found) > 0 {
		return errStop
	}
	then := &a.since.Checkpoint
	if then.Note == "" {
		a.grown, a.now = true, cp
		return nil
	}
	switch {
	case cp.Origin != then.Origin:
		return a.fail(CodeOrigin, "this is log %q, and the runs before were of %q: another --state, or another log "+
			"at this URL", cp.Origin, then.Origin)
	case cp.Size < then.Size:
		return a.conflict(CodeRollback, &cp, "the log shows a checkpoint of %d leaves, and has shown one of %d before",
			cp.Size, then.Size)
	case cp.Size == then.Size && cp.Root != then.Root:
		return a.conflict(CodeFork, &cp, "for %d leaves the log has signed the root %v now and %v before", cp.Size,
			cp.Root, then.Root)
	}
	if err := a.extends(ctx, &cp); err != nil {
		return err
	}
	a.now = cp
	return a.meet(a.verifier.Head().Tree)
}

// conflict adds the finding that two checkpoints contradict each other, with both as evidence.
func (a *audit) conflict(code string, cp *Checkpoint, format string, args ...any) error {
	a.found = append(a.found, Finding{
		Code: code, Text: code + ": " + fmt.Sprintf(format, args...),
		Evidence: []string{a.since.Checkpoint.Note, cp.Note},
	})
	return errStop
}

// extends checks whether the tree of the earlier run is a prefix of the current one, by the log's tiles, which are
// proven against the current root. If the log serves no tiles, the leaves must show it: see meet.
func (a *audit) extends(ctx context.Context, cp *Checkpoint) error {
	then, head := &a.since.Checkpoint, &a.since.Head
	a.grown = then.Size == 0 || then.Size == cp.Size
	if !a.grown {
		root, shown, err := a.prefix(ctx, cp, then.Size)
		if err != nil {
			return err
		}
		if shown && root != then.Root {
			return a.conflict(CodeFork, cp, "the first %d leaves of the tree of %d have the root %v, and the log has "+
				"signed %v for them before", then.Size, cp.Size, root, then.Root)
		}
		a.grown = shown
	}
	if size := head.Tree.Size(); 0 < size && size < then.Size {
		// The earlier run was interrupted. No signature has covered its leaves yet.
		root, shown, err := a.prefix(ctx, cp, size)
		if err != nil {
			return err
		}
		if !shown || root != head.Tree.Root() {
			a.report.Remarks = append(a.report.Remarks, fmt.Sprintf(
				"the run before was cut short, and the %d leaves that it was served are not shown to be those of "+
					"the log's tree: this one began again", size))
			a.since.Head = chain.Head{}
			a.begin(chain.Head{}, nil)
		}
	}
	return nil
}

// meet compares the leaves taken with the checkpoint of the earlier run when there are exactly as many. That need not
// be the end of a block of the current tree.
func (a *audit) meet(taken chain.Tree) error {
	then := &a.since.Checkpoint
	if then.Note == "" || taken.Size() != then.Size {
		return nil
	}
	if taken.Size() > 0 && taken.Root() != then.Root {
		return a.conflict(CodeFork, &a.now, "the first %d leaves that the log serves have the root %v, and it has "+
			"signed %v for them before", then.Size, taken.Root(), then.Root)
	}
	a.met = true
	return nil
}

// prefix returns the root of the first size leaves of a checkpoint's tree. shown is false if the log serves no tiles.
func (a *audit) prefix(ctx context.Context, cp *Checkpoint, size uint64) (root chain.Hash, shown bool, err error) {
	tiles := &tileReader{ctx: ctx, f: a.f}
	hash, err := tlog.TreeHash(int64(size), tlog.TileHashReader(tlog.Tree{N: int64(cp.Size), Hash: tlog.Hash(cp.Root)},
		tiles))
	switch {
	case hasStatus(tiles.err, http.StatusNotFound):
		return root, false, nil
	case tiles.err != nil:
		return root, false, tiles.err
	case err != nil:
		return root, false, a.fail(CodeTile, "the log's hashes do not fit its own checkpoint of %d leaves: %v", cp.Size,
			err)
	}
	return chain.Hash(hash), true, nil
}

// boundary compares the tree with the checkpoints that end here.
func (a *audit) boundary() error {
	tree := a.verifier.Head().Tree
	if err := a.meet(tree); err != nil {
		return err
	}
	if tree.Size() == a.now.Size && tree.Root() != a.now.Root {
		return a.fail(CodeRoot, "the %d leaves that the log serves have the root %v, and it has signed %v: a leaf "+
			"was altered on its way, or the log serves another tree than it signs",
			tree.Size(), tree.Root(), a.now.Root)
	}
	return nil
}

// grew ends a run whose leaves have the signed root. If they also had the earlier root, they show that the log has
// grown, without tiles.
func (a *audit) grew() error {
	a.signed = true
	if a.grown = a.grown || a.met; !a.grown {
		return a.conflict(CodeFork, &a.now, "nothing shows that the tree of %d leaves goes on from that of %d "+
			"which the log has signed before", a.now.Size, a.since.Checkpoint.Size)
	}
	return nil
}

// tileReader reads tiles for package tlog, which proves them.
type tileReader struct {
	ctx context.Context
	f   *fetcher
	err error // of the last request that failed
}

func (t *tileReader) Height() int { return tileHeight }

func (t *tileReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (t *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, _, err := t.f.tile(t.ctx, tile.L, uint64(tile.N), uint64(tile.W), tileWidth*chain.HashSize)
		if err != nil {
			t.err = err
			return nil, err
		}
		if size := tile.W * chain.HashSize; len(data) > size {
			data = data[:size] // of the full tile, in the place of a partial one that is gone
		}
		all = append(all, data)
	}
	return all, nil
}
