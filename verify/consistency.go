package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
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
	closed := ""
	if cp.Origin != then.Origin {
		if closed, err = a.continues(ctx, &cp); err != nil {
			return err
		}
	}
	switch {
	case cp.Size < then.Size:
		return a.conflict(CodeRollback, &cp, "the log shows a checkpoint of %d leaves, and has shown one of %d "+
			"before%s", cp.Size, then.Size, closed)
	case cp.Size == then.Size && cp.Root != then.Root:
		return a.conflict(CodeFork, &cp, "for %d leaves the log has signed the root %v now and %v before%s", cp.Size,
			cp.Root, then.Root, closed)
	}
	if err := a.extends(ctx, &cp, closed); err != nil {
		return err
	}
	a.now = cp
	return a.meet(a.verifier.Head().Tree)
}

// continues checks that the log of a checkpoint continues the closed log of the run before: a key that the caller
// trusts has signed the statement, and the tree that the statement names is a prefix of the current one. beyond is what
// a conflict with the checkpoint of the run before means, "" if its signature is to be trusted.
func (a *audit) continues(ctx context.Context, cp *Checkpoint) (beyond string, err error) {
	then := &a.since.Checkpoint
	other := func(why string) error {
		return a.fail(CodeOrigin, "this is log %q, and the runs before were of %q: another --state, or another log at "+
			"this URL%s", cp.Origin, then.Origin, why)
	}
	data, err := a.f.get(ctx, "v1/log", maxLog)
	if hasStatus(err, http.StatusNotFound) {
		return "", other("")
	}
	if err != nil {
		return "", err
	}
	var log wire.Log
	if err := json.Unmarshal(data, &log); err != nil {
		return "", other(fmt.Sprintf("; what it says of itself cannot be read: %v", err))
	}
	at := slices.IndexFunc(log.Closed, func(c wire.ClosedLog) bool { return c.Origin == then.Origin })
	if at < 0 {
		return "", other("")
	}
	c, err := a.o.Trust.openClosing(log.Closed[at].Statement, cp.Origin)
	if err != nil {
		return "", other(fmt.Sprintf("; it does not prove that it continues that log: %v", err))
	}
	if c.Origin != then.Origin || c.Size > cp.Size {
		return "", other(fmt.Sprintf("; its statement is about log %q with %d leaves, and the newest checkpoint has %d",
			c.Origin, c.Size, cp.Size))
	}
	root, shown, err := a.prefix(ctx, cp, c.Size)
	if err != nil {
		return "", err
	}
	if !shown {
		return "", other("; it serves no hashes, which must show that the tree of that log is a part of its own")
	}
	if root != c.Root {
		return "", a.fail(CodeFork, "log %q says that it continues %q, of which it names a tree of %d leaves with the "+
			"root %v: its own tree has another root there", cp.Origin, c.Origin, c.Size, c.Root)
	}
	a.report.Remarks = append(a.report.Remarks, fmt.Sprintf("log %q was closed at %d leaves, because: %s. It goes on "+
		"as %q", c.Origin, c.Size, c.Reason, cp.Origin))
	if then.Size > c.Size {
		beyond = fmt.Sprintf("; log %q was closed at %d leaves, so the earlier checkpoint may be by the thief of its "+
			"key: keep it, and begin with another --state", c.Origin, c.Size)
	}
	return beyond, nil
}

// maxLog bounds the answer of GET /v1/log, in bytes.
const maxLog = 4 << 20

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
func (a *audit) extends(ctx context.Context, cp *Checkpoint, closed string) error {
	then, head := &a.since.Checkpoint, &a.since.Head
	a.grown = then.Size == 0 || then.Size == cp.Size
	if !a.grown {
		root, shown, err := a.prefix(ctx, cp, then.Size)
		if err != nil {
			return err
		}
		if shown && root != then.Root {
			return a.conflict(CodeFork, cp, "the first %d leaves of the tree of %d have the root %v, and the log has "+
				"signed %v for them before%s", then.Size, cp.Size, root, then.Root, closed)
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
