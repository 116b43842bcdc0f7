package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// fault is a kind of fault in a simulation.
type fault string

const (
	partition    fault = "partition"         // of the members into two sides
	oneWay       fault = "one-way partition" // what one side sends does not arrive
	cutOffLeader fault = "leader cut off"
	restart      fault = "restart"
	kill         fault = "kill"       // without a transfer of the leadership
	killAll      fault = "kill all"   // members at the same time
	deafStart    fault = "deaf start" // a restart while what another member sends does not arrive
	putBack      fault = "older copy" // of a folder is put back
	halt         fault = "halt"       // of processes
)

var everyFault = []fault{partition, oneWay, cutOffLeader, restart, kill, killAll, deafStart, putBack,
	halt}

// inject injects one fault and lets it last. Two times in three the network heals afterwards; otherwise it stays cut
// during the next faults.
func (s *simulation) inject() {
	kind, victim := s.kinds[s.rng.IntN(len(s.kinds))], s.rng.IntN(len(s.nodes))
	lasts := time.Duration(500+s.rng.IntN(2500)) * time.Millisecond
	side := s.rng.IntN(1<<len(s.nodes)-2) + 1 // a set of members, neither none nor all
	s.injected[kind]++
	switch kind {
	case partition:
		s.net.change(s.cutOff(func(from, to int) bool { return side>>from&1 != side>>to&1 }))
	case oneWay:
		s.net.change(s.cutOff(func(from, to int) bool { return side>>from&1 == 1 && side>>to&1 == 0 }))
	case cutOffLeader:
		s.net.change(heal)
		leader := slices.Index(s.nodes, leaderOf(s.t, s.nodes...))
		s.net.change(s.cutOff(func(from, to int) bool { return from == leader || to == leader }))
	case restart:
		s.nodes[victim].stop()
		s.open(victim)
	case kill:
		s.kill(victim)
	case killAll:
		s.kill(s.rng.Perm(len(s.nodes))...)
	case deafStart:
		sender := (victim + 1) % len(s.nodes)
		s.net.change(s.cutOff(func(from, to int) bool { return from == sender && to == victim }))
		s.kill(victim)
	case putBack:
		s.putBack(victim)
	case halt:
		s.halt(victim)
	}
	time.Sleep(lasts)
	if s.rng.IntN(3) > 0 {
		s.net.change(heal)
		time.Sleep(lasts / 2)
	}
}

// cutOff returns a change of the network that cuts some directions between members, in addition to those that are cut.
func (s *simulation) cutOff(cuts func(from, to int) bool) func(cut map[[2]string]bool) {
	return func(cut map[[2]string]bool) {
		for from := range s.nodes {
			for to := range s.nodes {
				if from != to && cuts(from, to) {
					cut[[2]string{s.nodes[from].cfg.Bind, s.nodes[to].cfg.Bind}] = true
				}
			}
		}
	}
}

// kill ends members at the same time, each between two of its writes, and starts them again. They do not transfer the
// leadership, and write and send nothing more.
func (s *simulation) kill(members ...int) {
	for _, i := range members {
		s.nodes[i].fail.report(errors.New("killed by the simulation"))
	}
	for _, i := range members {
		s.nodes[i].stop()
	}
	for _, i := range members {
		s.open(i)
	}
}

// open starts a member that has ended, with its folder.
func (s *simulation) open(i int) {
	n := openNode(s.t, s.nodes[i].cfg)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes[i] = n
}

// known is how long it takes at most until the other members know of the start of a member, or refuse it.
const known = 3 * time.Second

// putBack replaces the folder of a member by an older copy, which must be refused, and then puts the newest one back.
func (s *simulation) putBack(i int) {
	s.net.change(heal)
	dir, tmp := s.nodes[i].cfg.Dir, memDir(s.t)
	old, newest := filepath.Join(tmp, "old"), filepath.Join(tmp, "newest")
	s.nodes[i].stop()
	copyFolder(s.t, dir, old)
	s.open(i)
	time.Sleep(known)
	s.nodes[i].stop()
	copyFolder(s.t, dir, newest)
	copyFolder(s.t, old, dir)
	if s.mutant == hidesCopy {
		starts, err := os.ReadFile(startsPath(newest))
		if err == nil {
			err = os.WriteFile(startsPath(dir), starts, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.open(i)
	time.Sleep(known)
	if s.nodes[i].Refused() == nil {
		s.report(refusesCopies, "member %s runs with it", s.nodes[i].cfg.Bind)
	}
	s.nodes[i].stop()
	copyFolder(s.t, newest, dir)
	s.open(i)
}
