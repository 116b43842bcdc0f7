package masterstest

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/wire"
)

func (w *Workers) ReadTiles(ctx context.Context, t wire.Worker, tiles []tlog.Tile) (d wire.TileData, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		s.TileReads++
		for _, t := range tiles {
			if wire.WidthOfTile(uint64(t.L), uint64(t.N), s.Size()) < t.W {
				d = wire.TileData{Status: wire.ReadBehind}
				return nil
			}
			data, err := tlog.ReadTileData(t, s.Log)
			if err != nil {
				return err
			}
			d.Tiles = append(d.Tiles, data)
		}
		if s.LieTiles != nil {
			s.LieTiles(&d)
		}
		return nil
	})
	return d, err
}

func (w *Workers) Entries(ctx context.Context, t wire.Worker, first uint64, count int) (e wire.Entries, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		s.EntryReads++
		if first+uint64(count) > s.Size() {
			e.Status = wire.ReadBehind
			return nil
		}
		for i := range s.Blocks {
			h := &s.Blocks[i].Header
			for index := max(first, h.First); index < min(first+uint64(count), h.Size()); index++ {
				if s.Bad[h.Block] {
					e = wire.Entries{Status: wire.ReadBad, Block: h.Block}
					return nil
				}
				e.Bundle = wire.AppendEntry(e.Bundle, s.Log.Entries[index])
			}
		}
		if s.LieEntries != nil {
			s.LieEntries(&e)
		}
		return nil
	})
	return e, err
}
