package prover

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// cachingProver returns a prover that runs and keeps records.
func (f *fixture) cachingProver(recordBytes uint64) *Prover {
	p := New(Config{
		Self: "m1", Ledger: f.Ledger, Storages: f.Workers, Logger: hclog.NewNullLogger(), Clock: time.Now,
		RecordBytes: recordBytes,
	})
	ctx, stop := context.WithCancel(f.t.Context())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	f.t.Cleanup(func() {
		stop()
		running.Wait()
	})
	return p
}

// recordReads returns how many reads of records the storage nodes received.
func (f *fixture) recordReads() (reads int) {
	for url := range f.Workers.Storages {
		f.On(url, func(s *masterstest.Storage) { reads += s.Reads })
	}
	return reads
}

// TestKeptRecordsNeedNoNode checks that a record is read from a storage node once, and later without one.
func TestKeptRecordsNeedNoNode(t *testing.T) {
	r := newBlocks(t)
	p := r.cachingProver(1 << 20)
	h, err := p.Header(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Record(t.Context(), h, 2)
	if err != nil {
		t.Fatal(err)
	}
	for url := range r.Workers.Storages {
		r.On(url, func(s *masterstest.Storage) { s.Down = true })
	}
	before := r.recordReads()
	again, err := p.Record(t.Context(), h, 2)
	if err != nil || !bytes.Equal(again.Encoded, first.Encoded) || again.Leaf != first.Leaf ||
		again.Commit != first.Commit {
		t.Fatalf("the record again: %v", err)
	}
	if listed, err := p.StartRecord(h, 2).Wait(t.Context()); err != nil || !bytes.Equal(listed.Encoded, first.Encoded) {
		t.Errorf("in a list: %v", err)
	}
	if got := r.recordReads(); got != before {
		t.Errorf("%d reads of storage nodes for kept records", got-before)
	}
	other := h
	other.Nonce++ // a block of another chain at the same number
	if _, ok := p.records.get(&recordPlace{header: other, offset: 2}); ok {
		t.Error("the record is found under the header of another block")
	}
	if f := p.RecordCache(); f.Hits != 2 || f.Misses != 2 || f.Bytes < uint64(len(first.Encoded)) {
		t.Errorf("figures %+v", f)
	}
}

// TestOnlyProvenRecordsAreKept flips each byte of the answers of all storage nodes, and truncates them. No read may
// succeed, and none may be kept.
func TestOnlyProvenRecordsAreKept(t *testing.T) {
	r := newBlocks(t)
	p := r.cachingProver(1 << 20)
	h, err := p.Header(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	good := r.whole().Blocks[4].Encoded(2)
	lie := func(change func(a *wire.ProvenRecord)) {
		for url := range r.Workers.Storages {
			r.On(url, func(s *masterstest.Storage) { s.Lie = change })
		}
	}
	refused := func(change func(a *wire.ProvenRecord)) {
		t.Helper()
		lie(change)
		_, err := p.Record(t.Context(), h, 2)
		if !errors.Is(err, wire.ErrUnavailable) || p.RecordCache().Bytes != 0 {
			t.Fatalf("%v, %d bytes are kept", err, p.RecordCache().Bytes)
		}
	}
	for i := range good {
		refused(func(a *wire.ProvenRecord) { a.Record[i] ^= 1 << (i % 8) })
	}
	refused(func(a *wire.ProvenRecord) { a.Record = a.Record[:len(a.Record)-1] })
	refused(func(a *wire.ProvenRecord) { a.Record = nil })
	refused(func(a *wire.ProvenRecord) { a.Path[0][7] ^= 1 })
	refused(func(a *wire.ProvenRecord) { a.Path = nil })
	lie(nil)
	if got, err := p.Record(t.Context(), h, 2); err != nil || !bytes.Equal(got.Encoded, good) {
		t.Errorf("from honest nodes: %v", err)
	}
	if p.RecordCache().Bytes == 0 {
		t.Error("a proven record is not kept")
	}
}

// TestDamageOfALostBlockIsNoNews checks that a node that returns damaged bytes of a block is suspect, unless the table
// knows that no node has a good copy.
func TestDamageOfALostBlockIsNoNews(t *testing.T) {
	for _, lost := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newBlocks(t)
			p := r.newProver()
			h, err := p.Header(t.Context(), 4)
			if err != nil {
				t.Fatal(err)
			}
			if lost {
				r.Lose(4)
			}
			for url := range r.Workers.Storages {
				r.On(url, func(s *masterstest.Storage) {
					s.Lie = func(a *wire.ProvenRecord) { a.Record[0] ^= 1 }
				})
			}
			call := RecordRead{Value: recordPlace{header: h, offset: 2}, Done: make(chan struct{})}
			p.readBatch(t.Context(), []*RecordRead{&call})
			if !errors.Is(call.Err, wire.ErrUnavailable) {
				t.Errorf("lost %t: %v", lost, call.Err)
			}
			if suspects := len(p.suspects); (suspects == 0) != lost {
				t.Errorf("lost %t: %d suspects", lost, suspects)
			}
		})
	}
}

// place returns a made-up place.
func place(n int) *recordPlace {
	return &recordPlace{header: chain.Header{Block: uint64(n / 1000), Count: 1000}, offset: uint32(n % 1000)}
}

// madeRecord returns a made-up record of a size.
func madeRecord(n, size int) HashedRecord {
	encoded := make([]byte, size)
	binary.BigEndian.PutUint64(encoded, uint64(n))
	return HashedRecord{Encoded: encoded}
}

// TestRecordCacheBytes fills the cache many times over with records of several sizes. Neither its own count nor the
// heap may pass the bound.
func TestRecordCacheBytes(t *testing.T) {
	const most = 4 << 20
	for _, size := range []int{300, 5000, 100_000} {
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		c := newRecordCache(most)
		for n := range 4 * most / size {
			c.keep(place(n), madeRecord(n, size))
			c.get(place(n)) // so that many are candidates
			if n%1000 > 0 {
				continue // the figure is slow
			}
			if got := c.figures().Bytes; got > most {
				t.Fatalf("records of %d bytes: the cache has %d, more than %d", size, got, most)
			}
		}
		used := heap() - before
		if used > most*5/4 || c.figures().Bytes < most/2 {
			t.Errorf("records of %d bytes: the heap grew by %d KiB, of at most %d; the cache counts %d KiB", size,
				used>>10, most>>10, c.figures().Bytes>>10)
		}
		runtime.KeepAlive(c)
	}
	c := newRecordCache(most)
	if c.keep(place(1), madeRecord(1, most/largestPart)); c.figures().Bytes != 0 {
		t.Error("a record that is larger than its part is kept")
	}
	none := newRecordCache(0)
	none.keep(place(1), madeRecord(1, 100))
	if _, ok := none.get(place(1)); ok || none.figures() != (RecordCacheFigures{Misses: 1}) {
		t.Errorf("a cache of 0 bytes: %t, %+v", ok, none.figures())
	}
}

// TestScanKeepsHotRecords scans twenty times as much as the cache holds, while each record of a hot set is read once
// for every 10,000 records of the scan. A cache that keeps what was read last would lose it in between, since it holds
// half as many. Most of the hot set must stay.
func TestScanKeepsHotRecords(t *testing.T) {
	const most, size, hot, between = 4 << 20, 300, 2000, 5
	c := newRecordCache(most)
	read := func(n int) bool {
		_, ok := c.get(place(n))
		if !ok {
			c.keep(place(n), madeRecord(n, size))
		}
		return ok
	}
	if holds := most / (size + recordOverhead); holds > hot*between*6/10 {
		t.Fatalf("the cache holds %d records, too many to show a difference", holds)
	}
	scanned, found := 0, 0
	for pass := range 10 {
		for n := range hot {
			for range between {
				read(hot + scanned)
				scanned++
			}
			if read(n) && pass == 9 {
				found++
			}
		}
	}
	if found < hot*9/10 {
		t.Errorf("%d of %d records that are in use are found in the last pass of a scan", found, hot)
	}
}

// TestRecordCacheConcurrently reads and keeps records from many goroutines. Each record must be its own.
func TestRecordCacheConcurrently(t *testing.T) {
	c := newRecordCache(1 << 20)
	var readers sync.WaitGroup
	for g := range 8 {
		readers.Go(func() {
			for i := range 5000 {
				n := (i*7 + g*13) % 3000
				r, ok := c.get(place(n))
				if !ok {
					c.keep(place(n), madeRecord(n, 300))
				} else if got := binary.BigEndian.Uint64(r.Encoded); got != uint64(n) {
					t.Errorf("record %d for %d", got, n)
				}
			}
		})
	}
	readers.Wait()
	if got := c.figures().Bytes; got > 1<<20 {
		t.Errorf("%d bytes", got)
	}
}
