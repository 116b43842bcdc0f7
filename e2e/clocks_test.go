package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

const year = 365 * 24 * time.Hour

// setClock sets the wall clock of a master of the altered program, so that it is wrong by an amount, until the process
// ends or undo is called.
func (c *cluster) setClock(name string, by time.Duration) (undo func()) {
	c.t.Helper()
	path := filepath.Join(scratch, strconv.Itoa(c.PIDs()[name]))
	if err := os.WriteFile(path, []byte(strconv.FormatInt(by.Milliseconds(), 10)), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = os.Remove(path) }) // another process may get the pid
	return func() {
		if err := resetClock(path); err != nil {
			c.t.Fatal(err)
		}
	}
}

// resetClock ends the effect of a clock file. A step of a schedule may set one clock twice, and undoes both.
func resetClock(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func TestClockIsResetTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(resetClock(path), resetClock(path)); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

// clockNotices returns the notices of a status that are about clocks, "" if there are none.
func clockNotices(s wire.Cluster) string {
	for _, m := range s.NoticesCoded {
		switch m.Code {
		case wire.CodeClockAhead, wire.CodeClockBehind, wire.CodeClocksDisagree, wire.CodeTimeAhead,
			wire.CodeTimeBehind:
			return m.Text()
		}
	}
	return ""
}

// timesOutside names a position whose time is further than bound from the time of its append, "" if there is none.
func timesOutside(at []wire.Position, began, ended time.Time, bound time.Duration) string {
	for _, p := range at {
		if t := time.UnixMilli(int64(p.Time)); t.Before(began.Add(-bound)) || t.After(ended.Add(bound)) {
			return fmt.Sprintf("record %d has the time %v, it was appended between %v and %v", p.Index, t, began,
				ended)
		}
	}
	return ""
}

// TestClockJumps sets the wall clocks of the masters by years, in both directions: that of the leader, those of all,
// and back. After each step, blocks are cut, nodes are checked on schedule, quotas refill, idempotency keys are known,
// every master serves reads that the leader must confirm, and records have the right times. All certificates are out of
// their time by these clocks.
func TestClockJumps(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.CheckInterval = 2 * time.Second
		secure(topology)
	})
	// The clock of a leader may be used that is wrong by up to 10 s, and so may the next one.
	c.program, c.timeBound = altered(t, "clock"), 25*time.Second
	c.begin(topology)
	c.awaitLevel()
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	limited := c.limitedProject()
	leader := c.leader("")
	masters := append([]string{leader}, c.followers(leader)...)
	set := func(clocks ...time.Duration) {
		for i, by := range clocks {
			c.setClock(masters[i], by)
		}
	}
	for _, step := range []struct {
		name   string
		set    func()
		notice string // that must appear; "" if there must be none about clocks
	}{
		{"the leader is ahead", func() { set(3*year, 0, 0); c.leader(leader) }, wire.CodeClockAhead},
		{"all differ", func() { set(3*year, -10*year, -90*year) }, wire.CodeClocksDisagree},
		{"the leader of clocks that differ dies", func() {
			leader := c.leader("")
			c.kill(leader)
			c.leader(leader)
			c.launch(leader)
			set(5*year, -5*year, 20*year)
		}, wire.CodeClocksDisagree},
		{"one is behind", func() { set(0, 0, -10*year) }, wire.CodeClockBehind},
		{"all are right", func() { set(0, 0, 0) }, ""},
	} {
		t.Log(step.name)
		entry := []client.Entry{{Payload: []byte(step.name), IdempotencyKey: step.name}}
		o.ack(entry, c.appendOnce(entry))
		first := o.count()
		step.set()
		if step.notice != "" {
			c.awaitNotice(step.notice)
		} else {
			c.await("no notice about clocks", func() string {
				s, err := c.status()
				if err != nil {
					return err.Error()
				}
				return clockNotices(s)
			})
		}
		o.repeated(entry, c.appendOnce(entry))
		c.timeGoesOn(o, step.name, limited)
		l.more(max(1, some-(o.count()-first)))
		if t.Failed() {
			break
		}
	}
	l.end()
	c.verify(o)
}

// TestCheckersNoticeTimes checks that the load reports the times of records of a master that uses its wrong clock.
func TestCheckersNoticeTimes(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program, c.timeBound = altered(t, "own-clock"), time.Minute
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	c.await("a fault", func() string {
		c.setClock(c.leader(""), year) // it may hand the leadership over before it has appended a record
		if o.failed() {
			return ""
		}
		return "there is none"
	})
	l.end()
	if said := strings.Join(o.faults, "\n"); !strings.Contains(said, "has the time") {
		t.Errorf("the checkers do not report the times of records, but %q", said)
	}
}

// appendOnce appends a record under its idempotency key.
func (c *cluster) appendOnce(entry []client.Entry) []wire.Position {
	c.t.Helper()
	at, err := c.client(c.File().Masters...).Append(c.t.Context(), entry[0])
	if err != nil {
		c.t.Fatal(err)
	}
	return []wire.Position{at}
}

// limitedProject creates a public project with a quota of ten records a second, and returns a client of it that does
// not retry.
func (c *cluster) limitedProject() *client.Client {
	c.t.Helper()
	p, err := c.admin().CreateProject(c.t.Context(), wire.NewProject{
		Name: "limited", Public: true, Quota: &wire.Quota{RecordsPerSecond: 10},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	cl, err := client.New(client.Config{Masters: c.File().Masters, Token: p.Token, RetryFor: -1,
		HTTP: c.Topology().HTTP})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.CloseIdle)
	return cl
}

// timeGoesOn checks that everything continues that depends on time.
func (c *cluster) timeGoesOn(o *oracle, when string, limited *client.Client) {
	c.t.Helper()
	checked := func() map[string]uint64 {
		ends := map[string]uint64{}
		for _, n := range c.integrity().Nodes {
			ends[n.ID] = n.Checked
		}
		return ends
	}
	began, before, stored := time.Now(), checked(), uint64(0)
	c.await("a status after: "+when, func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		stored = s.Stored
		return ""
	})
	c.await("a check of each node after: "+when, func() string {
		now := checked()
		for id, end := range before {
			if now[id] == end {
				return fmt.Sprintf("the last checks ended at %v", now)
			}
		}
		for id, end := range now {
			t := time.UnixMilli(int64(end))
			if t.Before(began.Add(-c.timeBound)) || t.After(time.Now().Add(c.timeBound)) {
				c.t.Errorf("%s: the check of %s ended at %v by the table", when, id, t)
			}
		}
		return ""
	})
	c.await("a stored block after: "+when, func() string {
		if s, err := c.status(); err != nil || s.Stored <= stored {
			return fmt.Sprintf("%d blocks are stored, %d were: %v", s.Stored, stored, err)
		}
		return ""
	})
	c.awaitQuota(o, when, limited)
	c.awaitConfirmed(when)
}

// awaitQuota uses up the quota of a limited project, and waits until it has refilled.
func (c *cluster) awaitQuota(o *oracle, when string, limited *client.Client) {
	c.t.Helper()
	entries := make([]client.Entry, 10)
	for i := range entries {
		entries[i].Payload = []byte(when)
	}
	refused, accepted := false, false
	c.await("a quota that refills after: "+when, func() string {
		ctx, cancel := context.WithTimeout(c.t.Context(), patience)
		defer cancel()
		at, err := limited.AppendBatch(ctx, entries, "")
		switch {
		case err == nil:
			o.ack(entries, at)
			accepted = refused
		case errors.Is(err, wire.ErrQuota):
			refused = true
		case errors.Is(err, wire.ErrUnknownOutcome):
			o.giveUp(entries)
		}
		if !accepted {
			return fmt.Sprintf("refused for the quota: %v, and not accepted since: %v", refused, err)
		}
		return ""
	})
}

// awaitConfirmed waits until each master answers that a record does not exist. A majority must confirm that.
func (c *cluster) awaitConfirmed(when string) {
	c.t.Helper()
	for i, m := range c.masters {
		c.await("a confirmed answer after: "+when, func() string {
			if _, err := m.Get(c.t.Context(), 1<<40, 0); !errors.Is(err, wire.ErrNotFound) {
				return fmt.Sprintf("master-%d: %v", i+1, err)
			}
			return ""
		})
	}
}
