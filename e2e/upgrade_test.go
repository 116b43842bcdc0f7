package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/masterfsm"
)

// versionBefore is the last commit whose masters know protocol level 0 alone.
const versionBefore = "b74b8ae"

// programOf builds the program of a commit of this repository's history.
func programOf(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	sources := filepath.Join(dir, "sources.tar")
	archive := exec.Command("git", "archive", "--output", sources, commit)
	archive.Dir = ".."
	if text, err := archive.CombinedOutput(); err != nil {
		t.Skipf("NO HISTORY: versions are not tested together: git archive %s: %v: %s", commit, err, text)
	}
	out := filepath.Join(dir, "chainstore-"+commit)
	for _, step := range [][]string{{"tar", "-xf", sources}, {"go", "build", "-buildvcs=false", "-o", out, "./cmd/chainstore"}} {
		cmd := exec.Command(step[0], step[1:]...)
		cmd.Dir = dir
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", step, err, text)
		}
	}
	return out
}

// TestUpgrade: a cluster of the version before is upgraded under load, one process at a time. Both versions work together, with leaders of
// either, and the group keeps to the old forms until its last master is upgraded. Nothing that was acknowledged is lost.
func TestUpgrade(t *testing.T) {
	before := programOf(t, versionBefore)
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = filepath.Join(c.dir, "program") // what the next process is started from
	use := func(program string) {
		t.Helper()
		if err := os.RemoveAll(c.program); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(program, c.program); err != nil {
			t.Fatal(err)
		}
	}
	restart := func(name string) {
		t.Helper()
		if err := c.StopRole(name); err != nil {
			t.Fatal(err)
		}
		c.launch(name)
	}
	use(before)
	c.begin(topology)
	o := newOracle()
	a := c.appendAlways(o)
	c.awaitMore(a, some)

	use(binary)
	masters := c.names(devcluster.KindMaster)
	last := c.leader("") // of the version before, until the end
	for _, name := range c.followers(last) {
		restart(name)
		c.awaitMore(a, some)
	}
	restart("storage-1") // registers with a leader of the version before
	c.awaitMore(a, some)
	c.kill(last) // a master of this version leads
	c.leader(last)
	c.awaitMore(a, some)
	use(before)
	c.launch(last)
	restart("storage-2") // of the version before, registers with a leader of this one
	restart("miner-1")
	c.awaitComplete(3)
	c.awaitMore(a, some)
	if s, err := c.status(); err != nil || s.Level != 0 {
		t.Errorf("level %d with a master of the version before: %v", s.Level, err)
	}

	use(binary)
	restart(last)
	c.awaitLevel()
	c.awaitMore(a, some)
	for _, name := range []string{"storage-2", "storage-3", "miner-1"} {
		restart(name)
		c.awaitMore(a, some)
	}
	c.kill(masters...)
	c.launch(masters...)
	c.awaitMore(a, some)

	// A master of the version before takes no part any more, and the others say why.
	use(before)
	leader := c.leader("")
	name := c.followers(leader)[0]
	if err := c.StopRole(name); err != nil {
		t.Fatal(err)
	}
	c.launch(name)
	c.await("the refusal of an older version", func() string {
		if log := roleOf(c.Topology(), leader).Log; !strings.Contains(tail(log, 1000), "runs an older version of ChainStore") {
			return tail(log, 3)
		}
		return ""
	})
	c.awaitMore(a, some)
	if err := c.StopRole(name); err != nil {
		t.Fatal(err)
	}
	use(binary)
	c.launch(name)
	c.awaitComplete(3)
	a.end()
	c.compareStates(o)
	if s, err := c.status(); err != nil || s.Level != masterfsm.ProtocolLevel {
		t.Error(fmt.Errorf("level %d: %w", s.Level, err))
	}
	c.verify(o)
}
