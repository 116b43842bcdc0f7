package nodeauth

import (
	"math/rand/v2"
	"testing"
)

// TestWindow compares the window with a set of all counters.
func TestWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		var w window
		seen, highest := map[uint64]bool{}, uint64(0)
		for range 5000 {
			c := highest
			switch rng.IntN(10) {
			case 0:
				c += rng.Uint64N(3 * windowSize)
			case 1:
				c -= min(c, rng.Uint64N(3*windowSize))
			default:
				c += rng.Uint64N(8)
				c -= min(c, rng.Uint64N(8))
			}
			tooOld := c+windowSize < w.next
			if got, want := w.take(c), !seen[c] && !tooOld; got != want {
				t.Fatalf("counter %d with the next %d: taken %v, want %v", c, w.next, got, want)
			}
			seen[c] = true
			highest = max(highest, c)
		}
	}
}
