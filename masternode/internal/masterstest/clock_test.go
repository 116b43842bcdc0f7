package masterstest

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestClock checks that setting the wall clock does not change the monotonic clock.
func TestClock(t *testing.T) {
	t.Run("real", testClock)
	t.Run("virtual", func(t *testing.T) { synctest.Test(t, testClock) })
}

func testClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{0, time.Second, -time.Hour, 100 * year, -100 * year} {
		var c Clock
		before := c.Now()
		c.SetWrong(by)
		now := c.Now()
		if wrong := now.Round(0).Sub(before.Round(0)) - by; wrong < 0 || wrong > time.Minute {
			t.Errorf("set by %v: the wall clock is at %v, it was %v", by, now, before)
		}
		if elapsed := now.Sub(before); elapsed < 0 || elapsed > time.Minute {
			t.Errorf("set by %v: %v have passed by the monotonic clock", by, elapsed)
		}
	}
}
