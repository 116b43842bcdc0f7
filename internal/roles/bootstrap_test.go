package roles

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/devcluster/freeports"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
)

// freePorts reserves addresses on loopback until the test ends.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	base, release, err := freeports.Claim(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		addresses = append(addresses, freeports.Addr(base+i))
	}
	return addresses
}

// seat is a master of a group during its bootstrap, with its folder.
type seat struct {
	cfg    MasterConfig
	member wire.Member
}

// newSeat creates a master's folder.
func newSeat(t *testing.T, http, raft string, peers []string) *seat {
	t.Helper()
	cfg := DefaultMaster()
	cfg.Data, cfg.HTTP, cfg.Raft, cfg.Peers = t.TempDir(), http, raft, peers
	cfg.ClusterToken, cfg.AdminToken = "the cluster token", "the admin token"
	cfg.Timeout = time.Second // the race detector is slow
	cfg.CheckInterval, cfg.Logger = 0, hclog.NewNullLogger()
	s := &seat{cfg: cfg}
	s.inStore(t, func(store *raftstore.Store) { s.member = store.Member() })
	return s
}

// inStore opens the store of the folder like the master, without running the master.
func (s *seat) inStore(t *testing.T, do func(*raftstore.Store)) {
	t.Helper()
	store, err := raftstore.Open(raftstore.Config{
		Dir: s.cfg.Data, Bind: s.cfg.Raft, URL: "http://" + s.cfg.HTTP,
		Secret:  func() []string { return []string{s.cfg.ClusterToken} },
		Timeout: s.cfg.Timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	do(store)
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// run runs the master until the test ends.
func (s *seat) run(t *testing.T) *Master {
	t.Helper()
	m, stop := s.start(t)
	t.Cleanup(stop)
	return m
}

// start runs the master until stop is called.
func (s *seat) start(t *testing.T) (m *Master, stop func()) {
	t.Helper()
	m, err := OpenMaster(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	return m, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// TestFounderIsLostWhileItFounds checks a founder that is lost after it has reached only one of its peers. That peer
// must add the other one to the group, and both must elect a leader.
func TestFounderIsLostWhileItFounds(t *testing.T) {
	ports := freePorts(t, 6)
	peers := []string{"http://" + ports[0], "http://" + ports[1], "http://" + ports[2]}
	var seats []*seat
	var founding []wire.Member
	for i := range peers {
		seats = append(seats, newSeat(t, ports[i], ports[i+3], append([]string(nil), peers...)))
		founding = append(founding, seats[i].member)
	}
	seats[2].inStore(t, func(store *raftstore.Store) {
		adoption := wire.Adoption{Group: "cs-lost", Epoch: 1, Member: seats[2].member.ID, Founding: founding}
		if err := store.Adopt(adoption); err != nil {
			t.Fatal(err)
		}
	})
	b, c := seats[1].run(t), seats[2].run(t)
	deadline := time.After(30 * time.Second)
	for b.node.Ready() != nil || c.node.Ready() != nil {
		select {
		case <-deadline:
			t.Fatalf("no leader: %+v, %v and %+v, %v", b.store.Member(), b.node.Ready(), c.store.Member(),
				c.node.Ready())
		case <-time.After(10 * time.Millisecond):
		}
	}
	if got := b.store.Member(); got.Group != "cs-lost" || got.ID != seats[1].member.ID {
		t.Errorf("it was made part of %+v", got)
	}
}

// TestFounderWithAWrongClock checks that a group does not get its first time from a clock that is wrong.
func TestFounderWithAWrongClock(t *testing.T) {
	const now, minute = 1_800_000_000_000, 60_000
	for name, c := range map[string]struct {
		founder uint64
		others  []uint64
		want    string
	}{
		"right":                      {now, []uint64{now, now + minute/10}, ""},
		"ahead":                      {now + 5*minute, []uint64{now, now}, "5m0s ahead"},
		"behind":                     {now - 5*minute, []uint64{now, now}, "5m0s behind"},
		"another master is wrong":    {now, []uint64{now, now + minute}, ""},
		"no majority":                {now, []uint64{now + minute, now - minute}, ""},
		"two masters":                {now, []uint64{now + minute}, ""},
		"an older master":            {now, []uint64{0, now + minute}, ""},
		"one of five, two are older": {now + minute, []uint64{now, 0, now, 0}, "1m0s ahead"},
	} {
		t.Run(name, func(t *testing.T) {
			founder := wire.Member{ID: "a", Time: c.founder}
			members := []wire.Member{{ID: "a"}} // as the store has it, without a time
			for i, at := range c.others {
				members = append(members, wire.Member{ID: string(rune('b' + i)), Time: at})
			}
			got := wrongClock(founder, members)
			if c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestPeersThatDiffer checks that masters whose lists lead to different founders found no group, say why, and found one
// once the lists have the same URLs.
func TestPeersThatDiffer(t *testing.T) {
	ports := freePorts(t, 6)
	a, b, c := "http://"+ports[0], "http://"+ports[1], "http://"+ports[2]
	lists := [][]string{{a, b, c}, {b, c}, {a, c, b}}
	var seats []*seat
	for i := range lists {
		seats = append(seats, newSeat(t, ports[i], ports[i+3], lists[i]))
	}
	var masters []*Master
	var stops []func()
	for _, s := range seats {
		m, stop := s.start(t)
		masters, stops = append(masters, m), append(stops, stop)
	}
	for _, m := range masters[:2] {
		obstacle := ""
		for tries := 0; tries < 20 && !strings.Contains(obstacle, "the same URLs"); tries++ {
			var err error
			if obstacle, err = m.bootstrapOnce(t.Context(), m.cfg.Peers, true); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(obstacle, "the same URLs") {
			t.Errorf("it says %q", obstacle)
		}
	}
	for i, m := range masters {
		if group := m.store.Member().Group; group != "" {
			t.Errorf("master %d is of group %s", i, group)
		}
	}
	stops[1]()
	seats[1].cfg.Peers = lists[0]
	seats[1].run(t)
	defer stops[0]()
	defer stops[2]()
	for deadline := time.After(30 * time.Second); masters[0].node.Ready() != nil || masters[2].node.Ready() != nil; {
		select {
		case <-deadline:
			t.Fatalf("no group: %+v, %+v", masters[0].store.Member(), masters[2].store.Member())
		case <-time.After(10 * time.Millisecond):
		}
	}
}
