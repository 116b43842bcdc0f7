package roles

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/certs/certstest"
)

// TestStartWithACertificateForAnotherHost starts roles with certificates that others would refuse. They do not start,
// and their folders stay as they are. With names in the addresses these are where others reach a role.
func TestStartWithACertificateForAnotherHost(t *testing.T) {
	ports := freePorts(t, 2)
	port := func(i int) string { return ports[i][strings.LastIndex(ports[i], ":"):] }
	for _, row := range []struct {
		name                           string
		hosts                          []string
		http, advertise, raft, raftAdv string
		refused                        string // "" for a start
	}{
		{"the addresses", []string{"127.0.0.1"}, ports[0], "", ports[1], "", ""},
		{"the names in the addresses", []string{"localhost"}, "localhost" + port(0), "", "localhost" + port(1), "", ""},
		{"all names", []string{"m1", "r1"}, ports[0], "https://m1:1", ports[1], "r1:2", ""},
		{"another URL", []string{"127.0.0.1"}, ports[0], "https://m1:1", ports[1], "",
			"reach this node at m1 (--advertise)"},
		{"another raft address", []string{"m1"}, ports[0], "https://m1:1", ports[1], "r1:2",
			"reach this node at r1 (--raft-advertise)"},
		{"the address of raft only", []string{"m1"}, ports[0], "https://m1:1", ports[1], "",
			"reach this node at 127.0.0.1 (--raft-advertise)"},
		{"all addresses", []string{"m1"}, "0.0.0.0" + port(0), "", ports[1], "m1:2", "(--advertise)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := DefaultMaster()
			cfg.Data, cfg.ClusterToken, cfg.AdminToken = filepath.Join(t.TempDir(), "m"), "the cluster token", "admin"
			cfg.HTTP, cfg.Advertise, cfg.Raft, cfg.RaftAdvertise = row.http, row.advertise, row.raft, row.raftAdv
			cfg.Logger = hclog.NewNullLogger()
			cfg.TLS = certstest.Files(t, certstest.NewAuthority(t), certs.Master, "n", row.hosts...)
			m, err := OpenMaster(cfg)
			if err == nil {
				if host := strings.Split(m.store.Member().Raft, ":")[0]; !strings.Contains(
					strings.Join(row.hosts, " "), host) {
					t.Errorf("others reach raft at %s", m.store.Member().Raft)
				}
				err = m.Close()
			}
			_, stat := os.Stat(cfg.Data)
			if row.refused == "" && err != nil || row.refused != "" && (err == nil ||
				!strings.Contains(err.Error(), row.refused) || stat == nil) {
				t.Errorf("%v, and its folder: %v", err, stat)
			}
		})
	}
	w := DefaultMiner()
	w.Data, w.ClusterToken, w.Masters = filepath.Join(t.TempDir(), "w"), "the cluster token", []string{"https://m1:1"}
	w.HTTP, w.Logger = ports[0], hclog.NewNullLogger()
	w.TLS = certstest.Files(t, certstest.NewAuthority(t), certs.Miner, "n", "m1")
	if _, err := OpenMiner(w); err == nil || !strings.Contains(err.Error(), "(--advertise)") {
		t.Errorf("a miner: %v", err)
	}
}
