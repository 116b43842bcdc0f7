package masterstest

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// Clock is a machine's clock: its wall clock can be set, and its monotonic clock continues meanwhile. Its methods may
// be called by many goroutines.
type Clock struct{ wrong atomic.Int64 } // seconds

// Now is time.Now with the wall clock as it was set.
func (c *Clock) Now() time.Time { return shiftWall(time.Now(), c.wrong.Load()) }

// SetWrong sets the wall clock so that it is wrong by a number of seconds. The year must be between 1885 and 2157.
func (c *Clock) SetWrong(by time.Duration) { c.wrong.Store(int64(by / time.Second)) }

// shiftWall changes the wall clock reading of a time by a number of seconds, and leaves its monotonic clock reading.
// Package time has no function for this, so it writes the words of a time.Time. In the bubble of a synctest, where
// times have no monotonic clock reading, the nanoseconds since 1970 serve as one.
func shiftWall(t time.Time, seconds int64) time.Time {
	const (
		monotonic = 1 << 63 // this bit says that the first word holds the wall clock and the second the monotonic one
		shift     = 30      // the nanoseconds are below, the seconds since 1885 above
	)
	begin := time.Date(1885, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	words := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	wall := uint64(t.Unix()-begin+seconds)<<shift | uint64(t.Nanosecond())
	if words.wall&monotonic == 0 {
		words.ext = t.UnixNano()
	}
	words.wall = monotonic | wall
	return t
}
