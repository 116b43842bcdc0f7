package masterstest

import (
	"context"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// FindRecords searches the blocks that are in the node's index.
func (w *Workers) FindRecords(
	ctx context.Context, t wire.Worker, q wire.RecordQuery,
) (found wire.RecordHits, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		found.End = q.From
		for i := range s.Indexed() {
			h := &s.Blocks[i].Header
			for offset := range h.Count {
				r, err := s.Blocks[i].Record(offset)
				if err != nil {
					return err
				}
				index := h.First + uint64(offset)
				if index < q.From || index >= q.To {
					continue
				}
				fits := r.Project == q.Project && (q.Key == "" || r.Key == q.Key) && r.Time >= q.Since &&
					(q.Until == 0 || r.Time < q.Until)
				if fits && len(found.Hits) < q.Limit {
					found.Hits = append(found.Hits, wire.Hit{Index: index, Block: h.Block, Offset: offset})
					found.End = index + 1
				}
			}
			if len(found.Hits) < q.Limit {
				found.End = max(found.End, min(h.Size(), q.To))
			}
		}
		if s.LieHits != nil {
			s.LieHits(&found)
		}
		return nil
	})
	return found, err
}

func (w *Workers) FindHash(ctx context.Context, t wire.Worker, hash chain.Hash) (found wire.RecordHits, err error) {
	err = w.On(ctx, t, func(s *Storage) error {
		for i := range s.Indexed() {
			h := &s.Blocks[i].Header
			for offset := range h.Count + 1 {
				index := h.First + uint64(offset)
				if chain.Hash(tlog.RecordHash(s.Log.Entries[index])) == hash || offset == h.Count && h.Hash() == hash {
					found.Hits = append(found.Hits, wire.Hit{Index: index, Block: h.Block, Offset: offset})
				}
			}
			found.End = h.Size()
		}
		if s.LieHits != nil {
			s.LieHits(&found)
		}
		return nil
	})
	return found, err
}

// Indexed returns the number of blocks in the node's index.
func (s *Storage) Indexed() int { return max(0, len(s.Blocks)-s.Lag) }
