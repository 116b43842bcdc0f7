package prover

import (
	"bytes"
	"sync/atomic"

	"github.com/maypok86/otter/v2"
)

const (
	// recordOverhead is what the cache needs for a record beside its encoded bytes, in bytes: key, hashes, and the
	// cache's own entry. TestRecordCacheBytes compares it with the heap.
	recordOverhead = 512
	// largestPart is the part of the cache that one record may take. A larger one is not kept: it would replace many.
	largestPart = 4
)

// recordCache keeps records that were proven. It is bounded in bytes. A record never changes, so an entry is never
// wrong. Its key has the whole header of the block, and so the block's hash: it names a record of one chain.
//
// W-TinyLFU decides which records stay: one that is read once does not replace one that is read often. So a scan of the
// chain does not remove what is in use.
type recordCache struct {
	kept         *otter.Cache[recordPlace, HashedRecord]
	most         uint64 // bytes
	hits, misses atomic.Uint64
}

// RecordCacheFigures are the metrics of the cache of records.
type RecordCacheFigures struct {
	Bytes        uint64 // that it holds
	Hits, Misses uint64 // reads of records
}

// newRecordCache returns a cache of up to most bytes. It keeps nothing if most is 0.
func newRecordCache(most uint64) *recordCache {
	c := &recordCache{most: most}
	if most > 0 {
		c.kept = otter.Must(&otter.Options[recordPlace, HashedRecord]{
			MaximumWeight: most,
			Weigher:       func(_ recordPlace, r HashedRecord) uint32 { return uint32(weight(r.Encoded)) },
			Executor:      func(f func()) { f() }, // no goroutine of its own
		})
	}
	return c
}

// weight is what a record takes in the cache, in bytes. A record is at most chain.MaxPayload and a little more.
func weight(encoded []byte) uint64 { return uint64(len(encoded)) + recordOverhead }

// get returns a kept record. The caller must not change it.
func (c *recordCache) get(at *recordPlace) (r HashedRecord, ok bool) {
	if c.kept != nil {
		r, ok = c.kept.GetIfPresent(*at)
	}
	if ok {
		c.hits.Add(1)
	} else {
		c.misses.Add(1)
	}
	return r, ok
}

// keep offers a proven record to the cache, which copies it: encoded records share the memory of an answer.
func (c *recordCache) keep(at *recordPlace, r HashedRecord) {
	if c.kept == nil || weight(r.Encoded) > c.most/largestPart {
		return
	}
	r.Encoded = bytes.Clone(r.Encoded)
	c.kept.SetIfAbsent(*at, r)
}

// figures returns the metrics.
func (c *recordCache) figures() RecordCacheFigures {
	f := RecordCacheFigures{Hits: c.hits.Load(), Misses: c.misses.Load()}
	if c.kept != nil {
		f.Bytes = c.kept.WeightedSize()
	}
	return f
}

// RecordCache returns the metrics of the cache of records.
func (p *Prover) RecordCache() RecordCacheFigures { return p.records.figures() }
