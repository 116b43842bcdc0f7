package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/wire"
)

// setKernel sets the boot id of the kernel that processes of the variant "reboot" see at their start.
func setKernel(t *testing.T, id string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(os.Getenv(clockEnv), "boot_id"), []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// awaitEnd waits until a role has ended by itself with an error, and checks that its log has a text.
func (c *cluster) awaitEnd(name, text string) {
	c.t.Helper()
	c.await(name+" to end", func() string {
		if c.Alive(name) {
			return "it runs"
		}
		return ""
	})
	if err := c.Forget(name); err == nil {
		c.t.Errorf("%s ended well", name)
	}
	if said := tail(roleOf(c.Topology(), name).Log, 20); !strings.Contains(said, text) {
		c.t.Errorf("%s said %s, want %q", name, said, text)
	}
}

// TestFailedSync lets a sync of each kind of role fail. The role ends, and does not start again before an operator
// overrides that or the machine is started again. Both its folder and the masters remember the failed sync.
func TestFailedSync(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("there is no strace to make a sync fail: %v", err)
	}
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.program = altered(t, "reboot")
	setKernel(t, "first")
	c.begin(topology)
	c.awaitLevel()
	o := newOracle()
	a := c.appendAlways(o)
	c.awaitMore(a, some)
	fail := func(name string) {
		t.Helper()
		c.awaitMore(a, some) // it has all its threads
		stop := injectSyscalls(t, c.PIDs()[name], "fsync,fdatasync:error=EIO")
		if strings.HasPrefix(name, "miner") { // it writes its fence when another master leads
			leader := c.leader("")
			c.kill(leader)
			defer c.launch(leader)
		}
		c.awaitEnd(name, "input/output error")
		stop()
	}
	refused := durable.ErrSyncFailed.Error()
	for _, name := range []string{c.leader(""), "storage-1", "miner-1"} {
		c.kill(name)
		c.launch(name) // with the present boot id
		c.awaitComplete(3)
		fail(name)
		for range 2 {
			c.launch(name)
			c.awaitEnd(name, refused)
		}
		c.launchAfterFailedSync(name)
		c.awaitComplete(3)
		c.awaitNoNotice(wire.CodeFailedSync) // the masters have taken over the override
		c.kill(name)
		c.launch(name) // once is enough
		c.awaitComplete(3)
		fail(name)
		c.awaitNotice(wire.CodeFailedSync)
		c.launch(name)
		c.awaitEnd(name, refused)
		// As if the folder had lost the mark: the masters remember it.
		if err := os.Remove(durable.SyncMarkPath(roleOf(topology, name).Data)); err != nil {
			t.Fatal(err)
		}
		c.launch(name)
		c.awaitEnd(name, refused)
		setKernel(t, "after "+name)
		c.launch(name)
		c.awaitComplete(3)
		c.awaitMore(a, some)
	}
	a.end()
	c.verify(o)
}

// TestFailedSyncAtRest fails the syncs of a folder while a stopped master is encrypted again, or decrypted. The command
// fails, and nothing uses the data folder after it: the next process would read what may not be on the disk.
func TestFailedSyncAtRest(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skipf("there is no strace to make syncs fail: %v", err)
	}
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(firstAtRestKey), 0o600); err != nil {
		t.Fatal(err)
	}
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.Masters, topology.Storages, topology.Miners, topology.AtRestKeys = 1, 1, 1, keys
	})
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	l.end()
	c.stop()
	for _, verb := range []string{"rewrite", "decrypt"} {
		for _, folder := range []string{".", "log", "log.new"} {
			t.Run(verb+" "+folder, func(t *testing.T) {
				data := filepath.Join(t.TempDir(), "master")
				if err := os.CopyFS(data, os.DirFS(roleOf(topology, "master-1").Data)); err != nil {
					t.Fatal(err)
				}
				command := []string{binary, "at-rest", verb, "--data", data, "--at-rest-keys", keys}
				failing := append([]string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e",
					"inject=fsync,fdatasync:error=EIO", "-P", filepath.Join(data, folder)}, command...)
				for _, run := range []struct {
					line []string
					want string
				}{{failing, "input/output error"}, {command, durable.ErrSyncFailed.Error()}} {
					out, err := exec.CommandContext(t.Context(), run.line[0], run.line[1:]...).CombinedOutput()
					if err == nil || !strings.Contains(string(out), run.want) {
						t.Errorf("%v: %v, %s, want %q", run.line, err, out, run.want)
					}
				}
			})
		}
	}
}
