package masterfsm

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"math"
)

// keyWindow remembers idempotency keys for as long as the settings say, in the order of their arrival. The keys are
// in pages that are only appended to, so that a snapshot can share them while the state changes. A key takes 48 bytes
// there and 5 to 11 in the hash table (a Go map takes 43 to 50), less than the 64 bytes that docs/masters.md promises.
type keyWindow struct {
	pages [][]keyEntry // entries by number, keyPage of them a page
	first uint64       // number of the oldest entry that is remembered
	next  uint64       // number of the next entry
	base  uint64       // number of the first entry of pages[0]

	// The hash table uses open addressing with linear probing; a deletion moves the entries behind it up. The order of
	// the slots differs between masters and is not part of the state. A slot is an entry's number minus origin plus 1,
	// or 0 if it is free.
	slots  []uint32
	origin uint64
	seed   maphash.Seed // so that clients cannot choose keys that collide
}

const (
	keyPage     = 4096
	fewestSlots = 64
)

// keyEntry is a request with an idempotency key: 48 bytes.
type keyEntry struct {
	key    Digest  // of project and key
	body   [8]byte // of the content's digest: enough to recognise other content under the same key
	block  uint64  // of the first record
	offset uint32
	count  uint32 // records
	age    uint64 // of the table when it arrived, milliseconds: see State.age
}

func newKeyWindow() keyWindow {
	return keyWindow{slots: make([]uint32, fewestSlots), seed: maphash.MakeSeed()}
}

// scopedKey makes one name of a project and a key within it.
func scopedKey(project uint32, key Digest) Digest {
	var b [4 + len(key)]byte
	binary.BigEndian.PutUint32(b[:], project)
	copy(b[4:], key[:])
	sum := sha256.Sum256(b[:])
	return Digest(sum[:len(key)])
}

func (w *keyWindow) at(number uint64) *keyEntry {
	i := number - w.base
	return &w.pages[i/keyPage][i%keyPage]
}

func (w *keyWindow) count() uint64 { return w.next - w.first }

// home is the slot at which the search for a key begins.
func (w *keyWindow) home(key *Digest) int {
	return int(maphash.Bytes(w.seed, key[:]) & uint64(len(w.slots)-1))
}

// slot is the slot of a key, or the free slot at which its search ends.
func (w *keyWindow) slot(key *Digest) int {
	i := w.home(key)
	for w.slots[i] != 0 && w.at(w.origin+uint64(w.slots[i])-1).key != *key {
		i = (i + 1) & (len(w.slots) - 1)
	}
	return i
}

func (w *keyWindow) find(key Digest) (*keyEntry, bool) {
	n := w.slots[w.slot(&key)]
	if n == 0 {
		return nil, false
	}
	return w.at(w.origin + uint64(n) - 1), true
}

func (w *keyWindow) add(e keyEntry) {
	//mutant:remembered-key
	if (w.next-w.base)%keyPage == 0 {
		w.pages = append(w.pages, make([]keyEntry, 0, keyPage))
	}
	last := len(w.pages) - 1
	w.pages[last] = append(w.pages[last], e)
	w.next++
	if 4*w.count() > 3*uint64(len(w.slots)) {
		w.rebuild(2 * len(w.slots))
		return
	}
	if w.next-w.origin > math.MaxUint32 {
		w.rebuild(len(w.slots))
		return
	}
	w.slots[w.slot(&e.key)] = uint32(w.next - w.origin)
}

// reserve makes room in an empty table for so many keys, so that it need not grow again and again.
func (w *keyWindow) reserve(keys uint64) {
	const most = 1 << 20 // a number that was read and may be wrong
	size := len(w.slots)
	for 4*min(keys, most) > 3*uint64(size) {
		size *= 2
	}
	w.rebuild(size)
}

// rebuild makes the table anew, of a size that is a power of two.
func (w *keyWindow) rebuild(size int) {
	w.slots, w.origin = make([]uint32, size), w.first
	for number := w.first; number < w.next; number++ {
		w.slots[w.slot(&w.at(number).key)] = uint32(number - w.origin + 1)
	}
}

// evict forgets the keys that are too old or too many.
func (w *keyWindow) evict(age uint64, s Settings) {
	for w.first < w.next && (w.count() > uint64(s.MaxKeys) || age-w.at(w.first).age > s.KeyAge) {
		w.free(w.slot(&w.at(w.first).key))
		w.first++
		if w.first-w.base == keyPage {
			w.pages = append([][]keyEntry(nil), w.pages[1:]...)
			w.base += keyPage
		}
	}
	size := len(w.slots)
	for size > fewestSlots && 8*w.count() < uint64(size) {
		size /= 2
	}
	if size < len(w.slots) {
		w.rebuild(size)
	}
}

// free empties a slot. It moves up the entries behind it that could not be found any more.
func (w *keyWindow) free(i int) {
	mask := len(w.slots) - 1
	for j := (i + 1) & mask; w.slots[j] != 0; j = (j + 1) & mask {
		home := w.home(&w.at(w.origin + uint64(w.slots[j]) - 1).key)
		if (j-home)&mask >= (j-i)&mask {
			w.slots[i] = w.slots[j]
			i = j
		}
	}
	w.slots[i] = 0
}

// Keys returns how many idempotency keys are remembered, and the age of the oldest in milliseconds by the clock of the
// keys. leadership is how long a leader has led, zero to use the log alone.
func (s *State) Keys(leadership Leadership) (remembered int, oldest uint64) {
	if s.keys.count() == 0 {
		return 0, 0
	}
	return int(s.keys.count()), s.ageAt(leadership) - s.keys.at(s.keys.first).age
}
