package raftstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// The number of seeds of TestSimulatedGroup, and of faults for each.
const (
	simulatedSeeds  = 12
	simulatedFaults = 8
)

// TestSimulatedGroup simulates groups of stores: real stores with real folders, on a simulated network and clock.
// Writers and readers use random members while one fault follows another. No entry that was acknowledged may be lost,
// moved, or confirmed to be absent. An older copy of a folder must be refused. After the last fault the group must make
// progress.
//
// A failure names its seed, which determines the faults and the load. The following command repeats seed 17. The
// runtime chooses the order of goroutines, and raft its timeouts, so a failure may need several runs:
//
//	go test ./raftstore -run 'TestSimulatedGroup/seed=17$' -count 20
func TestSimulatedGroup(t *testing.T) {
	seeds, faults := uint64(simulatedSeeds), simulatedFaults
	if testing.Short() {
		seeds, faults = 1, 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSimulation(t, seed)
				for _, f := range s.run(3+2*int(seed%2), faults) {
					t.Errorf("%s: %s", f.oracle, f.text)
				}
				t.Logf("faults: %v; %d appends acknowledged, %d reads confirmed", s.injected, len(s.acked), s.reads)
			})
		})
	}
}

// TestSimulationNoticesMutants checks that each oracle of the simulation notices the defect that it is for.
func TestSimulationNoticesMutants(t *testing.T) {
	for _, c := range []struct {
		mutant mutant
		kind   fault
		faults int
		oracle oracle
		seeds  uint64 // of which one must find it, from 1 on
	}{
		{confirmsAlways, cutOffLeader, 2, notAbsent, 1},
		{acknowledgesEarly, cutOffLeader, 3, notLost, 1},
		{hidesCopy, putBack, 1, refusesCopies, 1},
		{confirmsAsLeader, halt, 3, notAbsent, 20},
		{trustsOldMessages, halt, 3, notTrusted, 20},
		{neverHeals, restart, 1, progress, 1},
	} {
		if testing.Short() && c.kind == putBack {
			continue // it restarts a member three times
		}
		t.Run(string(c.mutant), func(t *testing.T) {
			t.Parallel()
			var found []finding
			for seed := range c.seeds {
				synctest.Test(t, func(t *testing.T) {
					s := newSimulation(t, 1+seed)
					s.mutant, s.kinds = c.mutant, []fault{c.kind}
					found = append(found, s.run(3, c.faults)...)
				})
				at := slices.IndexFunc(found, func(f finding) bool { return f.oracle == c.oracle })
				if at >= 0 {
					t.Logf("seed %d: %s", 1+seed, found[at].text)
					return
				}
			}
			t.Errorf("the oracle %q found nothing; all findings: %v", c.oracle, found)
		})
	}
}

// mutant is a defect that a simulation adds to a group.
type mutant string

const (
	confirmsAlways    mutant = "a member confirms every read without asking the others"
	acknowledgesEarly mutant = "an append is acknowledged while its outcome is unknown"
	hidesCopy         mutant = "an older copy of a folder has the newest start of its member"
	confirmsAsLeader  mutant = "a member that takes itself for the leader confirms every read"
	trustsOldMessages mutant = "what arrived in a halt counts as contact after it"
	neverHeals        mutant = "no member reaches another after the last fault"
)

// oracle is a property that a simulation checks.
type oracle string

const (
	notAbsent     oracle = "no acknowledged entry is confirmed to be absent"
	notLost       oracle = "every member gets every acknowledged entry"
	notMoved      oracle = "an acknowledged entry keeps its id"
	notTrusted    oracle = "a member that was told nothing for 5 s says so"
	refusesCopies oracle = "an older copy of a folder is refused"
	progress      oracle = "appends and reads succeed after the last fault"
)

// finding is a violation that an oracle has found.
type finding struct {
	oracle oracle
	text   string
}

// simulation is a group of stores on a simulated network. The goroutine that calls run injects the faults.
type simulation struct {
	t        *testing.T
	seed     uint64
	net      *simNet
	kinds    []fault    // to choose from
	rng      *rand.Rand // of the faults
	injected map[fault]int
	mutant   mutant // "" for none

	mu    sync.Mutex // guards all below; only the goroutine of run changes nodes
	nodes []*node
	acked map[string]uint64 // the ids of the acknowledged projects, by name; 0 if it is not known
	reads int               // confirmed
	found []finding
}

func newSimulation(t *testing.T, seed uint64) *simulation {
	return &simulation{
		t: t, seed: seed, net: newSimNet(t, seed), kinds: everyFault, rng: rand.New(rand.NewPCG(seed, 0)),
		injected: map[fault]int{}, acked: map[string]uint64{},
	}
}

func (s *simulation) report(oracle oracle, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = append(s.found, finding{oracle, fmt.Sprintf(format, args...)})
}

// anyNode returns a random member.
func (s *simulation) anyNode(rng *rand.Rand) *node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nodes[rng.IntN(len(s.nodes))]
}

// run runs a simulation and returns what the oracles found.
func (s *simulation) run(members, faults int) []finding {
	s.begin(members)
	ctx, cancel := context.WithCancel(s.t.Context())
	var load sync.WaitGroup
	for i := range uint64(2) {
		load.Go(func() { s.write(ctx, fmt.Sprint("writer", i), rand.New(rand.NewPCG(s.seed, 10+i))) })
		load.Go(func() { s.read(ctx, rand.New(rand.NewPCG(s.seed, 20+i))) })
	}
	for range faults {
		s.inject()
	}
	s.net.change(heal)
	if s.mutant == neverHeals {
		s.net.change(s.cutOff(func(from, to int) bool { return true }))
	}
	s.checkProgress()
	cancel()
	load.Wait()
	s.checkAcknowledged()
	return s.found
}

// begin founds the group.
func (s *simulation) begin(members int) {
	var founders []wire.Member
	for i := range members {
		addr := fmt.Sprintf("10.0.0.%d:8000", i+1)
		s.nodes = append(s.nodes, openNode(s.t, Config{
			Dir: memDir(s.t), Bind: addr, Secret: testSecret, Timeout: raftTimeout,
			SnapshotEntries: 50, TrailingBytes: 1 << 10, RenewEvery: time.Second,
			listen: s.net.listen, dial: s.net.dialFrom(addr),
			suspended: s.net.process(addr).suspended,
			Logger:    haltingLogger{hclog.NewNullLogger(), s.net.process(addr)},
		}))
		founders = append(founders, s.nodes[i].Member())
	}
	if err := s.nodes[0].Found("group-1", founders); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range s.nodes[1:] {
		adoption := wire.Adoption{Group: "group-1", Epoch: 1, Member: n.Member().ID, Level: masterfsm.LevelSegments}
		if err := n.Adopt(adoption); err != nil {
			s.t.Fatal(err)
		}
	}
	raised(s.t, s.nodes...)
	for _, n := range s.nodes {
		s.addMutant(n)
	}
}

// addMutant adds the defect of a simulation to a member that has started.
func (s *simulation) addMutant(n *node) {
	if s.mutant == trustsOldMessages {
		n.Store.leadership.mu.Lock()
		defer n.Store.leadership.mu.Unlock()
		n.Store.leadership.contact.gap = 0
	}
}

// memDir returns a folder that does not exist yet, in memory if the system has one: a simulation syncs often, and never
// cuts the power.
func memDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "raftstore-*")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "master")
}

// patient is how long a writer or a reader waits for an answer.
const patient = 2 * time.Second

// write creates projects through random members until ctx ends.
func (s *simulation) write(ctx context.Context, prefix string, rng *rand.Rand) {
	for i := 0; ctx.Err() == nil; i++ {
		name, n := fmt.Sprintf("%s-%d", prefix, i), s.anyNode(rng)
		short, cancel := context.WithTimeout(ctx, patient)
		err := s.call(short, n, func() error {
			_, err := n.Propose(short, project(name))
			return err
		})
		cancel()
		if err == nil || s.mutant == acknowledgesEarly && errors.Is(err, ErrUnknownOutcome) {
			id := projectID(n, name)
			s.mu.Lock()
			s.acked[name] = id
			s.mu.Unlock()
		}
		time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
	}
}

// projectID returns the id of a project in the state of a member, 0 if it is not there.
func projectID(n *node, name string) (id uint64) {
	n.Read(func(state *masterfsm.State) {
		if p, ok := state.ProjectByName(name); ok {
			id = uint64(p.ID)
		}
	})
	return id
}

// read reads through random members until ctx ends, as the API does: one member confirms a log index, and another one
// reads when it has applied that index.
func (s *simulation) read(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(50)) * time.Millisecond)
		if n := s.anyNode(rng); s.process(n).waitFor(ctx) == nil {
			s.checkContact(n)
		}
		s.readOnce(ctx, s.anyNode(rng), s.anyNode(rng))
	}
}

// readOnce is one read, of what was acknowledged before.
func (s *simulation) readOnce(ctx context.Context, asked, reader *node) {
	s.mu.Lock()
	before := slices.Collect(maps.Keys(s.acked))
	s.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, patient)
	var confirmed wire.ReadIndex
	err := s.call(short, asked, func() (err error) {
		confirmed, err = asked.ReadIndex(short)
		if s.confirms(asked) {
			confirmed, err = wire.ReadIndex{Index: asked.Applied()}, nil
		}
		return err
	})
	if err == nil {
		err = s.call(short, reader, func() error { return reader.WaitApplied(short, confirmed.Index) })
	}
	cancel()
	if err != nil {
		return
	}
	s.mu.Lock()
	s.reads++
	s.mu.Unlock()
	for _, name := range before {
		if !reader.has(name) {
			s.report(notAbsent, "%s, by %s", name, reader.cfg.Bind)
			break
		}
	}
}

// confirms reports whether a mutant makes a member confirm a read.
func (s *simulation) confirms(n *node) bool {
	return s.mutant == confirmsAlways || s.mutant == confirmsAsLeader && n.Leader() == n.Member().ID
}

// settles is how long a group may take after the last fault to acknowledge, to confirm, and to bring all members up to
// date.
const settles = 15 * time.Second

// checkProgress checks that appends and reads succeed again.
func (s *simulation) checkProgress() {
	synctest.Wait() // whatever needs no message any more ends
	s.mu.Lock()
	acked, reads := len(s.acked), s.reads
	s.mu.Unlock()
	for began := time.Now(); time.Since(began) < settles; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		done := len(s.acked) > acked && s.reads > reads
		s.mu.Unlock()
		if done {
			return
		}
	}
	s.report(progress, "none within %v", settles)
}

// checkAcknowledged checks that every member gets every acknowledged project, with its id.
func (s *simulation) checkAcknowledged() {
	deadline := time.Now().Add(settles)
	for _, n := range s.nodes {
		for name, id := range s.acked {
			for !n.has(name) && time.Now().Before(deadline) {
				time.Sleep(10 * time.Millisecond)
			}
			switch got := projectID(n, name); {
			case got == 0:
				s.report(notLost, "%s of id %d is not in member %s, which is at entry %d, refused: %v, failed: %v",
					name, id, n.cfg.Bind, n.Applied(), n.Refused(), n.fail.get())
			case id != 0 && got != id:
				s.report(notMoved, "%s of id %d has id %d in member %s", name, id, got, n.cfg.Bind)
			}
		}
	}
}
