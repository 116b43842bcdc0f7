package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// TestApproveWorkers checks with real processes that a storage node and a miner get no work until an administrator
// approves them, also under another leader, that they say so, and that they work afterwards and after a restart.
func TestApproveWorkers(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.Storages, topology.Miners = 0, 0
		topology.Settings.ApproveWorkers, topology.Settings.Replicas = true, 1
	})
	c.begin(topology)
	c.awaitLevel()
	more := topology
	more.Storages, more.Miners = 1, 1
	storage, miner := roleOf(more, "storage-1"), roleOf(more, "miner-1")
	waiting := map[string]wire.WaitingWorker{}
	listed := func(url string) {
		t.Helper()
		c.await(url+" to wait", func() string {
			s, err := c.adminStatus()
			if err != nil {
				return err.Error()
			}
			for _, w := range s.Waiting {
				if w.URL == url && !w.Approved {
					waiting[url] = w
					if !strings.Contains(strings.Join(s.Notices, "\n"), w.ID) {
						t.Errorf("no notice names %s: %q", w.ID, s.Notices)
					}
					return ""
				}
			}
			return fmt.Sprintf("%+v", s.Waiting)
		})
	}
	for _, role := range []devcluster.Role{storage, miner} {
		if err := c.StartAs(role); err != nil {
			t.Fatal(err)
		}
		listed(role.URL())
		w := waiting[role.URL()]
		c.await(role.Name+" to say that it waits", func() string {
			status, p, err := c.health(role, "/readyz", "")
			log := tail(role.Log, 1000)
			if status != http.StatusServiceUnavailable || !strings.Contains(p.Detail, "approval") ||
				!strings.Contains(log, "chainstore "+w.Role+" approve "+w.ID) {
				return fmt.Sprint(status, p.Detail, err, log)
			}
			return ""
		})
	}
	writer := c.client(c.File().Masters...)
	if _, err := writer.Append(t.Context(), client.Entry{Payload: []byte("a record")}); err != nil {
		t.Fatal(err)
	}
	leader := c.leader("")
	c.kill(leader)
	c.leader(leader)
	c.launch(leader)
	listed(storage.URL())
	listed(miner.URL())
	s := c.awaitStatus()
	if len(s.Waiting) != 0 || len(s.Storages)+len(s.Miners) != 0 || s.Head.Height != 0 {
		t.Errorf("a user sees waiting workers, or they work: %+v", s)
	}
	for _, role := range []devcluster.Role{storage, miner} {
		w := waiting[role.URL()]
		if _, err := c.admin().ApproveWorker(t.Context(), w.ID); err != nil {
			t.Fatal(err)
		}
		c.awaitReady(role)
	}
	stored := func() {
		t.Helper()
		c.await("a stored block", func() string {
			s, err := c.status()
			if err != nil || s.Stored == 0 || s.Stored != s.Head.Height || s.Buffer.Records+s.Pending.Blocks > 0 {
				return fmt.Sprintf("%+v, %v", s, err)
			}
			return ""
		})
	}
	stored()
	c.kill(storage.Name, miner.Name)
	for _, role := range []devcluster.Role{storage, miner} {
		if err := c.StartAs(role); err != nil {
			t.Fatal(err)
		}
		c.awaitReady(role)
	}
	if _, err := writer.Append(t.Context(), client.Entry{Payload: []byte("another")}); err != nil {
		t.Fatal(err)
	}
	stored()
}

// adminStatus returns the leader's status as an administrator sees it.
func (c *cluster) adminStatus() (wire.Cluster, error) {
	s, err := c.admin().Cluster(c.t.Context())
	if err == nil && !ofLeader(s) {
		err = errNoLeader
	}
	return s, err
}
