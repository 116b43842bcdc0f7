package tiles

import "sync/atomic"

// cacheSlots bounds the cache: 2^13 tiles of about 1 KiB.
const cacheSlots = 1 << 13

// cache keeps full tiles, which never change. Each has one slot where it may stand; a tile of a higher level keeps its slot
// against lower ones, because more paths run through it. No lock: a slot is replaced whole.
type cache struct {
	slots [cacheSlots]atomic.Pointer[tile]
}

func slotOf(level int, index uint64) uint64 {
	// Fibonacci hashing: the high bits of a product with 2^64 / golden ratio (Knuth, TAOCP 6.4).
	return (index*maxLevels + uint64(level)) * 0x9e3779b97f4a7c15 >> (64 - 13)
}

// get copies a tile into t if it is there.
func (c *cache) get(level int, index uint64, t *tile) bool {
	found := c.slots[slotOf(level, index)].Load()
	if found == nil || found.level != level || found.index != index {
		return false
	}
	*t = *found
	return true
}

// put keeps a copy of a full tile.
func (c *cache) put(t *tile) {
	slot := &c.slots[slotOf(t.level, t.index)]
	if old := slot.Load(); old != nil && old.level > t.level {
		return
	}
	kept := *t
	slot.Store(&kept)
}
