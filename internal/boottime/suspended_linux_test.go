package boottime

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The difference of the clocks is the time in suspension. An interruption between two reads does not count.
func TestSuspended(t *testing.T) {
	const slept = time.Hour
	now, reads := time.Minute, 0
	got := ahead(func(clock int32) time.Duration {
		if reads++; reads == 2 {
			now += time.Second // interrupted
		}
		now += time.Microsecond
		if clock == unix.CLOCK_BOOTTIME {
			return now + slept
		}
		return now
	})
	if got < slept || got > slept+precision {
		t.Errorf("suspended for %v, want %v", got, slept)
	}
}

// The clocks of this machine differ by the same while it runs.
func TestSuspendedHere(t *testing.T) {
	first := Suspended()
	for range 100 {
		if d := Suspended() - first; d.Abs() > time.Second {
			t.Fatalf("suspended for %v more", d)
		}
	}
}
