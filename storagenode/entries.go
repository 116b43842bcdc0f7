package storagenode

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/recordends"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// Leaves are not stored. They are computed from the records, payloads included, so a bundle of large records is work
// for the disk. bundleWorkers bounds the calls that do that at a time. Each has no more in memory than a piece of a
// block: entryBytes, or one record if that is larger.
const (
	bundleWorkers = 2
	entryBytes    = 1 << 20
)

// Tiles reads tiles of the tree's hashes as they are on disk: nothing is proven. The status is ReadBehind if the node's
// tree is too small for one of them.
func (n *Node) Tiles(list []tlog.Tile) wire.TileData {
	n.life.RLock()
	defer n.life.RUnlock()
	size := n.Status().Size
	answer := wire.TileData{Tiles: make([][]byte, len(list))}
	for i, t := range list {
		if wire.WidthOfTile(uint64(t.L), uint64(t.N), size) < t.W {
			return wire.TileData{Status: wire.ReadBehind}
		}
		var err error
		level := t.L * wire.TileHeight / chain.SubtreeLevel
		if answer.Tiles[i], err = n.tiles.Row(nil, level, uint64(t.N)*wire.TileWidth, t.W); err != nil {
			n.log.Error("hashes of the tree cannot be read", "tile", t.Path(), "error", err)
			return wire.TileData{Status: statusOf(err)}
		}
	}
	return answer
}

// Entries returns the data of count leaves from one on: computed from the blocks for records, the headers for seals.
// Each was compared with the leaf hash on disk. Entries waits while other calls read, and ends with ctx, whose error
// is the only one.
func (n *Node) Entries(ctx context.Context, first uint64, count int) (wire.Entries, error) {
	select {
	case n.bundles <- struct{}{}:
		defer func() { <-n.bundles }()
	case <-ctx.Done():
		return wire.Entries{}, context.Cause(ctx)
	}
	if size := n.Status().Size; first >= size || uint64(count) > size-first {
		return wire.Entries{Status: wire.ReadBehind}, nil
	}
	run := entryRun{n: n, next: first, end: first + uint64(count)}
	for run.next < run.end {
		if ctx.Err() != nil {
			return wire.Entries{}, context.Cause(ctx)
		}
		if err := run.readPiece(); err != nil {
			if run.next >= n.Status().Size { // a repair has cut the chain meanwhile
				return wire.Entries{Status: wire.ReadBehind}, nil
			}
			n.log.Error("leaves cannot be computed", "block", run.block, "leaf", run.next, "error", err)
			return wire.Entries{Status: statusOf(err), Block: run.block}, nil
		}
	}
	return wire.Entries{Bundle: run.bundle}, nil
}

// entryRun computes the entries of a run of leaves.
type entryRun struct {
	n         *Node
	next, end uint64 // leaves that are left
	block     uint64 // that is read
	bundle    []byte
	buf       []byte // for pieces of blocks
}

// readPiece computes the next entries: those of a piece of a block's records, or of its seal. It holds life for no
// longer.
func (e *entryRun) readPiece() error {
	n := e.n
	n.life.RLock()
	defer n.life.RUnlock()
	block, p, ok := n.index.Find(e.next)
	e.block = block
	if !ok || p.Lost() || e.next >= p.Next() {
		return fmt.Errorf("%w: leaf %d belongs to no block that is here", ErrDamaged, e.next)
	}
	if e.next == p.First+uint64(p.Count) {
		return e.addSeal()
	}
	return e.addRecords()
}

// addRecords adds the entries of the next records of the block, as many as fit a piece.
func (e *entryRun) addRecords() error {
	var ends []uint32
	err := e.n.files.read(e.block, func(p blockindex.Place, f segment.File) (err error) {
		from := uint32(e.next - p.First)
		count := uint32(min(e.end-p.First, uint64(p.Count))) - from
		if ends, err = recordends.Read(make([]uint32, 0, count+1), f, &p, from, count); err != nil {
			return err
		}
		fit := 2 // one record, and those that fit after it
		for fit < len(ends) && ends[fit]-ends[0] <= entryBytes {
			fit++
		}
		ends = ends[:fit]
		size := int(ends[fit-1] - ends[0])
		e.buf = slices.Grow(e.buf[:0], size)[:size]
		return recordends.ReadRecords(f, e.buf, &p, ends[0])
	})
	if err != nil {
		return err
	}
	leaves, err := e.n.tiles.Leaves(nil, e.next, len(ends)-1)
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if err := e.addRecord(e.buf[ends[i]-ends[0]:ends[i+1]-ends[0]], leaf); err != nil {
			return err
		}
	}
	return nil
}

// addRecord adds the entry of an encoded record, after comparing it with its leaf hash.
func (e *entryRun) addRecord(encoded []byte, leaf chain.Hash) error {
	if err := oneRecord(encoded); err != nil {
		return err
	}
	made := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
	if made.Hash() != leaf {
		return fmt.Errorf("%w: a record does not fit its leaf hash", ErrDamaged)
	}
	var buf [chain.LeafSize]byte
	e.bundle = wire.AppendEntry(e.bundle, made.AppendTo(buf[:0]))
	e.next++
	return nil
}

// addSeal adds the entry of the block's seal.
func (e *entryRun) addSeal() error {
	h, err := e.n.header(e.block)
	if err != nil {
		return err
	}
	leaf, err := e.n.tiles.Leaves(nil, e.next, 1)
	if err == nil && leaf[0] != h.SealHash() {
		err = fmt.Errorf("%w: the header does not fit the seal's leaf hash", ErrDamaged)
	}
	if err != nil {
		return err
	}
	var buf [chain.HeaderSize]byte
	e.bundle = wire.AppendEntry(e.bundle, h.AppendTo(buf[:0]))
	e.next++
	return nil
}
