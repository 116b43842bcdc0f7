package transport

import (
	"slices"
	"sync"
)

// KeysOf returns a function that derives the keys from the present values of a secret, in their order. It derives them
// again only when the values have changed.
func KeysOf(secret func() []string) func() []Key {
	var mu sync.Mutex // guards both below
	var known []string
	var keys []Key
	return func() []Key {
		values := secret()
		mu.Lock()
		defer mu.Unlock()
		if slices.Equal(values, known) {
			return keys
		}
		list := make([]Key, len(values))
		for i, value := range values {
			key, err := NewKey(value)
			if err != nil {
				panic(err) // only a too long key gives an error
			}
			list[i] = key
		}
		known, keys = values, list
		return keys
	}
}
