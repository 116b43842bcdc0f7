package raftstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// deposed is a group whose first leader was cut off with entries that were never committed.
type deposed struct {
	*simulation
	old    *node
	others []*node
	stale  map[uint64]uint64 // the terms of the entries that only old has, by index
}

// depose cuts off the leader, lets it write entries, and waits until another member leads. do is called before the old
// leader notices that.
func depose(t *testing.T, entries int, do func(old *node)) *deposed {
	s := newSimulation(t, 1)
	s.begin(3)
	old := leaderOf(t, s.nodes...)
	agree(t, s.nodes...)
	d := &deposed{simulation: s, old: old, stale: map[uint64]uint64{}}
	at := slices.Index(s.nodes, old)
	d.others = slices.Concat(s.nodes[:at], s.nodes[at+1:])
	committed := lastIndex(t, old)
	s.net.change(s.cutOff(func(from, to int) bool { return from == at || to == at }))
	var lost sync.WaitGroup
	for i := range entries {
		lost.Go(func() {
			if _, err := old.Propose(patience(t), project(fmt.Sprint("lost-", i))); err == nil {
				t.Error("a leader that is cut off has committed an entry")
			}
		})
	}
	synctest.Wait() // the entries are in its log
	do(old)
	lost.Wait()
	for index := committed + 1; index <= lastIndex(t, old); index++ {
		var l raft.Log
		if err := old.logs.GetLog(index, &l); err != nil {
			t.Fatal(err)
		}
		d.stale[index] = l.Term
	}
	if len(d.stale) < entries {
		t.Fatalf("the old leader has %d entries that are not committed, not %d", len(d.stale), entries)
	}
	leaderOf(t, d.others...)
	return d
}

func lastIndex(t *testing.T, n *node) uint64 {
	t.Helper()
	last, err := n.logs.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// propose commits a project by the others.
func (d *deposed) propose(name string) {
	d.t.Helper()
	if _, err := leaderOf(d.t, d.others...).Propose(patience(d.t), project(name)); err != nil {
		d.t.Fatal(err)
	}
}

// rejoin starts the old leader again and connects it. It must get the newest project.
func (d *deposed) rejoin(newest string) {
	d.t.Helper()
	at := slices.Index(d.nodes, d.old)
	d.old.stop() // with the requests that it has not read
	d.net.change(heal)
	d.open(at)
	d.old = d.nodes[at]
	ctx, cancel := context.WithTimeout(d.t.Context(), settles)
	defer cancel()
	for !d.old.has(newest) {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			d.t.Fatalf("the old leader does not catch up within %v: it is at entry %d, the others at %d", settles,
				d.old.Applied(), d.others[0].Applied())
		}
	}
}

// TestStaleEntriesBehindASnapshot lets a deposed leader get a snapshot that ends behind its entries that were never
// committed. It must not keep them: as the leader it would send them to a member with an empty log, which would apply
// them.
func TestStaleEntriesBehindASnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := depose(t, 5, func(*node) {})
		newest := ""
		for i := 0; ; i++ {
			newest = fmt.Sprint("kept-", i)
			d.propose(newest)
			first, err := leaderOf(t, d.others...).logs.FirstIndex()
			if err != nil {
				t.Fatal(err)
			}
			if first > d.old.Applied()+uint64(len(d.stale))+1 {
				break // it sends a snapshot to the old leader
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute) // until no request waits to be sent that has entries from before the trim
		d.rejoin(newest)
		for index, term := range d.stale {
			var l raft.Log
			if err := d.old.logs.GetLog(index, &l); err == nil && l.Term == term {
				t.Errorf("the log has entry %d of term %d, which was never committed", index, term)
			}
		}
	})
}

// TestConflictBehindTheOwnSnapshot lets a leader take a snapshot after which its log has only entries that are never
// committed. The next leader sends those that follow the snapshot, and the old one must accept them.
func TestConflictBehindTheOwnSnapshot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := depose(t, 5, func(old *node) {
			r := old.raft.Load()
			old.reload(r, func(c *raft.ReloadableConfig) { c.TrailingLogs = 1 })
			if err := r.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		})
		if first, err := d.old.logs.FirstIndex(); err != nil || d.stale[first] == 0 {
			t.Fatalf("the log of the old leader begins at entry %d: %v", first, err)
		}
		d.propose("kept")
		d.rejoin("kept")
	})
}
