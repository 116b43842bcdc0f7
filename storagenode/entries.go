package storagenode

import (
	"context"
	"encoding/binary"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// Leaves are not kept: they are made again from the records, payloads and all, so a bundle of large records is work for the disk. Only so
// many are made at a time, each with no more in memory than a piece of a block: entryBytes, or one record where that is larger.
const (
	bundleWorkers = 2
	entryBytes    = 1 << 20
)

// Tiles reads tiles of the tree's hashes as they stand on disk: nothing is proven. It answers ReadBehind where the node's tree is too small
// for one of them.
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
		if answer.Tiles[i], err = n.tiles.Row(nil, t.L*wire.TileHeight/chain.SubtreeLevel, uint64(t.N)*wire.TileWidth, t.W); err != nil {
			n.log.Error("hashes of the tree cannot be read", "tile", t.Path(), "error", err)
			return wire.TileData{Status: wire.ReadBad}
		}
	}
	return answer
}

// Entries makes the data of count leaves from one on: of records from the blocks, of seals their headers. Each was held against the leaf
// hash on disk. It waits while others are at it, and ends with ctx, whose error is the only one.
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
			n.log.Error("leaves cannot be made again", "block", run.block, "leaf", run.next, "error", err)
			return wire.Entries{Status: wire.ReadBad, Block: run.block}, nil
		}
	}
	return wire.Entries{Bundle: run.bundle}, nil
}

// entryRun makes the entries of a run of leaves.
type entryRun struct {
	n         *Node
	next, end uint64 // leaves that are left
	block     uint64 // that is read
	bundle    []byte
	buf       []byte // for pieces of blocks
}

// readPiece makes the next entries: those of a piece of a block's records, or of its seal. No lock is held for longer. What failed is tried again
// where a repair replaced the block's file meanwhile.
func (e *entryRun) readPiece() error {
	n := e.n
	n.life.RLock()
	defer n.life.RUnlock()
	next, made := e.next, len(e.bundle)
	return n.steady(func() error {
		e.next, e.bundle = next, e.bundle[:made]
		block, p, ok := n.index.Find(next)
		e.block = block
		if !ok || p.Lost() || next >= p.Next() {
			return fmt.Errorf("%w: leaf %d is of no block that is here", ErrDamaged, next)
		}
		if next == p.First+uint64(p.Count) {
			return e.seal(block)
		}
		_, seg, _ := n.index.Get(block)
		return e.records(&p, seg)
	})
}

// records makes the entries that are due of a block's records, as many as a piece has.
func (e *entryRun) records(p *Place, seg uint64) error {
	from := uint32(e.next - p.First)
	to := uint32(min(e.end-p.First, uint64(p.Count)))
	if uint64(p.Length) < uint64(chain.BlockOverhead(p.Count))+chain.RecordOverhead {
		return fmt.Errorf("%w: %d bytes cannot hold %d records", ErrDamaged, p.Length, p.Count)
	}
	var ends []uint32
	err := e.n.files.with(seg, func(f segment.File) (err error) {
		if ends, err = readEnds(f, p, from, to); err != nil {
			return err
		}
		whole := 2 // a record, and those that fit behind it
		for whole < len(ends) && ends[whole]-ends[0] <= entryBytes {
			whole++
		}
		ends = ends[:whole]
		e.buf = growTo(e.buf, int(ends[whole-1]-ends[0]))
		_, err = f.ReadAt(e.buf, p.Offset+segment.FrameHeader+int64(chain.BlockOverhead(p.Count))+int64(ends[0]))
		return err
	})
	if err != nil {
		return err
	}
	leaves, err := e.n.tiles.Leaves(nil, e.next, len(ends)-1)
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if err := e.record(e.buf[ends[i]-ends[0]:ends[i+1]-ends[0]], leaf); err != nil {
			return err
		}
	}
	return nil
}

// readEnds reads where records of a block end, the one before the first among them: of to-from records it tells to-from+1 places.
func readEnds(f segment.File, p *Place, from, to uint32) ([]uint32, error) {
	ends := make([]uint32, 0, to-from+1)
	at := p.Offset + segment.FrameHeader + chain.HeaderSize + 4*(int64(from)-1)
	raw := make([]byte, 4*(to-from+1))
	into := raw
	if from == 0 { // before the first record stands no end
		into, at = raw[4:], at+4
	}
	if _, err := f.ReadAt(into, at); err != nil {
		return nil, err
	}
	last, limit := uint32(0), p.Length-uint32(chain.BlockOverhead(p.Count))
	for len(raw) > 0 {
		end := binary.BigEndian.Uint32(raw)
		if end < last || end > limit {
			return nil, fmt.Errorf("%w: the table of ends is not one", ErrDamaged)
		}
		ends, last, raw = append(ends, end), end, raw[4:]
	}
	return ends, nil
}

func growTo(buf []byte, size int) []byte {
	if cap(buf) < size {
		return make([]byte, size)
	}
	return buf[:size]
}

// record makes the entry of an encoded record, and holds it against its leaf hash.
func (e *entryRun) record(encoded []byte, leaf chain.Hash) error {
	if size, err := chain.EncodedRecordSize(encoded); err != nil || size != len(encoded) {
		return fmt.Errorf("%w: %d bytes are no record", ErrDamaged, len(encoded))
	}
	made := chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded))
	if made.Hash() != leaf {
		return fmt.Errorf("%w: a record, or its leaf hash: they do not fit", ErrDamaged)
	}
	var buf [chain.LeafSize]byte
	e.bundle = wire.AppendEntry(e.bundle, made.AppendTo(buf[:0]))
	e.next++
	return nil
}

// seal makes the entry of a block's seal.
func (e *entryRun) seal(block uint64) error {
	r := e.n.reader()
	defer r.release(e.n)
	h, err := r.headerOnce(e.n, block)
	if err != nil {
		return err
	}
	leaf, err := e.n.tiles.Leaves(nil, e.next, 1)
	if err == nil && leaf[0] != h.SealHash() {
		err = fmt.Errorf("%w: the header, or the seal's leaf hash: they do not fit", ErrDamaged)
	}
	if err != nil {
		return err
	}
	var buf [chain.HeaderSize]byte
	e.bundle = wire.AppendEntry(e.bundle, h.AppendTo(buf[:0]))
	e.next++
	return nil
}
