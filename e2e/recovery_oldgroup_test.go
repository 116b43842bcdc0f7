package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// recoverArgs returns the command line that recovers a role's folder.
func (c *cluster) recoverArgs(role devcluster.Role, more ...string) []string {
	c.t.Helper()
	return append([]string{"master", "recover", "--data", role.Data, "--raft", role.Raft, "--cluster-token-file",
		tokenFile(c.t, c.File().Tokens.Cluster)}, more...)
}

// copyOf copies the folder of a role that does not run.
func (c *cluster) copyOf(name string) string {
	c.t.Helper()
	to := filepath.Join(c.dir, "copy-of-"+name)
	if err := os.CopyFS(to, os.DirFS(roleOf(c.Topology(), name).Data)); err != nil {
		c.t.Fatal(err)
	}
	return to
}

// chains returns the chain status of each storage node.
func (c *cluster) chains() (all []wire.ChainStatus) {
	c.t.Helper()
	for _, url := range c.urls(c.storageNames()...) {
		request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, url+wire.PathChain, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		client := cmp.Or(c.Topology().HTTP, http.DefaultClient)
		answer, err := c.prove(client, c.secrets().For(nodeauth.Recovery))(request)
		if err != nil {
			c.t.Fatal(err)
		}
		var s wire.ChainStatus
		err = json.NewDecoder(answer.Body).Decode(&s)
		_ = answer.Body.Close() // read only
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// obeyFirstEpoch checks that all storage nodes are still in epoch 1.
func (c *cluster) obeyFirstEpoch() {
	c.t.Helper()
	for _, s := range c.chains() {
		if s.Epoch != 1 {
			c.t.Errorf("storage node %s obeys epoch %d", s.ID, s.Epoch)
		}
	}
}

// TestRecoverACopy copies the folder of a stopped master, and tries to recover the copy while the other masters work.
// It checks that the recovery is refused whatever the options claim, and that the group continues. Then it uses the
// copy for a rehearsal with separate storage.
func TestRecoverACopy(t *testing.T) {
	c := start(t)
	o := newOracle()
	c.appendEach(o, "before", some, c.masters...)
	c.awaitStored()
	gone := c.followers(c.leader(""))[0]
	c.kill(gone)
	copied := roleOf(c.Topology(), gone)
	copied.Data = c.copyOf(gone)
	others := c.followers(gone)
	before := digestOf(t, filepath.Join(copied.Data, "master.json"))
	c.refused("yes\n", " answers", c.recoverArgs(copied)...)
	c.refused("yes\n", "although it was named with --dead", c.recoverArgs(copied, "--dead",
		strings.Join(c.urls(others...), ","))...)
	if digestOf(t, filepath.Join(copied.Data, "master.json")) != before {
		t.Error("the copy was changed")
	}
	c.obeyFirstEpoch()
	var left []*client.Client
	for _, url := range c.urls(others...) {
		left = append(left, c.client(url))
	}
	c.appendEach(o, "meanwhile", some, left...)
	c.rehearse(o, copied)
	c.launch(gone)
	c.awaitComplete(3)
	c.appendEach(o, "afterwards", some, c.masters...)
	c.verify(o)
}

// rehearse founds a separate group from a copy, with an export of the cluster on a storage node of its own, next to the
// running cluster.
func (c *cluster) rehearse(o *oracle, copied devcluster.Role) {
	t := c.t
	t.Helper()
	file, data := filepath.Join(c.dir, "rehearsal.export"), filepath.Join(c.dir, "rehearsal-storage")
	c.command(nil, "export", "--data", roleOf(c.Topology(), "storage-1").Data, "--out", file)
	c.command(nil, "import", file, "--data", data, "--rehearsal")
	token := tokenFile(t, "the-rehearsals-own-token")
	ports := devcluster.NewTopology(c.dir, c.Topology().Port)
	ports.Masters, ports.Storages, ports.Miners = 5, 4, 2
	master, storage, miner := roleOf(ports, "master-5"), roleOf(ports, "storage-4"), roleOf(ports, "miner-2")
	c.runBeside("storage", "--data", data, "--http", storage.HTTP, "--masters", master.URL(), "--cluster-token-file",
		token)
	asking := noderpc.NewMasters(noderpc.NewTransport(),
		nodeauth.Shared("the-rehearsals-own-token").For(nodeauth.Recovery))
	defer asking.CloseIdle()
	c.await("the rehearsal's storage node", func() string {
		if _, err := asking.ChainStatus(t.Context(), storage.URL()); err != nil {
			return err.Error()
		}
		return ""
	})
	args := []string{"master", "recover", "--rehearsal", "--yes", "--data", copied.Data, "--raft", master.Raft,
		"--from-storage", storage.URL()}
	c.refused("", "one of its own", append(args, "--cluster-token-file", tokenFile(t, c.File().Tokens.Cluster))...)
	if said := string(c.command(nil, append(args, "--cluster-token-file", token)...)); !strings.Contains(said,
		"This is a rehearsal") {
		t.Errorf("it said %q", said)
	}
	run := []string{"master", "--data", copied.Data, "--http", master.HTTP, "--raft", master.Raft,
		"--cluster-token-file", token, "--admin-token-file", tokenFile(t, "the-rehearsals-admin")}
	c.refused("", "was made for a rehearsal", append(run, "--peers", strings.Join(append(c.File().Masters,
		master.URL()), ","))...)
	c.runBeside(run...)
	c.await("settings of the rehearsal", func() string {
		set := exec.Command(binary, "master", "settings", "replicas=1", "difficulty=0", "--masters", master.URL(),
			"--admin-token-file", tokenFile(t, "the-rehearsals-admin"))
		if out, err := set.CombinedOutput(); err != nil {
			return string(out)
		}
		return ""
	})
	c.runBeside("miner", "--data", filepath.Join(c.dir, "rehearsal-miner"), "--http", miner.HTTP, "--masters",
		master.URL(), "--cluster-token-file", token)

	there := c.client(master.URL())
	first := o.order[0]
	if r, err := there.Get(t.Context(), first.at.Block, first.at.Offset); err != nil || r.Leaf != first.at.Leaf {
		t.Errorf("in the rehearsal %v is %+v, %v", first, r, err)
	}
	if _, err := there.Append(t.Context(), client.Entry{Payload: []byte("rehearsed")}); err != nil {
		t.Error(err)
	}
	c.await("a block that is stored in the rehearsal", func() string {
		s, err := there.Cluster(t.Context())
		if err != nil {
			return err.Error()
		}
		if len(s.Storages) != 1 || s.Stored != s.Head.Height || s.Buffer.Records > 0 || s.Pending.Blocks > 0 {
			return strings.Join(s.Notices, "; ")
		}
		return ""
	})
	c.obeyFirstEpoch()
}

// runBeside runs a role that does not belong to the cluster, until the test ends.
func (c *cluster) runBeside(args ...string) {
	c.t.Helper()
	log, err := os.OpenFile(filepath.Join(c.dir, "logs", "beside.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // how such a role ends does not matter here
		_ = log.Close()
	})
}

// oldSide appends through the masters of a group that does not know yet that it was replaced.
type oldSide struct {
	late  atomic.Int64 // acknowledged, and begun after ended was set
	acks  atomic.Int64
	ended atomic.Bool
	stop  chan struct{}
	all   sync.WaitGroup
}

func (c *cluster) appendThrough(urls []string) *oldSide {
	s := &oldSide{stop: make(chan struct{})}
	for _, url := range urls {
		cl := c.clientOnce(url)
		s.all.Go(func() {
			for {
				select {
				case <-s.stop:
					return
				default:
				}
				after := s.ended.Load()
				ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
				_, err := cl.Append(ctx, client.Entry{Payload: []byte("by the old side")})
				cancel()
				switch {
				case err != nil:
					time.Sleep(pollEvery) // do not load it with refused requests
				case after:
					s.late.Add(1)
				default:
					s.acks.Add(1)
				}
			}
		})
	}
	return s
}

// TestRecoverDuringAPartition recovers a master while the old group works but cannot be reached. The recovery is
// refused while the storage nodes still receive orders of the old group, although the options list all its masters as
// dead. It succeeds once the old group has been cut off from the storage nodes for the required time. After the
// partition heals, the old leader exits at its first contact with the workers, and no later leader of the old group
// acknowledges anything.
func TestRecoverDuringAPartition(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) { topology.Masters = 5 })
	c.program = altered(c.t, "quick-recovery")
	c.expectDamage = true
	c.net = newNetwork(t, &topology)
	c.begin(topology)
	o := newOracle()
	c.appendEach(o, "before", some, c.masters...)
	survivor := c.followers(c.leader(""))[0]
	old := c.followers(survivor)
	c.kill(survivor)
	apart := c.net.isolate(survivor, old)
	var left []*client.Client
	for _, url := range c.urls(old...) {
		left = append(left, c.client(url))
	}
	dead := []string{"--dead", strings.Join(c.urls(old...), ",")}

	args := c.recoverArgs(roleOf(c.Topology(), survivor), append(dead, "--yes", "--json")...)
	if out, err := c.tryRecover(survivor, args); err == nil || !strings.Contains(out,
		"had an order of a leader just now") {
		t.Errorf("while the old group gives orders: %v, %s", err, out)
	}
	c.appendEach(o, "while it is refused", some, left...)
	c.awaitStored()
	c.obeyFirstEpoch()

	var ways []way
	for _, name := range old {
		workers := append(c.storageNames(), c.names(devcluster.KindMiner)...)
		ways = append(append(ways, waysTo(name, workers)...), waysFrom(name, workers)...)
	}
	heal := c.net.inject(ways, condition{cut: true})
	c.await("storage nodes without orders", func() string { // orders that were under way may arrive late
		for _, s := range c.chains() {
			if *s.QuietMillis < 3000 {
				return fmt.Sprintf("%s had one %d ms ago", s.ID, *s.QuietMillis)
			}
		}
		return ""
	})
	out, err := c.tryRecover(survivor, args)
	var done roles.Recovery
	if err == nil {
		err = json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &done)
	}
	if err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	if done.Epoch != 2 || done.Asked != 3 || len(done.Lost) != 4 {
		t.Errorf("recovered %+v", done)
	}
	c.launch(survivor)
	anew := c.client(roleOf(c.Topology(), survivor).URL())
	c.appendEach(o, "by the new group", some, anew)

	side := c.appendThrough(c.urls(old...))
	c.await("acknowledgements of the group that is cut off", func() string {
		if side.acks.Load() == 0 {
			return "none"
		}
		return ""
	})
	heal()
	ended := ""
	c.await("an old master to end", func() string {
		for _, name := range old {
			if !c.Alive(name) {
				ended = name
				return ""
			}
		}
		return "all run"
	})
	side.ended.Store(true)
	if said := c.awaitEnded(ended); !strings.Contains(said, "the workers obey a later epoch") ||
		!strings.Contains(said, "epoch 2") {
		t.Errorf("%s said %q", ended, said)
	}
	// Three of the five masters remain, and elect one more leader.
	old = slices.DeleteFunc(old, func(name string) bool { return name == ended })
	second := ""
	c.await("another old master to end", func() string {
		for _, name := range old {
			if !c.Alive(name) {
				second = name
				return ""
			}
		}
		return "all run"
	})
	if said := c.awaitEnded(second); !strings.Contains(said, "the workers obey a later epoch") {
		t.Errorf("%s said %q", second, said)
	}
	apart()
	old = slices.DeleteFunc(old, func(name string) bool { return name == second })
	for _, name := range old {
		if said := c.awaitEnded(name); !strings.Contains(said, "the group was recovered without") {
			t.Errorf("%s said %q", name, said)
		}
	}
	close(side.stop)
	side.all.Wait()
	if n := side.late.Load(); n > 0 {
		t.Errorf("%d appends were acknowledged by the old group after its leader had met the new epoch", n)
	}
	t.Logf("%d appends were acknowledged by the old group before", side.acks.Load())

	c.masters = []*client.Client{anew}
	for _, name := range c.followers(survivor) {
		c.rejoin(name)
	}
	c.awaitVoters(slices.Clone(c.File().Masters)...)
	c.masters = nil
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}
	c.appendEach(o, "when all is well", some, c.masters...)
	c.verify(o)
}

// tryRecover runs a recovery at the network location of a role. The proxies cannot always identify the owner of a short
// connection. Then a master replies although its way is cut, and the recovery is tried again.
func (c *cluster) tryRecover(role string, args []string) (string, error) {
	c.t.Helper()
	line := slices.Concat(roleOf(c.Topology(), role).Enter, []string{cmp.Or(c.program, binary)}, args)
	for {
		out, err := exec.CommandContext(c.t.Context(), line[0], line[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "although it was named with --dead") {
			return string(out), err
		}
	}
}

// TestUndoRecovery recovers a copy like earlier versions did, without a check whether the group still works. The master
// of the copy takes over the workers, and the masters of the group exit. Then one of these is recovered. The test
// checks that all records that the group had acknowledged are at their places, and that the storage nodes moved the
// records of the copy's master to quarantine.
func TestUndoRecovery(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = altered(c.t, "quick-recovery")
	c.expectDamage = true
	c.begin(topology)
	o := newOracle()
	c.appendEach(o, "before", some, c.masters...)
	c.awaitStored()
	c.compareStates(o)
	leader := c.leader("")
	gone, other := c.followers(leader)[0], c.followers(leader)[1]
	c.kill(gone)
	copied := roleOf(c.Topology(), gone)
	copied.Data = c.copyOf(gone)
	c.kill(c.names(devcluster.KindMiner)...)
	var left []*client.Client
	for _, url := range c.urls(leader, other) {
		left = append(left, c.client(url))
	}
	c.appendEach(o, "acknowledged and not mined", 150, left...)

	recoverBlindly(t, copied)
	if err := c.StartAs(copied); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{leader, other} { // because of a worker's response, or the copy's master
		if said := c.awaitEnded(name); !strings.Contains(said, "the group was recovered without") {
			t.Errorf("%s said %q", name, said)
		}
	}
	c.launch(c.names(devcluster.KindMiner)...)
	mistaken := newOracle()
	c.masters = []*client.Client{c.client(copied.URL())}
	c.appendEach(mistaken, "by the copy", 250, c.masters...)
	c.awaitStored()
	// The copy's master begins with the records of its recovery.
	twice := slices.ContainsFunc(mistaken.order, func(r *ackedRecord) bool {
		return o.acked[place{r.at.Block, r.at.Offset}] != nil
	})
	if !twice {
		t.Fatalf("the two groups acknowledged from %+v and %+v on: not at one position", o.order[some].at,
			mistaken.order[0].at)
	}
	c.kill(gone)
	// Earlier versions note in the folder that the group has continued without its master.
	path := filepath.Join(roleOf(c.Topology(), leader).Data, "master.json")
	identity := map[string]any{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &identity)
	}
	identity["removed"] = true
	delete(identity, "checksum") // they write none
	if err == nil {
		data, err = json.Marshal(identity)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}

	dead := []string{"--dead", strings.Join(c.urls(gone, other), ",")}
	c.refused("yes\n", "--undo-recovery", c.recoverArgs(roleOf(c.Topology(), leader), dead...)...)
	c.refused("yes\n", "--undo-recovery", c.recoverArgs(roleOf(c.Topology(), other), "--dead",
		strings.Join(c.urls(gone, leader), ","))...)
	done := c.recover(leader, append(dead, "--undo-recovery")...)
	if done.Epoch != 3 || done.Undo != 2 || len(done.Replaced) != 3 || done.Dropped != 0 {
		t.Errorf("recovered %+v", done)
	}
	c.launch(leader)
	c.masters = []*client.Client{c.client(roleOf(c.Topology(), leader).URL())}
	c.awaitVoters(c.urls(leader)...)
	for _, name := range []string{gone, other} {
		c.rejoin(name)
	}
	c.awaitVoters(slices.Clone(c.File().Masters)...)
	c.masters = nil
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}
	c.appendEach(o, "afterwards", some, c.masters...)
	for _, name := range c.storageNames() {
		kept, err := os.ReadDir(filepath.Join(roleOf(c.Topology(), name).Data, "quarantine"))
		if err != nil || len(kept) == 0 {
			t.Errorf("%s keeps nothing of the other blocks: %v", name, err)
		}
	}
	c.verify(o)
}

// recoverBlindly makes a master the only member of its group, like earlier versions that did not check whether the
// group still works.
func recoverBlindly(t *testing.T, role devcluster.Role) {
	t.Helper()
	rescue, err := raftstore.OpenRecovery(role.Data, false, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	state, member := rescue.State(), rescue.Member()
	_, err = state.Recover(masterfsm.Group{ID: member.Group, Epoch: 2}).Finish(0, nil)
	for _, m := range state.View().Masters {
		if m.ID == member.ID || err != nil {
			continue
		}
		_, err = state.Apply(masterfsm.EncodeBy(state.Level(), trail.Origin{}, [chain.SaltSize]byte{},
			&masterfsm.RemoveMaster{ID: m.ID, Time: state.Now()}))
	}
	if err == nil {
		err = rescue.Commit(member.Group, 2, role.Raft)
	}
	if closed := rescue.Close(); err != nil || closed != nil {
		t.Fatal(err, closed)
	}
}
