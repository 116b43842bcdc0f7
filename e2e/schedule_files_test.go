package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// scarcityFaults returns faults in which a role lacks descriptors or memory, or cannot read its files. It logs those
// that the machine does not permit.
func scarcityFaults(t *testing.T) []fault {
	faults := []fault{{"no descriptors", 2, func(s *schedule) (string, func()) {
		name := s.anyRole()
		spare := uint64(s.random.IntN(3))
		undo := s.c.limitDescriptors(name, spare)
		return fmt.Sprintf("%s, %d spare", name, spare), func() {
			if s.c.Alive(name) {
				undo()
			}
			if !s.c.Alive(name) {
				s.c.t.Errorf("step %d: %s ended because it had no descriptors", s.steps, name)
			}
		}
	}}}
	if _, err := exec.LookPath("strace"); err == nil {
		faults = append(faults, fault{"unreadable", 2, func(s *schedule) (string, func()) {
			// Only files that exist: a node that cannot create one ends, like after a failed write.
			name, segments := s.nodeWithSegments()
			call := []string{"openat", "pread64"}[s.random.IntN(2)]
			status, _, _ := s.c.health(roleOf(s.c.Topology(), name), "/readyz", "") // it may be starting, or suspended
			undo := injectSyscalls(s.c.t, s.c.PIDs()[name], call+":error=EIO", segments...)
			return fmt.Sprintf("%s, EIO of %s", name, call), func() {
				undo()
				switch {
				case s.c.Alive(name):
				case status == http.StatusOK:
					s.c.t.Errorf("step %d: %s ended because it could not read files", s.steps, name)
				default: // a start after an unclean stop ends if it cannot read a segment
					s.c.Forget(name)
					s.c.launch(name)
				}
			}
		}})
	}
	if group, err := newMemoryGroup(t); err != nil {
		t.Logf("NO lack of memory: %v", err)
	} else {
		faults = append(faults, fault{"no memory", 2, func(s *schedule) (string, func()) {
			name := s.anyRole()
			limit := (1 + s.random.IntN(24)) << 20
			undo := group.limit(s.c.t, s.c.PIDs()[name], limit)
			return fmt.Sprintf("%s, %d MB more", name, limit>>20), func() {
				undo()
				s.mayEnd[name] = "" // the kernel kills it
				if !s.c.Alive(name) {
					s.counts["killed for memory"]++
				}
				s.launchEnded()
			}
		}})
	}
	return faults
}

// nodeWithSegments waits for a storage node that has segments, and returns one with their paths. The schedule may begin
// before the first block is mined.
func (s *schedule) nodeWithSegments() (name string, segments []string) {
	s.c.t.Helper()
	names := s.c.names(devcluster.KindStorage)
	s.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	s.c.await("a storage node with segments", func() string {
		for _, name = range names {
			var err error
			segments, err = filepath.Glob(filepath.Join(s.c.dir, name, "segments", "*"))
			if err != nil {
				return err.Error()
			}
			if len(segments) > 0 {
				return ""
			}
		}
		return fmt.Sprint("none of ", names)
	})
	return name, segments
}

// anyRole returns any role.
func (s *schedule) anyRole() string {
	all := s.c.everybody()
	return all[s.random.IntN(len(all))]
}

// restoredFault replaces the folder of a follower by an older copy.
func restoredFault(o *oracle) fault {
	return fault{"restored master", 1, func(s *schedule) (string, func()) {
		s.c.awaitComplete(3)
		s.c.restoreFollower(o, filepath.Join(s.c.dir, fmt.Sprint("saved-", s.steps)))
		return "a follower, which has joined again", nil
	}}
}

// limitDescriptors limits the descriptors of a process to those that it has, and some spare ones, until undo is called.
func (c *cluster) limitDescriptors(name string, spare uint64) (undo func()) {
	c.t.Helper()
	pid := c.PIDs()[name]
	var was unix.Rlimit
	limit := func(to, old *unix.Rlimit) {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, to, old); err != nil {
			c.t.Fatalf("limit the descriptors of %s: %v", name, err)
		}
	}
	limit(nil, &was)
	limit(&unix.Rlimit{Cur: highestDescriptor(c.t, pid) + 1 + spare, Max: was.Max}, nil)
	return func() { limit(&was, nil) }
}

// memoryGroup makes control groups with a limit of memory. Each process gets a group of its own: what one leaves in it,
// such as files on a tmpfs, counts against the limit, and the kernel refuses a limit below that.
type memoryGroup struct{ root, limitFile string }

// newMemoryGroup checks that control groups can be made.
func newMemoryGroup(t *testing.T) (*memoryGroup, error) {
	g := &memoryGroup{root: "/sys/fs/cgroup", limitFile: "memory.max"} // cgroup v2
	if _, err := os.Stat("/sys/fs/cgroup/memory/memory.limit_in_bytes"); err == nil {
		g.root, g.limitFile = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
	}
	_, err := g.group(t, 1<<30)
	return g, err
}

// group makes a control group that ends with the test.
func (g *memoryGroup) group(t *testing.T, bytes int) (dir string, err error) {
	if dir, err = os.MkdirTemp(g.root, "chainstore-e2e-"); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		if err := whileBusy(func() error { return os.Remove(dir) }); err != nil {
			t.Error(err)
		}
	})
	return dir, os.WriteFile(filepath.Join(dir, g.limitFile), []byte(strconv.Itoa(bytes)), 0o600)
}

// whileBusy repeats a change of a control group until the kernel permits it. It refuses to remove a group while a
// killed process is ending.
func whileBusy(change func() error) (err error) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if err = change(); !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

// limit gives a process so many more bytes of memory. If it needs more, the kernel kills it.
func (g *memoryGroup) limit(t *testing.T, pid, bytes int) (undo func()) {
	t.Helper()
	dir, err := g.group(t, bytes)
	move := func(dir string) error {
		return os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o600)
	}
	if err == nil {
		err = move(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() { _ = move(g.root) } // it may have ended
}
