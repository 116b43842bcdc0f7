package raftstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/devcluster/freeports"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

const testToken = "the cluster token of the tests"

func testSecret() []string { return []string{testToken} }

// node is a master's store under test, which begins each of its terms.
type node struct {
	*Store
	cfg  Config
	end  context.CancelFunc
	done chan error
}

// parallel is the number of parallel tests at a time, unless the flag -parallel says otherwise. Most tests of this
// package wait for elections, so one processor can run several.
const parallel = 4

func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", strconv.Itoa(max(parallel, runtime.GOMAXPROCS(0)))); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

func testConfig(t testing.TB, dir string) Config {
	cfg := Config{Dir: dir, Bind: ownAddress(t), Secret: testSecret, Timeout: raftTimeout}
	if testing.Verbose() {
		cfg.Logger = hclog.New(&hclog.LoggerOptions{Name: filepath.Base(dir), Level: hclog.Debug,
			Output: testWriter{t}})
	}
	return cfg
}

// ownAddress reserves an address on loopback until the test ends, so that a master can be restarted on it.
func ownAddress(t testing.TB) string {
	t.Helper()
	port, release, err := freeports.Claim(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return freeports.Addr(port)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if w.t.Context().Err() == nil {
		w.t.Logf("%s", b)
	}
	return len(b), nil
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func openNode(t testing.TB, cfg Config) *node {
	t.Helper()
	n := &node{Store: openStore(t, cfg), cfg: cfg, done: make(chan error, 1)}
	n.cfg.Bind = n.Member().Raft // the same port again
	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	go func() { n.done <- n.RunAsLeader(ctx, n.lead) }()
	t.Cleanup(n.stop)
	return n
}

func (n *node) lead(ctx context.Context, term uint64) error {
	_, err := n.Propose(ctx, masterfsm.Encode(&masterfsm.BeginTerm{
		Term: term, Member: n.Member().ID, Group: n.Member().Group, Time: 1000 + term,
		Settings: masterfsm.DefaultSettings(),
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// stop ends the leader's duties and closes the store, as a master does.
func (n *node) stop() {
	n.end()
	if n.done != nil {
		<-n.done
		n.done = nil
	}
	if err := n.Close(); err != nil {
		n.log.Error("close", "error", err)
	}
}

// testGroup founds a group.
func testGroup(t testing.TB, size int, change func(*Config)) []*node {
	t.Helper()
	var nodes []*node
	var members []wire.Member
	for i := range size {
		cfg := testConfig(t, filepath.Join(t.TempDir(), fmt.Sprint("master", i)))
		if change != nil {
			change(&cfg)
		}
		nodes = append(nodes, openNode(t, cfg))
		members = append(members, nodes[i].Member())
	}
	if err := nodes[0].Found("group-1", members); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes[1:] {
		adoption := wire.Adoption{Group: "group-1", Epoch: 1, Member: n.Member().ID, Founding: members}
		if err := n.Adopt(adoption); err != nil {
			t.Fatal(err)
		}
	}
	return nodes
}

func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// leaderOf waits until one of the nodes leads and has begun its term.
func leaderOf(t testing.TB, nodes ...*node) *node {
	t.Helper()
	ctx := patience(t)
	for {
		for _, n := range nodes {
			if _, err := n.ReadIndex(ctx); err == nil {
				return n
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("no leader")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func project(name string) []byte {
	return masterfsm.Encode(&masterfsm.CreateProject{Name: name, TokenHash: chain.Hash([]byte(fmt.Sprintf("%-32.32s",
		name))), Time: 1})
}

// create creates a project through the leader.
func create(t testing.TB, name string, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	for {
		_, err := leaderOf(t, nodes...).Propose(ctx, project(name))
		if err == nil || errors.Is(err, wire.ErrNameTaken) {
			return
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
}

func (n *node) has(name string) bool {
	var found bool
	n.Read(func(s *masterfsm.State) {
		_, found = s.ProjectByName(name)
	})
	return found
}

// agree waits until all nodes have applied what was committed, and compares their states.
func agree(t testing.TB, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	read, err := leaderOf(t, nodes...).ReadIndex(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if err := n.WaitApplied(ctx, read.Index); err != nil {
			t.Fatalf("member %s at %d: %v", n.Member().ID, n.Applied(), err)
		}
	}
}

func TestGroupFailover(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	create(t, "one", nodes...)
	agree(t, nodes...)
	for _, n := range nodes {
		if !n.has("one") {
			t.Fatalf("member %s lacks what was committed", n.Member().ID)
		}
	}
	first := leaderOf(t, nodes...)
	var rest []*node
	for _, n := range nodes {
		if n != first {
			rest = append(rest, n)
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := n.Propose(ended, project("no")); !errors.Is(err, ErrNotLeader) ||
				errors.Is(err, ErrUnknownOutcome) {
				t.Errorf("follower, after its context ended: %v", err)
			}
			if _, err := n.Propose(t.Context(), project("no")); !errors.Is(err, ErrNotLeader) {
				t.Fatalf("a follower answers %v", err)
			}
			if _, err := n.ReadIndex(t.Context()); !errors.Is(err, ErrNotLeader) {
				t.Fatalf("a follower answers %v", err)
			}
		}
	}
	first.stop()
	if _, err := first.Propose(t.Context(), project("no")); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed store answers %v", err)
	}
	create(t, "two", rest...)

	boot, id := first.Boot(), first.Member().ID
	again := openNode(t, first.cfg)
	if again.Boot() != boot+1 || again.Member().ID != id {
		t.Fatalf("boot %d after %d, member %s after %s", again.Boot(), boot, again.Member().ID, id)
	}
	all := append(rest, again)
	agree(t, all...)
	if !again.has("one") || !again.has("two") {
		t.Fatal("the restarted master lacks projects")
	}
	second := leaderOf(t, all...)
	for _, m := range second.Members() {
		if want := map[bool]string{true: "leader", false: "follower"}[m.ID == second.Member().ID]; m.State != want {
			t.Errorf("the leader says that %s is %s", m.ID, m.State)
		}
	}
	if again.LastContact() > time.Minute || second.LastContact() > time.Minute {
		t.Errorf("last contact %v on a follower, %v on the leader", again.LastContact(), second.LastContact())
	}
}

func TestAllRestart(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	create(t, "one", nodes...)
	for _, n := range nodes {
		n.stop()
	}
	for i := range nodes {
		nodes[i] = openNode(t, nodes[i].cfg)
	}
	create(t, "two", nodes...)
	agree(t, nodes...)
	for _, n := range nodes {
		if !n.has("one") || !n.has("two") {
			t.Fatalf("member %s lacks projects", n.Member().ID)
		}
	}
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	first := leaderOf(t, nodes...)
	if err := first.TransferLeadership(""); err != nil {
		t.Fatal(err)
	}
	if second := leaderOf(t, nodes...); second == first {
		t.Fatal("the leader still leads")
	}
	if err := first.TransferLeadership(""); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a follower answers %v", err)
	}
}

// The founder's disk is lost before its first entry has reached another master. The masters that it adopted know their
// group.
func TestFounderLost(t *testing.T) {
	t.Parallel()
	var nodes []*node
	var members []wire.Member
	for i := range 3 {
		nodes = append(nodes, openNode(t, testConfig(t, filepath.Join(t.TempDir(), fmt.Sprint("master", i)))))
		members = append(members, nodes[i].Member())
	}
	adoption := wire.Adoption{Group: "g", Epoch: 1, Member: members[1].ID,
		Founding: []wire.Member{members[0], members[2]}}
	if err := nodes[1].Adopt(adoption); err == nil {
		t.Error("adopted into a group of others")
	}
	for i, n := range nodes[1:] {
		adoption := wire.Adoption{Group: "g", Epoch: 1, Member: members[i+1].ID, Founding: members}
		if err := n.Adopt(adoption); err != nil {
			t.Fatal(err)
		}
	}
	l := leaderOf(t, nodes[1:]...)
	if got := l.Members(); len(got) != 3 {
		t.Errorf("the members are %+v", got)
	}
}

func TestFoundAndAdopt(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir())
	s := openStore(t, cfg)
	self := s.Member()
	if self.Group != "" || self.ID == "" {
		t.Fatalf("a new master is %+v", self)
	}
	if _, err := s.Propose(t.Context(), project("x")); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("a new master answers %v", err)
	}
	adoption := wire.Adoption{Group: "g", Epoch: 1, Member: "somebody else"}
	if err := s.Adopt(adoption); !errors.Is(err, ErrOtherMember) {
		t.Fatalf("adopting another: %v", err)
	}
	for name, members := range map[string][]wire.Member{
		"without the founder": {{ID: "a", Raft: "127.0.0.1:1"}},
		"twice the same":      {self, {ID: self.ID, Raft: "127.0.0.1:1"}},
		"without a port":      {self, {ID: "a", Raft: "127.0.0.1"}},
		"not an id":           {self, {ID: "a@b", Raft: ""}},
	} {
		if err := s.Found("g", members); err == nil {
			t.Errorf("founding %s worked", name)
		}
	}
	for range 2 {
		if err := s.Found("g", []wire.Member{self}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Found("h", []wire.Member{self}); !errors.Is(err, ErrOtherGroup) {
		t.Fatalf("a second founding: %v", err)
	}
	if err := s.Adopt(wire.Adoption{Group: "h", Epoch: 1, Member: self.ID}); !errors.Is(err, ErrOtherGroup) {
		t.Fatalf("an adoption by another group: %v", err)
	}
	if err := s.Adopt(wire.Adoption{Group: "g", Epoch: 1, Member: self.ID}); err != nil {
		t.Fatalf("an adoption by its own group: %v", err)
	}
	if s.Member().Group != "g" {
		t.Fatalf("the founder is %+v", s.Member())
	}
}

// A founding that a crash interrupted at any point is finished at the next start.
func TestInterruptedFounding(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"before the term", "before the configuration"} {
		t.Run(step, func(t *testing.T) {
			cfg := testConfig(t, t.TempDir())
			s := openStore(t, cfg)
			cfg.Bind = s.Member().Raft
			id := s.identity
			id.Group, id.Founding = "g", []wire.Member{s.Member()}
			if err := id.save(cfg.Dir); err != nil {
				t.Fatal(err)
			}
			if step == "before the configuration" {
				if err := s.bolt.SetUint64([]byte(keyTerm), 1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			create(t, "one", openNode(t, cfg))
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, t.TempDir())
	s := openStore(t, cfg)
	other := cfg
	other.Bind = "127.0.0.1:0"
	if _, err := Open(other); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a folder in use: %v", err)
	}
	other.Dir, other.Bind = filepath.Join(t.TempDir(), "new"), s.Member().Raft
	if _, err := Open(other); err == nil {
		t.Error("a port in use: no error")
	}
	if _, err := os.Stat(other.Dir); err == nil {
		t.Error("a port in use, and the folder was made")
	}
	other.Bind = ":0"
	if _, err := Open(other); err == nil {
		t.Error("an address that other masters cannot dial: no error")
	}
	other = testConfig(t, t.TempDir())
	path := filepath.Join(other.Dir, "master.json")
	if err := os.WriteFile(path, []byte(`{"version":4,"id":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != `{"version":4,"id":"x"}` {
		t.Errorf("a newer format was changed to %s, %v", data, err)
	}
	if err := os.WriteFile(path, []byte(`{"vers`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(other); !errors.Is(err, ErrDisk) {
		t.Errorf("a damaged identity: %v", err)
	}
}

// Concurrent proposals and reads all end while leaders change, and what was acknowledged is there.
func TestProposeWhileLeadersChange(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	leaderOf(t, nodes...)
	ctx := patience(t)
	var mu sync.Mutex
	var kept []string
	var tasks sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		tasks.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("p-%d-%d", w, i)
				n := nodes[i%len(nodes)]
				if _, err := n.Propose(ctx, project(name)); err == nil {
					mu.Lock()
					kept = append(kept, name)
					mu.Unlock()
				} else if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) {
					t.Errorf("propose: %v", err)
				}
			}
		})
	}
	for range 3 {
		n := leaderOf(t, nodes...)
		if err := n.TransferLeadership(""); err != nil {
			t.Log(err)
		}
		create(t, "after-"+n.Member().ID, nodes...)
	}
	close(stop)
	tasks.Wait()
	agree(t, nodes...)
	if len(kept) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	for _, n := range nodes {
		for _, name := range kept {
			if !n.has(name) {
				t.Fatalf("member %s lacks %s, which was acknowledged", n.Member().ID, name)
			}
		}
	}
}

// When the context of a call ends, the change of the group continues in its goroutine. The call must not share a
// variable with it; the race detector shows that.
func TestPromoteGivenUp(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, nil)
	leader := leaderOf(t, nodes...)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := leader.Promote(gone, leader.Member().ID); err != nil && !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("a voter: %v", err)
		}
		if err := leader.Promote(gone, "missing"); !errors.Is(err, ErrNoMember) && !errors.Is(err, ErrUnknownOutcome) {
			t.Fatalf("no member: %v", err)
		}
	}
	if err := leader.Promote(patience(t), leader.Member().ID); err != nil {
		t.Errorf("a voter: %v", err)
	}
	if err := leader.Promote(patience(t), "missing"); !errors.Is(err, ErrNoMember) {
		t.Errorf("no member: %v", err)
	}
}

// A wiped disk at an old address is another member: it follows no leader, cannot vote, and cannot replace the old one.
func TestWipedMember(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	create(t, "one", nodes...)
	agree(t, nodes...)
	leader := leaderOf(t, nodes...)
	var old *node
	for i, n := range nodes {
		if n != leader {
			old = n
			nodes = append(nodes[:i], nodes[i+1:]...)
			break
		}
	}
	old.stop()
	if err := os.RemoveAll(old.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	wiped := openNode(t, old.cfg)
	adoption := wire.Adoption{Group: "group-1", Epoch: 1, Member: old.Member().ID}
	if err := wiped.Adopt(adoption); !errors.Is(err, ErrOtherMember) {
		t.Fatalf("the wiped master passes for the old one: %v", err)
	}
	if err := wiped.Adopt(wire.Adoption{Group: "group-1", Epoch: 1, Member: wiped.Member().ID}); err != nil {
		t.Fatal(err)
	}
	// Only the leader and the wiped master are left: none may be elected.
	for _, n := range nodes {
		if n != leader {
			n.stop()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*raftTimeout)
	defer cancel()
	_, err := leader.Propose(ctx, project("two"))
	if err == nil {
		t.Error("a wiped master made up a majority")
	}
	<-ctx.Done()
	if wiped.Applied() != 0 || wiped.Leader() != "" || leader.Leader() != "" {
		t.Errorf("the wiped master is at %d, led by %q; the other by %q", wiped.Applied(), wiped.Leader(),
			leader.Leader())
	}
}
