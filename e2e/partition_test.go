package e2e

import (
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
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
