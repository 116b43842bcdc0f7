package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// smallDisk is the size of the disks of these tests, and minFree what a role keeps free on them, in bytes.
const (
	smallDisk = "128m"
	minFree   = 32 << 20
)

// ballast fills the disk under the folders of roles until only left bytes are free. It returns a function that makes
// room again.
func (c *cluster) ballast(left uint64, names ...string) (undo func()) {
	c.t.Helper()
	var paths []string
	for _, name := range names {
		path := filepath.Join(roleOf(c.Topology(), name).Data, "ballast")
		paths = append(paths, path)
		if left == 0 {
			fillDisk(c.t, path)
			continue
		}
		var s syscall.Statfs_t
		if err := syscall.Statfs(filepath.Dir(path), &s); err != nil {
			c.t.Fatal(err)
		}
		if free := s.Bavail * uint64(s.Bsize); free > left {
			if err := os.WriteFile(path, make([]byte, free-left), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	return func() {
		c.t.Helper()
		for _, path := range paths {
			if err := os.Remove(path); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// allAlive checks that no role has ended.
func (c *cluster) allAlive() {
	c.t.Helper()
	for _, name := range c.everybody() {
		if !c.Alive(name) {
			c.t.Fatalf("%s ended", name)
		}
	}
}

// acknowledged appends a record without waiting for its block.
func (c *cluster) acknowledged(o *oracle, payload string) {
	c.t.Helper()
	entry := client.Entry{Payload: []byte(payload)}
	at, err := c.client(c.File().Masters...).Append(c.t.Context(), entry)
	if err != nil {
		c.t.Fatal(err)
	}
	o.ack([]client.Entry{entry}, []wire.Position{at})
}

// TestFullStorageDisks fills the disks of all storage nodes to the last byte. Every record is served and proven by
// every master, also after a restart of a storage node and under a new leader. With room again, blocks are stored
// without a restart.
func TestFullStorageDisks(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.WorkerOptions.MinFree, topology.WorkerOptions.WarnFree = minFree, 2*minFree
	})
	if mountSmall(t, topology, smallDisk, c.storagesOf(topology)...) == nil {
		return // it was logged
	}
	c.begin(topology)
	o := newOracle()
	c.fill(o, "bulk", 4, 3)
	undo := c.ballast(0, c.storageNames()...)
	c.awaitNotice(wire.CodeDiskFull)
	for i := range 20 {
		c.acknowledged(o, fmt.Sprintf("while the disks are full %d", i))
	}
	c.readBack(o, sample)
	if err := c.StopRole("storage-1"); err != nil {
		t.Fatal(err)
	}
	c.launch("storage-1")
	leader := c.leader("")
	c.kill(leader)
	c.launch(leader)
	c.await("the storage nodes to answer a new leader", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		for _, n := range s.Storages {
			if !n.Live || n.Disk.State != wire.DiskFull {
				return fmt.Sprintf("%+v", n)
			}
		}
		if !s.Authoritative {
			return "no majority confirms the leader"
		}
		return ""
	})
	c.readBack(o, sample)
	c.acknowledged(o, "under another leader")
	c.allAlive()
	undo()
	c.appendStored(o, "with room again")
	c.allAlive()
	c.verify(o)
}

// storagesOf returns the names of the storage nodes of a topology that does not run yet.
func (c *cluster) storagesOf(topology devcluster.Topology) (names []string) {
	for _, r := range topology.Roles() {
		if r.Kind == devcluster.KindStorage {
			names = append(names, r.Name)
		}
	}
	return names
}

// TestFullMasterDisks fills the disks of the masters. Appends are refused before they are full, reads go on, and
// appends go on without a restart when there is room. One full follower stops nothing.
func TestFullMasterDisks(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) {
		topology.MasterOptions.MinFree, topology.MasterOptions.WarnFree = minFree, 2*minFree
	})
	var names []string
	for _, r := range topology.Roles() {
		if r.Kind == devcluster.KindMaster {
			names = append(names, r.Name)
		}
	}
	if mountSmall(t, topology, smallDisk, names...) == nil {
		return // it was logged
	}
	c.begin(topology)
	o := newOracle()
	c.fill(o, "bulk", 2, 3)

	undo := c.ballast(minFree/2, names...)
	c.awaitNotice(wire.CodeMastersFull)
	for _, url := range c.File().Masters {
		_, err := c.clientOnce(url).Append(t.Context(), client.Entry{Payload: []byte("refused")})
		if !errors.Is(err, wire.ErrNoSpace) {
			t.Errorf("append through %s: %v", url, err)
		}
	}
	c.readBack(o, sample)
	c.allAlive()
	undo()
	c.appendStored(o, "with room again")

	full := c.followers(c.leader(""))[0]
	undo = c.ballast(minFree/8, full) // less than a quarter of the minimum
	c.awaitNotice(wire.CodeDiskFull)
	for i := range 20 {
		c.acknowledged(o, fmt.Sprintf("without a follower %d", i))
	}
	c.allAlive()
	undo()
	c.awaitComplete(3)
	c.compareStates(o)
	c.await("no notice of a full disk", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		return strings.Join(s.Notices, "; ")
	})
	c.allAlive()
	c.verify(o)
}

// TestMasterWithoutDescriptors takes all file descriptors from a follower. Appends go on, and nothing ends.
func TestMasterWithoutDescriptors(t *testing.T) {
	c, o := start(t), newOracle()
	c.fill(o, "before", 1, 3)
	undo := c.withoutFiles(c.followers(c.leader(""))[0])
	c.fill(o, "meanwhile", 1, 3)
	c.allAlive()
	undo()
	c.fill(o, "after", 1, 3)
	c.allAlive()
	c.verify(o)
}
