package records

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSorted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	tags := map[string]func() uint64{
		"hashes":       rng.Uint64,
		"few":          func() uint64 { return rng.Uint64N(5) << 60 },
		"projects":     func() uint64 { return rng.Uint64N(3)<<32 | rng.Uint64N(1000) },
		"one bucket":   func() uint64 { return rng.Uint64() >> 30 },
		"all the same": func() uint64 { return 7 },
	}
	for name, tag := range tags {
		for _, n := range []int{0, 1, 31, 32, 33, 1000, 20_000} {
			list := make([]entry, n)
			for i := range list {
				list[i] = entry{tag(), rng.Uint32N(50)}
			}
			want := slices.Clone(list)
			slices.SortFunc(want, entry.compare)
			if got := sorted(list); !slices.Equal(got, want) {
				t.Errorf("%d %s are not sorted", n, name)
			}
		}
	}
}
