package blockindex

import (
	"runtime"
	"testing"
)

// TestMemoryOfIndex checks the documented bound of 64 bytes of memory per block.
func TestMemoryOfIndex(t *testing.T) {
	const blocks = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := new(Index)
	for i := range uint64(blocks) {
		x.Add(Place{First: 2 * i, Offset: int64(i), Length: 200, Count: 1})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := float64(after.HeapAlloc-before.HeapAlloc) / blocks; per > 40 {
		t.Errorf("%.1f bytes a block", per)
	}
	if p, _, ok := x.Get(blocks - 1); !ok || p.First != 2*(blocks-1) {
		t.Error("lost a place")
	}
}
