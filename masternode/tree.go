package masternode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/singleflight"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// tree reads the chain's tree from storage nodes, as tiles of C2SP tlog-tiles and bundles of the entries below them. Not a byte of it is
// handed out, nor used in a proof, that was not proven from a root that the group committed:
//
//	entry ─► leaf hash, in a tile ─► hash of that tile, in the one above ─► … ─► root of a block boundary in the table
//
// What was proven is kept: it never changes, and the first hashes of a tile are those of all narrower ones.
type tree struct {
	prover  *prover
	tiles   *lru.Cache[tileID, []byte]
	bundles *lru.Cache[uint64, bundle]
	flights singleflight.Group
	making  chan struct{} // holds one for each bundle that is read
}

type tileID struct{ level, index uint64 }

// bundle is a run of entries that were proven.
type bundle struct {
	entries int
	data    []byte
}

// Bounds of what is kept: 16 MiB of tiles, and 1024 bundles, of 13 KiB where records are many to a block and at most wire.MaxBundle.
const (
	keptTiles   = 2048
	keptBundles = 1024
)

// bundleReads is how many bundles are read from storage nodes at a time: anybody may ask for them, and they are not to keep the nodes from records.
const bundleReads = 8

// bundleTimeout is how long a storage node may take for the entries of a bundle. It makes them from the records, payloads and all.
const bundleTimeout = 15 * time.Second

func newTree(p *prover) *tree {
	t := &tree{prover: p, making: make(chan struct{}, bundleReads)}
	var err1, err2 error
	t.tiles, err1 = lru.New[tileID, []byte](keptTiles)
	t.bundles, err2 = lru.New[uint64, bundle](keptBundles)
	if err := errors.Join(err1, err2); err != nil {
		panic(err) // of a size that is not positive
	}
	return t
}

// tile is the first width hashes of a tile that a tree of a boundary has; see [wire.WidthOfTile].
func (t *tree) tile(ctx context.Context, level, index uint64, width int) ([]byte, error) {
	if known := t.known(level, index, width); known != nil {
		return known, nil
	}
	return t.shared(ctx, fmt.Sprint("tile ", level, index, width), 2*readTimeout, func(ctx context.Context) (data []byte, err error) {
		asked := tlog.Tile{H: wire.TileHeight, L: int(level), N: int64(index), W: width}
		err = t.read(ctx, (index*wire.TileWidth+uint64(width))<<(wire.TileHeight*level), func(hashes tlog.HashReader) error {
			data, err = tlog.ReadTileData(asked, hashes)
			return err
		})
		return data, err
	})
}

// known is the first hashes of a tile that was proven before, nil where so many are not.
func (t *tree) known(level, index uint64, width int) []byte {
	data, _ := t.tiles.Get(tileID{level, index})
	if len(data) < width*tlog.HashSize {
		return nil
	}
	return data[: width*tlog.HashSize : width*tlog.HashSize]
}

// bundle is the first width entries below a tile of the lowest level. The error wraps ErrLost where a block of them is lost.
func (t *tree) bundle(ctx context.Context, index uint64, width int) ([]byte, error) {
	if b, ok := t.bundles.Get(index); ok && b.entries >= width {
		return firstEntries(b.data, width), nil
	}
	return t.shared(ctx, fmt.Sprint("entries ", index, width), 2*bundleTimeout, func(ctx context.Context) ([]byte, error) {
		leaves, err := t.tile(ctx, 0, index, width)
		if err != nil {
			return nil, err
		}
		select {
		case t.making <- struct{}{}:
			defer func() { <-t.making }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		data, err := t.readEntries(ctx, index*wire.TileWidth, leaves)
		if kept, _ := t.bundles.Peek(index); err == nil && kept.entries < width {
			t.bundles.Add(index, bundle{entries: width, data: data})
		}
		return data, err
	})
}

// firstEntries cuts a bundle, which has so many, behind its first entries.
func firstEntries(data []byte, count int) []byte {
	rest := data
	for range count {
		_, rest, _ = wire.NextEntry(rest) // it was read to its end before
	}
	size := len(data) - len(rest)
	return data[:size:size]
}

// shared has a read done once for all who ask for the same at the same time, so it must not end with the first one's request.
func (t *tree) shared(ctx context.Context, key string, timeout time.Duration, read func(context.Context) ([]byte, error)) ([]byte, error) {
	done := t.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		return read(ctx)
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-done:
		data, _ := r.Val.([]byte)
		return data, r.Err
	}
}

// readEntries gets the entries of the leaves from one on from the first node whose entries have those hashes.
func (t *tree) readEntries(ctx context.Context, first uint64, leaves []byte) ([]byte, error) {
	p := t.prover
	err := fmt.Errorf("%w: entries from leaf %d on", ErrUnavailable, first)
	for node := range p.asked(ctx, func(n masterfsm.Storage) bool { return n.Height > 0 }) {
		tryCtx, cancel := context.WithTimeout(ctx, bundleTimeout)
		answer, failed := p.workers.Entries(tryCtx, worker(node), first, len(leaves)/tlog.HashSize)
		cancel()
		switch {
		case failed != nil:
			p.noAnswer(ctx, node, "no answer for entries", failed)
		case answer.Status == wire.ReadBehind:
		case answer.Status == wire.ReadBad && p.lost(answer.Block) && t.mayTouch(ctx, answer.Block, first, leaves):
			err = p.orLost(answer.Block, err)
		case answer.Status != wire.ReadFound:
			p.distrust(node, "leaves that it cannot read", fmt.Errorf("block %d: read status %d", answer.Block, answer.Status))
		default:
			if wrong := checkEntries(answer.Bundle, leaves); wrong != nil {
				p.distrust(node, "entries that it cannot prove", wrong)
				continue
			}
			return answer.Bundle, nil
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, err
}

// mayTouch reports whether a lost block may be among the blocks of a run of leaves, which a node says, by the headers of its neighbours. Where those
// cannot be proven it may.
func (t *tree) mayTouch(ctx context.Context, block, first uint64, leaves []byte) bool {
	if block > 0 {
		if h, err := t.prover.header(ctx, block-1); err == nil && h.Size() >= first+uint64(len(leaves)/tlog.HashSize) {
			return false
		}
	}
	h, err := t.prover.header(ctx, block+1)
	return err != nil || h.First > first
}

// checkEntries holds the entries of a bundle against their leaf hashes.
func checkEntries(data, leaves []byte) error {
	for i := 0; len(leaves) > 0; i++ {
		entry, rest, err := wire.NextEntry(data)
		if err != nil {
			return err
		}
		if hash := tlog.RecordHash(entry); !bytes.Equal(hash[:], leaves[:tlog.HashSize]) {
			return fmt.Errorf("entry %d does not have the leaf's hash", i)
		}
		data, leaves = rest, leaves[tlog.HashSize:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes behind the last entry", len(data))
	}
	return nil
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
		if n.tree.known(uint64(t.L), uint64(t.N), t.W) == nil {
			n.tree.tiles.Add(tileID{uint64(t.L), uint64(t.N)}, bytes.Clone(data[i])) // the answer is larger
		}
	}
}
