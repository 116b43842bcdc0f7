package prover

import (
	"context"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// A record whose leaf hash is in a proven tile needs no inclusion path: its hash is compared with that one. So a
// storage node reads only the record, and sends only the record. A tile costs a read of 8 KiB and 255 hashes, so it is
// worth it only for leaves of which several are read before the tile is replaced.

const (
	// tileReads is after how many reads of records with a path their tile is read.
	tileReads = 4
	// maxDueTiles is how many tiles wait to be read; more are dropped.
	maxDueTiles = 64
)

// leafTiles chooses the tiles of leaf hashes that are read ahead: full ones with several reads in the time in which as
// many other tiles were read from as are kept. So reads at random places of a long chain, which would replace each tile
// before it is used again, read none.
type leafTiles struct {
	reads *lru.Cache[uint64, int] // with a path, by the tile's index
	due   chan uint64             // indices of tiles
}

func newLeafTiles(kept int) *leafTiles {
	return &leafTiles{reads: newLRU[uint64, int](kept), due: make(chan uint64, maxDueTiles)}
}

// note counts a read of a leaf that needed a path.
func (t *leafTiles) note(leaf uint64) {
	tile := leaf / wire.TileWidth
	reads, _ := t.reads.Get(tile)
	if reads++; reads < tileReads {
		t.reads.Add(tile, reads)
		return
	}
	t.reads.Remove(tile)
	select {
	case t.due <- tile:
	default:
	}
}

// leaf returns the proven hash of a leaf, if a tile with it is kept.
func (p *Prover) leaf(index uint64) (h chain.Hash, ok bool) {
	at := int(index % wire.TileWidth)
	tile, ok := p.tiles.known(tileID{0, index / wire.TileWidth}, at+1)
	if ok {
		h = chain.Hash(tile.data[at*chain.HashSize:])
	}
	return h, ok
}

// readDueTiles reads the tiles that are due, one by one, until ctx ends.
func (p *Prover) readDueTiles(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case tile := <-p.leafTiles.due:
			p.readLeafTile(ctx, tile)
		}
	}
}

// readLeafTile reads a tile of leaf hashes if it is full: it never changes then. Nothing depends on it, so an error is
// only noted for the storage node that caused it.
func (p *Prover) readLeafTile(ctx context.Context, tile uint64) {
	var stored masterfsm.Boundary
	p.cfg.Ledger.Read(func(s *masterfsm.State) { stored = s.Checkpoint() })
	if wire.WidthOfTile(0, tile, stored.Size) == wire.TileWidth {
		_, _ = p.Tile(ctx, 0, tile, wire.TileWidth)
	}
}
