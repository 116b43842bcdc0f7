package chain_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// BenchmarkVerifier verifies blocks of 4,096 records. BenchmarkSHA256 only hashes the same payloads, for comparison.
func BenchmarkVerifier(b *testing.B) {
	for _, size := range []int{256, 1024} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			const count = 4096
			block := makeBlock(b, chain.Head{}, startTime, workBits, makeRecords(0, count, startTime, size))
			b.SetBytes(int64(count * size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := chain.NewVerifier(chain.Head{}).Take(&block); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkSHA256(b *testing.B) {
	for _, size := range []int{256, 1024} {
		b.Run(fmt.Sprintf("payload=%d", size), func(b *testing.B) {
			const count = 4096
			records := makeRecords(0, count, startTime, size)
			var sum byte
			b.SetBytes(int64(count * size))
			for b.Loop() {
				for i := range records {
					h := sha256.Sum256(records[i].Payload)
					sum ^= h[0]
				}
			}
			b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

func BenchmarkParseBlock(b *testing.B) {
	block := makeBlock(b, chain.Head{}, startTime, workBits, makeRecords(0, 4096, startTime, 256))
	b.SetBytes(int64(len(block.Bytes())))
	for b.Loop() {
		if _, err := chain.ParseBlock(block.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSolve(b *testing.B) {
	h := headerFor(chain.Head{}, startTime, 255, makeRecords(0, 1, startTime, 8))
	inner := h.Inner()
	const tries = 1000
	for b.Loop() {
		if _, found := chain.Solve(inner, 255, 0, tries); found {
			b.Fatal("found")
		}
	}
	b.ReportMetric(tries*float64(b.N)/b.Elapsed().Seconds(), "tries/s")
}
