package masterfsm

// keyWindow remembers idempotency keys for as long as the settings say, in the order in which they came. The order is kept in
// pages that are only ever added to, so that a snapshot can share them while the state goes on.
type keyWindow struct {
	byKey map[scopedKey]uint64 // the entry's number
	pages [][]keyEntry         // entries by number, keyPage of them a page
	first uint64               // number of the oldest entry that is remembered
	next  uint64               // number of the next entry
	base  uint64               // number of the first entry of pages[0]
}

const keyPage = 4096

type scopedKey struct {
	project uint32
	key     Digest
}

type keyEntry struct {
	project   uint32
	key, body Digest
	run       Run // of all records of the request
	time      uint64
}

func newKeyWindow() keyWindow { return keyWindow{byKey: map[scopedKey]uint64{}} }

func (w *keyWindow) at(number uint64) *keyEntry {
	i := number - w.base
	return &w.pages[i/keyPage][i%keyPage]
}

func (w *keyWindow) find(project uint32, key Digest) (*keyEntry, bool) {
	number, ok := w.byKey[scopedKey{project, key}]
	if !ok {
		return nil, false
	}
	return w.at(number), true
}

func (w *keyWindow) add(e keyEntry) {
	if (w.next-w.base)%keyPage == 0 {
		w.pages = append(w.pages, make([]keyEntry, 0, keyPage))
	}
	last := len(w.pages) - 1
	w.pages[last] = append(w.pages[last], e)
	w.byKey[scopedKey{e.project, e.key}] = w.next
	w.next++
}

// evict forgets the keys that are too old or too many.
func (w *keyWindow) evict(now uint64, s Settings) {
	for w.first < w.next && (w.next-w.first > uint64(s.MaxKeys) || now-w.at(w.first).time > s.KeyAge) {
		e := w.at(w.first)
		delete(w.byKey, scopedKey{e.project, e.key})
		w.first++
		if w.first-w.base == keyPage {
			w.pages = append([][]keyEntry(nil), w.pages[1:]...)
			w.base += keyPage
		}
	}
}

// Keys is how many idempotency keys are remembered, and since when (unix milliseconds, 0 where there is none).
func (s *State) Keys() (remembered int, oldest uint64) {
	if s.keys.first == s.keys.next {
		return 0, 0
	}
	return int(s.keys.next - s.keys.first), s.keys.at(s.keys.first).time
}
