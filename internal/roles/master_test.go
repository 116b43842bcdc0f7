package roles

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// TestMasterRefusesWitnesses checks that a master with witnesses that it cannot use does not start, and creates no
// folder.
func TestMasterRefusesWitnesses(t *testing.T) {
	for _, c := range []struct {
		witnesses []string
		quorum    uint8
		words     string
	}{
		{[]string{"witness.example/w1 https://witness.example"}, 0, "NAME+ID+KEY"},
		{nil, 1, "no checkpoint would ever be shown"},
	} {
		cfg := DefaultMaster()
		cfg.Data, cfg.HTTP, cfg.Raft = filepath.Join(t.TempDir(), "data"), "127.0.0.1:0", "127.0.0.1:0"
		cfg.ClusterToken, cfg.AdminToken = "cluster", "admin"
		cfg.Witnesses, cfg.Logger = c.witnesses, hclog.NewNullLogger()
		cfg.Settings.WitnessQuorum = c.quorum
		if _, err := OpenMaster(cfg); err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%v, %d: %v, want the words %q", c.witnesses, c.quorum, err, c.words)
		}
		if _, err := os.Stat(cfg.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the folder is there: %v", err)
		}
	}
}
