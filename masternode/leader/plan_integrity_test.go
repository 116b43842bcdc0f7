package leader

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// TestPlanOfChecksAndRepairs tests the policy by rows: the state of the table and of the memory, and the operations
// that the plan starts.
func TestPlanOfChecksAndRepairs(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	ago := func(d time.Duration) uint64 { return uint64(now.Add(-d).UnixMilli()) }
	node := func(id string, state masterfsm.NodeState, change func(*masterfsm.Storage)) masterfsm.Storage {
		n := masterfsm.Storage{ID: id, URL: "http://" + id, State: state, Version: 3, Height: 10,
			CountsAsCopy: state.RetainsBlocks(), Checked: ago(time.Second)}
		if change != nil {
			change(&n)
		}
		return n
	}
	due := func(n *masterfsm.Storage) { n.Due = masterfsm.Cause{Code: "requested"} }
	old := func(n *masterfsm.Storage) { n.Checked = ago(time.Hour) }
	future := func(n *masterfsm.Storage) { n.Checked = ago(-365 * 24 * time.Hour) }
	older := func(n *masterfsm.Storage) { n.Checked = ago(2 * time.Hour) }
	empty := func(n *masterfsm.Storage) { n.Height, n.Checked = 0, 0 }
	onlyLost := func(n *masterfsm.Storage) { n.CountsAsCopy, n.Bad = true, []chain.Range{{From: 1, To: 2}} }
	const (
		valid      = masterfsm.Valid
		validating = masterfsm.Validating
		invalid    = masterfsm.Invalid
		receiving  = masterfsm.Receiving
		sending    = masterfsm.Sending
	)
	for name, c := range map[string]struct {
		nodes  []masterfsm.Storage
		change func(m *memory, p *pace)
		want   []action
	}{
		"nothing is due": {nodes: []masterfsm.Storage{node("a", valid, nil), node("b", valid, nil)}},
		"the one whose check is longest ago": {
			nodes: []masterfsm.Storage{node("a", valid, old), node("b", valid, older), node("c", valid, nil)},
			want:  []action{{kind: actBeginCheck, node: "b", version: 3}},
		},
		"one with a cause goes first": {
			nodes: []masterfsm.Storage{node("a", valid, older), node("b", valid, due), node("c", valid, old)},
			want:  []action{{kind: actBeginCheck, node: "b", version: 3}},
		},
		"a check of the future": {
			nodes:  []masterfsm.Storage{node("a", valid, future), node("b", valid, nil)},
			change: func(m *memory, p *pace) { m.nodes["a"].checkedAt = now.Add(-p.check) },
			want:   []action{{kind: actBeginCheck, node: "a", version: 3}},
		},
		"a check of the future that has just ended": {
			nodes: []masterfsm.Storage{node("a", valid, future), node("b", valid, nil)},
		},
		"no schedule": {
			nodes:  []masterfsm.Storage{node("a", valid, old), node("b", valid, older)},
			change: func(_ *memory, p *pace) { p.check = 0 },
		},
		"no schedule, and a cause": {
			nodes:  []masterfsm.Storage{node("a", valid, old), node("b", valid, due)},
			change: func(_ *memory, p *pace) { p.check = 0 },
			want:   []action{{kind: actBeginCheck, node: "b", version: 3}},
		},
		"an empty node has nothing to check": {nodes: []masterfsm.Storage{node("a", valid, empty),
			node("b", valid, empty)}},
		"a dead node is not checked": {
			nodes:  []masterfsm.Storage{node("a", valid, due), node("b", valid, nil)},
			change: func(m *memory, _ *pace) { m.nodes["a"].answered = now.Add(-time.Minute) },
		},
		"one at a time": {
			nodes: []masterfsm.Storage{node("a", validating, nil), node("b", valid, due), node("c", valid, due)},
			want:  []action{{kind: actCheck, node: "a", version: 3}},
		},
		"never the last valid one": {nodes: []masterfsm.Storage{node("a", valid, older), node("b", sending, nil),
			node("c", sending, nil)}},
		"the last valid one, for a cause": {
			nodes: []masterfsm.Storage{node("a", valid, due), node("b", sending, nil)},
			want:  []action{{kind: actBeginCheck, node: "a", version: 3}},
		},
		"a node that is alone": {
			nodes: []masterfsm.Storage{node("a", valid, old)},
			want:  []action{{kind: actBeginCheck, node: "a", version: 3}},
		},
		"a check of a dead node is given up": {
			nodes:  []masterfsm.Storage{node("a", validating, nil), node("b", valid, nil)},
			change: func(m *memory, _ *pace) { m.nodes["a"].answered = now.Add(-time.Minute) },
			want:   []action{{kind: actAbortCheck, node: "a", version: 3}},
		},
		"not by a leader that cannot know yet": {
			nodes: []masterfsm.Storage{node("a", validating, nil), node("b", valid, nil)},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].answered, m.began = time.Time{}, now.Add(-time.Second)
			},
			want: []action{{kind: actCheck, node: "a", version: 3}},
		},
		"nor while it is being asked": {
			nodes: []masterfsm.Storage{node("a", validating, nil), node("b", valid, nil)},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].answered = now.Add(-time.Minute)
				m.inflight[action{kind: actCheck, node: "a", version: 3}] = func() {}
			},
		},
		"an invalid node is repaired": {
			nodes: []masterfsm.Storage{node("a", invalid, nil), node("b", valid, nil)},
			want:  []action{{kind: actBeginRepair, node: "a", version: 3}},
		},
		"one repair at a time": {
			nodes: []masterfsm.Storage{node("a", invalid, nil), node("b", receiving, nil), node("c", sending, nil)},
			want:  []action{{kind: actRepair, node: "b", version: 3}},
		},
		"another, while the first cannot be begun": {
			nodes: []masterfsm.Storage{node("a", invalid, nil), node("b", invalid, nil)},
			change: func(m *memory, _ *pace) {
				m.paused[action{kind: actBeginRepair, node: "a", version: 3}] = now.Add(time.Second)
			},
			want: []action{{kind: actBeginRepair, node: "b", version: 3}},
		},
		"not at once after one that ended early": {
			nodes:  []masterfsm.Storage{node("a", invalid, nil), node("b", valid, nil)},
			change: func(m *memory, _ *pace) { m.nodes["a"].repairAgain = now.Add(time.Second) },
		},
		"what is lost everywhere cannot be repaired": {nodes: []masterfsm.Storage{node("a", invalid, onlyLost),
			node("b", invalid, onlyLost)}},
		"a receiver that died": {
			nodes:  []masterfsm.Storage{node("a", receiving, nil), node("b", sending, nil)},
			change: func(m *memory, _ *pace) { m.nodes["a"].answered = now.Add(-time.Minute) },
			want:   []action{{kind: actAbortRepair, node: "a", version: 3}},
		},
		"new blocks go into the inbox of a node that is repaired": {
			nodes: []masterfsm.Storage{node("a", receiving, nil),
				node("b", sending, func(n *masterfsm.Storage) { n.Height = 12 })},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].version, m.nodes["a"].height, m.nodes["a"].inbox = 3, 4, 11
			},
			want: []action{{kind: actInbox, node: "a", block: 11, version: 3},
				{kind: actRepair, node: "a", version: 3}},
		},
		"from behind what the repair brings": {
			nodes: []masterfsm.Storage{
				node("a", receiving,
					func(n *masterfsm.Storage) { n.Missing = []chain.Range{{From: 1, To: 2}, {From: 4, To: 11}} }),
				node("b", sending, func(n *masterfsm.Storage) { n.Height = 12 }),
			},
			change: func(m *memory, _ *pace) { m.nodes["a"].version, m.nodes["a"].height = 3, 4 },
			want: []action{{kind: actInbox, node: "a", block: 11, version: 3},
				{kind: actRepair, node: "a", version: 3}},
		},
		"from what the masters hold on": {
			nodes: []masterfsm.Storage{node("a", receiving, nil),
				node("b", sending, func(n *masterfsm.Storage) { n.Height = 12 })},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].version, m.nodes["a"].height = 3, 4
			},
			want: []action{{kind: actInbox, node: "a", block: 10, version: 3},
				{kind: actRepair, node: "a", version: 3}},
		},
		"from what the masters hold on, whatever else is in the inbox": {
			nodes: []masterfsm.Storage{node("a", receiving, nil),
				node("b", sending, func(n *masterfsm.Storage) { n.Height = 12 })},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].version, m.nodes["a"].height, m.nodes["a"].inbox = 3, 4, 1<<40
			},
			want: []action{{kind: actInbox, node: "a", block: 10, version: 3},
				{kind: actRepair, node: "a", version: 3}},
		},
		"from the table's height on, of a node that has registered anew since it told its own": {
			nodes: []masterfsm.Storage{node("a", valid, nil),
				node("b", valid, func(n *masterfsm.Storage) { n.Height = 12 })},
			change: func(m *memory, _ *pace) { m.nodes["a"].version, m.nodes["a"].height = 2, 12 },
			want:   []action{{kind: actPut, node: "a", block: 10, version: 3}},
		},
		"from the table's height on, of a node that was repaired since its chain was bad": {
			nodes: []masterfsm.Storage{node("a", valid, nil),
				node("b", valid, func(n *masterfsm.Storage) { n.Height = 12 })},
			change: func(m *memory, _ *pace) {
				m.nodes["a"].version, m.nodes["a"].bad = 2, masterfsm.Cause{Code: wire.CodeShortChain}
			},
			want: []action{{kind: actPut, node: "a", block: 10, version: 3}},
		},
		"into the chain of one that lacks only what is lost": {
			nodes: []masterfsm.Storage{node("a", invalid, onlyLost),
				node("b", valid, func(n *masterfsm.Storage) { n.Height = 12 })},
			want: []action{{kind: actPut, node: "a", block: 10, version: 3}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			view := masterfsm.View{
				Level:    masterfsm.ProtocolLevel,
				Storages: c.nodes, Settings: masterfsm.DefaultSettings(), Head: masterfsm.Boundary{Height: 12},
				HeldFrom: 10, Stored: 10,
				Log: masterfsm.Log{Keys: make([]masterfsm.LogKey, 1)},
			}
			// Complete nodes at height 10 would be sent block 10, which most rows do not test.
			if name[:4] != "new " && name[:4] != "from" && name[:4] != "into" {
				view.Head.Height = 10
			}
			p := defaultPace()
			p.check = time.Minute
			m := newMemory(now.Add(-time.Hour))
			m.noteChecks(view, ago(0), now)
			for _, n := range c.nodes {
				s := m.node(n.ID)
				s.answered, s.tried = now, now
			}
			if c.change != nil {
				c.change(m, &p)
			}
			d := plan(view, m, nil, p, now)
			var got []action
			for _, a := range d.start {
				switch a.kind {
				case actPingStorage, actPingMiner, actPingMaster:
				default:
					got = append(got, a)
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("%+v, want %+v", got, c.want)
			}
			for i := range got {
				if got[i] != c.want[i] {
					t.Errorf("%+v, want %+v", got[i], c.want[i])
				}
			}
		})
	}
}
