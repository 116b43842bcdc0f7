package roles

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/wire"
)

// TestStartWithMissingFiles checks that a start of a worker whose folder has lost files warns of each. The combinations
// are those of TestMissingFiles in package worker.
func TestStartWithMissingFiles(t *testing.T) {
	for role, r := range map[string]struct {
		open    func(WorkerConfig) (*Worker, error)
		config  WorkerConfig
		removed [][]string
	}{
		"storage": {OpenStorage, DefaultStorage(), [][]string{{"identity.json"}, {"starts", "fence", "index"}}},
		"miner":   {OpenMiner, DefaultMiner(), [][]string{{"identity.json"}, {"starts", "fence"}}},
	} {
		r.config.NodeConfig = NodeConfig{Data: t.TempDir(), HTTP: "127.0.0.1:0", ClusterToken: "token"}
		r.config.Masters = []string{"http://127.0.0.1:1"}
		dir := r.config.Data
		if got := missingAtStart(t, r.open, r.config); got != "" {
			t.Errorf("a new %s lacks %q", role, got)
		}
		if got := missingAtStart(t, r.open, r.config); got != "" {
			t.Errorf("a %s that has not registered lacks %q", role, got)
		}
		for _, names := range r.removed {
			id, err := worker.ReadIdentity(dir)
			id.ID, id.AccessToken, id.Group = "w-1", "access", "group"
			fence, openErr := worker.OpenFence(dir)
			if err := errors.Join(err, openErr, id.Save(dir)); err != nil {
				t.Fatal(err)
			}
			if err := fence.Pass(wire.Order{Epoch: 1, Term: 1}); err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if err := os.Remove(filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			want := strings.ReplaceAll(fmt.Sprintln(names), "index", "segments")
			if got := fmt.Sprintln(strings.Fields(missingAtStart(t, r.open, r.config))); got != want {
				t.Errorf("a %s warns of %swant %s", role, got, want)
			}
		}
	}
}

// missingAtStart opens and closes a worker, and returns the names of the files that it warns of.
func missingAtStart(t *testing.T, open func(WorkerConfig) (*Worker, error), cfg WorkerConfig) (names string) {
	t.Helper()
	var log bytes.Buffer
	cfg.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: &log})
	w, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "a file is missing in the data folder") {
			continue
		}
		_, name, _ := strings.Cut(line, " file=")
		name, _, _ = strings.Cut(name, " ")
		names += name + " "
		if !strings.Contains(line, cfg.Data) || !strings.Contains(line, "this node") {
			t.Errorf("the line names not the folder, or not what follows: %s", line)
		}
	}
	return names
}
