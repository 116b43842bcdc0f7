package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/durable"
)

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
