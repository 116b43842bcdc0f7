package raftstore

import (
	"fmt"
	"sync"
	"time"
)

// watchdog makes the store fail when a write does not end. A master whose disk hangs keeps its leadership, as its
// heartbeats need no disk (hashicorp/raft#503), so it must stop before the others can elect.
//
// It counts ticks, not time: a process that was halted sees one tick afterwards, however long the halt was.
type watchdog struct {
	limit time.Duration
	fail  *failure

	mu      sync.Mutex // guards all below
	writes  map[*write]struct{}
	ticking bool
	ended   bool
	tasks   sync.WaitGroup
	stop    chan struct{} // closed by close
}

// write is a write in progress.
type write struct {
	what  string
	ticks int
}

// ticksToLimit is the number of ticks in the limit. A write fails after as many, or one more.
const ticksToLimit = 20

func newWatchdog(limit time.Duration, fail *failure) *watchdog {
	return &watchdog{limit: limit, fail: fail, writes: map[*write]struct{}{}, stop: make(chan struct{})}
}

// watch starts to watch a write, which ends when done is called. A nil watchdog watches nothing.
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

// tick counts ticks until no write was in progress for a whole limit.
func (d *watchdog) tick() {
	ticker := time.NewTicker(d.limit / ticksToLimit)
	defer ticker.Stop()
	for idle := 0; ; {
		select {
		case <-ticker.C:
		case <-d.stop:
			return
		}
		late, more := d.count(&idle)
		if late != nil {
			d.fail.report(diskError(late.what,
				fmt.Errorf("it did not end within %v (--disk-timeout): the disk hangs", d.limit)))
		}
		if !more {
			return
		}
	}
}

// count counts one tick. It returns a write that has lasted too long, and whether to go on counting.
func (d *watchdog) count(idle *int) (late *write, more bool) {
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

// close ends the watchdog.
func (d *watchdog) close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	ended := d.ended
	d.ended = true
	d.mu.Unlock()
	if !ended {
		close(d.stop)
	}
	d.tasks.Wait()
}
