package raftstore

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// dogOf returns a watchdog that counts only the ticks of the test.
func dogOf(limit time.Duration) *watchdog {
	d := newWatchdog(limit, newFailure())
	d.ticking = true // so that watch does not start a ticker
	return d
}

// A write that lasts longer than the limit is a failure, and not sooner.
func TestWatchdogLimit(t *testing.T) {
	d := dogOf(time.Second)
	done := d.watch("write to raft.db")
	idle := 0
	for tick := 1; tick <= ticksToLimit; tick++ {
		if late, goOn := d.count(&idle); late != nil || !goOn {
			t.Fatalf("late after %d ticks of %d", tick, ticksToLimit)
		}
	}
	if late, _ := d.count(&idle); late == nil || late.what != "write to raft.db" {
		t.Errorf("%+v after the limit", late)
	}
	done()
	if late, goOn := d.count(&idle); late != nil || !goOn {
		t.Errorf("%+v after its end", late)
	}
}

// A process that was halted sees one tick afterwards, however long the halt was. A write during the halt is not late,
// nor are many short ones.
func TestWatchdogCountsNoHalt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := dogOf(time.Second)
		defer d.watch("write to raft.db")()
		ticker := time.NewTicker(d.limit / ticksToLimit)
		defer ticker.Stop()
		time.Sleep(time.Hour) // no tick is read meanwhile: the halt
		idle, ticks := 0, 0
		for {
			select {
			case <-ticker.C:
				ticks++
				if late, _ := d.count(&idle); late != nil {
					t.Fatalf("the halt counts: late after %d ticks", ticks)
				}
				continue
			default:
			}
			break
		}
		if ticks != 1 {
			t.Errorf("%d ticks after the halt", ticks)
		}
	})
}

// The watchdog reports a write that hangs, and stops ticking when nothing is written.
func TestWatchdogTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fail := newFailure()
		d := newWatchdog(time.Second, fail)
		defer d.close()
		for range 100 {
			done := d.watch("a quick write")
			time.Sleep(900 * time.Millisecond)
			done()
		}
		if err := fail.get(); err != nil {
			t.Fatalf("quick writes: %v", err)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		d.mu.Lock()
		ticking := d.ticking
		d.mu.Unlock()
		if ticking {
			t.Error("it ticks while nothing is written")
		}
		begin := time.Now()
		defer d.watch("a write that hangs")()
		<-fail.dead
		if took := time.Since(begin); !errors.Is(fail.get(), ErrDisk) || took < time.Second ||
			took > 1100*time.Millisecond {
			t.Errorf("%v after %v", fail.get(), took)
		}
	})
}
