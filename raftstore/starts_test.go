package raftstore

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/raftstore/transport"
)

// present returns the present start of a node.
func present(t testing.TB, n *node) transport.Start {
	t.Helper()
	now, err := n.starts.Current()
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// copyFolder copies a data folder.
func copyFolder(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
}

// testLevel is the protocol level of groups in tests: the highest one at which their commands need no origin.
const testLevel = masterfsm.LevelAudit - 1

// raised raises the group's protocol level, and waits until every member has recorded it and the starts of all others.
func raised(t testing.TB, nodes ...*node) {
	t.Helper()
	raiseLevel(t, testLevel, nodes...)
	awaitStarts(t, nodes...)
}

// raiseLevel raises the group's protocol level.
func raiseLevel(t testing.TB, level uint64, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	for {
		_, err := leaderOf(t, nodes...).Propose(ctx,
			masterfsm.Encode(&masterfsm.RaiseLevel{Level: level, Time: 1}))
		if err == nil || errors.Is(err, masterfsm.ErrStale) {
			return
		}
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
	}
}

// awaitStarts waits until every node has announced its start to the others and has recorded the level.
func awaitStarts(t testing.TB, nodes ...*node) {
	t.Helper()
	ctx := patience(t)
	ready := func() bool {
		for _, n := range nodes {
			n.mu.Lock()
			level := n.identity.Level
			n.mu.Unlock()
			if level != testLevel {
				return false
			}
			for _, other := range nodes {
				if other != n && !n.starts.AcceptedBy(other.Member().ID) {
					return false
				}
			}
		}
		return true
	}
	for !ready() {
		select {
		case <-ctx.Done():
			t.Fatal("the masters do not know each other's starts")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// refused waits until a node is refused.
func (n *node) refused(t testing.TB) {
	t.Helper()
	ctx := patience(t)
	for n.Refused() == nil {
		select {
		case <-ctx.Done():
			t.Fatalf("member %s takes part although its folder is an older copy", n.Member().ID)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// roles returns the leader, a follower to be restored, and the other one.
func roles(t testing.TB, nodes []*node) (leader, victim, third *node) {
	t.Helper()
	leader = leaderOf(t, nodes...)
	for _, n := range nodes {
		switch {
		case n == leader:
		case victim == nil:
			victim = n
		default:
			third = n
		}
	}
	return leader, victim, third
}

// An older copy of a follower's folder is put back. What the follower acknowledged since is on only one other master,
// which is then lost. The two that remain must not continue without it.
func TestRestoredFolderNeitherVotesNorAcknowledges(t *testing.T) {
	for _, c := range []struct {
		name     string
		restarts int  // after the copy was made
		running  bool // the copy is made while the master runs
	}{
		{"stopped copy", 0, false},
		{"stopped copy, ten restarts", 10, false},
		{"running copy", 0, true},
		{"running copy, ten restarts", 10, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			nodes := testGroup(t, 3, nil)
			create(t, "before", nodes...)
			raised(t, nodes...)
			leader, victim, third := roles(t, nodes)
			saved := filepath.Join(t.TempDir(), "saved")
			if c.running {
				create(t, "more", nodes...)
				agree(t, nodes...)
				copyFolder(t, victim.cfg.Dir, saved)
			} else {
				victim.stop()
				copyFolder(t, victim.cfg.Dir, saved)
				victim = openNode(t, victim.cfg)
			}
			for range c.restarts {
				victim.stop()
				victim = openNode(t, victim.cfg)
			}
			awaitStarts(t, leader, victim, third)
			if !c.running {
				third.stop() // it lacks what comes now
			}
			create(t, "acknowledged", leader, victim)
			if c.running {
				create(t, "and more", leader, victim, third)
			}
			victim.stop()
			copyFolder(t, saved, victim.cfg.Dir)
			leader.stop()
			victim = openNode(t, victim.cfg)
			if !c.running {
				third = openNode(t, third.cfg)
			}
			victim.refused(t)
			if victim.Leader() != "" || victim.LastContact() < time.Hour {
				t.Errorf("a refused master follows %q, with a last contact %v ago", victim.Leader(),
					victim.LastContact())
			}
			if _, err := victim.Propose(t.Context(), project("no")); !errors.Is(err, ErrStaleFolder) ||
				!errors.Is(err, ErrNotLeader) {
				t.Errorf("a refused master answers %v", err)
			}
			if third.Leader() != "" {
				if _, err := third.ReadIndex(t.Context()); err == nil {
					t.Error("one of three masters leads")
				}
			}
			leader = openNode(t, leader.cfg)
			create(t, "after", leader, third)
			agree(t, leader, third)
			for _, name := range []string{"before", "acknowledged", "after"} {
				if !leader.has(name) || !third.has(name) {
					t.Errorf("%q was acknowledged and is lost", name)
				}
			}
			// It stays refused.
			victim.stop()
			victim = openNode(t, victim.cfg)
			if victim.Refused() == nil {
				t.Error("after a restart it takes part again")
			}
		})
	}
}
