package prover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// tree reads the chain's Merkle tree from storage nodes, as tiles of C2SP tlog-tiles and bundles of the entries below
// them. Every byte that it returns, or uses in a proof, is proven from a root that the group has committed:
//
//	entry ─► leaf hash, in a tile ─► hash of that tile, in the one above ─► … ─► root of a block boundary in the table
//
// Proven tiles are kept. They never change, and the first hashes of a tile are those of all narrower ones.
type tree struct {
	prover  *Prover
	bundles *bundles
	tiles   *runCache[tileID]
}

type tileID struct{ level, index uint64 }

// keptTiles is how many tiles are kept: 16 MiB.
const keptTiles = 2048

func newTree(p *Prover) *tree {
	t := &tree{prover: p, tiles: newRunCache[tileID](keptTiles)}
	t.bundles = newBundles(t)
	return t
}

// close ends all reads and waits for them.
func (t *tree) close(cause error) {
	t.bundles.kept.reads.Close(cause)
	t.tiles.reads.Close(cause)
}

// Tile returns the first width hashes of a tile that the tree of a block boundary has; see [wire.WidthOfTile]. It reads
// the tile as wide as it is stored, whatever the width.
func (p *Prover) Tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	return p.tree.tile(ctx, level, index, width)
}

// Entries returns the first width entries of a bundle. Errors: wire.ErrLost if the block of one of them is lost,
// wire.ErrUnavailable, ErrBusy.
func (p *Prover) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	return p.tree.bundles.first(ctx, index, width)
}

// Inclusion returns the path of a leaf in the tree of a size, RFC 6962 section 2.1.1.
func (p *Prover) Inclusion(ctx context.Context, index, size uint64) (path []chain.Hash, err error) {
	if index >= size {
		return nil, fmt.Errorf("%w: leaf %d is not in a tree of %d", wire.ErrBadRequest, index, size)
	}
	err = p.tree.read(ctx, size, func(hashes tlog.HashReader) error {
		proof, err := tlog.ProveRecord(int64(size), int64(index), hashes)
		path = hashesOf(proof)
		return err
	})
	return path, err
}

// Consistency returns the proof that the tree of one size is a prefix of that of another, RFC 6962 section 2.1.2. It is
// empty if from is 0 or to. Errors: wire.ErrBadRequest if from is beyond to, wire.ErrUnavailable.
func (p *Prover) Consistency(ctx context.Context, from, to uint64) (proof []chain.Hash, err error) {
	switch {
	case from > to:
		return nil, fmt.Errorf("%w: from %d is beyond to %d", wire.ErrBadRequest, from, to)
	case from == 0 || from == to:
		return []chain.Hash{}, nil
	}
	err = p.tree.read(ctx, to, func(hashes tlog.HashReader) error {
		found, err := tlog.ProveTree(int64(to), int64(from), hashes)
		proof = hashesOf(found)
		return err
	})
	return proof, err
}

func hashesOf(list []tlog.Hash) []chain.Hash {
	hashes := make([]chain.Hash, len(list))
	for i, h := range list {
		hashes[i] = chain.Hash(h)
	}
	return hashes
}

func (t *tree) tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	id := tileID{level, index}
	found, err := t.tiles.get(ctx, id, width, 2*readTimeout, func(ctx context.Context) (run, error) {
		widest := t.widest(level, index, width)
		data, err := t.readTile(ctx, level, index, widest)
		return run{width: widest, data: data}, err
	})
	if err != nil {
		return nil, err
	}
	return firstHashes(found, width), nil
}

// firstHashes returns the first hashes of a tile that has at least that many.
func firstHashes(tile run, count int) []byte { return slices.Clip(tile.data[:count*tlog.HashSize]) }

func (t *tree) readTile(ctx context.Context, level, index uint64, width int) (data []byte, err error) {
	asked := tlog.Tile{H: wire.TileHeight, L: int(level), N: int64(index), W: width}
	size := (index*wire.TileWidth + uint64(width)) << (wire.TileHeight * level)
	err = t.read(ctx, size, func(hashes tlog.HashReader) error {
		data, err = tlog.ReadTileData(asked, hashes)
		return err
	})
	return data, err
}

// widest returns how many hashes of a tile the newest stored tree has, and at least width.
func (t *tree) widest(level, index uint64, width int) int {
	var stored masterfsm.Boundary
	t.prover.cfg.Ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint() })
	return max(width, wire.WidthOfTile(level, index, stored.Size))
}

// read calls f with hashes of the tree's first size leaves, from one storage node after the other, until the tiles of
// one are proven.
func (t *tree) read(ctx context.Context, size uint64, f func(tlog.HashReader) error) error {
	p := t.prover
	for node := range p.Nodes(ctx, 1) {
		boundary, ok := t.boundary(node, size)
		if !ok {
			continue
		}
		from := nodeTiles{ctx: ctx, tree: t, node: node}
		err := f(tlog.TileHashReader(tlog.Tree{N: int64(boundary.Size), Hash: tlog.Hash(boundary.Root)}, &from))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errBehind):
		case from.failed != nil:
			p.noAnswer(ctx, p.unwell, node, "no answer for tiles", from.failed)
		default:
			p.Distrust(node, "tiles that it cannot prove", err)
		}
	}
	return Unavailable(ctx, "the tree of %d leaves", size)
}

// boundary returns a block boundary of at least size leaves that a node has: the checkpoint, whose tiles are requested
// most, or else the node's newest.
func (t *tree) boundary(node masterfsm.Storage, size uint64) (b masterfsm.Boundary, ok bool) {
	t.prover.cfg.Ledger.Read(func(s *masterfsm.State) {
		if b = s.Checkpoint(); b.Size >= size && b.Height <= node.Height {
			ok = true
			return
		}
		b, ok = s.BoundaryAt(min(node.Height, s.Head().Height))
	})
	return b, ok && b.Size >= size
}

// errBehind: the node does not have the tiles yet.
var errBehind = errors.New("the node does not have it yet")

// nodeTiles is the [tlog.TileReader] of one storage node. It returns kept tiles without asking the node.
type nodeTiles struct {
	ctx    context.Context
	tree   *tree
	node   masterfsm.Storage
	failed error // of the call, which says nothing about the node's tiles
}

// Height implements [tlog.TileReader].
func (n *nodeTiles) Height() int { return wire.TileHeight }

// ReadTiles implements [tlog.TileReader]. The error wraps errBehind if the node does not have the tiles yet.
func (n *nodeTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	var due []tlog.Tile
	for i, t := range tiles {
		if known, ok := n.tree.tiles.known(tileID{uint64(t.L), uint64(t.N)}, t.W); ok {
			data[i] = firstHashes(known, t.W)
		} else {
			due = append(due, t)
		}
	}
	if len(due) == 0 {
		return data, nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, readTimeout)
	defer cancel()
	answer, err := n.tree.prover.cfg.Storages.ReadTiles(ctx, workerOf(n.node), due)
	switch {
	case err != nil:
		n.failed = err
		return nil, err
	case answer.Status == wire.ReadBehind:
		return nil, errBehind
	case answer.Status != wire.ReadFound || len(answer.Tiles) != len(due):
		return nil, fmt.Errorf("read status %d, %d tiles for %d", answer.Status, len(answer.Tiles), len(due))
	}
	for i := range data {
		if data[i] == nil {
			data[i], answer.Tiles = answer.Tiles[0], answer.Tiles[1:]
		}
	}
	return data, nil
}

// SaveTiles implements [tlog.TileReader]. The tiles are proven when it is called.
func (n *nodeTiles) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		// data is part of an answer, which is larger.
		n.tree.tiles.keep(tileID{uint64(t.L), uint64(t.N)}, run{width: t.W, data: bytes.Clone(data[i])})
	}
}
