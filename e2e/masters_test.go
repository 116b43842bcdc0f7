package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/internal/noderpc"
	"github.com/chainstore/chainstore/wire"
)

// startMaster starts a role with changes to its description in the topology.
func (c *cluster) startMaster(name string, change func(*devcluster.Role)) {
	c.t.Helper()
	role := roleOf(c.Topology(), name)
	change(&role)
	if err := c.StartAs(role); err != nil {
		c.t.Fatal(err)
	}
}

// ticketFile makes a join ticket and returns the file that has it. It waits until the group is at the level of tickets.
func (c *cluster) ticketFile() string {
	c.t.Helper()
	var created wire.CreatedJoinTicket
	admin := c.admin()
	c.await("a join ticket", func() string {
		var err error
		if created, err = admin.CreateJoinTicket(c.t.Context(), wire.NewJoinTicket{}); err != nil {
			return err.Error()
		}
		return ""
	})
	path := filepath.Join(c.t.TempDir(), "join.ticket")
	if err := os.WriteFile(path, []byte(created.Ticket+"\n"), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// awaitVoters waits until exactly the masters at these URLs are in the group, all voting and live.
func (c *cluster) awaitVoters(urls ...string) {
	c.t.Helper()
	slices.Sort(urls)
	c.await(fmt.Sprintf("%d voters", len(urls)), func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		var got []string
		for _, m := range s.Masters {
			if m.Voter && (m.State == "leader" || m.State == "follower") {
				got = append(got, m.URL)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, urls) || len(s.Masters) != len(urls) {
			return fmt.Sprintf("%+v", s.Masters)
		}
		return ""
	})
}

// awaitEnded waits until a role has exited by itself, and returns its last output.
func (c *cluster) awaitEnded(name string) string {
	c.t.Helper()
	c.await(name+" to end", func() string {
		if c.Alive(name) {
			return "it runs"
		}
		return ""
	})
	err := c.Forget(name)
	if err == nil {
		c.t.Fatalf("%s ended without an error", name)
	}
	return err.Error()
}

// TestMembers adds a fourth and a fifth master under load, transfers the leadership, removes masters, which must stay
// out, lets a wiped master rejoin at its old address, and moves a master to other addresses.
func TestMembers(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.begin(topology)
	three := slices.Clone(c.File().Masters)
	admin, o := c.admin(), newOracle()
	a := c.appendAlways(o)
	c.awaitMore(a, some)

	more := topology
	more.Masters = 5
	var five []string
	for _, name := range []string{"master-4", "master-5"} {
		role := roleOf(more, name)
		role.Join, role.JoinTicketFile = three[:2], c.ticketFile()
		if err := c.StartAs(role); err != nil {
			t.Fatal(err)
		}
		five = append(five, role.URL())
		c.awaitVoters(slices.Concat(three, five)...)
	}
	c.awaitMore(a, some)
	if id, err := admin.TransferLeadership(t.Context(), five[1]); err != nil || c.urlOf(id) != five[1] {
		t.Errorf("handed to %s at %s: %v", id, c.urlOf(id), err)
	}
	if _, err := admin.TransferLeadership(t.Context(), "http://127.0.0.1:1"); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("the transfer of leadership to an unknown member: %v", err)
	}
	c.awaitMore(a, some)

	// The leader is removed: it transfers the leadership first. It reports its removal, and stays out.
	if err := admin.RemoveMaster(t.Context(), five[1], false); err != nil {
		t.Fatal(err)
	}
	if said := c.awaitEnded("master-5"); !strings.Contains(said, "taken out of its group for good") {
		t.Errorf("master-5 said %q", said)
	}
	again := roleOf(more, "master-5")
	again.Join = three
	if err := c.StartAs(again); err != nil {
		t.Fatal(err)
	}
	if said := c.awaitEnded("master-5"); !strings.Contains(said, "move") || !strings.Contains(said, "--join") {
		t.Errorf("started again master-5 said %q", said)
	}
	c.awaitMore(a, some)

	// A master that is down when it is removed learns of it at its start.
	c.kill("master-4")
	if err := admin.RemoveMaster(t.Context(), five[0], false); err != nil {
		t.Fatal(err)
	}
	c.awaitVoters(three...)
	down := roleOf(more, "master-4")
	down.Join = three
	if err := c.StartAs(down); err != nil {
		t.Fatal(err)
	}
	if said := c.awaitEnded("master-4"); !strings.Contains(said, "taken out of its group for good") {
		t.Errorf("master-4 said %q", said)
	}

	// With one of three masters down, the quorum needs both others.
	followers := c.followers(c.leader(""))
	c.kill(followers[0])
	if err := admin.RemoveMaster(t.Context(), roleOf(topology, followers[1]).URL(), false); !errors.Is(err,
		wire.ErrTooFewMasters) {
		t.Errorf("removed although too few would remain: %v", err)
	}
	c.awaitMore(a, some)

	// Wiped, it rejoins in its own place.
	c.rejoin(followers[0])
	c.awaitVoters(three...)
	c.awaitMore(a, some)

	// Another one moves to other addresses.
	moved := followers[1]
	if err := c.StopRole(moved); err != nil {
		t.Fatal(err)
	}
	there := roleOf(more, "master-5") // its ports are free
	c.startMaster(moved, func(r *devcluster.Role) {
		r.HTTP, r.Raft = there.HTTP, there.Raft
		r.Join = three
	})
	c.awaitVoters(
		append(slices.DeleteFunc(slices.Clone(three),
			func(url string) bool { return url == roleOf(topology, moved).URL() }), there.URL())...)
	c.awaitMore(a, some)
	if err := c.StopRole(moved); err != nil {
		t.Fatal(err)
	}
	c.startMaster(moved, func(*devcluster.Role) {})
	c.awaitVoters(three...)
	a.end()
	c.verify(o)
}

// TestAllMastersMove changes the addresses of all masters at once: to those of each other, to new ones, and back. It
// checks that no master is removed and no record is lost.
func TestAllMastersMove(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.begin(topology)
	o := newOracle()
	a := c.appendAlways(o)
	c.awaitMore(a, some)
	a.end()
	names, ids := c.names(devcluster.KindMaster), c.masterIDs()
	more := topology
	more.Masters = 6
	for move, seats := range [][]string{{"master-2", "master-3", "master-1"}, {"master-4", "master-5", "master-6"},
		names} {
		for _, name := range names {
			if err := c.StopRole(name); err != nil && !terminated(err) {
				t.Fatal(err)
			}
		}
		var urls []string
		for _, seat := range seats {
			urls = append(urls, roleOf(more, seat).URL())
		}
		c.masters = nil
		for i, name := range names {
			there := roleOf(more, seats[i])
			c.startMaster(name, func(r *devcluster.Role) { r.HTTP, r.Raft, r.Join = there.HTTP, there.Raft, urls })
			c.masters = append(c.masters, c.client(there.URL()))
		}
		c.awaitVoters(slices.Clone(urls)...)
		if now := c.masterIDs(); !slices.Equal(now, ids) {
			t.Fatalf("move %d: the masters are %v, they were %v", move, now, ids)
		}
		for i, m := range c.masters {
			e := client.Entry{Payload: fmt.Appendf(nil, "move %d, through master %d", move, i)}
			at, err := m.Append(t.Context(), e)
			if err != nil {
				t.Fatalf("move %d: %v", move, err)
			}
			o.ack([]client.Entry{e}, []wire.Position{at})
		}
	}
	c.verify(o)
}

// masterIDs returns the ids of the masters in the status.
func (c *cluster) masterIDs() (ids []string) {
	c.t.Helper()
	s := c.awaitStatus()
	for _, m := range s.Masters {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

// urlOf returns the URL of a master in the status.
func (c *cluster) urlOf(id string) string {
	c.t.Helper()
	for _, m := range c.awaitStatus().Masters {
		if m.ID == id {
			return m.URL
		}
	}
	return ""
}

// flipInEntry flips a bit in the newest large entry of a log, in the payload of a record.
func flipInEntry(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	text := []byte("writer ")
	for _, path := range segments {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := bytes.LastIndex(data, text); at >= 0; at = bytes.LastIndex(data[:at], text) {
			data[at] ^= 1
			flipped++
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if flipped == 0 {
		t.Fatalf("no entry in %s has a record of a writer", dir)
	}
}

// founding is a group during its bootstrap: masters only, of which some run.
type founding struct {
	*cluster
	topology devcluster.Topology
	calls    *noderpc.Masters
}

func newFounding(t *testing.T) *founding {
	t.Helper()
	c, topology := prepared(t, func(topology *devcluster.Topology) { topology.Storages, topology.Miners = 0, 0 })
	var err error
	if c.Cluster, err = devcluster.Prepare(topology, binary); err != nil {
		t.Fatal(err)
	}
	f := &founding{cluster: c, topology: topology,
		calls: noderpc.NewMasters(noderpc.NewTransport(), c.secrets().For(nodeauth.Masters))}
	c.running = true
	t.Cleanup(f.calls.CloseIdle)
	return f
}

// member requests a master's description of itself.
func (f *founding) member(name string) (wire.Member, error) {
	ctx, cancel := context.WithTimeout(f.t.Context(), statusTimeout)
	defer cancel()
	return f.calls.Member(ctx, roleOf(f.topology, name).URL())
}

// answer is like member, but retries until the master replies: a busy machine may need more than one call.
func (f *founding) answer(name string) (m wire.Member) {
	f.t.Helper()
	f.await(name+" to answer", func() string {
		var err error
		if m, err = f.member(name); err != nil {
			return err.Error()
		}
		return ""
	})
	return m
}

// awaitGroup waits until the masters are members of one group, and returns the id of the group.
func (f *founding) awaitGroup(names ...string) (group string) {
	f.t.Helper()
	f.await("one group of "+strings.Join(names, ", "), func() string {
		group = ""
		for _, name := range names {
			m, err := f.member(name)
			switch {
			case err != nil:
				return err.Error()
			case m.Group == "":
				return name + " is new"
			case group != "" && m.Group != group:
				f.t.Fatalf("%s is of group %s, another is of %s", name, m.Group, group)
			}
			group = m.Group
		}
		return ""
	})
	return group
}

// TestBootstrap starts the masters in random order with random delays, and kills some while the group is founded. It
// checks that exactly one group is founded.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{
		{"master-1", "master-2", "master-3"}, {"master-3", "master-2", "master-1"},
		{"master-2", "master-1", "master-3"},
	} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			f := newFounding(t)
			for i, name := range order {
				f.launch(name)
				f.await(name+" to answer", func() string {
					if m, err := f.member(name); err != nil || i < 2 && m.Group != "" {
						return fmt.Sprintf("%+v, %v", m, err)
					}
					return ""
				})
				if i == 1 { // a kill before all have started must not matter
					f.kill(name)
					f.launch(name)
				}
			}
			f.kill(order[2]) // at a random moment of the bootstrap
			f.launch(order[2])
			group := f.awaitGroup(order...)
			f.kill(order...)
			f.launch(order...)
			if again := f.awaitGroup(order...); again != group {
				t.Errorf("started again the group is %s, it was %s", again, group)
			}
		})
	}
}

// TestWipedMasters checks that a wiped master, including the founder, neither founds a second group nor votes in the
// first. It must join.
func TestWipedMasters(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"master-1", "master-2"} {
		t.Run(name, func(t *testing.T) {
			f := newFounding(t)
			all := f.names(devcluster.KindMaster)
			f.launch(all...)
			group := f.awaitGroup(all...)
			f.kill(all...)
			f.wipe(roleOf(f.topology, name).Data)
			// Run it with one other master. If the wiped one voted or founded a group, there would be a leader.
			other := all[2]
			f.launch(name, other)
			f.await(name+" to say why it waits", func() string {
				for _, asked := range []string{name, other} {
					if _, err := f.member(asked); err != nil {
						return err.Error()
					}
				}
				if said := tail(roleOf(f.topology, name).Log, 30); !strings.Contains(said, "belongs to group "+group) {
					return said
				}
				return ""
			})
			f.stays(2*time.Second, func() string {
				if m := f.answer(name); m.Group != "" {
					return fmt.Sprintf("the wiped master: %+v", m)
				}
				if m := f.answer(other); m.Group != group {
					return fmt.Sprintf("the other: %+v", m)
				}
				if text := tail(roleOf(f.topology, other).Log, 1000); strings.Count(text, "leading: ") > 1 {
					return "it leads: " + text
				}
				return ""
			})
			for _, rest := range all {
				if rest != name && rest != other {
					f.launch(rest)
				}
			}
			f.kill(name)
			f.rejoin(name)
			f.awaitGroup(all...)
		})
	}
}

// stays fails the test if wrong returns a text within a period.
func (c *cluster) stays(long time.Duration, wrong func() string) {
	c.t.Helper()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for end := time.Now().Add(long); time.Now().Before(end); <-tick.C {
		if text := wrong(); text != "" {
			c.t.Fatal(text)
		}
	}
}

// TestMasterOfAnotherCluster checks that a master of another cluster is refused by name.
func TestMasterOfAnotherCluster(t *testing.T) {
	f, g := newFounding(t), newFounding(t)
	all := f.names(devcluster.KindMaster)
	f.launch(all...)
	g.launch(all...)
	ours, theirs := f.awaitGroup(all...), g.awaitGroup(all...)
	f.kill("master-3")
	if err := g.StopRole("master-3"); err != nil && !terminated(err) {
		t.Fatal(err)
	}
	// A master with the folder of the other cluster, and with the peers and tokens of this one.
	f.wipe(roleOf(f.topology, "master-3").Data)
	if err := os.Remove(roleOf(f.topology, "master-3").Data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(roleOf(g.topology, "master-3").Data, roleOf(f.topology, "master-3").Data); err != nil {
		t.Fatal(err)
	}
	f.launch("master-3")
	if said := f.awaitEnded("master-3"); !strings.Contains(said, ours) || !strings.Contains(said, theirs) {
		t.Errorf("it said %q; the groups are %s and %s", said, ours, theirs)
	}
}
