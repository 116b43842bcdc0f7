package tiles

import "sync/atomic"

// cacheSlots bounds the cache: 2^13 tiles of about 1 KiB.
const cacheSlots = 1 << 13

// cache keeps full tiles, which never change. Each has one possible slot. A tile of a higher level is not replaced by
// one of a lower level, because more paths run through it. There is no lock: a slot is replaced atomically.
type cache struct {
	slots [cacheSlots]atomic.Pointer[tile]
}

func slotOf(level int, index uint64) uint64 {
	// Fibonacci hashing: the high bits of a product with 2^64 / golden ratio (Knuth, TAOCP 6.4).
	return (index*maxLevels + uint64(level)) * 0x9e3779b97f4a7c15 >> (64 - 13)
}

// get returns a tile that was read since the last correction, or nil. It must not be changed.
func (c *cache) get(level int, index, gen uint64) *tile {
	t := c.slots[slotOf(level, index)].Load()
	if t == nil || t.level != level || t.index != index || t.gen != gen {
		return nil
	}
	return t
}

// put adds a full tile, unless one of a higher level has its slot, and reports whether it did. The tile must not be
// changed then.
func (c *cache) put(t *tile) bool {
	slot := &c.slots[slotOf(t.level, t.index)]
	if old := slot.Load(); old != nil && old.level > t.level && old.gen == t.gen {
		return false
	}
	slot.Store(t)
	return true
}
