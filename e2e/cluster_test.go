package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/devcluster/freeports"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

const (
	// patience is how long the cluster may take to reach a condition by itself, and how long a client retries. It is
	// generous because the tests detect faults by wrong results, and a stalled test machine is not a fault of the
	// cluster.
	patience = 2 * time.Minute
	// pollEvery is the interval between two checks of a condition.
	pollEvery = 25 * time.Millisecond
	// statusTimeout bounds the status request to one master. A stopped process does not reply.
	statusTimeout = 2 * time.Second
)

// cluster is a cluster of real processes under test. Only the goroutine of the test calls its methods. A test sets the
// options below before it starts the load.
type cluster struct {
	*devcluster.Cluster
	t           *testing.T
	dir         string
	masters     []*client.Client // one client for each master, which contacts no other; with the project token
	halted      map[string]int   // process ids of stopped processes, by role
	running     bool
	failedSyncs map[string]bool // roles that are always started with --after-failed-sync
	fourth      fourthStorage
	checkpoints *checkpoints // served by the masters; nil until the first load starts

	// Options.
	program         string       // the executable; "" means binary
	token           string       // of the project; "" means that of the cluster file
	net             *network     // between the roles, to inject faults; nil if there is none; closed with the cluster
	link            *unreliable  // between the writers and the masters; nil if it is reliable
	load            writerOption // options of the load's writers
	pollCheckpoints bool         // the load polls the masters for checkpoints without a pause
	// timeBound is how far the times of records may be from the moments of their appends; 0 for any time.
	timeBound    time.Duration
	expectDamage bool // the logs may report damage and responses that fail verification
}

// writerOption changes the load of a cluster.
type writerOption struct {
	fast bool // records are small, and writers do not pause
	slow bool // writers pause longer, so that a chain that is read many times stays short
}

// fourthStorage is a storage node that is not in the topology; zero if there is none.
type fourthStorage struct {
	running  *devcluster.Running
	launcher *devcluster.Processes
}

// start starts a cluster of three masters, three storage nodes and a miner on free ports. Blocks are limited to a small
// size and age, so that all three reasons to cut a block occur and batches span blocks. All processes end with the
// test. The folder is kept if the test has failed.
func start(t *testing.T) *cluster {
	t.Helper()
	return startWith(t, func(*devcluster.Topology) {})
}

// startWith is like start, with a modified topology.
func startWith(t *testing.T, change func(*devcluster.Topology)) *cluster {
	t.Helper()
	c, topology := prepared(t, change)
	c.begin(topology)
	return c
}

// prepared creates the resources of a cluster, but does not start it.
func prepared(t *testing.T, change func(*devcluster.Topology)) (*cluster, devcluster.Topology) {
	t.Helper()
	needsTime(t, "real processes")
	if _, before := parallel.LoadOrStore(t, true); !before {
		t.Parallel()
	}
	dir, err := os.MkdirTemp("", "chainstore-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	base := freePorts(t) // first, so that the ports are released after the processes have ended
	c := &cluster{t: t, dir: dir, halted: map[string]int{}, failedSyncs: map[string]bool{}}
	t.Cleanup(c.cleanUp)
	topology := devcluster.NewTopology(dir, base)
	topology.LogLevel = "debug"
	topology.Timeout = raftTimeout
	topology.MaxAge = 250 * time.Millisecond
	topology.Settings.MaxRecords = 100
	topology.Settings.MaxBytes = 64 << 10
	topology.Settings.Difficulty = 12
	change(&topology)
	return c, topology
}

// begin starts a prepared cluster.
func (c *cluster) begin(topology devcluster.Topology) {
	c.t.Helper()
	c.up(topology)
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}
}

// clientOnce returns a client of one master that does not retry.
func (c *cluster) clientOnce(url string) *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Masters: []string{url}, Token: c.projectToken(), RetryFor: -1,
		HTTP: c.Topology().HTTP})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.CloseIdle)
	return cl
}

// compareStates compares the states of all masters at an index that all of them have applied.
func (c *cluster) compareStates(o *oracle) {
	c.t.Helper()
	c.await("masters at one log index", func() string {
		var first wire.StateHash
		for i, url := range c.File().Masters {
			ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
			s, err := c.state(ctx, url)
			cancel()
			switch {
			case err != nil:
				return err.Error()
			case i == 0:
				first = s
			case s.Applied != first.Applied:
				return fmt.Sprintf("%s is at %d, %s at %d", c.File().Masters[0], first.Applied, url, s.Applied)
			case s.Hash != first.Hash:
				o.fault("at index %d the state of %s hashes to %v, that of %s to %v", s.Applied, c.File().Masters[0],
					first.Hash, url, s.Hash)
			}
		}
		return ""
	})
}

// state requests the hash of a master's state over the tests' network.
func (c *cluster) state(ctx context.Context, url string) (s wire.StateHash, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+wire.PathState, nil)
	if err != nil {
		return s, err
	}
	answer, err := c.prove(c.nodeHTTP(), c.secrets().For(nodeauth.Masters))(request)
	if err != nil {
		return s, err
	}
	defer func() { _ = answer.Body.Close() }() // read only
	if answer.StatusCode != http.StatusOK {
		return s, fmt.Errorf("%s%s: %s", url, wire.PathState, answer.Status)
	}
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// secrets returns the secrets of the nodes.
func (c *cluster) secrets() nodeauth.Secrets {
	c.t.Helper()
	of := func(name string) *nodeauth.Secret {
		files := roleOf(c.Topology(), "master-1").Secrets
		path := *files.Path(name)
		if path == "" {
			return nodeauth.NewSecret(c.File().Tokens.Cluster)
		}
		values, err := secrets.ReadFile(path)
		if err != nil {
			c.t.Fatal(err)
		}
		return nodeauth.NewSecret(values.Accepted()...)
	}
	return nodeauth.Secrets{
		Masters: of(wire.SecretMasters), Storage: of(wire.SecretStorage), Miner: of(wire.SecretMiner),
		Recovery: of(wire.SecretRecovery),
	}
}

// prove sends requests with a client, and with the proof of a node.
func (c *cluster) prove(client *http.Client, cred nodeauth.Credential) nodeauth.Send {
	caller := nodeauth.NewCaller(nodeauth.NewProcess(), client.Do, func() string { return "test" }, nil)
	return func(r *http.Request) (*http.Response, error) { return caller.Do(r, cred, client.Do) }
}

// up starts the processes.
func (c *cluster) up(topology devcluster.Topology) {
	c.t.Helper()
	var err error
	if c.Cluster, err = devcluster.Start(c.t.Context(), topology, cmp.Or(c.program, binary)); err != nil {
		c.t.Fatal(err)
	}
	c.running = true
}

// restart stops the cluster cleanly and starts it again on the same folder.
func (c *cluster) restart() {
	c.t.Helper()
	topology := c.Topology()
	c.stop()
	c.up(topology)
}

func (c *cluster) projectToken() string { return cmp.Or(c.token, c.File().Tokens.Project) }

// client returns a client with the project's token.
func (c *cluster) client(masters ...string) *client.Client {
	c.t.Helper()
	cl, err := client.New(client.Config{Masters: masters, Token: c.projectToken(), RetryFor: patience,
		HTTP: c.Topology().HTTP})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.CloseIdle)
	return cl
}

// writerClient returns a client for writers. It uses the unreliable link if there is one.
func (c *cluster) writerClient(masters ...string) *client.Client {
	c.t.Helper()
	if c.link == nil {
		return c.client(masters...)
	}
	cl, err := client.New(client.Config{
		Masters: masters, Token: c.projectToken(), RetryFor: patience, HTTP: &http.Client{Transport: c.link},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// parallel records which tests have called t.Parallel: a test with two clusters must call it only once.
var parallel sync.Map

// portsEach is the number of ports that a cluster reserves: 200 for the roles, and 200 for the proxies in front of
// them.
const portsEach = 400

// freePorts reserves the ports of a cluster, including a fourth storage node, until the test ends. It returns the first
// port.
func freePorts(t *testing.T) int {
	t.Helper()
	base, release, err := freeports.Claim(portsEach - 1) // the claim is held on the last port of the range
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	return base
}

// cleanUp ends all processes. It removes the folder unless the test has failed.
func (c *cluster) cleanUp() {
	c.stop()
	c.checkRaces()
	if c.net != nil {
		c.net.close()
	}
	if !c.t.Failed() && !settings.keep {
		if err := os.RemoveAll(c.dir); err != nil {
			c.t.Error(err)
		}
		return
	}
	c.t.Logf("the folder is kept: %s", c.dir)
	if !c.t.Failed() {
		return
	}
	for _, path := range c.logs() {
		c.t.Logf("the end of %s:\n%s", path, tail(path, 25))
	}
}

// stop ends all processes cleanly.
func (c *cluster) stop() {
	c.t.Helper()
	if !c.running {
		return
	}
	c.running = false
	for name := range c.halted {
		c.resume(name)
	}
	if err := c.Stop(); err != nil {
		c.t.Errorf("stop the cluster: %v", err)
	}
	if c.fourth.running != nil {
		if err := c.fourth.running.Stop(); err != nil {
			c.t.Errorf("stop the fourth storage node: %v", err)
		}
	}
	if c.fourth.launcher != nil {
		c.fourth.launcher.Close()
	}
	c.fourth = fourthStorage{}
}

// startFourthStorage starts a storage node that is not in the topology and knows only one master. It returns its data
// folder.
func (c *cluster) startFourthStorage(master string) string {
	c.t.Helper()
	topology := c.Topology()
	topology.Storages = 4
	role, known := roleOf(topology, "storage-4"), topology
	_, port, err := net.SplitHostPort(roleOf(topology, master).HTTP)
	if err != nil {
		c.t.Fatal(err)
	}
	known.Masters = 1
	if known.Port, err = strconv.Atoi(port); err != nil {
		c.t.Fatal(err)
	}
	c.fourth.launcher = devcluster.NewProcesses(binary)
	if c.fourth.running, err = c.fourth.launcher.Launch(known, role, c.File().Tokens); err != nil {
		c.t.Fatal(err)
	}
	return role.Data
}

// logs lists the log files of all roles.
func (c *cluster) logs() []string {
	paths, err := filepath.Glob(filepath.Join(c.dir, "logs", "*.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	return paths
}

// tail returns the last lines of a file.
func tail(path string, lines int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// await waits until missing returns "". It fails the test after patience.
func (c *cluster) await(what string, missing func() string) {
	c.t.Helper()
	c.awaitFor(patience, what, missing)
}

func (c *cluster) awaitFor(limit time.Duration, what string, missing func() string) {
	c.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		text := missing()
		if text == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			c.t.Fatalf("%s did not come about within %v: %s", what, limit, text)
		case <-c.t.Context().Done():
			c.t.Fatalf("the test ended while waiting for this: %s: %s", what, text)
		}
	}
}

var errNoLeader = errors.New("no master speaks for a leader")

// ofLeader reports whether a status comes from the leader. A leader below protocol level 2 does not say so; its status
// includes the states of the masters.
func ofLeader(s wire.Cluster) bool {
	if s.Authoritative || s.Level >= 2 {
		return s.Authoritative
	}
	coded := func(m wire.Message) bool { return m.Code == wire.CodeLocalView || m.Code == wire.CodeUnconfirmed }
	unknown := func(m wire.Master) bool { return m.State == "unknown" }
	return s.Leader != "" && !slices.ContainsFunc(s.NoticesCoded, coded) && !slices.ContainsFunc(s.Masters, unknown)
}

// status returns the leader's status, through the first master that reaches the leader.
func (c *cluster) status() (wire.Cluster, error) {
	why := errNoLeader
	for _, m := range c.masters {
		ctx, cancel := context.WithTimeout(c.t.Context(), statusTimeout)
		s, err := m.Cluster(ctx)
		cancel()
		switch {
		case err != nil:
			why = fmt.Errorf("%w; %w", why, err)
		case !ofLeader(s):
		default:
			return s, nil
		}
	}
	return wire.Cluster{}, why
}

// awaitStatus waits for a status of the leader: a busy machine may be between two leaders.
func (c *cluster) awaitStatus() (s wire.Cluster) {
	c.t.Helper()
	c.await("the leader's status", func() string {
		var err error
		if s, err = c.status(); err != nil {
			return err.Error()
		}
		return ""
	})
	return s
}

// leader waits for a leader other than not, which may be "", and returns the name of its role.
func (c *cluster) leader(not string) string {
	c.t.Helper()
	var name string
	c.await("a leader", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		for _, m := range s.Masters {
			if m.State == "leader" {
				name = c.nameOf(m.URL)
			}
		}
		if name == "" || name == not {
			return fmt.Sprintf("%q leads", name)
		}
		return ""
	})
	return name
}

// roleOf returns the role with a name, which must exist.
func roleOf(topology devcluster.Topology, name string) devcluster.Role {
	roles := topology.Roles()
	return roles[slices.IndexFunc(roles, func(r devcluster.Role) bool { return r.Name == name })]
}

// nameOf returns the name of the role at a URL, or "".
func (c *cluster) nameOf(url string) string {
	for _, r := range c.Topology().Roles() {
		if r.URL() == url {
			return r.Name
		}
	}
	return ""
}

// followers returns all masters except one.
func (c *cluster) followers(leader string) []string {
	return slices.DeleteFunc(c.names(devcluster.KindMaster), func(name string) bool { return name == leader })
}

// names lists the roles of a kind.
func (c *cluster) names(kind devcluster.Kind) []string {
	var names []string
	for _, r := range c.Topology().Roles() {
		if r.Kind == kind {
			names = append(names, r.Name)
		}
	}
	return names
}

// kill ends roles with SIGKILL. It signals all of them before it waits for the first, so that they end at nearly the
// same time.
func (c *cluster) kill(names ...string) {
	c.t.Helper()
	pids := c.PIDs()
	for _, name := range names {
		c.signal(name, pids[name], syscall.SIGKILL)
		delete(c.halted, name)
	}
	for _, name := range names {
		if err := c.KillRole(name); err != nil {
			c.t.Fatal(err)
		}
	}
}

// launch starts roles that are not running.
func (c *cluster) launch(names ...string) {
	c.t.Helper()
	for _, name := range names {
		r := roleOf(c.Topology(), name)
		r.AfterFailedSync = c.failedSyncs[name]
		if err := c.StartAs(r); err != nil {
			c.t.Fatal(err)
		}
	}
}

// launchAfterFailedSync starts a role of which a sync failed. The machine is not restarted.
func (c *cluster) launchAfterFailedSync(name string) {
	c.t.Helper()
	r := roleOf(c.Topology(), name)
	r.AfterFailedSync = true
	if err := c.StartAs(r); err != nil {
		c.t.Fatal(err)
	}
}

// halt stops a process with SIGSTOP. To the others it looks hung, and it does not notice that time passes.
func (c *cluster) halt(name string) {
	c.t.Helper()
	c.halted[name] = c.PIDs()[name]
	c.signal(name, c.halted[name], syscall.SIGSTOP)
}

// resume continues a stopped process.
func (c *cluster) resume(name string) {
	c.t.Helper()
	c.signal(name, c.halted[name], syscall.SIGCONT)
	delete(c.halted, name)
}

// signal sends a signal to the running process of a role.
func (c *cluster) signal(name string, pid int, signal syscall.Signal) {
	c.t.Helper()
	if pid <= 0 {
		c.t.Fatalf("%s does not run", name)
	}
	if err := syscall.Kill(pid, signal); err != nil {
		c.t.Fatalf("%v to %s (%d): %v", signal, name, pid, err)
	}
}

// awaitComplete waits until every role is registered and healthy.
func (c *cluster) awaitComplete(storages int) {
	c.t.Helper()
	c.await("a complete cluster", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		return c.incomplete(s, storages)
	})
}

// awaitStorage waits until a storage node is healthy and has all blocks.
func (c *cluster) awaitStorage(name string) {
	c.t.Helper()
	url := roleOf(c.Topology(), name).URL()
	c.await(name+" with all blocks", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		for _, n := range s.Storages {
			if n.URL == url && n.Live && n.State == "valid" && n.Height == s.Head.Height {
				return ""
			}
		}
		return fmt.Sprintf("storage nodes: %+v, head: %+v", s.Storages, s.Head)
	})
}

// incomplete describes what is missing in the status of three masters and one miner. It returns "" if the status is
// complete.
func (c *cluster) incomplete(s wire.Cluster, storages int) string {
	well, masters := 0, len(c.File().Masters)
	for _, m := range s.Masters {
		if (m.State == "leader" || m.State == "follower") && m.Voter {
			well++
		}
	}
	if well != masters || len(s.Masters) != masters {
		return fmt.Sprintf("masters: %+v", s.Masters)
	}
	well = 0
	for _, n := range s.Storages {
		if n.Live && n.State == "valid" {
			well++
		}
	}
	if well != storages || len(s.Storages) != storages {
		return fmt.Sprintf("storage nodes: %+v", s.Storages)
	}
	if len(s.Miners) != 1 || !s.Miners[0].Live {
		return fmt.Sprintf("miners: %+v", s.Miners)
	}
	return ""
}

// awaitSettled waits until the cluster is complete, and every record is in a block that every storage node has.
func (c *cluster) awaitSettled(storages int) wire.Cluster {
	c.t.Helper()
	var s wire.Cluster
	c.await("a cluster that has stored everything", func() (text string) {
		var err error
		if s, err = c.status(); err != nil {
			return err.Error()
		}
		if text = c.incomplete(s, storages); text != "" {
			return text
		}
		if s.Buffer.Records > 0 || s.Pending.Blocks > 0 || s.Stored != s.Head.Height {
			return fmt.Sprintf("buffer %+v, pending %+v, %d blocks of %d stored", s.Buffer, s.Pending, s.Stored,
				s.Head.Height)
		}
		for _, n := range s.Storages {
			if n.Height != s.Head.Height {
				return fmt.Sprintf("%s has %d blocks of %d", n.URL, n.Height, s.Head.Height)
			}
		}
		if len(s.Masters) < 3 {
			// The clocks of fewer masters confirm none. A start that takes long leaves the time of the group behind.
			s.NoticesCoded = slices.DeleteFunc(s.NoticesCoded,
				func(m wire.Message) bool { return m.Code == wire.CodeTimeBehind })
			s.Notices = wire.Texts(s.NoticesCoded)
			return ""
		}
		// The leader compares the clocks every few seconds.
		return clockNotices(s)
	})
	s.NoticesCoded = slices.DeleteFunc(s.NoticesCoded,
		func(m wire.Message) bool { return m.Code == wire.CodeTLSPlain }) // it may move to TLS
	if s.Notices = wire.Texts(s.NoticesCoded); len(s.Notices) > 0 {
		c.t.Errorf("a cluster that has stored everything has notices: %q", s.Notices)
	}
	return s
}
