package records

import (
	"math/bits"
	"slices"
)

// perBucket is the average number of entries in a bucket.
const perBucket = 8

// sorted sorts entries; it may use their memory. Most tags are hashes, so their first bits give the approximate
// position of an entry. That halves the time to build an index, most of which is sorting.
func sorted(list []entry) []entry {
	if len(list) < 4*perBucket || slices.IsSortedFunc(list, entry.compare) {
		slices.SortFunc(list, entry.compare)
		return list
	}
	shift := 64 - bits.Len(uint(len(list)/perBucket))
	ends := make([]uint32, 1<<(64-shift)) // of the buckets; at first their sizes, then their begins
	for i := range list {
		ends[list[i].tag>>shift]++
	}
	sum := uint32(0)
	for i, size := range ends {
		ends[i] = sum
		sum += size
	}
	out := make([]entry, len(list))
	for _, e := range list {
		at := &ends[e.tag>>shift]
		out[*at] = e
		*at++
	}
	begin := uint32(0)
	for _, end := range ends {
		slices.SortFunc(out[begin:end], entry.compare)
		begin = end
	}
	return out
}
