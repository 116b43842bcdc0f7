package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/internal/devcluster"
)

// mutants are programs with one thing broken, and what the checkers must say of it. So that a checker that sees nothing is seen.
var mutants = []struct {
	name  string
	edits []edit
	says  string // a regular expression
}{
	{"a follower says not found without asking the leader", []edit{{
		"masternode/confirm.go", "	if err := confirm(ctx); err != nil {\n		return err\n	}\n	switch", "	switch",
	}}, "is not that of one log|read the records of the first time: not found"},
	{"a retry is appended once more", []edit{{
		"masterfsm/append.go", "s.keys.find(key); ok {", "s.keys.find(key); ok && e.offset%2 == 0 {",
	}, {
		"masterfsm/append.go", "if done, ok := w.Results[a.seq]; ok && w.Boot == a.boot {", "if done, ok := w.Results[a.seq]; ok && w.Boot == a.boot && a.seq%2 == 0 {",
	}}, "appended again"},
	{"the masters' states part", []edit{{
		"masterfsm/idempotency.go", "func (w *keyWindow) add(e keyEntry) {", "func (w *keyWindow) add(e keyEntry) {\n	e.body[0] = byte(os.Getpid())\n",
	}, {
		"masterfsm/idempotency.go", "import (\n", "import (\n	\"os\"\n",
	}}, "hashes to"},
	{"a master serves the record next to it", []edit{{
		"masternode/read.go", "	case masterfsm.FoundRecord:\n		return newRecord(encoded,",
		"	case masterfsm.FoundRecord:\n		if offset%8 == 7 {\n			n.cfg.Ledger.Read(func(s *masterfsm.State) { _, _, encoded, _ = s.Record(block, offset-1) })\n		}\n		return newRecord(encoded,",
	}}, "is said to be at"},
}

// awaitKnown waits until every master knows the project's token, without the leader's help.
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

// TestCheckersNotice runs each of the mutants, and the checkers on what they do.
func TestCheckersNotice(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			c, topology := prepared(t, func(topology *devcluster.Topology) { topology.MaxAge = 0 })
			c.program = variant(t, "mutant", m.edits...)
			c.harmed = true
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
			if at := regexp.MustCompile(m.says).FindStringIndex(said); at == nil {
				t.Errorf("the checkers do not say %q, but %q", m.says, said)
			} else {
				t.Logf("noticed: %.300s", said[at[0]:])
			}
		})
	}
}
