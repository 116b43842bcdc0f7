package heap

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	p := Policy{Most: 300, Least: 50, Garbage: 60 << 20}
	for live, want := range map[uint64]int{
		0: 300, 10 << 20: 300, 20 << 20: 300, 30 << 20: 200, 60 << 20: 100, 120 << 20: 50, 1 << 30: 50,
	} {
		if got := p.percent(live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d", live>>20, got, want)
		}
	}
}

// kept keeps memory alive.
var kept [][]byte

func keep(mebibytes int) {
	kept = nil
	for range mebibytes {
		kept = append(kept, make([]byte, 1<<20))
	}
}

// awaitPercent collects until the finalizer has run. A percentage within a tenth of the one that is due stays.
func awaitPercent(t *testing.T, what string, low, high int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; runtime.Gosched() {
		runtime.GC()
		got := debug.SetGCPercent(100)
		debug.SetGCPercent(got)
		if low <= got && got <= high {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d %%, want %d to %d", what, got, low, high)
		}
	}
}

// TestPolicyFollowsTheLiveData checks that the percentage falls when the live data grows, rises when it shrinks, and is
// the old one after the end.
func TestPolicyFollowsTheLiveData(t *testing.T) {
	before := debug.SetGCPercent(100)
	t.Cleanup(func() { keep(0); debug.SetGCPercent(before) })
	stop := Policy{Most: 300, Least: 50, Garbage: 30 << 20}.Apply()
	defer stop()
	keep(20)
	awaitPercent(t, "20 MiB live", 100, 165)
	keep(100)
	awaitPercent(t, "100 MiB live", 50, 55)
	keep(0)
	awaitPercent(t, "nothing live", 270, 300)
	keep(100)
	stop()
	runtime.GC()
	awaitPercent(t, "stopped", 100, 100)
	stop()
}

// TestIdleMemoryIsReleased checks that a process gives back what it no longer uses, but not while it allocates.
func TestIdleMemoryIsReleased(t *testing.T) {
	before := debug.SetGCPercent(-1) // no collection by itself
	t.Cleanup(func() { debug.SetGCPercent(before) })
	keep(100)
	keep(0)
	if got := reclaimable(); got < 100<<20 {
		t.Fatalf("%d bytes of garbage after 100 MiB", got)
	}
	run := func(i Idle, wait func()) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); i.Release(ctx) }()
		wait()
		cancel()
		<-done
	}
	// Nothing is idle that may allocate no byte. The ticks of another loop show that this one had its ticks.
	run(Idle{Every: time.Millisecond, Allocated: 0, Reclaimable: 32 << 20}, func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		<-tick.C
		<-tick.C
	})
	if got := reclaimable(); got < 100<<20 {
		t.Errorf("%d bytes are left, although the process was not idle", got)
	}
	run(Idle{Every: time.Millisecond, Allocated: 1 << 30, Reclaimable: 32 << 20}, func() {
		for deadline := time.Now().Add(time.Minute); reclaimable() >= 32<<20; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d bytes are not given back", reclaimable())
			}
		}
	})
}
