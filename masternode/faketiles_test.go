package masternode

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func (w *fakeWorkers) ReadTiles(ctx context.Context, t wire.Worker, tiles []tlog.Tile) (d wire.TileData, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		s.tileReads++
		s.hashUpTo(uint64(len(s.leaves)))
		for _, t := range tiles {
			if wire.WidthOfTile(uint64(t.L), uint64(t.N), uint64(len(s.leaves))) < t.W {
				d = wire.TileData{Status: wire.ReadBehind}
				return nil
			}
			data, err := tlog.ReadTileData(t, s.reader())
			if err != nil {
				return err
			}
			d.Tiles = append(d.Tiles, data)
		}
		if s.lieTiles != nil {
			s.lieTiles(&d)
		}
		return nil
	})
	return d, err
}

func (w *fakeWorkers) Entries(ctx context.Context, t wire.Worker, first uint64, count int) (e wire.Entries, err error) {
	err = w.on(ctx, t, func(s *fakeStorage) error {
		s.entryReads++
		if first+uint64(count) > uint64(len(s.leaves)) {
			e.Status = wire.ReadBehind
			return nil
		}
		for i := range s.blocks {
			h := &s.blocks[i].Header
			for index := max(first, h.First); index < min(first+uint64(count), h.Size()); index++ {
				if s.bad[h.Block] {
					e = wire.Entries{Status: wire.ReadBad, Block: h.Block}
					return nil
				}
				entry := h.AppendTo(nil)
				if index < h.Seal() {
					encoded := s.blocks[i].Encoded(uint32(index - h.First))
					entry = chain.EncodedLeaf(encoded, chain.EncodedCommit(encoded)).AppendTo(nil)
				}
				e.Bundle = wire.AppendEntry(e.Bundle, entry)
			}
		}
		if s.lieEntries != nil {
			s.lieEntries(&e)
		}
		return nil
	})
	return e, err
}
