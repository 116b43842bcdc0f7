package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// some is the number of acknowledged records that shows that the cluster makes progress.
const some = 150 / slower

// TestLeaderKilledUnderLoad checks that another master takes over, and that the killed one follows after its restart.
func TestLeaderKilledUnderLoad(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	first := c.leader("")
	c.kill(first)
	second := c.leader(first)
	l.more(some)
	c.launch(first)
	c.awaitComplete(3)
	// The new leader serves earlier records, and so do the masters that received them from the old leader.
	c.readBack(o, sample)
	c.kill(second)
	l.more(some)
	c.launch(second)
	c.awaitComplete(3)
	l.more(some)
	l.end()
	c.verify(o)
}

// TestLeaderHalted stops the leader with SIGSTOP. It checks that the leader is replaced, and that requests that were
// forwarded to it go to the next leader. The old leader must follow after it continues.
func TestLeaderHalted(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	first := c.leader("")
	c.halt(first)
	for _, name := range c.followers(first) {
		began := time.Now()
		entry := client.Entry{Payload: []byte("through " + name + " while the leader hangs"), Key: name}
		at, err := c.client(roleOf(c.Topology(), name).URL()).Append(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		o.ack([]client.Entry{entry}, []wire.Position{at})
		// A master waits up to 5 s for the reply of a hung leader. The next leader is elected much sooner.
		if took := time.Since(began); took > 4*time.Second && !underRace {
			t.Errorf("an append through %s took %v while the leader hung", name, took)
		}
	}
	l.more(some / 3) // by the writers that do not wait for a reply of the stopped master
	c.resume(first)
	l.more(some)
	c.awaitComplete(3)
	l.end()
	c.verify(o)
}

// TestStorageNodeKilledUnderLoad checks that two nodes are enough, and that the third catches up after its restart.
func TestStorageNodeKilledUnderLoad(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	for _, name := range c.names(devcluster.KindStorage) {
		l.more(some / 2)
		c.kill(name)
		l.more(some)
		c.launch(name)
		c.awaitComplete(3)
	}
	// With two of three nodes down, the masters keep the records and report this.
	c.kill("storage-1", "storage-3")
	before := c.awaitStatus()
	c.awaitNotice(wire.CodeTooFewStorages)
	l.more(some)
	after := c.awaitStatus()
	if after.Stored > before.Head.Height+1 { // one block may have been under way
		t.Errorf("%d blocks count as stored, %d were mined when two of three storage nodes were killed", after.Stored,
			before.Head.Height)
	}
	c.launch("storage-1", "storage-3")
	l.more(some)
	l.end()
	c.verify(o)
}

// TestStorageFolderMends checks that a storage node truncates a write that a kill cut short, and recomputes damaged
// derived files. No acknowledged record is lost, and the node catches up under load.
func TestStorageFolderMends(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	for name, harm := range map[string]func(folder string) error{
		"storage-1": tearTail,
		"storage-2": func(folder string) error { return os.Remove(filepath.Join(folder, "index")) },
		"storage-3": func(folder string) error { return os.RemoveAll(filepath.Join(folder, "tiles")) },
	} {
		l.more(some / 2)
		c.kill(name)
		if err := harm(roleOf(c.Topology(), name).Data); err != nil {
			t.Fatal(err)
		}
		l.more(some / 2)
		c.launch(name)
		c.awaitStorage(name)
	}
	l.end()
	c.verify(o)
}

// tearTail appends the beginning of a frame to the last segment of a storage node, like a write that was cut short.
func tearTail(folder string) error {
	firsts, err := segment.List(filepath.Join(folder, "segments"))
	if err != nil {
		return err
	}
	path := filepath.Join(folder, "segments", segment.Name(firsts[len(firsts)-1]))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	frame := []byte{0, 1, 0, 0} // the length of a block, with most of its bytes missing
	_, err = f.Write(append(frame, bytes.Repeat([]byte{2}, 777)...))
	return errors.Join(err, f.Close())
}

// TestMinerKilled checks that appends continue without the miner, that the status reports that there is no miner, and
// that everything is mined and stored after its restart.
func TestMinerKilled(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	c.kill("miner-1")
	c.awaitNotice(wire.CodeNoMiner)
	stuck := c.awaitStatus()
	l.more(2 * some)
	c.readBack(o, sample) // including records of blocks that are not mined
	s := c.awaitStatus()
	if s.Head != stuck.Head || s.Pending.Blocks == 0 {
		t.Errorf("without a miner the head went from %+v to %+v; %d blocks wait", stuck.Head, s.Head, s.Pending.Blocks)
	}
	// The waiting blocks are in the log, so a new leader has them too.
	leader := c.leader("")
	c.kill(leader)
	c.leader(leader)
	l.more(some / 2)
	c.launch("miner-1", leader)
	l.more(some / 2)
	l.end()
	c.verify(o)
}

// awaitNotice waits until the status has a notice with a code, and returns it.
func (c *cluster) awaitNotice(code string) (notice wire.Message) {
	c.t.Helper()
	c.await("the notice "+code, func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		at := slices.IndexFunc(s.NoticesCoded, func(m wire.Message) bool { return m.Code == code })
		if at < 0 {
			return fmt.Sprintf("the notices are %q", s.Notices)
		}
		notice = s.NoticesCoded[at]
		return ""
	})
	return notice
}

// awaitNoNotice waits until the masters no longer have a notice with a code.
func (c *cluster) awaitNoNotice(code string) {
	c.t.Helper()
	c.await("no notice "+code, func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		if slices.ContainsFunc(s.NoticesCoded, func(m wire.Message) bool { return m.Code == code }) {
			return fmt.Sprintf("the notices are %q", s.Notices)
		}
		return ""
	})
}

// TestAllMastersKilledAtOnce checks that no acknowledged record is lost, and that the writers continue.
func TestAllMastersKilledAtOnce(t *testing.T) {
	c, o := start(t), newOracle()
	masters := c.names(devcluster.KindMaster)
	l := c.startLoad(o)
	l.more(some)
	c.kill(masters...)
	c.launch(masters...)
	l.more(some)
	// Again without writers, and with all other processes killed too.
	l.end()
	masters = append(masters, "miner-1", "storage-2")
	c.kill(masters...)
	c.launch(masters...)
	c.awaitComplete(3)
	c.readBack(o, sample)
	l = c.startLoad(o)
	l.more(some)
	l.end()
	c.verify(o)
}

// TestClusterStartedAgain checks that the chain continues after a clean stop and a start on the same folder.
func TestClusterStartedAgain(t *testing.T) {
	c, o := start(t), newOracle()
	l := c.startLoad(o)
	l.more(some)
	l.end()
	before := c.awaitSettled(3)
	c.restart()
	if after := c.awaitSettled(3); after.Head != before.Head || after.Group != before.Group {
		t.Errorf("the cluster went on as %s from %+v; it was %s at %+v", after.Group, after.Head, before.Group,
			before.Head)
	}
	l = c.startLoad(o)
	l.more(some)
	l.end()
	c.verify(o)
}

// TestWorkerRegistersWhileLeaderIsDown checks that workers that start while there is no leader register with the next
// one, also through a follower.
func TestWorkerRegistersWhileLeaderIsDown(t *testing.T) {
	c, o := start(t), newOracle()
	// While the chain is empty, a new node lacks nothing. With two masters down there can be no leader. The new node
	// knows only the third master. It must wait for a leader, which is most likely another master.
	leader := c.leader("")
	followers := c.followers(leader)
	c.kill(leader, followers[0])
	fourth := c.startFourthStorage(followers[1])
	c.launch(leader, followers[0])
	c.awaitComplete(4)
	l := c.startLoad(o)
	l.more(some)

	// A node that returns while the leader is down, and lacks blocks.
	c.kill("storage-2")
	l.more(some)
	leader = c.leader("")
	c.kill(leader)
	c.launch("storage-2")
	l.more(some)
	c.awaitStorage("storage-2")
	c.launch(leader)
	c.awaitComplete(4)
	l.end()
	c.verify(o, fourth)
}
