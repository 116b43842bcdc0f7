package main

import (
	"errors"
	"os"
	"runtime/debug"
	"testing"
)

// TestMemoryLimitOfTheContainer checks that the heap is limited below the container's memory, unless GOMEMLIMIT is set
// or the container has no limit.
func TestMemoryLimitOfTheContainer(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for _, c := range []struct {
		set   string
		limit uint64 // 0 for none
		want  int64
	}{{"", 10 << 30, 9 << 30}, {"", 0, before}, {"1GiB", 10 << 30, before}} {
		debug.SetMemoryLimit(before)
		t.Setenv("GOMEMLIMIT", c.set) // restored at the end
		if c.set == "" {
			_ = os.Unsetenv("GOMEMLIMIT")
		}
		limitMemory(func() (uint64, error) {
			if c.limit == 0 {
				return 0, errors.New("no limit")
			}
			return c.limit, nil
		})
		if got := debug.SetMemoryLimit(-1); got != c.want {
			t.Errorf("%+v: the heap may have %d bytes", c, got)
		}
	}
}
