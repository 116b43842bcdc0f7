package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/wire"
)

// silentLeader answers no request for a status.
type silentLeader struct{ masterstest.Follower }

func (silentLeader) LeaderCluster(ctx context.Context) (wire.Cluster, error) {
	<-ctx.Done()
	return wire.Cluster{}, context.Cause(ctx)
}

func (silentLeader) LeaderIntegrity(ctx context.Context) (wire.Integrity, error) {
	<-ctx.Done()
	return wire.Integrity{}, context.Cause(ctx)
}

// newFollower returns a master m2 of the rig's group that calls masters. Only what requests of clients need runs.
func (r *rig) newFollower(t *testing.T, masters Masters) *Node {
	t.Helper()
	cfg := r.cfg
	cfg.Member = wire.Member{ID: "m2", URL: "http://m2"}
	cfg.Ledger, cfg.Masters = masterstest.Following{Ledger: r.ledger}, masters
	cfg.Membership, cfg.Histograms = masterstest.NewMembership(), histogram.NewMaster()
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var serving sync.WaitGroup
	serving.Go(func() { n.serve(ctx) })
	t.Cleanup(func() {
		cancel()
		serving.Wait()
	})
	return n
}

// TestStatusOfAFollower checks that a follower shows the leader's status. If the leader does not answer in time, it
// shows its own table, and says so.
func TestStatusOfAFollower(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProofRig(t, 10)
		defer r.stop()
		masters := masterAt("http://m1", r.Node)
		n := r.newFollower(t, masters)
		for name, c := range map[string]struct {
			leader masterstest.Master
			own    bool // the follower's own table is shown
			within time.Duration
		}{
			"the leader answers": {r.Node, false, 0},
			"the leader hangs":   {silentLeader{}, true, statusTimeout},
			"the leader is gone": {nil, true, 0},
			"it leads no longer": {masterstest.Follower{Self: member("m1")}, true, 0},
		} {
			masters.Set("http://m1", c.leader)
			local := func(notices []wire.Message) bool {
				return slices.ContainsFunc(notices, func(m wire.Message) bool { return m.Code == wire.CodeLocalView })
			}
			began := time.Now()
			status := n.Cluster(t.Context())
			if took := time.Since(began); status.Authoritative == c.own || local(status.NoticesCoded) != c.own ||
				status.Leader != "m1" || status.Records != 10 || took != c.within {
				t.Errorf("%s: after %v %+v", name, took, status)
			}
			began = time.Now()
			integrity := n.Integrity(t.Context())
			if took := time.Since(began); integrity.Authoritative == c.own || local(integrity.NoticesCoded) != c.own ||
				len(integrity.Nodes) != 3 || took != c.within {
				t.Errorf("%s: after %v %+v", name, took, integrity)
			}
		}
	})
}

// TestFigures checks that the metrics of the leader and of a follower agree with the status.
func TestFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newProofRig(t, 300)
		defer r.stop()
		if _, err := r.Append(t.Context(), r.project, []Entry{{Payload: []byte("open")}}, ""); err != nil {
			t.Fatal(err)
		}
		c, at := r.Cluster(t.Context()), r.checked(t)
		for _, n := range []*Node{r.Node, r.newFollower(t, masterstest.NewMasters())} {
			f := n.Figures()
			if f.Leading != (n == r.Node) || f.Term != c.Term || f.Height != c.Head.Height || f.Stored != c.Stored ||
				f.BufferRecords != 1 || f.WholeStorages != 3 || f.Leading != (f.LiveStorages == 3) ||
				f.Leading != (f.LiveMiners == 1) || f.Published != at.Boundary.Size ||
				f.Checkpoint < f.Published || f.NextIndex <= f.Checkpoint || f.LostBlocks != 0 {
				t.Errorf("%+v; the status is %+v", f, c)
			}
		}
	})
}

// TestStateHash checks that masters with the same state have the same hash, that a command changes it, and that there
// is no answer while the index of the state is not certain.
func TestStateHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		time.Sleep(10 * time.Second)
		first, err := r.StateHash()
		if err != nil || first.Applied != r.ledger.Applied() {
			t.Fatalf("%+v, %v; applied %d", first, err, r.ledger.Applied())
		}
		if same, err := r.newFollower(t, masterstest.NewMasters()).StateHash(); err != nil || same != first {
			t.Errorf("another master: %+v, %v; want %+v", same, err, first)
		}
		if _, err := r.CreateProject(t.Context(), wire.NewProject{Name: "q"}); err != nil {
			t.Fatal(err)
		}
		next, err := r.StateHash()
		if err != nil || next.Applied != first.Applied+1 || next.Hash == first.Hash {
			t.Errorf("after a command: %+v, %v; before %+v", next, err, first)
		}
		busy := Node{cfg: Config{Ledger: &busyLedger{Ledger: r.ledger}}}
		if _, err := busy.StateHash(); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("a state that changes all the time: %v", err)
		}
	})
}

// busyLedger applies an entry between any two looks at it.
type busyLedger struct {
	*masterstest.Ledger
	applied uint64
}

func (l *busyLedger) Applied() uint64 {
	l.applied++
	return l.applied
}

// TestProjects checks that projects are listed in pages in the order of their ids, and only if the leader confirms that
// there are no others.
func TestProjects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0, nil)
		defer r.stop()
		for _, name := range []string{"q", "r", "s"} {
			if _, err := r.CreateProject(t.Context(), wire.NewProject{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		n := r.newFollower(t, masterAt("http://m1", r.Node))
		var names []string
		after, pages := uint32(0), 0
		for {
			page, err := n.Projects(t.Context(), after, 3)
			if err != nil {
				t.Fatal(err)
			}
			if pages++; len(page) == 0 {
				break
			}
			for _, p := range page {
				names, after = append(names, p.Name), p.ID
			}
		}
		if !slices.Equal(names, []string{"p", "q", "r", "s"}) || pages != 3 {
			t.Errorf("%d pages with %q", pages, names)
		}
		r.ledger.SetConfirm(func() error { return wire.ErrNotLeader })
		if page, err := n.Projects(t.Context(), 0, 3); !errors.Is(err, wire.ErrNoLeader) {
			t.Errorf("not confirmed: %+v, %v", page, err)
		}
	})
}

// TestSilentNodesAreNoticed checks that the status and the metrics of the leader show a storage node and a master that
// do not answer, and that a new leader first waits for their answers.
func TestSilentNodesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		r := newRig(t, 3, func(c *Config, _ *rig) { c.Masters = masters })
		defer r.stop()
		r.join(t, masters, "m2", "m3")
		silent := func() []string {
			var nodes []string
			for _, m := range r.Cluster(t.Context()).NoticesCoded {
				if m.Code == wire.CodeStorageSilent || m.Code == wire.CodeMasterSilent {
					nodes = append(nodes, m.Code+" "+m.Args["node"].(string))
				}
			}
			return nodes
		}
		if got := silent(); got != nil {
			t.Errorf("a new leader names %v", got)
		}
		time.Sleep(30 * time.Second)
		if got, f := silent(), r.Figures(); got != nil || f.LiveStorages != 3 || f.LiveMiners != 1 {
			t.Errorf("all answer: notices %v, %+v", got, f)
		}
		node := r.Cluster(t.Context()).Storages[1]
		r.on(node.URL, func(s *masterstest.Storage) { s.Down = true })
		r.members.Mu.Lock()
		r.members.List[2].State = "unreachable" // as raft sees it
		r.members.Mu.Unlock()
		time.Sleep(30 * time.Second)
		want := []string{"storage-silent " + node.ID, "master-silent m3"}
		if got, f := silent(), r.Figures(); !slices.Equal(got, want) || f.LiveStorages != 2 || f.WholeStorages != 3 {
			t.Errorf("notices %v, want %v; %+v", got, want, f)
		}
		r.on(node.URL, func(s *masterstest.Storage) { s.Down = false })
		time.Sleep(30 * time.Second)
		if got := silent(); !slices.Equal(got, want[1:]) {
			t.Errorf("the storage node is back: notices %v", got)
		}
	})
}

// TestRefusingNodesAreNoticed checks that the status and the metrics of the leader show nodes that are refused, because
// their data folder is a copy, and nodes at whose URL another one answers. No notice says that they do not answer.
func TestRefusingNodesAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		var answers sync.Map // by URL: the error of every call
		answer := func(url string) error {
			err, _ := answers.Load(url)
			failed, _ := err.(error)
			return failed
		}
		masters.Network = func(_ context.Context, url string, call func() error) error {
			return cmp.Or(answer(url), call())
		}
		r := newRig(t, 3, func(c *Config, r *rig) { c.Masters, r.workers.Flaky = masters, answer })
		defer r.stop()
		r.join(t, masters, "m2", "m3")
		state := func(s string) {
			r.members.Mu.Lock()
			defer r.members.Mu.Unlock()
			r.members.List[1].State = s
		}
		problem := func(p *wire.ProblemType) error { return &wire.Error{Problem: p.Problem(p)} }
		for _, step := range []struct {
			name        string
			m2, workers error  // of calls to m2, and to s1 and the miner
			raft        string // how raft sees m2
			at          string // the master that answers at the URL of m2
			want        []string
			stale, urls int
			joining     bool // m2 does not know its group yet
		}{
			{name: "all answer", raft: "follower", at: "m2"},
			{name: "folders are copies", m2: problem(wire.ErrStaleFolder), workers: problem(wire.ErrStaleFolder),
				raft: "unreachable", at: "m2",
				want: []string{"stale-folder m2", "stale-folder miner", "stale-folder s1"}, stale: 3},
			{name: "stopped", m2: masterstest.ErrNoMaster, workers: masterstest.ErrDown, raft: "unreachable", at: "m2",
				want: []string{"master-silent m2", "storage-silent s1"}},
			{name: "started again", raft: "follower", at: "m2"},
			{name: "does not know its group", raft: "follower", at: "m2", joining: true},
			{name: "other nodes", workers: problem(wire.ErrUnauthorized), raft: "unreachable", at: "m9",
				want: []string{"other-node-at-url m2 http://m2", "other-node-at-url miner http://miner",
					"other-node-at-url s1 http://s1"}, urls: 3},
			{name: "a master of another cluster", m2: problem(wire.ErrUnauthorized), raft: "unreachable", at: "m2",
				want: []string{"other-node-at-url m2 http://m2"}, urls: 1},
			{name: "copies after other nodes", m2: problem(wire.ErrStaleFolder), raft: "unreachable", at: "m2",
				want: []string{"stale-folder m2"}, stale: 1},
			{name: "the nodes are back", raft: "follower", at: "m2"},
		} {
			there := member(step.at)
			there.URL = "http://m2"
			if step.joining {
				there.Group = ""
			}
			masters.set(there)
			for url, err := range map[string]error{
				"http://m2": step.m2, "http://s1": step.workers, "http://miner": step.workers,
			} {
				answers.Delete(url)
				if err != nil {
					answers.Store(url, err)
				}
			}
			state(step.raft)
			time.Sleep(30 * time.Second)
			var got []string
			for _, m := range r.Cluster(t.Context()).NoticesCoded {
				switch m.Code {
				case wire.CodeStorageSilent, wire.CodeMasterSilent, wire.CodeStaleFolder:
					got = append(got, fmt.Sprint(m.Code, " ", m.Args["node"]))
				case wire.CodeOtherNodeAtURL:
					got = append(got, fmt.Sprint(m.Code, " ", m.Args["node"], " ", m.Args["url"]))
				}
			}
			slices.Sort(got)
			f := r.Figures()
			if !slices.Equal(got, step.want) || f.StaleFolders != step.stale || f.WrongURLs != step.urls {
				t.Errorf("%s: notices %q, want %q; %+v", step.name, got, step.want, f)
			}
		}
	})
}
