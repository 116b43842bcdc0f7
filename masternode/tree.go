package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/batch"
	"github.com/chainstore/chainstore/wire"
)

// tree reads the chain's tree from storage nodes, as tiles of C2SP tlog-tiles and bundles of the entries below them. Not a byte of it is
// handed out, nor used in a proof, that was not proven from a root that the group committed:
//
//	entry ─► leaf hash, in a tile ─► hash of that tile, in the one above ─► … ─► root of a block boundary in the table
//
// What was proven is kept: it never changes, and the first hashes of a tile are those of all narrower ones.
type tree struct {
	prover  *prover
	bundles *bundles
	reads   batch.SingleFlight[tileID, []byte]

	mu    sync.Mutex // guards tiles
	tiles *lru.Cache[tileID, []byte]
}

type tileID struct{ level, index uint64 }

// keptTiles is how many tiles are kept: 16 MiB.
const keptTiles = 2048

func newTree(p *prover) *tree {
	tiles, err := lru.New[tileID, []byte](keptTiles)
	if err != nil {
		panic(err) // of a size that is not positive
	}
	t := &tree{prover: p, tiles: tiles}
	t.bundles = newBundles(t)
	return t
}

// close ends all reads and waits for them.
func (t *tree) close(cause error) {
	t.bundles.reads.Close(cause)
	t.reads.Close(cause)
}

// tile is the first width hashes of a tile that a tree of a boundary has; see [wire.WidthOfTile]. It is read as wide as it is, whatever the width.
func (t *tree) tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	for {
		if known := t.known(level, index, width); known != nil {
			return known, nil
		}
		data, err := t.reads.Do(ctx, tileID{level, index}, 2*readTimeout, func(ctx context.Context) ([]byte, error) {
			return t.readTile(ctx, level, index, t.widest(level, index, width))
		})
		if err != nil {
			return nil, err
		}
		if len(data) >= width*tlog.HashSize { // whoever asked first may not have known of so many yet
			return data[: width*tlog.HashSize : width*tlog.HashSize], nil
		}
	}
}

func (t *tree) readTile(ctx context.Context, level, index uint64, width int) (data []byte, err error) {
	asked := tlog.Tile{H: wire.TileHeight, L: int(level), N: int64(index), W: width}
	err = t.read(ctx, (index*wire.TileWidth+uint64(width))<<(wire.TileHeight*level), func(hashes tlog.HashReader) error {
		data, err = tlog.ReadTileData(asked, hashes)
		return err
	})
	return data, err
}

// widest is how many hashes of a tile the newest stored tree has, and at least width, which somebody knows of.
func (t *tree) widest(level, index uint64, width int) int {
	var stored masterfsm.Boundary
	t.prover.ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint() })
	return max(width, wire.WidthOfTile(level, index, stored.Size))
}

// known is the first hashes of a tile that was proven before, nil where so many are not.
func (t *tree) known(level, index uint64, width int) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	data, _ := t.tiles.Get(tileID{level, index})
	if len(data) < width*tlog.HashSize {
		return nil
	}
	return data[: width*tlog.HashSize : width*tlog.HashSize]
}

// keep keeps a tile that was proven, unless a wider one is kept.
func (t *tree) keep(id tileID, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if have, _ := t.tiles.Peek(id); len(have) < len(data) {
		t.tiles.Add(id, bytes.Clone(data)) // it is a piece of an answer, which is larger
	}
}

// inclusion is the path of a leaf in the tree of a size, RFC 6962 section 2.1.1.
func (t *tree) inclusion(ctx context.Context, index, size uint64) (path []chain.Hash, err error) {
	if index >= size {
		return nil, fmt.Errorf("%w: leaf %d is not in a tree of %d", ErrBadRequest, index, size)
	}
	err = t.read(ctx, size, func(hashes tlog.HashReader) error {
		proof, err := tlog.ProveRecord(int64(size), int64(index), hashes)
		path = hashesOf(proof)
		return err
	})
	return path, err
}

// consistency is the proof that the tree of a size goes on from that of another, RFC 6962 section 2.1.2; none is needed from the empty tree
// and to the same.
func (t *tree) consistency(ctx context.Context, from, to uint64) (proof []chain.Hash, err error) {
	switch {
	case from > to:
		return nil, fmt.Errorf("%w: from %d is beyond to %d", ErrBadRequest, from, to)
	case from == 0 || from == to:
		return []chain.Hash{}, nil
	}
	err = t.read(ctx, to, func(hashes tlog.HashReader) error {
		p, err := tlog.ProveTree(int64(to), int64(from), hashes)
		proof = hashesOf(p)
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

// read has hashes of the tree's first size leaves read, with the tiles of one storage node after the other until those of one hold.
func (t *tree) read(ctx context.Context, size uint64, read func(tlog.HashReader) error) error {
	p := t.prover
	for node := range p.asked(ctx, func(n masterfsm.Storage) bool { return n.Height > 0 }) {
		boundary, ok := t.boundary(node, size)
		if !ok {
			continue
		}
		from := nodeTiles{ctx: ctx, tree: t, node: node}
		err := read(tlog.TileHashReader(tlog.Tree{N: int64(boundary.Size), Hash: tlog.Hash(boundary.Root)}, &from))
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errNotHere):
		case from.failed != nil:
			p.noAnswer(ctx, node, "no answer for tiles", from.failed)
		default:
			p.distrust(node, "tiles that it cannot prove", err)
		}
	}
	return unavailable(ctx, "the tree of %d leaves", size)
}

// boundary is one that a node has, of at least so many leaves: the checkpoint, whose tiles are asked for most, or else the node's newest.
func (t *tree) boundary(node masterfsm.Storage, size uint64) (b masterfsm.Boundary, ok bool) {
	t.prover.ledger.Read(func(s *masterfsm.State) {
		if b = s.Checkpoint(); b.Size >= size && b.Height <= node.Height {
			ok = true
			return
		}
		b, ok = s.BoundaryAt(min(node.Height, s.Head().Height))
	})
	return b, ok && b.Size >= size
}

// nodeTiles is the [tlog.TileReader] of one storage node, with those tiles in front that were proven before.
type nodeTiles struct {
	ctx    context.Context
	tree   *tree
	node   masterfsm.Storage
	failed error // of the call, which says nothing of what the node has
}

// Height implements [tlog.TileReader].
func (n *nodeTiles) Height() int { return wire.TileHeight }

// ReadTiles implements [tlog.TileReader]. The error wraps errNotHere where the node does not have the tiles yet.
func (n *nodeTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	var due []tlog.Tile
	for i, t := range tiles {
		if data[i] = n.tree.known(uint64(t.L), uint64(t.N), t.W); data[i] == nil {
			due = append(due, t)
		}
	}
	if len(due) == 0 {
		return data, nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, readTimeout)
	defer cancel()
	answer, err := n.tree.prover.workers.ReadTiles(ctx, worker(n.node), due)
	switch {
	case err != nil:
		n.failed = err
		return nil, err
	case answer.Status == wire.ReadBehind:
		return nil, errNotHere
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

// SaveTiles implements [tlog.TileReader]: the tiles are proven now.
func (n *nodeTiles) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		n.tree.keep(tileID{uint64(t.L), uint64(t.N)}, data[i])
	}
}
