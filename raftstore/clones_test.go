package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/masterfsm"
)

// openCopy opens a copy of a member's folder beside the original, on another port.
func openCopy(t testing.TB, original *node, saved string) *node {
	t.Helper()
	cfg := original.cfg
	cfg.Dir, cfg.Bind = filepath.Join(t.TempDir(), "copy"), "127.0.0.1:0"
	copyFolder(t, saved, cfg.Dir)
	return openNode(t, cfg)
}

// awaitAny waits until one of the nodes is refused, and returns it and the others.
func awaitAny(t testing.TB, nodes ...*node) (refused *node, others []*node) {
	t.Helper()
	ctx := patience(t)
	for {
		for i, n := range nodes {
			if n.Refused() != nil {
				return n, append(append([]*node{}, nodes[:i]...), nodes[i+1:]...)
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("several processes run as one member, and none is refused")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// A copy of the folder of a running follower is started beside it. One of the two is refused, and nothing that was
// acknowledged is lost.
func TestTwoProcessesWithOneFolder(t *testing.T) {
	for _, c := range []struct {
		name    string
		renewed bool // the follower's start was renewed after the copy was made
	}{{"at once", false}, {"later", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := testGroup(t, 3, func(cfg *Config) { cfg.RenewEvery = 10 * time.Millisecond })
			raised(t, nodes...)
			create(t, "before", nodes...)
			agree(t, nodes...)
			awaitStarts(t, nodes...)
			leader, victim, third := roles(t, nodes)
			saved := filepath.Join(t.TempDir(), "saved")
			copyFolder(t, victim.cfg.Dir, saved)
			if c.renewed {
				had := present(t, victim)
				create(t, "acknowledged", nodes...)
				for ctx := patience(t); present(t, victim) == had; {
					create(t, "on and on", nodes...)
					if ctx.Err() != nil {
						t.Fatal("the start is not renewed while the state changes")
					}
				}
				awaitStarts(t, nodes...)
			}
			other := openCopy(t, victim, saved)
			refused, _ := awaitAny(t, victim, other)
			if c.renewed && refused != other {
				t.Error("the copy stays, which lacks what was acknowledged after it was made")
			}
			create(t, "after", leader, third)
			agree(t, leader, third)
			for _, name := range []string{"before", "after"} {
				if !leader.has(name) || !third.has(name) {
					t.Errorf("%q is lost", name)
				}
			}
		})
	}
}

// Two copies of one stopped folder are started at the same time. At most one of them takes part.
func TestTwoCopiesOfOneFolder(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	leader, victim, third := roles(t, nodes)
	victim.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, victim.cfg.Dir, saved)
	first, second := openCopy(t, victim, saved), openCopy(t, victim, saved)
	awaitAny(t, first, second)
	create(t, "after", leader, third)
	agree(t, leader, third)
}

// A group that was stopped as a whole starts again, also without one of its members.
func TestRaisedGroupRestarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "one", nodes...)
	for range 2 {
		for _, n := range nodes {
			n.stop()
		}
		for i := range nodes {
			nodes[i] = openNode(t, nodes[i].cfg)
		}
		create(t, "two", nodes...)
		agree(t, nodes...)
	}
	for _, n := range nodes {
		n.stop()
	}
	for i := range nodes[:2] {
		nodes[i] = openNode(t, nodes[i].cfg)
	}
	create(t, "three", nodes[:2]...)
	nodes[2] = openNode(t, nodes[2].cfg)
	agree(t, nodes...)
	for _, n := range nodes {
		if n.Refused() != nil || !n.has("three") {
			t.Errorf("member %s: %v", n.Member().ID, n.Refused())
		}
	}
}

// A group of one has no peer that could notice an older copy of its folder, as docs/masters.md says.
func TestGroupOfOneAcceptsAnOlderCopy(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, nil)
	if _, err := leaderOf(t, nodes...).Propose(t.Context(),
		masterfsm.Encode(&masterfsm.RaiseLevel{Level: testLevel, Time: 1})); err != nil {
		t.Fatal(err)
	}
	create(t, "before", nodes...)
	awaitStarts(t, nodes...)
	nodes[0].stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, nodes[0].cfg.Dir, saved)
	one := openNode(t, nodes[0].cfg)
	create(t, "after", one)
	one.stop()
	copyFolder(t, saved, one.cfg.Dir)
	one = openNode(t, one.cfg)
	create(t, "again", one)
	if one.Refused() != nil || one.has("after") {
		t.Errorf("refused: %v", one.Refused())
	}
}

// A refused folder can be recovered, since it may be the only one left, and the master of the new epoch takes part.
func TestRefusedFolderIsRecovered(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	_, victim, _ := roles(t, nodes)
	victim.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, victim.cfg.Dir, saved)
	victim = openNode(t, victim.cfg)
	awaitStarts(t, victim)
	victim.stop()
	copyFolder(t, saved, victim.cfg.Dir)
	victim = openNode(t, victim.cfg)
	victim.refused(t)
	victim.stop()
	for _, n := range nodes {
		n.stop()
	}
	recovery := openRecovery(t, victim.cfg.Dir)
	member := recovery.Member()
	if !recovery.Stale() {
		t.Error("the recovery does not know that the folder was refused")
	}
	if err := recovery.Commit(member.Group, member.Epoch+1, victim.cfg.Bind); err != nil {
		t.Fatal(err)
	}
	closeRecovery(t, recovery)
	victim = openNode(t, victim.cfg)
	create(t, "after", victim)
	if victim.Refused() != nil || !victim.has("before") {
		t.Errorf("refused: %v", victim.Refused())
	}
}

// A folder without its file of starts does not open, once the group is at the level that needs it.
func TestFolderWithoutStarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	victim.stop()
	if err := os.Remove(filepath.Join(victim.cfg.Dir, "starts")); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(victim.cfg); !errors.Is(err, ErrDisk) || !strings.Contains(err.Error(), "starts") {
		t.Errorf("%v, %v", s, err)
	}
}

// Copies of all folders of a group are started beside it, on other ports, before anything changes. The originals
// continue, and the copies are refused.
func TestCopiesOfAWholeGroupBeside(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	var copies []*node
	for _, n := range nodes {
		saved := filepath.Join(t.TempDir(), "saved")
		copyFolder(t, n.cfg.Dir, saved)
		copies = append(copies, openCopy(t, n, saved))
	}
	for _, n := range copies {
		n.refused(t)
	}
	create(t, "after", nodes...)
	agree(t, nodes...)
	for _, n := range nodes {
		if n.Refused() != nil {
			t.Errorf("member %s is refused although it was there first: %v", n.Member().ID, n.Refused())
		}
	}
}

// A copy of the running leader's folder is started beside it before the leader's start was renewed. What the leader
// has acknowledged with one follower is not lost when that follower stops and the other returns.
func TestCopyOfTheLeaderBeside(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	create(t, "before", nodes...)
	agree(t, nodes...)
	leader, first, second := roles(t, nodes)
	second.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyFolder(t, leader.cfg.Dir, saved)
	create(t, "acknowledged", leader, first)
	other := openCopy(t, leader, saved)
	other.refused(t)
	first.stop()
	second = openNode(t, second.cfg)
	create(t, "after", leader, second)
	if !leader.has("acknowledged") || leader.Refused() != nil {
		t.Errorf("the leader is refused: %v", leader.Refused())
	}
}

// A folder of a group at a protocol level that this program does not know is not opened.
func TestFolderOfAHigherLevel(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 1, nil)
	leaderOf(t, nodes...)
	nodes[0].stop()
	id, err := loadIdentity(nodes[0].cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	id.Level = masterfsm.ProtocolLevel + 1
	if err := id.save(nodes[0].cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(nodes[0].cfg); !errors.Is(err, durable.ErrNewerFormat) {
		t.Errorf("%v, %v", s, err)
	}
}

// sizeOfStarts returns the size of a node's file of starts.
func sizeOfStarts(t testing.TB, n *node) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(n.cfg.Dir, "starts"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A process that ends before a peer has seen its start leaves no start behind: the list does not grow in a loop of
// crashes.
func TestStartThatNoPeerHasSeen(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, nil)
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	for _, n := range nodes {
		n.stop()
	}
	had := sizeOfStarts(t, victim)
	for range 3 {
		s := openStore(t, victim.cfg)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if now := sizeOfStarts(t, victim); now != had {
		t.Errorf("the file of starts has %d bytes after %d", now, had)
	}
}

// A write of the file of starts that hangs makes the store fail, like any other write.
func TestHungStarts(t *testing.T) {
	t.Parallel()
	nodes := testGroup(t, 3, func(cfg *Config) { cfg.WriteTimeout = 2 * time.Second })
	raised(t, nodes...)
	_, victim, _ := roles(t, nodes)
	watched := make(chan func())
	go func() { watched <- victim.starts.Watch("write of a disk that hangs") }()
	done := <-watched
	defer done()
	select {
	case err := <-victim.Failed():
		if !errors.Is(err, ErrDisk) {
			t.Error(err)
		}
	case <-patience(t).Done():
		t.Error("a write that hangs is not noticed")
	}
}
