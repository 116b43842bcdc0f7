package e2e

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/wire"
)

// recover runs `chainstore master recover` for a master of the cluster.
func (c *cluster) recover(master string, args ...string) (done roles.Recovery) {
	c.t.Helper()
	role := roleOf(c.Topology(), master)
	args = append([]string{"master", "recover", "--yes", "--json", "--data", role.Data, "--raft", role.Raft,
		"--cluster-token-file", tokenFile(c.t, c.File().Tokens.Cluster)}, args...)
	if err := json.Unmarshal(c.commandAt(master, nil, args...), &done); err != nil {
		c.t.Fatal(err)
	}
	return done
}

// appendEach appends records one by one, through the given masters in turn.
func (c *cluster) appendEach(o *oracle, name string, n int, masters ...*client.Client) {
	c.t.Helper()
	for i := range n {
		e := client.Entry{Payload: fmt.Appendf(nil, "%s %d", name, i), Key: name, IdempotencyKey: fmt.Sprint(name, i)}
		at, err := masters[i%len(masters)].Append(c.t.Context(), e)
		if err != nil {
			c.t.Fatalf("%s %d: %v", name, i, err)
		}
		o.ack([]client.Entry{e}, []wire.Position{at})
	}
}

// awaitStored waits until every record is in a block that all storage nodes have. Masters may be down.
func (c *cluster) awaitStored() (height uint64) {
	c.t.Helper()
	c.await("everything stored", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
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
		height = s.Head.Height
		return ""
	})
	return height
}

// TestRecoverSurvivor loses two of three masters. The survivor lags, and the storage nodes have blocks that it does not
// know. The test checks that records in stored blocks keep their places, and that only records that no other node had
// are lost.
func TestRecoverSurvivor(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = altered(c.t, "quick-recovery")
	c.begin(topology)
	o, lost := newOracle(), newOracle()
	survivor := c.followers(c.leader(""))[0]
	others := c.followers(survivor)
	var left []*client.Client // clients of the other masters
	for _, name := range others {
		left = append(left, c.client(roleOf(c.Topology(), name).URL()))
	}

	c.appendEach(o, "known to all", some, c.masters...)
	known := c.awaitStored()
	c.kill(survivor)
	c.appendEach(o, "stored while it was away", some, left...)
	stored := c.awaitStored()
	c.kill(c.storageNames()...)
	c.appendEach(lost, "with those alone that are lost", 10, left...)
	c.kill(others...)
	back, gone := others[0], others[1]
	c.wipe(roleOf(c.Topology(), gone).Data)

	// While a storage node is down, the length of its chain is unknown.
	role := roleOf(c.Topology(), survivor)
	args := []string{"--data", role.Data, "--raft", role.Raft, "--cluster-token-file",
		tokenFile(t, c.File().Tokens.Cluster)}
	identity := filepath.Join(role.Data, "master.json")
	before := digestOf(t, identity)
	args = append([]string{"master", "recover"}, args...)
	c.refused("yes\n", "add: --dead", args...)
	args = append(args, "--dead", strings.Join(c.urls(others...), ","))
	c.refused("yes\n", "--without", args...)
	c.launch(c.storageNames()...)
	c.awaitAnswers(c.storageNames()...)
	c.refused("no\n", "not confirmed", args...)
	if digestOf(t, identity) != before {
		t.Error("a recovery that was refused changed who the master is")
	}

	done := c.recover(survivor, "--dead", strings.Join(c.urls(others...), ","))
	if done.LastTerm == 0 || done.LastEntry == 0 || done.Forked || done.Replicated != stored || done.Single != 0 {
		t.Errorf("recovered %+v", done)
	}
	if done.Epoch != 2 || done.Height > known || done.ChainHeight != stored ||
		done.Adopted != int(stored-done.Height) || len(done.Lost) != 2 {
		t.Errorf("recovered %+v; it knew %d blocks, %d were stored", done, known, stored)
	}
	c.launch(survivor)
	c.masters = []*client.Client{c.client(role.URL())}
	c.awaitVoters(role.URL())

	// The old group cannot return.
	c.launch(back)
	if said := c.awaitEnded(back); !strings.Contains(said, "recover") &&
		!strings.Contains(said, "taken out of its group") {
		t.Errorf("%s said %q", back, said)
	}
	c.kill(survivor)
	c.launch(survivor)
	c.rejoin(back)
	c.rejoin(gone)
	c.awaitVoters(c.File().Masters...)
	c.masters = nil
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}

	// A client that retries a lost append appends it again.
	c.appendEach(o, "with those alone that are lost", 10, c.masters...)
	c.appendEach(o, "after the recovery", some, c.masters...)
	if first := o.order[2*some]; first.at.Block < stored {
		t.Errorf("%v stands in a block that the storage nodes had before", first)
	}
	c.verify(o)
}

func digestOf(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}

// urls returns the URLs of roles.
func (c *cluster) urls(names ...string) (urls []string) {
	for _, name := range names {
		urls = append(urls, roleOf(c.Topology(), name).URL())
	}
	return urls
}

// refused runs a command that must fail with a message.
func (c *cluster) refused(input, message string, args ...string) {
	c.t.Helper()
	c.refusedAt("", input, message, args...)
}

// refusedAt is like refused, but runs at the network location of a role; "" means that of the test.
func (c *cluster) refusedAt(role, input, message string, args ...string) {
	t := c.t
	t.Helper()
	line := append([]string{cmp.Or(c.program, binary)}, args...)
	if role != "" {
		line = append(slices.Clone(roleOf(c.Topology(), role).Enter), line...)
	}
	cmd := exec.CommandContext(t.Context(), line[0], line[1:]...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), message) {
		t.Errorf("chainstore %s: %v, and it said %q", strings.Join(args, " "), err, out)
	}
}

// awaitAnswers waits until storage nodes report the length of their chains.
func (c *cluster) awaitAnswers(names ...string) {
	c.t.Helper()
	asking := noderpc.NewMasters(noderpc.NewTransport(), c.secrets().For(nodeauth.Recovery))
	defer asking.CloseIdle()
	for _, name := range names {
		c.await(name+" to answer", func() string {
			if _, err := asking.ChainStatus(c.t.Context(), roleOf(c.Topology(), name).URL()); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

// TestRecoverFromStorage loses the disks of all masters, and founds the group again from the chain of a storage node.
// It checks that every record in a block keeps its place, that projects are restored without access, and that no
// project id is reused.
func TestRecoverFromStorage(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = altered(c.t, "quick-recovery")
	c.begin(topology)
	o := newOracle()
	second, err := c.admin().CreateProject(t.Context(), wire.NewProject{Name: "second", Public: true})
	if err != nil {
		t.Fatal(err)
	}
	old := c.File().Tokens.Project
	c.appendEach(o, "ours", some, c.masters...)
	theirs, err := client.New(client.Config{Masters: c.File().Masters, Token: second.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.CloseIdle()
	public := client.Entry{Payload: []byte("public once")}
	hidden, err := theirs.Append(t.Context(), public)
	if err != nil {
		t.Fatal(err)
	}
	o.giveUp([]client.Entry{public}) // our token does not permit reading it
	one, err := c.masters[0].Get(t.Context(), o.order[0].at.Block, o.order[0].at.Offset)
	if err != nil {
		t.Fatal(err)
	}
	stored := c.awaitStored()
	c.restart() // the storage nodes know the group and its epoch only from their disks
	all := c.names(devcluster.KindMaster)
	c.kill(all...)
	for _, name := range all {
		c.wipe(roleOf(c.Topology(), name).Data)
	}
	first, rest := roleOf(c.Topology(), all[0]), all[1:]

	var urls []string
	for _, name := range c.storageNames() {
		urls = append(urls, roleOf(c.Topology(), name).URL())
	}
	done := c.recover(all[0], "--from-storage", strings.Join(urls, ","))
	if done.Epoch != 2 || done.ChainHeight != stored || done.Adopted != int(stored) || done.Projects != 2 {
		t.Errorf("recovered %+v of %d blocks", done, stored)
	}
	c.launch(all[0])
	admin := c.admin()
	c.masters = []*client.Client{admin}
	c.awaitVoters(first.URL())
	for _, name := range rest {
		c.rejoin(name)
	}
	c.awaitVoters(c.File().Masters...)

	// Without access: the old token is not valid, and the public project is private.
	if _, err := c.client(c.File().Masters...).Append(t.Context(), client.Entry{Payload: []byte("x")}); !errors.Is(err,
		wire.ErrUnauthorized) {
		t.Errorf("the token of the old group appends: %v", err)
	}
	anybody, err := client.New(client.Config{Masters: c.File().Masters})
	if err != nil {
		t.Fatal(err)
	}
	defer anybody.CloseIdle()
	if _, err := anybody.Get(t.Context(), hidden.Block, hidden.Offset); err == nil {
		t.Error("a record of a project that was public is read without a token")
	}
	renewed, err := admin.CreateToken(t.Context(), fmt.Sprintf("recovered-%d", one.ProjectID), wire.NewToken{})
	if err != nil || renewed.Token == old {
		t.Fatalf("the token that opens it again is %d: %v", renewed.ID, err)
	}
	fresh, err := admin.CreateProject(t.Context(), wire.NewProject{Name: "new"})
	if err != nil || fresh.ID <= max(second.ID, one.ProjectID) {
		t.Errorf("a new project is %+v: %v", fresh, err)
	}

	c.token = renewed.Token
	c.masters = nil
	for _, url := range c.File().Masters {
		c.masters = append(c.masters, c.client(url))
	}
	c.awaitComplete(3)
	c.appendEach(o, "after the recovery", some, c.masters...)
	if next := o.order[some]; next.at.Block < stored {
		t.Errorf("%v stands in a block that the storage nodes had before", next)
	}
	c.verify(o)
}
