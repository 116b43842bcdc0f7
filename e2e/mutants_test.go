package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// mutants lists the alterations that break the program, each with a regular expression for the fault that the checkers
// must report.
var mutants = []struct{ name, alteration, reported string }{
	{
		"a follower says not found without asking the leader", "stale",
		"is not that of one log|read the records of the first time: not found",
	},
	{"a retry is appended once more", "duplicate", "appended again"},
	{"the masters' states part", "diverging", "hashes to"},
	{"a master serves the record next to it", "neighbour", "is said to be at"},
}

// awaitKnown waits until every master has learnt the project's token.
func (c *cluster) awaitKnown() {
	c.t.Helper()
	c.await("every master to know the token", func() string {
		for _, m := range c.masters {
			if _, err := m.Cluster(c.t.Context()); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}

// TestCheckersNotice runs the checkers on each mutant. It fails if a checker does not detect the mutant.
func TestCheckersNotice(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			c, topology := prepared(t, func(topology *devcluster.Topology) { topology.MaxAge = 0 })
			c.program = altered(t, m.alteration)
			c.expectDamage = true
			c.begin(topology)
			c.awaitKnown()
			o := newOracle()
			l := c.startLoad(o)
			c.await("appends, or a fault", func() string {
				if o.failed() || o.count() > 10*some {
					return ""
				}
				return "too few"
			})
			l.end()
			c.awaitSettled(3)
			c.checkServed(o)
			c.stop()
			c.checkStored(o, c.File().Storages[0].Data)
			said := strings.Join(o.faults, "\n")
			if at := regexp.MustCompile(m.reported).FindStringIndex(said); at == nil {
				t.Errorf("the checkers do not say %q, but %q", m.reported, said)
			} else {
				t.Logf("noticed: %.300s", said[at[0]:])
			}
		})
	}
}
