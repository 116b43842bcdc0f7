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

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/devcluster"
)

// schedule chooses the faults of a cluster, their times and their victims. All choices derive from its seed.
type schedule struct {
	c      *cluster
	random *rand.Rand
	steps  int
	counts map[string]int // number of faults by kind
	faults []fault
	clocks string // the folder of the clock files, "" if clocks cannot be set
	small  map[string]bool
	// expired are the workers that have certificates that have expired.
	expired map[string]bool
	// mayEnd are roles that may be about to end by an earlier fault, each with the text that their log has then.
	mayEnd map[string]string
}

// fault is one kind of fault of the cluster.
type fault struct {
	kind   string
	weight int
	// inject injects the fault into a victim that the schedule chooses. It describes what it did, and returns a
	// function that undoes it, or nil.
	inject func(s *schedule) (told string, undo func())
}

// basicFaults returns the faults that need only processes.
func basicFaults() []fault {
	return []fault{
		{"kill", 6, func(s *schedule) (string, func()) {
			names := s.victims()
			s.c.kill(names...)
			return strings.Join(names, ", "), func() {
				s.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
				for _, name := range names {
					s.c.launch(name)
					if s.random.IntN(4) == 0 { // again, at a random moment of its start
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

// master returns the leader, or a random master.
func (s *schedule) master() string {
	if s.random.IntN(2) == 0 {
		return s.c.leader("")
	}
	masters := s.c.names(devcluster.KindMaster)
	return masters[s.random.IntN(len(masters))]
}

// everybody returns the names of all roles.
func (c *cluster) everybody() (names []string) {
	for _, r := range c.Topology().Roles() {
		names = append(names, r.Name)
	}
	return names
}

// networkFaults returns the faults that cut ways of the network between the roles.
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

// slowLink delays everything that is sent to and from a master.
func slowLink() fault {
	return fault{"slow link", 2, func(s *schedule) (string, func()) {
		name := s.master()
		by := time.Duration(5+s.random.IntN(150)) * time.Millisecond
		return fmt.Sprintf("%s, by %v", name, by), s.c.net.slow(name, s.c.everybody(), by)
	}}
}

// clockFault moves a master's wall clock by up to ten years in either direction, until the fault is undone.
func clockFault() fault {
	return fault{"clock jump", 2, func(s *schedule) (string, func()) {
		masters := s.c.names(devcluster.KindMaster)
		name := masters[s.random.IntN(len(masters))]
		by := s.random.Int64N(20*365*24*3600*1000) - 10*365*24*3600*1000
		undo := s.c.setClock(name, time.Duration(by)*time.Millisecond)
		return fmt.Sprintf("%s by %v", name, time.Duration(by)*time.Millisecond), undo
	}}
}

// newCertificateFault gives a new certificate to a role that runs.
func newCertificateFault() fault {
	return fault{"new certificate", 2, func(s *schedule) (string, func()) {
		all := s.c.everybody()
		name := all[s.random.IntN(len(all))]
		s.c.issue(name, certs.NodeLifetime)
		return name, nil
	}}
}

// oldCertificateFault gives a worker a certificate that has expired. It keeps it for some steps, and the other nodes
// accept it in their grace. Users would refuse that of a master.
func oldCertificateFault() fault {
	return fault{"old certificate", 1, func(s *schedule) (string, func()) {
		workers := append(s.c.names(devcluster.KindStorage), s.c.names(devcluster.KindMiner)...)
		name := workers[s.random.IntN(len(workers))]
		s.c.issue(name, -time.Minute)
		s.expired[name] = true
		return name, nil
	}}
}

// renewCertificates replaces the certificates of the workers that have expired ones. Notices would name them.
func (s *schedule) renewCertificates() {
	s.c.t.Helper()
	for name := range s.expired {
		s.c.issue(name, certs.NodeLifetime)
	}
	clear(s.expired)
}

// issue gives a role a certificate that lasts so long from now.
func (c *cluster) issue(name string, lifetime time.Duration) {
	c.t.Helper()
	if err := c.Issue(roleOf(c.Topology(), name), lifetime); err != nil {
		c.t.Fatal(err)
	}
}

// diskFaults returns faults of the disk of a role. After a failed sync the role must exit by itself, and work after a
// restart. With a full disk it goes on.
func diskFaults() []fault {
	any := func(s *schedule) string {
		var names []string
		for _, r := range s.c.Topology().Roles() {
			if r.Kind != devcluster.KindMiner { // a miner only writes when there is a new leader
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
			return name, func() {
				if err := os.Remove(path); err != nil {
					s.c.t.Fatal(err)
				}
				if roleOf(s.c.Topology(), name).Kind == devcluster.KindMaster {
					s.mayEnd[name] = syscall.ENOSPC.Error()
					s.launchEnded()
				} else if !s.c.Alive(name) {
					s.c.t.Errorf("step %d: %s ended on a full disk", s.steps, name)
				}
			}
		}},
		{"EIO", 2, func(s *schedule) (string, func()) {
			name := any(s)
			stop := injectSyscalls(s.c.t, s.c.PIDs()[name], "fsync,fdatasync:error=EIO")
			s.awaitEnd(name, "an EIO of a sync")
			stop()
			// The machine is not restarted. A role that is killed before the masters know that it runs again needs the
			// flag once more.
			s.c.failedSyncs[name] = true
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

// launchEnded starts the roles again that ended by an earlier fault. A master ends if its log meets the full disk
// before it has seen that. It may still be about to end when there is room again, and so may a role that had no memory.
func (s *schedule) launchEnded() {
	s.c.t.Helper()
	for name, text := range s.mayEnd {
		if s.c.Alive(name) {
			continue
		}
		s.c.Forget(name)
		if said := tail(roleOf(s.c.Topology(), name).Log, 20); !strings.Contains(said, text) {
			s.c.t.Errorf("step %d: %s ended, and said %s", s.steps, name, said)
		}
		s.c.launch(name)
	}
}

// awaitComplete waits until the cluster is complete. All faults are over.
func (s *schedule) awaitComplete(storages int) {
	s.c.t.Helper()
	s.c.await("a complete cluster", func() string {
		s.launchEnded()
		status, err := s.c.status()
		if err != nil {
			return err.Error()
		}
		return s.c.incomplete(status, storages)
	})
}

// fillDisk writes a file until the file system is full.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // its content does not matter
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := file.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// injectSyscalls makes strace tamper with the system calls of a process, until stop is called or the process ends. With
// paths, only calls on these files are changed.
func injectSyscalls(t *testing.T, pid int, what string, paths ...string) (stop func()) {
	t.Helper()
	calls, _, _ := strings.Cut(what, ":")
	args := []string{"-f", "-qq", "-o", "/dev/null", "-p", strconv.Itoa(pid), "-e", "trace=" + calls, "-e",
		"inject=" + what}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	cmd := exec.Command("strace", args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it may end with the process
	}()
	awaitTraced(t, pid, ended)
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended with the process
		<-ended
	}
}

// awaitTraced waits until a process is traced, or its tracer has ended.
func awaitTraced(t *testing.T, pid int, ended <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil || !strings.Contains(string(text), "\nTracerPid:\t0\n") {
			return
		}
		select {
		case <-tick.C:
		case <-ended:
			return
		case <-t.Context().Done():
			return
		}
	}
}

// awaitEnd waits until a role has exited by itself because of a fault.
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

// mountSmall mounts small file systems for the folders of some roles. It returns these roles, or nil if a mount fails.
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

// unreliable is a transport that loses the responses of executed requests, and sends requests twice.
type unreliable struct {
	inner         *http.Transport
	mu            sync.Mutex // guards random
	random        *rand.Rand
	lost, doubled atomic.Int64
}

// errLostAnswer is the error that a client sees.
var errLostAnswer = errors.New("the test lost the answer")

// RoundTrip sends a request, at random twice, and loses the response at random.
func (u *unreliable) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	chance := u.random.IntN(100)
	u.mu.Unlock()
	if r.Method != http.MethodPost || r.GetBody == nil {
		chance = 100
	}
	// The response to the first request is discarded unread: the second is sent while the first is under way, or later.
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

// disturb injects one or two faults, and undoes them.
func (s *schedule) disturb() {
	s.c.t.Helper()
	s.launchEnded()
	s.steps++
	var undo []func()
	var told []string
	for range 1 + s.random.IntN(4)/3 {
		f := s.choose()
		for len(undo) > 0 && f.ends() { // a victim that is cut off may have nothing to write
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
			break // its victims may not be available for another
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

// ends reports whether the fault must make its victim exit at the next write, or needs a cluster without other faults.
func (f *fault) ends() bool { return f.kind == "EIO" || f.kind == "restored master" }

// choose chooses a fault at random, by weight.
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

// startFaulty starts a cluster that is prepared for every kind of fault that the machine permits. It logs those that it
// does not.
func startFaulty(t *testing.T, seed uint64, change func(*devcluster.Topology)) (*cluster, *schedule) {
	t.Helper()
	c, topology := prepared(t, change)
	s := &schedule{
		c: c, random: rand.New(rand.NewPCG(seed, 1)), counts: map[string]int{}, faults: basicFaults(), clocks: scratch,
		mayEnd: map[string]string{}, expired: map[string]bool{},
	}
	c.net = newNetwork(t, &topology)
	secure(&topology)
	ownSecrets(t, &topology)
	s.faults = append(s.faults, networkFaults()...)
	if c.net.wires.canSlow() {
		s.faults = append(s.faults, slowLink())
	}
	c.link = &unreliable{inner: c.net.transport, random: rand.New(rand.NewPCG(seed, 4))}
	c.expectDamage = true // a node that lags is invalid for a while
	c.program, c.timeBound = altered(t, "clock"), time.Minute
	s.faults = append(s.faults, clockFault(), newCertificateFault(), oldCertificateFault(), secretFault())
	disks := diskFaults()
	// Notices would report the small file systems all the time.
	topology.MasterOptions.MinFree, topology.MasterOptions.WarnFree = minFree, minFree
	topology.WorkerOptions.MinFree, topology.WorkerOptions.WarnFree = minFree, minFree
	if s.small = mountSmall(t, topology, "1g", "master-3", "storage-3"); len(s.small) > 0 {
		s.faults = append(s.faults, disks[0])
	}
	if _, err := exec.LookPath("strace"); err != nil {
		t.Logf("NO failed and slow syncs: there is no strace: %v", err)
	} else {
		s.faults = append(s.faults, disks[1:]...)
	}
	s.faults = append(s.faults, scarcityFaults(t)...)
	c.begin(topology)
	return c, s
}
