package e2e

import (
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
)

// launchFrom starts another role with a different program. The role stops when the test ends.
func (c *cluster) launchFrom(program string, change func(*devcluster.Topology), name string) *devcluster.Running {
	c.t.Helper()
	topology := c.Topology()
	change(&topology)
	launcher := devcluster.NewProcesses(program)
	c.t.Cleanup(launcher.Close)
	running, err := launcher.Launch(topology, roleOf(topology, name), c.File().Tokens)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		select {
		case <-running.Done():
		default:
			if err := running.Stop(); err != nil {
				c.t.Error(err)
			}
		}
	})
	return running
}

// TestMinerOfWrongNonces checks that a miner that returns wrong nonces does no harm while another one works.
func TestMinerOfWrongNonces(t *testing.T) {
	c, o := start(t), newOracle()
	wrong := altered(t, "wrong-nonce")
	running := c.launchFrom(wrong, func(topology *devcluster.Topology) { topology.Miners = 2 }, "miner-2")
	c.await("two miners", func() string {
		if s, err := c.status(); err != nil || len(s.Miners) != 2 || !s.Miners[0].Live || !s.Miners[1].Live {
			return "not yet"
		}
		return ""
	})
	l := c.startLoad(o)
	before := c.awaitStatus()
	l.more(4 * some)
	c.await("mined blocks", func() string {
		if s, err := c.status(); err != nil || s.Head.Height < before.Head.Height+3 {
			return "too few"
		}
		return ""
	})
	l.end()
	if err := running.Stop(); err != nil {
		t.Error(err)
	}
	c.await("everything stored", func() string {
		if s, err := c.status(); err != nil || s.Pending.Blocks > 0 || s.Buffer.Records > 0 {
			return "not yet"
		}
		return ""
	})
	c.checkServed(o)
	c.stop()
	c.checkStored(o, c.File().Storages[0].Data)
	o.report(t)
}

// TestStorageThatLies checks that a storage node that acknowledges blocks without storing them loses nothing while the
// others work, with two replicas required.
func TestStorageThatLies(t *testing.T) {
	c, o := start(t), newOracle()
	liar := altered(t, "liar")
	running := c.launchFrom(liar, func(topology *devcluster.Topology) { topology.Storages = 4 }, "storage-4")
	url := ""
	c.await("four storage nodes", func() string {
		s, err := c.status()
		if err != nil || len(s.Storages) != 4 {
			return "not yet"
		}
		for _, n := range s.Storages {
			if c.nameOf(n.URL) == "" {
				url = n.URL
			}
		}
		return ""
	})
	l := c.startLoad(o)
	l.more(4 * some)
	c.await("the liar to have acknowledged blocks", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		for _, n := range s.Storages {
			if n.URL == url && n.Height > 0 {
				return ""
			}
		}
		return "none"
	})
	l.more(some)
	l.end()
	if err := running.Stop(); err != nil {
		t.Error(err)
	}
	admin, err := client.New(client.Config{Masters: c.File().Masters, Token: c.File().Tokens.Admin})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.CloseIdle()
	if err := admin.RemoveStorage(t.Context(), url, true); err != nil {
		t.Fatal(err)
	}
	c.expectDamage = true // reads from the liar detected it
	c.verify(o)
}
