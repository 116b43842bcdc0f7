package storagenode

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// BenchmarkPut puts blocks of 4,096 records of 256 bytes, to the disk of the temporary folder and to memory. The case
// verify is a lower bound: it runs only the verifier on the same blocks.
func BenchmarkPut(b *testing.B) {
	const count, size = 4096, 256
	c := newTestChain(1)
	for range 24 {
		growFixed(b, c, count, size)
	}
	report := func(b *testing.B) {
		b.SetBytes(count * size)
		b.ReportMetric(count*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	}
	for _, place := range []string{"disk", "memory"} {
		b.Run(place, func(b *testing.B) {
			b.ReportAllocs()
			var n *Node
			at := len(c.blocks)
			start := processor(b)
			for b.Loop() {
				if at == len(c.blocks) {
					b.StopTimer()
					dir := b.TempDir()
					if place == "memory" {
						dir = memDir(b)
					}
					n, at = mustOpen(b, Config{AtRest: testKeys, Dir: dir}), 0
					b.StartTimer()
				}
				if _, err := n.Put(b.Context(), uint64(at), c.blocks[at].Bytes()); err != nil {
					b.Fatal(err)
				}
				at++
			}
			b.ReportMetric(float64((processor(b)-start).Nanoseconds())/float64(b.N*count), "cpu-ns/record")
			report(b)
		})
	}
	b.Run("verify", func(b *testing.B) {
		var v *chain.Verifier
		at := len(c.blocks)
		start := processor(b)
		for b.Loop() {
			if at == len(c.blocks) {
				v, at = chain.NewVerifier(chain.Head{}), 0
			}
			if _, err := v.Take(&c.blocks[at]); err != nil {
				b.Fatal(err)
			}
			at++
		}
		b.ReportMetric(float64((processor(b)-start).Nanoseconds())/float64(b.N*count), "cpu-ns/record")
		report(b)
	})
}

// growFixed adds a block of records with payloads of one size.
func growFixed(b testing.TB, c *testChain, count, size int) {
	head := c.verifier.Head()
	now := startTime + 1000*head.Height
	var body []byte
	ends := make([]uint32, 0, count)
	leaves := make([]chain.Hash, 0, count)
	r := chain.Record{Project: 1, Time: now, Type: "text/plain", Payload: make([]byte, size)}
	for range count {
		for i := 0; i < size; i += 4 {
			r.Payload[i] = byte(c.rng.Uint32())
		}
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
		leaves = append(leaves, r.Leaf().Hash())
	}
	h := chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(count),
		Prev: head.Hash, Root: head.Tree.Append(leaves...).Root(), Time: now,
	}
	block, err := chain.NewBlock(h, ends, body)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := c.verifier.Take(&block); err != nil {
		b.Fatal(err)
	}
	c.blocks = append(c.blocks, block)
	c.sizes = append(c.sizes, c.verifier.Head().Tree.Size())
}

// processor returns the processor time of this process. Unlike elapsed time, it does not depend on other processes.
func processor(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// readChain creates a node with a chain of blocks of count records of 256 bytes.
func readChain(b *testing.B, blocks, count int) (*Node, Config) {
	c := newTestChain(2)
	cfg := Config{AtRest: testKeys, Dir: memDir(b)}
	n := mustOpen(b, cfg)
	for i := range blocks {
		growFixed(b, c, count, 256)
		if _, err := n.Put(b.Context(), uint64(i), c.blocks[i].Bytes()); err != nil {
			b.Fatal(err)
		}
		c.blocks[i] = chain.Block{} // not needed again
	}
	return n, cfg
}

// BenchmarkRead reads single records, uniformly from a chain of half a million records of 256 bytes in the page cache,
// in batches like those of a master. In the cases with known the reader knows the leaf hashes.
func BenchmarkRead(b *testing.B) {
	const blocks, count = 64, 8192
	n, _ := readChain(b, blocks, count)
	for _, row := range []struct {
		name         string
		batch, known int
	}{
		{"batch=1", 1, 0}, {"batch=16", 16, 0}, {"batch=64", 64, 0},
		{"batch=1/known", 1, 1}, {"batch=16/known", 16, 16}, {"batch=64/known", 64, 64},
	} {
		batch := row.batch
		b.Run(row.name, func(b *testing.B) {
			rng := rand.New(rand.NewPCG(3, 4))
			places := make([]wire.Place, batch)
			out := make([]wire.ProvenRecord, 0, batch)
			b.ReportAllocs()
			start := processor(b)
			for b.Loop() {
				for i := range places {
					places[i] = wire.Place{Block: rng.Uint64N(blocks), Offset: rng.Uint32N(count)}
				}
				out = n.Read(places, row.known, out[:0])
				for i := range out {
					if out[i].Status != wire.ReadFound {
						b.Fatal(out[i].Status)
					}
				}
			}
			b.ReportMetric(float64((processor(b)-start).Nanoseconds())/float64(b.N*batch), "cpu-ns/record")
		})
	}
}

func BenchmarkHeaders(b *testing.B) {
	n, _ := readChain(b, 2000, 4)
	size := n.Status().Size
	b.ReportAllocs()
	for b.Loop() {
		if h, err := n.Headers(512, 64, size); err != nil || len(h) != 64 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/header")
}

func BenchmarkVerify(b *testing.B) {
	n, cfg := readChain(b, 32, 8192)
	if err := n.Close(); err != nil {
		b.Fatal(err)
	}
	var total int64
	start := processor(b)
	for b.Loop() {
		if _, err := offline(cfg.Dir).Verify(context.Background(), func(_, all int64) { total = all }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((processor(b)-start).Nanoseconds())/float64(b.N)/float64(total>>10), "cpu-ns/KiB")
	b.SetBytes(total)
}

// BenchmarkCheck checks a chain of records of 1 KiB with one and with two threads. The case sha only hashes the same
// bytes.
func BenchmarkCheck(b *testing.B) {
	const count, size, blocks = 4096, 1024, 24
	c := newTestChain(1)
	for range blocks {
		growFixed(b, c, count, size)
	}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprint("threads-", threads), func(b *testing.B) {
			n := mustOpen(b, Config{AtRest: testKeys, Dir: memDir(b), CheckThreads: threads})
			c.putAll(b, n)
			b.ReportAllocs()
			b.SetBytes(count * size * blocks)
			for b.Loop() {
				c.clean(b, n, blocks)
			}
		})
	}
	b.Run("sha", func(b *testing.B) {
		payload := make([]byte, size)
		b.SetBytes(count * size * blocks)
		for b.Loop() {
			for range count * blocks {
				sha256.Sum256(payload)
			}
		}
	})
}

// BenchmarkUncleanStart opens the folder of a node that was killed, with four million records, on the disk of the
// temporary folder. It writes again what the last process may not have synced. The case clean opens it after a Close.
func BenchmarkUncleanStart(b *testing.B) {
	const records, count = 4_000_000, 16_384
	c := newTestChain(1)
	n := mustOpen(b, Config{AtRest: testKeys, Dir: b.TempDir()})
	for at := 0; at < records; at += count {
		growKeys(b, c, at, count)
		if _, err := n.Put(b.Context(), uint64(len(c.blocks))-1, c.blocks[len(c.blocks)-1].Bytes()); err != nil {
			b.Fatal(err)
		}
		c.blocks[len(c.blocks)-1] = chain.Block{}
	}
	upToDate(b, n)
	dir := string(n.dir)
	var unsynced int64
	for block := n.synced; block < n.index.Len(); block++ {
		p, _, _ := n.index.Get(block)
		unsynced += int64(p.Length)
	}
	for _, name := range []string{"unclean", "clean"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if name == "clean" {
					mustClose(b, n)
				} else {
					crash(b, n)
				}
				b.StartTimer()
				n = mustOpen(b, Config{AtRest: testKeys, Dir: dir})
			}
			b.ReportMetric(float64(n.writer.Size())/(1<<20), "last-MiB")
			b.ReportMetric(float64(unsynced)/(1<<20), "unsynced-MiB")
		})
	}
	b.ReportMetric(float64(folderSize(b, n.dir.Segments()))/(1<<20), "MiB")
	mustClose(b, n)
}

// BenchmarkEncrypted runs benchmarks again with a node that encrypts.
func BenchmarkEncrypted(b *testing.B) {
	withKeys(b)
	for name, run := range map[string]func(*testing.B){
		"Put": BenchmarkPut, "Read": BenchmarkRead, "Headers": BenchmarkHeaders, "Verify": BenchmarkVerify,
		"Check": BenchmarkCheck,
	} {
		b.Run(name, run)
	}
}
