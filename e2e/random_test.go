package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/devcluster"
)

// defaultSoak is how long TestRandomKills goes on where CHAINSTORE_SOAK does not say.
const defaultSoak = 12 * time.Second

// TestRandomKills kills, stops and halts what a seeded schedule says, several roles at a time, and starts them again.
func TestRandomKills(t *testing.T) {
	soak, seed := schedulesOf(t)
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	s := schedule{c: c, random: rand.New(rand.NewPCG(seed, 1))}
	for end := time.Now().Add(soak); time.Now().Before(end) && !o.failed(); {
		s.disturb()
		if s.random.IntN(3) == 0 {
			c.awaitComplete(3)
		}
		l.more(some / 3)
	}
	l.end()
	c.verify(o)
}

// schedulesOf says for how long a random schedule goes on, and by which seed.
func schedulesOf(t *testing.T) (soak time.Duration, seed uint64) {
	t.Helper()
	soak, seed = defaultSoak, uint64(time.Now().UnixNano())
	var err error
	if v := os.Getenv("CHAINSTORE_SOAK"); v != "" {
		if soak, err = time.ParseDuration(v); err != nil {
			t.Fatalf("CHAINSTORE_SOAK: %v", err)
		}
	}
	if v := os.Getenv("CHAINSTORE_SEED"); v != "" {
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("CHAINSTORE_SEED: %v", err)
		}
	}
	t.Logf("CHAINSTORE_SEED=%d CHAINSTORE_SOAK=%v CHAINSTORE_LOAD=%d", seed, soak, loadTimes(t))
	return soak, seed
}

// TestRandomDamage does random damage to the files of one storage node after the other, while a schedule kills, stops and halts whatever it
// says, the damaged node and its sender among them. Checks go by their own schedule; nobody helps.
func TestRandomDamage(t *testing.T) {
	soak, seed := schedulesOf(t)
	c, o := startWith(t, func(topology *devcluster.Topology) {
		smallSegments(topology)
		topology.CheckInterval = 2 * time.Second
	}), newOracle()
	c.harmed = true
	l := c.startLoad(o)
	l.more(6 * some)
	c.awaitSegments(4)
	s := schedule{c: c, random: rand.New(rand.NewPCG(seed, 2))}
	for end := time.Now().Add(soak); time.Now().Before(end) && !o.failed(); {
		// One node at a time: what is damaged on all of them is lost, and that is another test.
		harmed := &damaged{cluster: c, name: c.storageNames()[s.random.IntN(3)]}
		before, url := c.story(), roleOf(c.Topology(), harmed.name).URL()
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
			}
			return ""
		})
	}
	l.end()
	c.verify(o)
}

// schedule decides what is done to the roles of a cluster, by its seed alone.
type schedule struct {
	c      *cluster
	random *rand.Rand
	steps  int
}

// disturb puts one to three roles out of order, all at a time or shortly one after the other, and back.
func (s *schedule) disturb() {
	s.c.t.Helper()
	s.steps++
	victims := s.victims()
	var told []string
	var undo []func()
	for _, name := range victims {
		var how string
		switch n := s.random.IntN(10); {
		case n < 6:
			how = "kill"
			s.c.kill(name)
			twice := s.random.IntN(4) == 0
			undo = append(undo, func() {
				s.c.launch(name)
				if twice { // at any moment of its start
					s.pass(200 * time.Millisecond)
					s.c.kill(name)
					s.c.launch(name)
				}
			})
			if twice {
				how = "kill twice"
			}
		case n < 8:
			how = "stop"
			if err := s.c.StopRole(name); err != nil && !terminated(err) {
				s.c.t.Fatalf("step %d: stop %s: %v", s.steps, name, err)
			}
			undo = append(undo, func() { s.c.launch(name) })
		default:
			how = "halt"
			s.c.halt(name)
			undo = append(undo, func() { s.c.resume(name) })
		}
		told = append(told, how+" "+name)
		s.pass(300 * time.Millisecond)
	}
	s.c.t.Logf("step %d: %s", s.steps, strings.Join(told, ", "))
	s.pass(2500 * time.Millisecond)
	s.random.Shuffle(len(undo), func(i, j int) { undo[i], undo[j] = undo[j], undo[i] })
	for _, f := range undo {
		f()
		s.pass(200 * time.Millisecond)
	}
}

// terminated reports whether a process ended by the signal itself: it was asked to stop before it had come as far as to listen to
// signals.
func terminated(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM
}

// victims are the leader, all masters, or any of the roles.
func (s *schedule) victims() []string {
	switch n := s.random.IntN(10); {
	case n < 3:
		return []string{s.c.leader("")}
	case n < 4:
		return s.c.names(devcluster.KindMaster)
	}
	var all []string
	for _, r := range s.c.Topology().Roles() {
		all = append(all, r.Name)
	}
	s.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:1+s.random.IntN(3)]
}

// pass lets up to so much time go by, often none: the schedule's times are part of it.
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
