package e2e

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// TestRandomFaults injects faults by a seeded schedule until the time is over. If CHAINSTORE_FAULTS or
// CHAINSTORE_APPENDS is set, it continues until that many faults were injected and that many appends acknowledged.
func TestRandomFaults(t *testing.T) {
	logSettings(t)
	soak, seed, faults, appends := settings.soak, settings.seed, settings.faults, settings.appends
	o := newOracle()
	c, s := startFaulty(t, seed, func(topology *devcluster.Topology) {
		topology.CheckInterval = 5 * time.Second
		if appends > 0 { // many records: blocks and segments of default size
			d := devcluster.NewTopology(topology.Dir, topology.Port)
			topology.Settings, topology.LogLevel = d.Settings, "info"
		}
	})
	s.faults = append(s.faults, restoredFault(o))
	if len(settings.kinds) > 0 {
		s.faults = slices.DeleteFunc(s.faults, func(f fault) bool { return !slices.Contains(settings.kinds, f.kind) })
		if len(s.faults) == 0 {
			t.Fatalf("CHAINSTORE_KINDS: no fault of %q is possible here", settings.kinds)
		}
	}
	if appends > 0 {
		c.load.fast = true
	}
	began := time.Now()
	l := c.startLoad(o)
	l.more(some)
	limited := c.limitedProject()
	for end := began.Add(soak); !o.failed() && (time.Now().Before(end) || s.steps < faults || o.appends() < appends); {
		s.disturb()
		if s.random.IntN(3) == 0 {
			s.awaitComplete(3)
		}
		l.more(some / 3)
		if s.steps%progressEvery == 0 {
			s.renewCertificates()
			c.awaitProgress(fmt.Sprint("after step ", s.steps))
			c.awaitQuota(o, fmt.Sprint("step ", s.steps), limited)
			c.awaitConfirmed(fmt.Sprint("step ", s.steps))
		}
		if faults > 0 { // spread the faults over the appends
			c.await("appends between two faults", func() string {
				if due := min(appends, s.steps*appends/faults); o.appends() < due && !o.failed() {
					return fmt.Sprintf("%d of %d", o.appends(), due)
				}
				return ""
			})
		}
	}
	s.renewCertificates()
	s.awaitComplete(3)
	c.awaitProgress("after the last step")
	l.end()
	s.report(o, seed, time.Since(began))
	s.reportWork()
	i := c.integrity()
	for _, text := range falseAlarms(&i) {
		o.fault("no file was damaged, and the integrity log says: %s", text)
	}
	c.verify(o)
}

// progressEvery is the number of steps after which the cluster must make progress without faults.
const progressEvery = 8

// report logs the injected faults, and the longest time without an acknowledgement.
func (s *schedule) report(o *oracle, seed uint64, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	kinds := slices.Sorted(maps.Keys(s.counts))
	total := 0
	for i, kind := range kinds {
		total += s.counts[kind]
		kinds[i] = fmt.Sprintf("%s %d", kind, s.counts[kind])
	}
	if link := s.c.link; link != nil {
		kinds = append(kinds, fmt.Sprintf("lost answers %d", link.lost.Load()),
			fmt.Sprintf("doubled requests %d", link.doubled.Load()))
	}
	if n := s.c.net; n != nil {
		stopped, err := n.wires.stopped()
		if err != nil {
			s.c.t.Error(err)
		}
		kinds = append(kinds, fmt.Sprintf("packets or reads that cuts stopped %d", stopped))
	}
	gaps := make([]time.Duration, 0, len(o.acks))
	for i := range o.acks[1:] {
		gaps = append(gaps, o.acks[i+1].Sub(o.acks[i]))
	}
	slices.Sort(gaps)
	at := func(q float64) time.Duration { return gaps[int(q*float64(len(gaps)-1))].Round(time.Microsecond) }
	s.c.t.Logf("seed %d: %d faults in %d steps and %v: %s", seed, total, s.steps, took.Round(time.Second),
		strings.Join(kinds, ", "))
	s.c.t.Logf("%d appends of %d records acknowledged; gaps between acknowledgements: p50 %v, p99 %v, p99.9 %v, max %v",
		len(o.acks), len(o.order), at(0.5), at(0.99), at(0.999), at(1))
}

// falseAlarms lists the events that name damage: bytes that are wrong, not blocks that a node lacks, or that its device
// has failed to read in several checks.
func falseAlarms(i *wire.Integrity) (list []string) {
	for _, e := range i.Events {
		switch {
		case e.Kind == wire.EventTiles, e.Kind == wire.EventLost, e.Kind == wire.EventSuspect &&
			e.CauseCoded.Code == wire.CodeWrongAnswer:
			list = append(list, fmt.Sprintf("%s: %s", e.Kind, e.Cause))
		}
		for _, f := range e.Findings {
			unread := f.DetailCoded.Code == wire.CodeFileUnreadable && strings.Contains(f.Detail, "input/output error")
			if f.What != chain.WrongShort && f.What != chain.WrongMissing && !unread {
				list = append(list, fmt.Sprintf("%s: %s at block %d: %s", e.Kind, f.What, f.Block, f.Detail))
			}
		}
	}
	return list
}

// reportWork logs what the cluster did meanwhile.
func (s *schedule) reportWork() {
	status, i := wire.Cluster{}, s.c.integrity()
	s.c.await("a status", func() (text string) {
		var err error
		if status, err = s.c.status(); err != nil {
			text = err.Error()
		}
		return text
	})
	t := i.Totals
	s.c.t.Logf("%d blocks, %d leaders, %d checks that read %d MB, %d repairs and %d that ended early, of %d blocks; "+
		"%d bad blocks", status.Head.Height, status.Term, t.Checks, t.CheckedBytes>>20, t.Repairs, t.FailedRepairs,
		t.RepairedBlocks, t.BadBlocks)
}

// logSettings logs the settings that repeat a random schedule.
func logSettings(t *testing.T) {
	t.Helper()
	t.Logf("CHAINSTORE_SEED=%d CHAINSTORE_SOAK=%v CHAINSTORE_LOAD=%d", settings.seed, settings.soak, settings.load)
}

// TestRandomDamage damages the files of one storage node after the other at random, while a schedule kills and stops
// random roles, including the damaged node and the sender of its repair. Checks run on their own schedule, and the
// cluster must repair everything without intervention.
func TestRandomDamage(t *testing.T) {
	logSettings(t)
	soak, seed := settings.soak, settings.seed
	c, o := startWith(t, func(topology *devcluster.Topology) {
		smallSegments(topology)
		topology.CheckInterval = 2 * time.Second
	}), newOracle()
	c.expectDamage = true
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	s := &schedule{c: c, random: rand.New(rand.NewPCG(seed, 2)), counts: map[string]int{}, faults: basicFaults()}
	for end := time.Now().Add(soak); time.Now().Before(end) && !o.failed(); {
		// Damage one node at a time: blocks that are damaged on all nodes are lost, which TestLostBlock covers.
		harmed := &damaged{cluster: c, name: c.storageNames()[s.random.IntN(3)]}
		before, url := c.integrity(), roleOf(c.Topology(), harmed.name).URL()
		was := nodeAt(before, url)
		row := damages[s.random.IntN(len(damages))]
		if row.needsOlder() {
			continue
		}
		down := s.random.IntN(2) == 0
		t.Logf("step %d: %s of %s, while it is down: %v", s.steps+1, row.name, harmed.name, down)
		if down {
			c.kill(harmed.name)
		}
		d := harmed.disk()
		d.acked = was.Height
		row.do(d)
		if down {
			c.launch(harmed.name)
		}
		s.pass(500 * time.Millisecond)
		s.disturb()
		l.more(some / 3)
		var first uint64 // a check that ended after the damage, and may have begun before it
		c.await("all valid, and checked since", func() string {
			i, err := c.tryStory()
			if err != nil {
				return err.Error()
			}
			for _, n := range i.Nodes {
				if n.State != "valid" && n.State != "validating" || !n.Live || n.Due != "" || len(n.Bad) > 0 {
					return fmt.Sprintf("%+v; %+v", n, i.Events[:min(3, len(i.Events))])
				}
			}
			if n := nodeAt(i, url); n.Checked <= was.Checked && n.ID == was.ID || n.Checked == 0 || n.State != "valid" {
				return fmt.Sprintf("%+v was not checked since %d", n, was.Checked)
			} else if first == 0 || n.Checked == first {
				first = n.Checked
				return fmt.Sprintf("%+v was checked only once since %d", n, was.Checked)
			}
			return ""
		})
	}
	c.awaitProgress("after the last damage")
	l.end()
	c.verify(o)
}

// terminated reports whether a process was ended by the signal itself. This happens if the stop request arrives before
// the process has installed its signal handler.
func terminated(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// victims returns the roles to harm: the leader, all masters, or some of the roles.
func (s *schedule) victims() []string {
	switch n := s.random.IntN(10); {
	case n < 3:
		return []string{s.c.leader("")}
	case n < 4:
		return s.c.names(devcluster.KindMaster)
	}
	all := s.c.everybody()
	s.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+s.random.IntN(3)]
}

// pass sleeps for a random time up to most, often not at all. The times are part of the schedule.
func (s *schedule) pass(most time.Duration) {
	if s.random.IntN(3) == 0 {
		return
	}
	timer := time.NewTimer(time.Duration(s.random.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.c.t.Context().Done():
	}
}

// TestFalseAlarms checks which events falseAlarms reports.
func TestFalseAlarms(t *testing.T) {
	finding := func(what string) wire.Event {
		return wire.Event{Kind: wire.EventFinding, Findings: []wire.Finding{{Block: 3, What: what}}}
	}
	wrong := wire.Message{Code: wire.CodeWrongAnswer}
	for _, row := range []struct {
		event  wire.Event
		alarms int
	}{
		{finding(chain.WrongShort), 0}, {finding(chain.WrongMissing), 0}, {finding(chain.WrongPayload), 1},
		{finding(chain.WrongChain), 1}, {wire.Event{Kind: wire.EventTiles}, 1}, {wire.Event{Kind: wire.EventLost}, 1},
		{wire.Event{Kind: wire.EventRepair}, 0}, {wire.Event{Kind: wire.EventSuspect, CauseCoded: wrong}, 1},
		{wire.Event{Kind: wire.EventSuspect, CauseCoded: wire.Message{Code: wire.CodeUncleanStop}}, 0},
	} {
		if list := falseAlarms(&wire.Integrity{Events: []wire.Event{row.event}}); len(list) != row.alarms {
			t.Errorf("%+v: %q", row.event, list)
		}
	}
}
