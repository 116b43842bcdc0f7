package masternode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// approvingRig is a rig whose group requires the approval of new workers. It counts the calls to each worker.
type approvingRig struct {
	*rig
	mu    sync.Mutex
	calls map[string]int // by URL
}

// newApprovingRig returns a rig with a miner and one storage node, and two that are not registered.
func newApprovingRig(t *testing.T) *approvingRig {
	t.Helper()
	a := &approvingRig{calls: map[string]int{}}
	a.rig = newJoiningRig(t, 1, func(_ *Config, r *rig) {
		r.workers.Flaky = func(url string) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.calls[url]++
			return nil
		}
	})
	a.workers.AddStorage("http://new")
	a.workers.AddStorage("http://thief")
	time.Sleep(5 * time.Second) // until the level is raised
	on := true
	if _, err := a.ChangeSettings(t.Context(), wire.SettingsChange{ApproveWorkers: &on}); err != nil {
		t.Fatal(err)
	}
	return a
}

// called returns how many calls a worker got.
func (a *approvingRig) called(url string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls[url]
}

// ask registers a worker, and again with the answer before, nil for none.
func (a *approvingRig) ask(t *testing.T, role, url string, before *wire.Registered) wire.Registered {
	t.Helper()
	r := wire.Registration{Role: role, URL: url, MasterToken: "x", Boot: "1", Lists: true,
		Level: masterfsm.ProtocolLevel}
	if before != nil {
		r.ID, r.AccessToken, r.Group = before.ID, before.AccessToken, before.Group
	}
	answer, err := a.Register(t.Context(), r, false)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// TestUnapprovedStorageGetsNothing checks that a storage node without approval gets no call, is no copy and no part of
// the cluster, whatever it registers with, and that it takes part once it is approved and registers again.
func TestUnapprovedStorageGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprovingRig(t)
		defer a.stop()
		waiting := a.ask(t, "storage", "http://new", nil)
		if !waiting.Waiting || waiting.Order != "" || waiting.ID == "" || waiting.AccessToken == "" {
			t.Errorf("%+v", waiting)
		}
		if _, err := a.Append(t.Context(), a.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
			t.Fatal(err)
		}
		// A thief with the secret gives the id of another worker, known or waiting.
		known := a.table().Storages[0]
		for _, id := range []string{known.ID, waiting.ID} {
			thief := a.ask(t, "storage", "http://thief", &wire.Registered{ID: id, AccessToken: "guessed"})
			if !thief.Waiting || thief.ID == id {
				t.Errorf("as %s: %+v", id, thief)
			}
		}
		taker := a.ask(t, "storage", known.URL, nil) // at the address of a known one
		if !taker.Waiting {
			t.Errorf("at the address of another: %+v", taker)
		}
		time.Sleep(30 * time.Second) // to be cut, mined and stored
		if again := a.ask(t, "storage", "http://new", &waiting); again != waiting {
			t.Errorf("%+v, then %+v", waiting, again)
		}
		c := a.Cluster(t.Context())
		if n := a.called("http://new") + a.called("http://thief"); n != 0 || c.Stored != 0 || c.Head.Height == 0 ||
			len(c.Storages) != 1 || c.Storages[0].URL != known.URL || c.Storages[0].ID != known.ID {
			t.Errorf("%d calls, %d of %d blocks are stored, on %+v", n, c.Stored, c.Head.Height, c.Storages)
		}
		codes := map[string]bool{}
		for _, m := range c.NoticesCoded {
			codes[m.Code] = true
		}
		if !codes[wire.CodeWorkersWait] || !codes[wire.CodeTooFewStorages] || len(c.Waiting) != 4 {
			t.Errorf("notices %q, waiting %+v", c.Notices, c.Waiting)
		}
		if urls := slices.Collect(a.prover.Nodes(t.Context(), 0)); len(urls) != 1 {
			t.Errorf("records are read from %+v", urls)
		}

		approved, err := a.ApproveWorker(t.Context(), waiting.ID)
		if err != nil || !approved.Approved || approved.URL != "http://new" || approved.Role != "storage" {
			t.Fatalf("%+v, %v", approved, err)
		}
		time.Sleep(10 * time.Second)
		if n := a.called("http://new"); n != 0 {
			t.Errorf("%d calls before it registers again", n)
		}
		if thief := a.ask(t, "storage", "http://thief",
			&wire.Registered{ID: waiting.ID, AccessToken: "guessed"}); !thief.Waiting || thief.ID == waiting.ID {
			t.Errorf("a thief with the id of an approved worker: %+v", thief)
		}
		in := a.ask(t, "storage", "http://new", &waiting)
		if in.Waiting || in.ID != waiting.ID || in.Order == "" {
			t.Errorf("%+v", in)
		}
		time.Sleep(10 * time.Second)
		if c = a.Cluster(t.Context()); c.Stored == 0 || c.Stored != c.Head.Height || a.called("http://new") == 0 ||
			a.called("http://thief") != 0 {
			t.Errorf("%d blocks are stored, %d calls", c.Stored, a.called("http://new"))
		}
		for _, id := range []string{waiting.ID, known.ID, "nobody"} {
			if _, err := a.ApproveWorker(t.Context(), id); !errors.Is(err, wire.ErrNotFound) {
				t.Errorf("approval of %s: %v", id, err)
			}
		}
		if err := a.RefuseWorker(t.Context(), taker.ID); err != nil {
			t.Fatal(err)
		}
		_, err = a.Register(t.Context(), wire.Registration{Role: "storage", URL: known.URL, MasterToken: "x", Boot: "1",
			ID: taker.ID, AccessToken: taker.AccessToken}, false)
		if !errors.Is(err, wire.ErrRemoved) {
			t.Errorf("a refused worker: %v", err)
		}
	})
}

// TestUnapprovedMinerGetsNothing checks that a miner without approval gets no call, and so no template of a block.
func TestUnapprovedMinerGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprovingRig(t)
		defer a.stop()
		waiting := a.ask(t, "miner", "http://thief", nil)
		for range 3 {
			if _, err := a.Append(t.Context(), a.project, []Entry{{Payload: []byte("x")}}, ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		c := a.Cluster(t.Context())
		if n := a.called("http://thief"); !waiting.Waiting || n != 0 || len(c.Miners) != 1 || c.Head.Height < 3 {
			t.Errorf("%+v: %d calls, %+v, %d blocks", waiting, n, c.Miners, c.Head.Height)
		}
		if _, err := a.ApproveWorker(t.Context(), waiting.ID); err != nil {
			t.Fatal(err)
		}
		if in := a.ask(t, "miner", "http://thief", &waiting); in.Waiting || in.ID != waiting.ID {
			t.Errorf("%+v", in)
		}
		time.Sleep(10 * time.Second)
		if c := a.Cluster(t.Context()); len(c.Miners) != 2 || a.called("http://thief") == 0 || len(c.Waiting) != 0 {
			t.Errorf("%d calls, %+v", a.called("http://thief"), c.Miners)
		}
	})
}

// TestWaitingWorkersAskOften checks that registrations of a waiting worker cost no log entry each, keep its place in
// the list, and that a flood of others neither hides it nor grows the log.
func TestWaitingWorkersAskOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newApprovingRig(t)
		defer a.stop()
		waiting := a.ask(t, "storage", "http://new", nil)
		seen := func() masterfsm.WaitingWorker {
			w := a.table().WaitingWorkers
			return w[slices.IndexFunc(w, func(w masterfsm.WaitingWorker) bool { return w.ID == waiting.ID })]
		}
		first := seen()
		var kept []masterfsm.WaitingWorker
		for range 3 * 60 { // half an hour
			time.Sleep(10 * time.Second)
			if again := a.ask(t, "storage", "http://new", &waiting); again != waiting {
				t.Fatalf("%+v, then %+v", waiting, again)
			}
			if n := len(kept); n == 0 || kept[n-1] != seen() {
				kept = append(kept, seen())
			}
		}
		if len(kept) < 3 || len(kept) > 4 || kept[len(kept)-1].Since != first.Since {
			t.Errorf("the entry was %+v", kept)
		}
		for i := range masterfsm.MaxWaiting {
			a.ask(t, "miner", fmt.Sprint("http://flood", i), nil)
		}
		for range 10 {
			_, err := a.Register(t.Context(), wire.Registration{Role: "miner", URL: "http://one-more", MasterToken: "x",
				Boot: "1"}, false)
			if !errors.Is(err, wire.ErrTooMany) || !strings.Contains(err.Error(), "chainstore status") {
				t.Fatalf("a full list: %v", err)
			}
		}
		if again := a.ask(t, "storage", "http://new", &waiting); again != waiting {
			t.Errorf("%+v", again)
		}
	})
}

// TestApproveWorkersFlag checks that a leader with the flag lets no new worker in before the group requires approval,
// that it makes the group require it, and that this is not switched off under it.
func TestApproveWorkersFlag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		masters := newGroupMasters()
		masters.setLevel("m2", masterfsm.LevelApprovals-1)
		masters.set(wire.Member{ID: "m2", URL: "http://m2", Raft: "m2:1", Group: "cs-test"})
		r := newJoiningRig(t, 1, func(c *Config, r *rig) {
			c.Settings.ApproveWorkers, c.Masters = true, masters
			r.members.List = append(r.members.List, wire.Master{ID: "m2", Raft: "m2:1", Voter: true})
			r.members.ReachesMember = masters.reaches
		})
		defer r.stop()
		if _, err := r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.AdmitMaster{
			ID: "m2", URL: "http://m2", Raft: "m2:1", Time: r.leader.Now(),
		})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		early := wire.Registration{Role: "storage", URL: "http://new", MasterToken: "x", Boot: "1"}
		if v := r.table(); v.Settings.ApproveWorkers || v.Level >= masterfsm.LevelApprovals {
			t.Fatalf("at level %d the settings are %+v", v.Level, v.Settings)
		}
		if _, err := r.Register(t.Context(), early, false); !errors.Is(err, wire.ErrUnavailable) {
			t.Errorf("before the level: %v", err)
		}
		// A follower gives the worker the leader's reason.
		follower := r.newFollower(t, masterAt("http://m1", r.Node))
		if _, err := follower.Register(t.Context(), early, false); wire.ProblemOf(err) != wire.ErrUnavailable {
			t.Errorf("before the level, through a follower: %v", err)
		}
		masters.setLevel("m2", masterfsm.ProtocolLevel)
		for role, id := range map[masterfsm.Role]string{masterfsm.RoleStorage: "s0", masterfsm.RoleMiner: "miner"} {
			if _, err := r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.Register{Role: role, ID: id,
				URL: "http://" + id, MasterToken: "x", Boot: "1", Level: masterfsm.ProtocolLevel, Time: r.leader.Now()},
			)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Second) // until the level is raised
		if !r.table().Settings.ApproveWorkers || len(r.table().Storages) != 1 {
			t.Errorf("%+v", r.table().Settings)
		}
		early.Level = masterfsm.ProtocolLevel
		if answer, err := r.Register(t.Context(), early, false); err != nil || !answer.Waiting {
			t.Errorf("%+v, %v", answer, err)
		}
		off := false
		if _, err := r.ChangeSettings(t.Context(), wire.SettingsChange{ApproveWorkers: &off}); !errors.Is(err,
			wire.ErrBadRequest) {
			t.Errorf("switched off: %v", err)
		}
	})
}
