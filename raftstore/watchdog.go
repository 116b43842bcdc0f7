package raftstore

import (
	"fmt"
	"sync"
	"time"
)

// watchdog makes a write that does not end the failure of the store: a master whose disk hangs keeps its leadership, as its heartbeats need
// no disk (hashicorp/raft#503), so it must die for the others to elect.
//
// It counts ticks, not time: a process that was halted and goes on finds one tick, however long it was.
type watchdog struct {
	limit time.Duration
	fail  *failure

	mu      sync.Mutex // guards all below
	writes  map[*write]struct{}
	ticking bool
	ended   bool
	tasks   sync.WaitGroup
	stop    chan struct{} // closed when nothing is watched any more
}

// write is one that is under way.
type write struct {
	what  string
	ticks int
}

// ticksToLimit is in how many ticks the limit is counted: a write fails after so many, or one more.
const ticksToLimit = 20

func newWatchdog(limit time.Duration, fail *failure) *watchdog {
	return &watchdog{limit: limit, fail: fail, writes: map[*write]struct{}{}, stop: make(chan struct{})}
}

// watch begins to watch a write, which ends when the function that it returns is called. A nil watchdog watches nothing.
func (d *watchdog) watch(what string) (done func()) {
	if d == nil {
		return func() {}
	}
	w := &write{what: what}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes[w] = struct{}{}
	if !d.ticking && !d.ended {
		d.ticking = true
		d.tasks.Go(d.tick)
	}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.writes, w)
	}
}

// tick counts, until nothing was under way for a whole limit.
func (d *watchdog) tick() {
	ticker := time.NewTicker(d.limit / ticksToLimit)
	defer ticker.Stop()
	for idle := 0; ; {
		select {
		case <-ticker.C:
		case <-d.stop:
			return
		}
		late, goOn := d.count(&idle)
		if late != nil {
			d.fail.report(diskError(late.what, fmt.Errorf("it did not end within %v (--disk-timeout): the disk hangs", d.limit)))
		}
		if !goOn {
			return
		}
	}
}

// count counts one tick, and gives a write that has lasted too long.
func (d *watchdog) count(idle *int) (late *write, goOn bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.writes) == 0 {
		*idle++
	} else {
		*idle = 0
	}
	for w := range d.writes {
		if w.ticks++; w.ticks > ticksToLimit {
			late = w
		}
	}
	if *idle > ticksToLimit {
		d.ticking = false
		return late, false
	}
	return late, true
}

// close ends the watching.
func (d *watchdog) close() {
	d.mu.Lock()
	ended := d.ended
	d.ended = true
	d.mu.Unlock()
	if !ended {
		close(d.stop)
	}
	d.tasks.Wait()
}
