package boottime

import (
	"time"

	"golang.org/x/sys/unix"
)

// precision is how exact [Suspended] is. attempts bounds how often it reads the clocks for that.
const (
	precision = time.Millisecond
	attempts  = 8
)

// Suspended returns how long the machine was suspended since it booted, within a millisecond: how far CLOCK_BOOTTIME is
// ahead of CLOCK_MONOTONIC. In a time namespace it is ahead by a constant more. So only differences have a meaning.
func Suspended() time.Duration { return ahead(read) }

// ahead reads the clocks until it was not interrupted between two reads, which would count as a difference.
func ahead(read func(clock int32) time.Duration) time.Duration {
	best, difference := time.Duration(-1), time.Duration(0)
	for range attempts {
		before := read(unix.CLOCK_MONOTONIC)
		boot := read(unix.CLOCK_BOOTTIME)
		if took := read(unix.CLOCK_MONOTONIC) - before; best < 0 || took < best {
			best, difference = took, boot-before
		}
		if best < precision {
			break
		}
	}
	return difference
}

// read returns a clock's time. Linux has both clocks, so the call does not fail.
func read(clock int32) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
