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

// tileID names a tile of C2SP tlog-tiles.
type tileID struct{ level, index uint64 }

// DefaultTileBytes is the default of Config.TileBytes.
const DefaultTileBytes = 16 << 20

// tileMemory is what the cache needs for a tile, in bytes: 256 hashes, and its own entries.
const tileMemory = wire.TileWidth*tlog.HashSize + 512

// keptTiles is how many tiles fit a number of bytes, at least one.
func keptTiles(bytes uint64) int {
	if bytes == 0 {
		bytes = DefaultTileBytes
	}
	return int(max(bytes/tileMemory, 1))
}

// Inclusion returns the path of a leaf in the tree of a size, RFC 6962 section 2.1.1.
func (p *Prover) Inclusion(ctx context.Context, index, size uint64) (path []chain.Hash, err error) {
	if index >= size {
		return nil, fmt.Errorf("%w: leaf %d is not in a tree of %d", wire.ErrBadRequest, index, size)
	}
	err = p.readTree(ctx, size, func(hashes tlog.HashReader) error {
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
	err = p.readTree(ctx, to, func(hashes tlog.HashReader) error {
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

// Tile returns the first width hashes of a tile that the tree of a block boundary has; see [wire.WidthOfTile]. It reads
// the tile as wide as it is stored, whatever the width.
func (p *Prover) Tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	id := tileID{level, index}
	found, err := p.tiles.get(ctx, id, width, 2*readTimeout, func(ctx context.Context) (run, error) {
		return p.readTile(ctx, id, p.widest(id, width))
	})
	if err != nil {
		return nil, err
	}
	return firstHashes(found, width), nil
}

// firstHashes returns the first hashes of a tile that has at least that many.
func firstHashes(tile run, count int) []byte { return slices.Clip(tile.data[:count*tlog.HashSize]) }

func (p *Prover) readTile(ctx context.Context, id tileID, width int) (run, error) {
	asked := tlog.Tile{H: wire.TileHeight, L: int(id.level), N: int64(id.index), W: width}
	tile := run{width: width}
	size := (id.index*wire.TileWidth + uint64(width)) << (wire.TileHeight * id.level)
	err := p.readTree(ctx, size, func(hashes tlog.HashReader) (err error) {
		tile.data, err = tlog.ReadTileData(asked, hashes)
		return err
	})
	return tile, err
}

// widest returns how many hashes of a tile the newest stored tree has, and at least width.
func (p *Prover) widest(id tileID, width int) int {
	var stored masterfsm.Boundary
	p.cfg.Ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint() })
	return max(width, wire.WidthOfTile(id.level, id.index, stored.Size))
}

// readTree calls f with hashes of the tree's first size leaves, from one storage node after the other, until the tiles
// of one are proven.
func (p *Prover) readTree(ctx context.Context, size uint64, f func(tlog.HashReader) error) error {
	for node := range p.Nodes(ctx, 1) {
		boundary, ok := p.boundary(node, size)
		if !ok {
			continue
		}
		from := nodeTiles{ctx: ctx, prover: p, node: node}
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
func (p *Prover) boundary(node masterfsm.Storage, size uint64) (b masterfsm.Boundary, ok bool) {
	p.cfg.Ledger.Read(func(s *masterfsm.State) {
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
	prover *Prover
	node   masterfsm.Storage
	failed error // of the call or the node's system; it says nothing about the node's tiles
}

// Height implements [tlog.TileReader].
func (n *nodeTiles) Height() int { return wire.TileHeight }

// ReadTiles implements [tlog.TileReader]. The error wraps errBehind if the node does not have the tiles yet.
func (n *nodeTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	var due []tlog.Tile
	for i, t := range tiles {
		if known, ok := n.prover.tiles.known(tileID{uint64(t.L), uint64(t.N)}, t.W); ok {
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
	answer, err := n.prover.cfg.Storages.ReadTiles(ctx, workerOf(n.node), due)
	switch {
	case err != nil:
		n.failed = err
		return nil, err
	case answer.Status == wire.ReadBehind:
		return nil, errBehind
	case answer.Status == wire.ReadFailed:
		n.failed = errors.New("its system cannot read them now")
		return nil, n.failed
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
		n.prover.tiles.keep(tileID{uint64(t.L), uint64(t.N)}, run{width: t.W, data: bytes.Clone(data[i])})
	}
}
