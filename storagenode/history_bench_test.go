package storagenode

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// The index under test: a million records over a thousand keys, in blocks as a busy cluster cuts them.
const (
	historyRecords = 1_000_000
	historyKeys    = 1000
	historyBlock   = 16_384
)

// BenchmarkHistory looks up pages of a key's history and reads their records with proofs, as a master requests them
// from a storage node. It also reports the cost of the index: bytes on disk and in memory per record, and the time to
// build it.
func BenchmarkHistory(b *testing.B) {
	c := newTestChain(1)
	for at := 0; at < historyRecords; at += historyBlock {
		growKeys(b, c, at, min(historyBlock, historyRecords-at))
	}
	dir := memDir(b)
	n := mustOpen(b, Config{AtRest: testKeys, Dir: dir})
	c.putAll(b, n)
	upToDate(b, n)
	c.blocks = nil
	mustClose(b, n)

	b.Run("index", func(b *testing.B) {
		var disk, memory int64
		for b.Loop() {
			b.StopTimer()
			n := mustOpen(b, Config{AtRest: testKeys, Dir: dir})
			if err := n.indexer.index.Cut(0); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			upToDate(b, n)
			b.StopTimer()
			disk = folderSize(b, filepath.Join(dir, "records"))
			with := heap()
			if err := n.indexer.stop(); err != nil {
				b.Fatal(err)
			}
			memory = with - heap()
			mustClose(b, n)
			b.StartTimer()
		}
		b.ReportMetric(float64(disk)/historyRecords, "disk-B/record")
		b.ReportMetric(float64(max(0, memory))/historyRecords, "memory-B/record")
		b.ReportMetric(historyRecords*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	n = mustOpen(b, Config{AtRest: testKeys, Dir: dir})
	size := n.Status().Size
	for _, limit := range []int{wire.DefaultPage, wire.MaxHits} {
		b.Run(fmt.Sprint("page of ", limit), func(b *testing.B) {
			key := 0
			for b.Loop() {
				key = (key + 7) % historyKeys
				found, err := n.Find(b.Context(), wire.RecordQuery{Project: 1, Key: fmt.Sprint("key-", key),
					From: size / 3, To: size, Limit: limit})
				if err != nil || len(found.Hits) < min(limit, historyRecords/historyKeys/2) {
					b.Fatalf("%d hits, %v", len(found.Hits), err)
				}
				places := make([]wire.Place, len(found.Hits))
				for i, hit := range found.Hits {
					places[i] = wire.Place{Block: hit.Block, Offset: hit.Offset}
				}
				for _, answer := range n.Read(places, 0, nil) {
					if answer.Status != wire.ReadFound {
						b.Fatalf("%+v", answer)
					}
				}
			}
		})
	}
}

// growKeys adds a block of records under the keys in turn.
func growKeys(b *testing.B, c *testChain, from, count int) {
	head := c.verifier.Head()
	now := startTime + 1000*head.Height
	var body []byte
	ends := make([]uint32, 0, count)
	leaves := make([]chain.Hash, 0, count)
	for i := range count {
		r := chain.Record{Project: 1, Time: now, Key: fmt.Sprint("key-", (from+i)%historyKeys),
			Payload: fmt.Appendf(nil, "record %d", from+i)}
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
		leaves = append(leaves, r.Leaf().Hash())
	}
	h := chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(count),
		Prev: head.Hash, Root: head.Tree.Append(leaves...).Root(), Time: now,
	}
	block, err := chain.NewBlock(h, ends, body)
	if err == nil {
		_, err = c.verifier.Take(&block)
	}
	if err != nil {
		b.Fatal(err)
	}
	c.blocks = append(c.blocks, block)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func folderSize(b *testing.B, dir string) (size int64) {
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}
