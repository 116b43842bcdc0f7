package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/raftconfig"
)

// network decides what happens to the calls between members. Any goroutine may call its methods.
type network struct {
	mu    sync.Mutex                         // guards all below
	cut   map[[2]raft.ServerID]bool          // calls from the first to the second
	hold  map[[2]raft.ServerID]chan struct{} // answers to the first wait until it is closed
	asks  bool                               // questions for the term pass, whatever is cut or held
	nodes map[raft.ServerID]*member
}

// member is a member of a group in memory: bare raft, with the settings of the store.
type member struct {
	*raft.InmemTransport
	*raft.Raft
	net *network
	id  raft.ServerID
}

// pass waits as the network has it: before a call reaches a member, if answer is not set, or before its answer is read.
func (n *network) pass(from, to raft.ServerID, answer bool) error {
	n.mu.Lock()
	cut, hold := n.cut[[2]raft.ServerID{from, to}], n.hold[[2]raft.ServerID{from, to}]
	n.mu.Unlock()
	switch {
	case !answer && cut:
		time.Sleep(5 * time.Second)
		return errors.New("cut off")
	case answer && hold != nil:
		<-hold
	}
	return nil
}

func (n *network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func call[T any](m *member, to raft.ServerID, do func(to raft.ServerAddress) (T, error)) (got T, err error) {
	if err := m.net.pass(m.id, to, false); err != nil {
		return got, err
	}
	if got, err = do(raft.ServerAddress(to)); err != nil {
		return got, err
	}
	return got, m.net.pass(m.id, to, true)
}

func (m *member) AppendEntries(
	id raft.ServerID, _ raft.ServerAddress, a *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse,
) error {
	got, err := call(m, id, func(to raft.ServerAddress) (answer raft.AppendEntriesResponse, err error) {
		err = m.InmemTransport.AppendEntries(id, to, a, &answer)
		return answer, err
	})
	*r = got
	return err
}

func (m *member) RequestVote(
	id raft.ServerID, _ raft.ServerAddress, a *raft.RequestVoteRequest, r *raft.RequestVoteResponse,
) error {
	got, err := call(m, id, func(to raft.ServerAddress) (answer raft.RequestVoteResponse, err error) {
		err = m.InmemTransport.RequestVote(id, to, a, &answer)
		return answer, err
	})
	*r = got
	return err
}

func (m *member) RequestPreVote(
	id raft.ServerID, _ raft.ServerAddress, a *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse,
) error {
	got, err := call(m, id, func(to raft.ServerAddress) (answer raft.RequestPreVoteResponse, err error) {
		err = m.InmemTransport.RequestPreVote(id, to, a, &answer)
		return answer, err
	})
	*r = got
	return err
}

// AppendEntriesPipeline makes raft use AppendEntries, as the store's transport does.
func (m *member) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// ask is the question for the term, through the same network.
func (m *member) ask(_ context.Context, voter raft.Server) (uint64, error) {
	if m.net.asks {
		return m.net.nodes[voter.ID].CurrentTerm(), nil
	}
	return call(m, voter.ID, func(to raft.ServerAddress) (uint64, error) {
		return m.net.nodes[raft.ServerID(to)].CurrentTerm(), nil
	})
}

// confirm confirms the leader as the store does.
func (m *member) confirm(t *testing.T, tasks *sync.WaitGroup) error {
	t.Helper()
	term, ok := leaderTerm(m.Raft)
	if !ok {
		t.Fatal("it does not lead")
	}
	voters := majority{self: m.id, ask: m.ask, tasks: tasks}
	return voters.confirm(t.Context(), m.GetConfiguration().Configuration(), term)
}

// confirmTimeout is raft's timeout in these tests.
const confirmTimeout = 300 * time.Millisecond

// inMemory starts members with votes, of which a leads, and members without.
func inMemory(t *testing.T, timeoutOfA time.Duration, voters, others []raft.ServerID) *network {
	t.Helper()
	n := &network{
		cut:  map[[2]raft.ServerID]bool{},
		hold: map[[2]raft.ServerID]chan struct{}{}, nodes: map[raft.ServerID]*member{},
	}
	var servers raft.Configuration
	for _, id := range voters {
		servers.Servers = append(servers.Servers, raft.Server{ID: id, Address: raft.ServerAddress(id)})
	}
	for _, id := range slices.Concat(voters, others) {
		_, trans := raft.NewInmemTransport(raft.ServerAddress(id))
		n.nodes[id] = &member{InmemTransport: trans, net: n, id: id}
	}
	for id, m := range n.nodes {
		for other, o := range n.nodes {
			m.Connect(raft.ServerAddress(other), o.InmemTransport)
		}
		timeout := time.Hour // until a leads, no other member stands for election
		if id == "a" {
			timeout = timeoutOfA
		}
		config, store := raftconfig.New(string(id), timeout, hclog.NewNullLogger()), raft.NewInmemStore()
		if id != "a" {
			config.LeaderLeaseTimeout = confirmTimeout
		}
		snapshots := raft.NewInmemSnapshotStore()
		if slices.Contains(voters, id) {
			if err := raft.BootstrapCluster(config, store, store, snapshots, m, servers); err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if m.Raft, err = raft.NewRaft(config, &raft.MockFSM{}, store, store, snapshots, m); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { n.stop(t) })
	a := n.nodes["a"]
	for a.State() != raft.Leader {
		time.Sleep(time.Millisecond)
	}
	for _, id := range others {
		if err := a.AddNonvoter(id, raft.ServerAddress(id), 0, 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	n.commit(t, "a")
	time.Sleep(time.Second)
	return n
}

func (n *network) stop(t *testing.T) {
	t.Helper()
	for _, m := range n.nodes {
		if err := m.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}
	time.Sleep(time.Minute) // calls that are cut off
}

// commit appends an entry through a member.
func (n *network) commit(t *testing.T, id raft.ServerID) {
	t.Helper()
	if err := n.nodes[id].Apply([]byte("record"), 0).Error(); err != nil {
		t.Fatal(err)
	}
}

// elect makes voters stand for election, the last one with the votes of those before it, and appends an entry through
// it.
func (n *network) elect(t *testing.T, ids ...raft.ServerID) {
	t.Helper()
	for _, id := range ids {
		s := &Store{cfg: Config{Timeout: confirmTimeout}, dataFolder: &dataFolder{log: hclog.NewNullLogger()}}
		s.checkLastContact(n.nodes[id].Raft)
		time.Sleep(5 * time.Millisecond)
	}
	last := ids[len(ids)-1]
	if n.nodes[last].State() != raft.Leader {
		t.Fatalf("%s is %v", last, n.nodes[last].State())
	}
	n.commit(t, last)
}

// separate cuts the members of one side off from those of the other.
func (n *network) separate(one, other []raft.ServerID) {
	n.change(func() {
		for _, a := range one {
			for _, b := range other {
				n.cut[[2]raft.ServerID{a, b}], n.cut[[2]raft.ServerID{b, a}] = true, true
			}
		}
	})
}

// holdAnswers holds the answers to a that are on their way, and those that follow, until release is called. a
// sends a heartbeat at least each fifth of its timeout, so when holdAnswers returns, an answer is on its way.
func (n *network) holdAnswers(from ...raft.ServerID) (release func()) {
	answers := make(chan struct{})
	n.change(func() {
		for _, id := range from {
			n.hold[[2]raft.ServerID{"a", id}] = answers
		}
	})
	time.Sleep(n.nodes["a"].ReloadableConfig().HeartbeatTimeout / 3)
	return func() { close(answers) }
}

// TestConfirmationIsStrict has a leader confirmed after another one has been elected and has acknowledged an entry.
// Raft's VerifyLeader confirms it in each case: a member without a vote counts, and an answer to a heartbeat that was
// sent before the other leader was elected. The answers of a majority of voters do not.
func TestConfirmationIsStrict(t *testing.T) {
	abc := []raft.ServerID{"a", "b", "c"}
	for name, deposed := range map[string]func(t *testing.T) (n *network, old func()){
		"a member without a vote joins": func(t *testing.T) (*network, func()) {
			n := inMemory(t, confirmTimeout, abc, []raft.ServerID{"d"})
			answers := n.holdAnswers("b", "c")
			n.separate([]raft.ServerID{"a", "d"}, []raft.ServerID{"b", "c"})
			time.Sleep(100 * time.Millisecond)
			answers() // from here on counts a's lease, which is longer than the patience of b and c
			time.Sleep(confirmTimeout - 90*time.Millisecond)
			n.elect(t, "c", "b")
			return n, func() {}
		},
		"leadership is transferred": func(t *testing.T) (*network, func()) {
			n := inMemory(t, confirmTimeout, abc, nil)
			answers := n.holdAnswers("b", "c")
			n.separate([]raft.ServerID{"a"}, []raft.ServerID{"b", "c"}) // only the order to take over passes
			go func() { _ = n.nodes["a"].LeadershipTransferToServer("c", "c").Error() }()
			for n.nodes["c"].State() != raft.Leader {
				time.Sleep(time.Millisecond)
			}
			n.commit(t, "c")
			return n, answers
		},
		"the leader is halted": func(t *testing.T) (*network, func()) {
			// A halted process does not notice the time: so it has a long timeout.
			n := inMemory(t, time.Minute, abc, nil)
			answer := n.holdAnswers("b")
			n.separate([]raft.ServerID{"a"}, []raft.ServerID{"b", "c"})
			time.Sleep(confirmTimeout + time.Millisecond)
			n.elect(t, "c", "b")
			n.asks = true // it continues, and reaches the others again
			return n, answer
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, old := deposed(t)
				a := n.nodes["a"]
				if _, ok := leaderTerm(a.Raft); !ok {
					t.Fatal("the old leader has stepped down: this test does not test anything")
				}
				verified := a.VerifyLeader()
				synctest.Wait()
				old()
				if err := verified.Error(); err != nil {
					t.Errorf("raft's VerifyLeader is strict in this case: %v", err)
				}
				var tasks sync.WaitGroup
				defer tasks.Wait()
				if err := a.confirm(t, &tasks); err == nil {
					t.Error("a deposed leader is confirmed")
				}
			})
		})
	}
}

// A majority of the voters is needed, and enough. A voter of a later term does not count, and neither does one that
// does not answer or a member without a vote.
func TestMajority(t *testing.T) {
	const term = 5
	type terms map[raft.ServerID]uint64
	members := func(voters, others string) (servers []raft.Server) {
		for _, id := range voters {
			servers = append(servers, raft.Server{ID: raft.ServerID(id)})
		}
		for _, id := range others {
			servers = append(servers, raft.Server{ID: raft.ServerID(id), Suffrage: raft.Nonvoter})
		}
		return servers
	}
	silent := map[raft.ServerID]bool{"s": true, "t": true} // they answer when their context has ended
	for name, c := range map[string]struct {
		servers []raft.Server
		terms   terms // of those that answer
		want    bool
	}{
		"alone":                          {members("a", ""), nil, true},
		"no voter at all":                {members("", "ab"), terms{"b": 5}, false},
		"all":                            {members("abc", ""), terms{"b": 5, "c": 5}, true},
		"an earlier term":                {members("abc", ""), terms{"b": 4}, true},
		"a later term":                   {members("abc", ""), terms{"b": 6}, false},
		"a later term, and one agrees":   {members("abc", ""), terms{"b": 6, "c": 5}, true},
		"a silent one":                   {members("abs", ""), terms{"b": 5}, true},
		"two of four":                    {members("abcd", ""), terms{"b": 5}, false},
		"three of four":                  {members("abcd", ""), terms{"b": 5, "c": 5}, true},
		"members without a vote":         {members("abc", "xyz"), terms{"x": 5, "y": 5, "z": 5}, false},
		"it has no vote":                 {members("bc", "a"), terms{"b": 5}, false},
		"it has no vote, and two agree":  {members("bc", "a"), terms{"b": 5, "c": 5}, true},
		"its leadership ends":            {members("ast", ""), nil, false},
		"a silent one decides: it waits": {members("abst", ""), terms{"b": 5}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var tasks sync.WaitGroup
				defer tasks.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				m := majority{self: "a", tasks: &tasks, ask: func(ctx context.Context, s raft.Server) (uint64, error) {
					if silent[s.ID] {
						<-ctx.Done()
					}
					if got, ok := c.terms[s.ID]; ok {
						return got, nil
					}
					return 0, errors.New("no answer")
				}}
				began := time.Now()
				err := m.confirm(ctx, raft.Configuration{Servers: c.servers}, term)
				if (err == nil) != c.want || c.want && time.Since(began) > 0 {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
			})
		})
	}
}

// A group confirms its leader below the level of questions and from it on, also after its followers were restarted and
// while a minority is stopped.
func TestReadIndexByTerms(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raiseLevel(t, masterfsm.LevelTerms-1, nodes...)
	create(t, "before", nodes...)
	raiseLevel(t, masterfsm.LevelTerms, nodes...)
	create(t, "after", nodes...)
	agree(t, nodes...)
	leader := leaderOf(t, nodes...)
	var followers []*node
	for _, n := range nodes {
		if n != leader {
			followers = append(followers, n)
		}
	}
	for round := range 2 {
		for i, f := range followers {
			f.stop()
			create(t, fmt.Sprint("without ", i, round), append(slices.Clone(followers[1-i:2-i]), leader)...)
			followers[i] = openNode(t, f.cfg)
			agree(t, append(slices.Clone(followers), leader)...)
		}
	}
	all := append(slices.Clone(followers), leader)
	leader = leaderOf(t, all...)
	for _, n := range all {
		if n != leader {
			n.stop()
		}
	}
	for _, err := leader.ReadIndex(t.Context()); err == nil; _, err = leader.ReadIndex(t.Context()) {
		t.Error("a leader without a majority is confirmed")
	}
}
