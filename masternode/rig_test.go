package masternode

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/histogram"
	"github.com/chainstore/chainstore/internal/joining"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/internal/masterstest"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// Timeouts and limits of the leader that the tests depend on.
const (
	fenceWait   = time.Second      // for storage nodes that do not answer
	acceptedFor = 10 * time.Second // how long an accepted order counts against a later epoch
	nearlyAll   = 256              // number of log entries that a master may lack to get a vote
)

// rig is one master on a fake ledger with fake workers, running until the test ends.
type rig struct {
	*Node
	ledger  *masterstest.Ledger
	members *masterstest.Membership
	workers *masterstest.Workers
	access  masterfsm.Access // with all rights in the rig's project
	project masterfsm.Project
	ended   <-chan error // of Run, once
	ticket  joining.Key  // not used yet
	stop    func()
}

// newRig starts a rig. change may modify its configuration first.
func newRig(t *testing.T, storages int, change func(*Config, *rig)) *rig {
	t.Helper()
	r := &rig{ledger: masterstest.NewLedger(t), members: masterstest.NewMembership(),
		workers: masterstest.NewWorkers(t, storages)}
	settings := masterfsm.DefaultSettings()
	settings.Difficulty, settings.MaxRecords = 4, 16
	cfg := Config{
		Member: wire.Member{ID: "m1", URL: "http://m1"}, Boot: 1, Key: keyOf("m1"),
		Ledger: r.ledger, Membership: r.members, Masters: masterstest.NewMasters(), Workers: r.workers,
		Options: leader.Options{Settings: settings, Log: signing.LogConfig{Secret: signing.Fixed("cluster token")}},
		Limits:  DefaultLimits(), Logger: hclog.NewNullLogger(), Histograms: histogram.NewMaster(),
	}
	if change != nil {
		change(&cfg, r)
	}
	var err error
	if r.Node, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.ended = ended
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	synctest.Wait() // until it is the leader
	created, err := r.CreateProject(t.Context(), wire.NewProject{Name: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if r.access, err = r.Access(t.Context(), created.Token, mayAsk); err != nil {
		t.Fatal(err)
	}
	for url := range r.workers.Storages {
		r.registerWorker(t, masterfsm.RoleStorage, url)
	}
	r.registerWorker(t, masterfsm.RoleMiner, "http://miner")
	r.project = r.access.Project
	return r
}

// newJoiningRig is newRig for a group that reaches the level of join tickets, and so has an audit trail.
func newJoiningRig(t *testing.T, storages int, change func(*Config, *rig)) *rig {
	t.Helper()
	return newRig(t, storages, func(c *Config, r *rig) {
		r.ledger.Audited.Store(true)
		if change != nil {
			change(c, r)
		}
	})
}

// newProofRig returns a rig with stored records.
func newProofRig(t *testing.T, records int) *rig {
	t.Helper()
	r := newRig(t, 3, func(c *Config, _ *rig) { c.Settings.MaxRecords = 100 })
	entries := make([]Entry, records)
	for i := range entries {
		entries[i].Payload = []byte{byte(i), byte(i >> 8), 7}
	}
	if _, err := r.Append(t.Context(), r.project, entries, ""); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Second) // virtual time to be cut, mined and stored
	return r
}

// onAll changes all storage nodes.
func (r *rig) onAll(change func(*masterstest.Storage)) {
	for url := range r.workers.Storages {
		r.on(url, change)
	}
}

// asked returns the storage nodes in the order in which this master reads from them.
func (r *rig) asked() []masterfsm.Storage {
	return slices.Collect(r.prover.Nodes(context.Background(), 0))
}

// registerWorker adds a worker to the table under a fixed id. The leader assigns random ids, with which the order of
// the nodes would vary between runs.
func (r *rig) registerWorker(t *testing.T, role masterfsm.Role, url string) {
	t.Helper()
	_, err := r.ledger.Propose(t.Context(), r.ledger.Encode(&masterfsm.Register{
		Role: role, ID: strings.TrimPrefix(url, "http://"), URL: url, MasterToken: "x", Boot: "1", Time: r.leader.Now(),
	}))
	if err != nil {
		t.Fatal(err)
	}
}
