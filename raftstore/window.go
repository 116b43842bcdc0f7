package raftstore

// window has a value for each index of a range.
type window[T any] struct {
	first uint64
	items []T
}

// end returns the index after the last.
func (w *window[T]) end() uint64 { return w.first + uint64(len(w.items)) }

// set appends the value of an index. Where the index does not follow the last one, the window starts again with it.
func (w *window[T]) set(index uint64, v T) {
	if index != w.end() {
		w.first, w.items = index, nil
	}
	w.items = append(w.items, v)
}

func (w *window[T]) get(index uint64) (v T, ok bool) {
	if index < w.first || index-w.first >= uint64(len(w.items)) {
		return v, false
	}
	return w.items[index-w.first], true
}

// remove removes the indices from low to high, which are at one of the ends.
func (w *window[T]) remove(low, high uint64) {
	low, high = max(low, w.first), min(high+1, w.end())
	switch {
	case low >= high:
	case low == w.first:
		clear(w.items[:high-low])
		if w.items, w.first = w.items[high-low:], high; len(w.items) == 0 {
			w.items = nil
		}
	default:
		w.items = w.items[:low-w.first]
	}
}
