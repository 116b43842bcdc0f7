// Package heap bounds how much memory the garbage of a process may take.
//
// The Go runtime collects garbage when the heap has grown by GOGC percent of the live data. A large percentage saves
// processor time as long as little data is live: with 20 MiB of it, 300 % let the heap grow to 80 MiB. It saves nothing
// more with 250 MiB of it, and lets the heap grow to 1 GiB. So the percentage falls as the live data grows, and the
// garbage is bounded in bytes.
//
// The runtime also keeps what it has once used: without allocations there is no collection for two minutes, and a heap
// that was large stays large. [Idle.Release] gives that memory back to the system.
package heap

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Policy decides when the heap is collected.
type Policy struct {
	// Most is the percentage of the live data by which the heap may grow at most, and Least the one that it may grow by
	// in any case: with less, a large heap is collected too often.
	Most, Least int
	// Garbage is how many bytes the heap may grow by, between the two percentages.
	Garbage uint64
}

// percent returns the percentage for a number of live bytes.
func (p Policy) percent(live uint64) int {
	return min(p.Most, max(p.Least, int(p.Garbage*100/max(live, 1))))
}

// Apply sets the percentage of the runtime now and after every collection, until stop is called. It replaces GOGC.
func (p Policy) Apply() (stop func()) {
	a := &applied{policy: p, was: debug.SetGCPercent(p.Most), now: p.Most}
	a.adjust()
	a.arm(&mark{})
	return a.stop
}

// applied is a policy in effect.
type applied struct {
	policy Policy
	was    int

	mu      sync.Mutex // guards all below, and is held while the percentage is set
	now     int
	stopped bool
}

// stop sets the percentage to what it was before. Nothing changes it after that.
func (a *applied) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.stopped = true
		debug.SetGCPercent(a.was)
	}
}

// mark is an object that nothing refers to, so that every collection finds it. It has a pointer, because the runtime
// puts small objects without pointers together with others.
type mark struct{ _ *mark }

// arm makes the next collection adjust the percentage.
func (a *applied) arm(m *mark) {
	runtime.SetFinalizer(m, func(m *mark) {
		if a.adjust() {
			a.arm(m)
		}
	})
}

// adjust sets the percentage for what is live now. Each change stops all goroutines for a moment, so small ones are not
// made. It returns false, and changes nothing, after stop.
func (a *applied) adjust() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopped {
		return false
	}
	wanted := a.policy.percent(read(liveBytes))
	if diff := wanted - a.now; 10*max(diff, -diff) >= a.now {
		debug.SetGCPercent(wanted)
		a.now = wanted
	}
	return true
}

// Names of metrics of the runtime, all in bytes.
const (
	liveBytes      = "/gc/heap/live:bytes"                // found by the last collection
	allocatedBytes = "/gc/heap/allocs:bytes"              // since the start
	objectBytes    = "/memory/classes/heap/objects:bytes" // live, or not collected yet
	unusedBytes    = "/memory/classes/heap/unused:bytes"  // in spans of objects
	freeBytes      = "/memory/classes/heap/free:bytes"    // without objects and not given back
)

// read returns the sum of metrics.
func read(names ...string) (sum uint64) {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	for i := range samples {
		sum += samples[i].Value.Uint64()
	}
	return sum
}

// Idle decides when memory is given back.
type Idle struct {
	// A process is idle if it allocates fewer than Allocated bytes in Every.
	Every     time.Duration
	Allocated uint64
	// Reclaimable is how many bytes of garbage and free memory are worth a collection.
	Reclaimable uint64
}

// Release gives unused memory back to the system whenever the process is idle, until ctx ends.
func (i Idle) Release(ctx context.Context) {
	tick := time.NewTicker(i.Every)
	defer tick.Stop()
	for before := read(allocatedBytes); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := read(allocatedBytes)
		if now-before < i.Allocated && reclaimable() >= i.Reclaimable {
			debug.FreeOSMemory()
		}
		before = now
	}
}

// reclaimable returns about how many bytes a collection would give back.
func reclaimable() uint64 {
	used := read(objectBytes, unusedBytes, freeBytes)
	return used - min(used, read(liveBytes))
}
