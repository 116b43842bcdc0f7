package e2e

import (
	"fmt"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// TestLeaderCutOff cuts off a leader from the other masters, in one direction or in both. It checks that another master
// takes over, and that the old leader follows it once the way is open again. The clients reach all masters meanwhile,
// including the one that is cut off.
func TestLeaderCutOff(t *testing.T) {
	c, topology := prepared(t, func(*devcluster.Topology) {})
	c.expectDamage = true // a node that lags is invalid for a while
	c.net = newNetwork(t, &topology)
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	for _, row := range []struct {
		name string
		ways func(leader string, others []string) []way
	}{
		{"both ways", func(leader string, others []string) []way {
			return slices.Concat(waysFrom(leader, others), waysTo(leader, others))
		}},
		{"what it says", waysFrom},
		{"what it hears", waysTo},
	} {
		l.more(some)
		first := c.leader("")
		heal := c.net.inject(row.ways(first, c.followers(first)), condition{cut: true})
		second := c.leader(first)
		l.more(some)
		t.Logf("%s was cut off, %s: %s leads", first, row.name, second)
		heal()
		c.awaitComplete(3)
	}
	l.end()
	c.verify(o)
}

// TestNonVoterJoinsDuringPartition cuts off a leader from the other voters, together with a master that is joining and
// has no vote yet. The old leader must not be confirmed by it: the history checker finds an answer that was not
// confirmed by a majority of the voters.
func TestNonVoterJoinsDuringPartition(t *testing.T) {
	c, topology := prepared(t, func(topology *devcluster.Topology) { topology.Masters = 4 })
	c.expectDamage = true // a node that lags is invalid for a while
	c.net = newNetwork(t, &topology)
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	l.more(some)
	const joining = "master-4"
	url := roleOf(topology, joining).URL()
	// It is halted as soon as it is a member. It may get its vote before that.
	for try := 1; ; try++ {
		c.kill(joining)
		if err := c.admin().RemoveMaster(t.Context(), url, false); err != nil {
			t.Fatal(err)
		}
		c.rejoin(joining)
		if !c.awaitMember(url).Voter {
			c.halt(joining)
			if !c.awaitMember(url).Voter {
				break
			}
			c.resume(joining)
		}
		if try == 10 {
			t.Fatalf("%s has a vote at once, %d times", joining, try)
		}
	}
	l.more(some)
	first := c.leader("")
	apart, others := []string{first, joining}, c.followers(first)
	others = slices.DeleteFunc(others, func(name string) bool { return name == joining })
	var ways []way
	for _, name := range apart {
		ways = slices.Concat(ways, waysFrom(name, others), waysTo(name, others))
	}
	heal := c.net.inject(ways, condition{cut: true})
	c.resume(joining)
	second := c.leader(first)
	l.more(some)
	t.Logf("%s was cut off with %s: %s leads", first, joining, second)
	heal()
	c.awaitVoters(slices.Clone(c.File().Masters)...)
	l.more(some)
	l.end()
	c.verify(o)
}

// awaitMember waits until a master is a member of the group, with or without a vote.
func (c *cluster) awaitMember(url string) (m wire.Master) {
	c.t.Helper()
	c.await(url+" to be a member", func() string {
		s, err := c.status()
		if err != nil {
			return err.Error()
		}
		i := slices.IndexFunc(s.Masters, func(m wire.Master) bool { return m.URL == url })
		if i < 0 {
			return fmt.Sprintf("%+v", s.Masters)
		}
		m = s.Masters[i]
		return ""
	})
	return m
}
