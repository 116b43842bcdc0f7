package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// schedule decides what is done to a cluster, by its seed alone: when, and to whom.
type schedule struct {
	c      *cluster
	random *rand.Rand
	steps  int
	counts map[string]int // faults by kind
	faults []fault
	clocks string // the folder of the clocks, "" where nobody's can be set
	small  map[string]bool
}

// fault is one way to put the cluster out of order.
type fault struct {
	kind   string
	weight int
	// inject does it to something that the schedule chooses, says what it did, and how it is undone; undo is nil where
	// nothing is to be.
	inject func(s *schedule) (told string, undo func())
}

// basicFaults need nothing but processes.
func basicFaults() []fault {
	return []fault{
		{"kill", 6, func(s *schedule) (string, func()) {
			names := s.victims()
			s.c.kill(names...)
			return strings.Join(names, ", "), func() {
				s.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				for _, name := range names {
					s.c.launch(name)
					if s.random.IntN(4) == 0 { // once more, at any moment of its start
						s.pass(200 * time.Millisecond)
						s.c.kill(name)
						s.c.launch(name)
					}
				}
			}
		}},
		{"kill all", 1, func(s *schedule) (string, func()) {
			all := s.c.everybody()
			s.c.kill(all...)
			return "everything", func() { s.c.launch(all...) }
		}},
		{"stop", 2, func(s *schedule) (string, func()) {
			name := s.victims()[0]
			if err := s.c.StopRole(name); err != nil && !terminated(err) {
				s.c.t.Fatalf("step %d: stop %s: %v", s.steps, name, err)
			}
			return name, func() { s.c.launch(name) }
		}},
		{"pause", 3, func(s *schedule) (string, func()) {
			name := s.victims()[0]
			s.c.halt(name)
			return name, func() { s.c.resume(name) }
		}},
	}
}

// master is the leader, or any of the masters.
func (s *schedule) master() string {
	if s.random.IntN(2) == 0 {
		return s.c.leader("")
	}
	masters := s.c.names(devcluster.KindMaster)
	return masters[s.random.IntN(len(masters))]
}

// everybody lists all roles.
func (c *cluster) everybody() (names []string) {
	for _, r := range c.Topology().Roles() {
		names = append(names, r.Name)
	}
	return names
}

// networkFaults cut ways of the network between the roles.
func networkFaults() []fault {
	return []fault{
		{"partition", 3, func(s *schedule) (string, func()) {
			name := s.master()
			others := s.c.names(devcluster.KindMaster)
			if s.random.IntN(2) == 0 {
				others = s.c.everybody()
			}
			return name + " from " + strconv.Itoa(len(others)-1) + " others", s.c.net.isolate(name, others)
		}},
		{"one-way partition", 3, func(s *schedule) (string, func()) {
			name := s.master()
			others := slices.DeleteFunc(s.c.everybody(), func(other string) bool { return other == name })
			other := others[s.random.IntN(len(others))]
			from, to := name, other
			if s.random.IntN(2) == 0 {
				from, to = other, name
			}
			return from + " to " + to, s.c.net.cutWay(from, to)
		}},
	}
}

// slowLink has everything take longer that goes to a master, and that comes from it.
func slowLink() fault {
	return fault{"slow link", 2, func(s *schedule) (string, func()) {
		name := s.master()
		by := time.Duration(5+s.random.IntN(150)) * time.Millisecond
		return fmt.Sprintf("%s, by %v", name, by), s.c.net.slow(name, s.c.everybody(), by)
	}}
}

// clockFault has a master's wall clock jump, by up to a year either way. It stays wrong until it jumps back.
func clockFault() fault {
	return fault{"clock jump", 2, func(s *schedule) (string, func()) {
		masters := s.c.names(devcluster.KindMaster)
		name := masters[s.random.IntN(len(masters))]
		by := s.random.Int64N(2*365*24*3600*1000) - 365*24*3600*1000
		path := filepath.Join(s.clocks, strconv.Itoa(s.c.PIDs()[name]))
		if err := os.WriteFile(path, []byte(strconv.FormatInt(by, 10)), 0o600); err != nil {
			s.c.t.Fatal(err)
		}
		return fmt.Sprintf("%s by %v", name, time.Duration(by)*time.Millisecond), func() {
			if err := os.Remove(path); err != nil {
				s.c.t.Fatal(err)
			}
		}
	}}
}

// diskFaults are of roles whose disk fails under them: they must end by themselves, and come back when they are started
// again.
func diskFaults() []fault {
	any := func(s *schedule) string {
		var names []string
		for _, r := range s.c.Topology().Roles() {
			if r.Kind != devcluster.KindMiner { // it writes when a leader is new
				names = append(names, r.Name)
			}
		}
		return names[s.random.IntN(len(names))]
	}
	return []fault{
		{"full disk", 2, func(s *schedule) (string, func()) {
			var names []string
			for name := range s.small {
				names = append(names, name)
			}
			slices.Sort(names)
			name := names[s.random.IntN(len(names))]
			path := filepath.Join(roleOf(s.c.Topology(), name).Data, "ballast")
			fillDisk(s.c.t, path)
			s.awaitEnd(name, "its full disk")
			if err := os.Remove(path); err != nil {
				s.c.t.Fatal(err)
			}
			return name, func() { s.c.launch(name) }
		}},
		{"EIO", 2, func(s *schedule) (string, func()) {
			name := any(s)
			stop := injectSyscalls(s.c.t, s.c.PIDs()[name], "fsync,fdatasync:error=EIO")
			s.awaitEnd(name, "an EIO of a sync")
			stop()
			return name, func() { s.c.launch(name) }
		}},
		{"slow disk", 2, func(s *schedule) (string, func()) {
			name := any(s)
			by := 1 + s.random.IntN(200)
			return fmt.Sprintf("%s, syncs take %d ms more", name, by),
				injectSyscalls(s.c.t, s.c.PIDs()[name], fmt.Sprintf("fsync,fdatasync:delay_enter=%d", by*1000))
		}},
	}
}

// fillDisk writes a file until the file system is full.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // what is in it does not matter
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := file.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// injectSyscalls has strace tamper with the system calls of a process until it is stopped, or the process ends.
func injectSyscalls(t *testing.T, pid int, what string) (stop func()) {
	t.Helper()
	calls, _, _ := strings.Cut(what, ":")
	cmd := exec.Command("strace", "-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(pid), "-e", "trace="+calls, "-e",
		"inject="+what)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended with the process
		_ = cmd.Wait()
	}
}

// awaitEnd waits until a role has ended by itself, for a cause.
func (s *schedule) awaitEnd(name, cause string) {
	s.c.t.Helper()
	s.c.await(name+" to end by "+cause, func() string {
		if s.c.Alive(name) {
			return "it runs"
		}
		return ""
	})
	s.c.Forget(name)
}

// mountSmall puts the folders of some roles on small file systems of their own, and says which could be.
func mountSmall(t *testing.T, topology devcluster.Topology, size string, names ...string) map[string]bool {
	t.Helper()
	small := map[string]bool{}
	for _, name := range names {
		dir := roleOf(topology, name).Data
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700"); err != nil {
			t.Logf("NO full disks: %s cannot be put on a small file system: %v", name, err)
			return nil
		}
		small[name] = true
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	return small
}

// unreliable is a transport that loses answers of what was carried out, and sends requests twice.
type unreliable struct {
	inner         *http.Transport
	mu            sync.Mutex // guards random
	random        *rand.Rand
	lost, doubled atomic.Int64
}

// errLostAnswer is what a client sees.
var errLostAnswer = errors.New("the test lost the answer")

// RoundTrip sends a request, by chance twice, and loses the answer by chance.
func (u *unreliable) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	chance := u.random.IntN(100)
	u.mu.Unlock()
	if r.Method != http.MethodPost || r.GetBody == nil {
		chance = 100
	}
	// the answer to the first is thrown away unread: the second comes while the first is under way, or after
	if chance < 2 {
		again := r.Clone(r.Context())
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		again.Body = body
		if first, err := u.inner.RoundTrip(again); err == nil {
			_ = first.Body.Close()
		}
		u.doubled.Add(1)
	}
	answer, err := u.inner.RoundTrip(r)
	if err == nil && chance >= 2 && chance < 4 {
		_ = answer.Body.Close()
		u.lost.Add(1)
		return nil, errLostAnswer
	}
	return answer, err
}

// disturb injects one fault, two now and then, and takes them back.
func (s *schedule) disturb() {
	s.c.t.Helper()
	s.steps++
	var undo []func()
	var told []string
	for range 1 + s.random.IntN(4)/3 {
		f := s.choose()
		for len(undo) > 0 && f.ends() { // who is cut off may have nothing to write
			f = s.choose()
		}
		what, back := f.inject(s)
		s.counts[f.kind]++
		told = append(told, f.kind+" "+what)
		if back != nil {
			undo = append(undo, back)
		}
		s.pass(300 * time.Millisecond)
		if f.kind == "kill all" || f.ends() {
			break // its victims may not be there for another
		}
		if len(s.c.halted) > 0 || len(undo) > 0 && f.kind != "partition" && f.kind != "slow link" &&
			f.kind != "clock jump" {
			break
		}
	}
	s.c.t.Logf("step %d: %s", s.steps, strings.Join(told, "; "))
	most := 2500 * time.Millisecond
	if s.random.IntN(6) == 0 {
		most = 10 * time.Second
	}
	s.pass(most)
	for _, f := range slices.Backward(undo) {
		f()
		s.pass(200 * time.Millisecond)
	}
}

// ends reports whether whoever suffers the fault must end by it, at its next write.
func (f *fault) ends() bool { return f.kind == "full disk" || f.kind == "EIO" }

// choose chooses a fault by the weights.
func (s *schedule) choose() fault {
	total := 0
	for _, f := range s.faults {
		total += f.weight
	}
	n := s.random.IntN(total)
	for _, f := range s.faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return s.faults[0]
}

// startFaulty starts a cluster that every kind of fault can be done to, as far as the machine allows; what it does not
// is said.
func startFaulty(t *testing.T, seed uint64, change func(*devcluster.Topology)) (*cluster, *schedule) {
	t.Helper()
	c, topology := prepared(t, change)
	s := &schedule{
		c: c, random: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}, faults: basicFaults(), clocks: scratch,
	}
	c.net = newNetwork(t, &topology)
	s.faults = append(s.faults, networkFaults()...)
	if c.net.wires.canSlow() {
		s.faults = append(s.faults, slowLink())
	}
	c.link = &unreliable{inner: c.net.transport, random: rand.New(rand.NewPCG(seed, 4))}
	c.expectDamage = true // a node that lags is invalid for a while
	c.program = altered(t, "clock")
	s.faults = append(s.faults, clockFault())
	disks := diskFaults()
	if s.small = mountSmall(t, topology, "1g", "master-3", "storage-3"); len(s.small) > 0 {
		s.faults = append(s.faults, disks[0])
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Logf("NO failed and slow syncs: there is no strace: %v", err)
	} else {
		s.faults = append(s.faults, disks[1:]...)
	}
	c.begin(topology)
	return c, s
}
