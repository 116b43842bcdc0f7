package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// programOf builds the program of an earlier commit of this repository.
func programOf(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	sources := filepath.Join(dir, "sources.tar")
	archive := exec.Command("git", "archive", "--output", sources, commit)
	archive.Dir = ".."
	if text, err := archive.CombinedOutput(); err != nil {
		t.Skipf("NO HISTORY: the upgrade is not tested: git archive %s: %v: %s (git fetch --unshallow)", commit, err,
			text)
	}
	out := filepath.Join(dir, "chainstore-"+commit)
	for _, step := range [][]string{{"tar", "-xf", sources},
		{"go", "build", "-buildvcs=false", "-o", out, "./cmd/chainstore"}} {
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", step, err, text)
		}
	}
	return out
}

// TestUpgrade upgrades a cluster of each earlier version in docs/releases.md under load, one process at a time. It
// checks that both versions work together, with leaders of either version, and that the group keeps its level until the
// last master is upgraded. Then the level rises, and a master of a lower level is refused. No acknowledged record is
// lost.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	needsTime(t, "builds earlier programs, and runs a cluster of each")
	for _, r := range releases(t) {
		t.Run(r.commit[:7], func(t *testing.T) { upgradeFrom(t, r) })
	}
}

// upgrade is a cluster whose processes start from a program that the test replaces.
type upgrade struct {
	*cluster
	older string // the program of the earlier version
}

// use sets the program for processes that start from now on.
func (u *upgrade) use(program string) {
	u.t.Helper()
	if err := os.RemoveAll(u.program); err != nil {
		u.t.Fatal(err)
	}
	if err := os.Symlink(program, u.program); err != nil {
		u.t.Fatal(err)
	}
}

func (u *upgrade) restart(name string) {
	u.t.Helper()
	if err := u.StopRole(name); err != nil {
		u.t.Fatal(err)
	}
	u.launch(name)
}

func upgradeFrom(t *testing.T, from release) {
	older := programOf(t, from.commit)
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = filepath.Join(c.dir, "program")
	u := &upgrade{c, older}
	u.use(older)
	c.begin(topology)
	o := newOracle()
	a := c.appendAlways(o)
	c.awaitMore(a, some)

	u.use(binary)
	masters := c.names(devcluster.KindMaster)
	last := c.leader("") // of the earlier version, until the end
	for _, name := range c.followers(last) {
		u.restart(name)
		c.awaitMore(a, some)
	}
	u.restart("storage-1") // registers with a leader of the earlier version
	c.awaitMore(a, some)
	c.kill(last) // a master of this version becomes leader
	c.leader(last)
	c.awaitMore(a, some)
	u.use(older)
	c.launch(last)
	u.restart("storage-2") // of the earlier version, registers with a leader of this one
	u.restart("miner-1")
	c.awaitComplete(3)
	c.awaitMore(a, some)
	if s, err := c.status(); err != nil || s.Level > from.level {
		t.Errorf("level %d with a master of level %d: %v", s.Level, from.level, err)
	}
	u.adminTokens(nil)

	u.use(binary)
	u.restart(last)
	c.awaitMore(a, some)
	for _, name := range []string{"storage-2", "storage-3", "miner-1"} {
		u.restart(name)
		c.awaitMore(a, some)
	}
	c.awaitLevel() // it waits for the workers too
	c.awaitMore(a, some)
	operator, err := u.client(c.File().Tokens.Admin).CreateAdmin(t.Context(),
		wire.NewAdmin{Name: "night-shift", Role: wire.RoleOperator})
	if err != nil {
		t.Fatal(err)
	}
	c.kill(masters...)
	c.launch(masters...)
	c.awaitMore(a, some)
	u.adminTokens(&operator)
	if from.level < masterfsm.ProtocolLevel {
		u.refuseOlder(a)
	}
	c.awaitComplete(3)
	a.end()
	c.compareStates(o)
	if s, err := c.status(); err != nil || s.Level != masterfsm.ProtocolLevel {
		t.Errorf("level %d: %v", s.Level, err)
	}
	c.verify(o)
}

// adminTokens checks that no named admin token is made before all masters know them, or that a token which was made has
// survived.
func (u *upgrade) adminTokens(made *wire.CreatedAdmin) {
	u.t.Helper()
	if made == nil {
		_, err := u.client(u.File().Tokens.Admin).CreateAdmin(u.t.Context(), wire.NewAdmin{Name: "early",
			Role: wire.RoleAdmin})
		if err == nil {
			u.t.Error("an admin token was made with a master that does not know them")
		}
		return
	}
	me, err := u.client(made.Token).Me(u.t.Context())
	if err != nil || me.Admin == nil || *me.Admin != made.Admin {
		u.t.Errorf("the admin token %+v after a restart: %+v, %v", made.Admin, me.Admin, err)
	}
}

// client returns a client with a token.
func (u *upgrade) client(token string) *client.Client {
	u.t.Helper()
	cl, err := client.New(client.Config{Masters: u.File().Masters, Token: token})
	if err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(cl.CloseIdle)
	return cl
}

// refuseOlder starts a master of the earlier version, whose level is lower than that of the group. The program itself
// refuses its folder, and says why.
func (u *upgrade) refuseOlder(a *acker) {
	u.t.Helper()
	u.use(u.older)
	name := u.followers(u.leader(""))[0]
	u.restart(name)
	u.await("the refusal of an older version", func() string {
		said := tail(roleOf(u.Topology(), name).Log, 3)
		if !u.Alive(name) && strings.Contains(said, "written by a newer version") {
			return ""
		}
		return said
	})
	u.awaitMore(a, some)
	u.use(binary)
	if err := u.Forget(name); err == nil {
		u.t.Errorf("%s of an older version ended without an error", name)
	}
	u.launch(name)
}
