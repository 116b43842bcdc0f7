package recordends

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/blockindex"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// counted counts the reads of a file.
type counted struct {
	io.ReaderAt
	reads int
}

func (c *counted) ReadAt(p []byte, at int64) (int, error) {
	c.reads++
	return c.ReaderAt.ReadAt(p, at)
}

// fileOf returns a file with the frame of a block of count records of random sizes, its place, and the block's table.
func fileOf(t testing.TB, rng *rand.Rand, count int) (data []byte, p blockindex.Place, ends []uint32) {
	var body []byte
	for range count {
		r := chain.Record{Project: 1, Time: 1, Payload: make([]byte, 1+rng.IntN(300))}
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
	}
	block, err := chain.NewBlock(chain.Header{Version: chain.Version, Count: uint32(count)}, ends, body)
	if err != nil {
		t.Fatal(err)
	}
	before := make([]byte, rng.IntN(1000))
	p = blockindex.Place{Offset: int64(len(before)), Length: uint32(len(block.Bytes())), Count: uint32(count)}
	return segment.AppendFrame(before, block.Bytes()), p, ends
}

// TestSpan looks up every record of blocks of several sizes, and compares it with the block's table. The file must be
// read once for each page.
func TestSpan(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := new(Cache)
	for number, count := range []int{1, 2, pageRecords - 1, pageRecords, pageRecords + 1, 3*pageRecords + 7} {
		data, p, ends := fileOf(t, rng, count)
		f := &counted{ReaderAt: bytes.NewReader(data)}
		for pass := range 2 {
			begin := uint32(0)
			for offset, end := range ends {
				from, to, kept, err := c.Span(f, uint64(number), &p, uint32(offset))
				if err != nil || from != begin || to != end {
					t.Fatalf("record %d of %d: %d to %d, want %d to %d: %v", offset, count, from, to, begin, end, err)
				}
				if first := pass == 0 && offset%pageRecords == 0; kept == first {
					t.Errorf("record %d of %d, pass %d: kept %t", offset, count, pass, kept)
				}
				if size, err := chain.EncodedRecordSize(data[Offset(&p, from):Offset(&p, to)]); err != nil ||
					size != int(to-from) {
					t.Fatalf("record %d of %d: not a record: %v", offset, count, err)
				}
				begin = end
			}
		}
		if want := (count + pageRecords - 1) / pageRecords; f.reads != want {
			t.Errorf("%d records: %d reads, want %d", count, f.reads, want)
		}
		all, err := Read(nil, f, &p, 0, uint32(count))
		if err != nil || len(all) != count+1 || all[0] != 0 || all[count] != ends[count-1] {
			t.Errorf("%d records: the whole table has %d, %v", count, len(all), err)
		}
	}
}

// TestPagesAreReadAgain checks that a page is read again after Drop and Forget, and for another place of the block.
func TestPagesAreReadAgain(t *testing.T) {
	data, p, _ := fileOf(t, rand.New(rand.NewPCG(3, 4)), 600)
	moved := p
	moved.Offset += 10
	files := map[int64][]byte{p.Offset: data, moved.Offset: append(make([]byte, 10), data...)}
	c := new(Cache)
	for name, row := range map[string]struct {
		change func()
		p      blockindex.Place
		reads  int
	}{
		"nothing":             {func() {}, p, 0},
		"Drop":                {c.Drop, p, 1},
		"Forget":              {func() { c.Forget(7, 511) }, p, 1},
		"Forget another page": {func() { c.Forget(7, 512); c.Forget(8, 300) }, p, 0},
		"another place":       {func() {}, moved, 1},
	} {
		span := func(p blockindex.Place) int {
			f := &counted{ReaderAt: bytes.NewReader(files[p.Offset])}
			if _, _, _, err := c.Span(f, 7, &p, 300); err != nil {
				t.Fatal(err)
			}
			return f.reads
		}
		span(p)
		row.change()
		if got := span(row.p); got != row.reads {
			t.Errorf("%s: %d reads, want %d", name, got, row.reads)
		}
	}
}

// TestErrorsAreNotKept checks that a page that cannot be read, or that is damaged, is read again.
func TestErrorsAreNotKept(t *testing.T) {
	data, p, _ := fileOf(t, rand.New(rand.NewPCG(5, 6)), 20)
	c := new(Cache)
	bad := bytes.Clone(data)
	bad[p.Offset+segment.FrameHeader+chain.HeaderSize+endSize*3] ^= 0x80 // an end that is beyond the block
	_, _, _, err := c.Span(bytes.NewReader(bad), 7, &p, 5)
	if !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("a damaged table: %v", err)
	}
	if _, _, _, err = c.Span(bytes.NewReader(data[:p.Offset+150]), 7, &p, 5); !errors.Is(err, io.EOF) {
		t.Errorf("a short file: %v", err)
	}
	small := p
	small.Length = 100
	if _, _, _, err = c.Span(bytes.NewReader(data), 7, &small, 5); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("a block that is too small: %v", err)
	}
	if _, _, kept, err := c.Span(bytes.NewReader(data), 7, &p, 5); kept || err != nil {
		t.Errorf("the good table: kept %t, %v", kept, err)
	}
}

// TestCacheBytes reads more pages than the cache holds. The heap may not grow beyond the bound.
func TestCacheBytes(t *testing.T) {
	data, p, _ := fileOf(t, rand.New(rand.NewPCG(7, 8)), pageRecords)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := new(Cache)
	for block := range uint64(4 * slots) {
		if _, _, _, err := c.Span(bytes.NewReader(data), block, &p, 3); err != nil {
			t.Fatal(err)
		}
	}
	if used := heap() - before; used > MaxBytes || used < MaxBytes/2 {
		t.Errorf("%d KiB of at most %d", used>>10, MaxBytes>>10)
	}
	runtime.KeepAlive(c)
}

// FuzzSpan looks up records in tables of arbitrary bytes: their places are within the block, and in order.
func FuzzSpan(f *testing.F) {
	data, p, _ := fileOf(f, rand.New(rand.NewPCG(9, 10)), 5)
	f.Add(data[p.Offset:], uint16(5), uint16(3))
	f.Add(data[p.Offset:], uint16(4), uint16(0))
	f.Add(data[p.Offset:len(data)-5], uint16(5), uint16(4))
	f.Fuzz(func(t *testing.T, data []byte, count, offset uint16) {
		if count == 0 {
			return
		}
		p := blockindex.Place{Length: uint32(len(data)), Count: uint32(count)}
		begin, end, _, err := new(Cache).Span(bytes.NewReader(data), 1, &p, uint32(offset%count))
		if err == nil && (begin+chain.RecordOverhead > end ||
			uint64(end)+uint64(chain.BlockOverhead(p.Count)) > uint64(p.Length)) {
			t.Errorf("%d to %d in %d bytes", begin, end, len(data))
		}
	})
}
