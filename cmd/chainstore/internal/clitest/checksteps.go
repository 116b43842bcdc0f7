package clitest

import (
	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Step changes the state of a storage node of the fake cluster.
type Step func(in *wire.Integrity, n *wire.NodeIntegrity)

// CheckSteps sets what a check of a storage node does.
func (f *Cluster) CheckSteps(id string, steps ...Step) {
	f.Steps[id] = []func(){}
	for _, s := range steps {
		f.Steps[id] = append(f.Steps[id], func() {
			for i := range f.Integrity.Nodes {
				if n := &f.Integrity.Nodes[i]; n.ID == id {
					s(&f.Integrity, n)
					return
				}
			}
		})
	}
}

// SampleIntegrity is the report of a healthy cluster that has been repaired before.
func SampleIntegrity() wire.Integrity {
	return wire.Integrity{
		Nodes: []wire.NodeIntegrity{
			{ID: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082", State: "valid", Live: true, Height: 12,
				Checked: Time},
			{ID: "s-ddddeeeeffff", URL: "http://127.0.0.1:8083", State: "valid", Live: true, Height: 12,
				Checked: Time - 100_000},
		},
		Totals: wire.Totals{Checks: 40, CheckedBytes: 40 << 20, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1,
			RepairedBytes: 2048},
		Events: []wire.Event{
			{Number: 2, Time: Time - 2000, Kind: wire.EventRepair, Node: "s-aaaabbbbcccc",
				URL:    "http://127.0.0.1:8082",
				Source: "s-ddddeeeeffff", Cause: "3 bytes of record 2 were changed",
				Ranges: []chain.Range{{From: 7, To: 8}},
				Blocks: 1, Bytes: 2048, Millis: 350},
			{Number: 1, Time: Time - 3000, Kind: wire.EventFinding, Node: "s-aaaabbbbcccc",
				URL:   "http://127.0.0.1:8082",
				Cause: "damaged: block 7", Ranges: []chain.Range{{From: 7, To: 8}}, Blocks: 1, Bytes: 1 << 20,
				Millis:   1234,
				Findings: []wire.Finding{{Block: 7, What: chain.WrongPayload, Detail: "segments/0, record 2"}}},
		},
	}
}

// Checking is a step: the check is under way.
func Checking(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State = "validating"
	n.Task = &wire.Task{Kind: wire.TaskCheck, Blocks: 6, Height: 12, Bytes: 1 << 19, Total: 1 << 20, Millis: 700}
}

// CheckedGood is a step: the check has ended and found nothing.
func CheckedGood(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State, n.Task, n.Due = "valid", nil, ""
	n.Checked += 5000
	in.Totals.Checks++
	in.Totals.CheckedBytes += 1<<20 + 512
}

// CheckedBad is a step: the check has ended and found blocks 5 and 7 bad.
func CheckedBad(in *wire.Integrity, n *wire.NodeIntegrity) {
	CheckedGood(in, n)
	n.State, n.Cause, n.Bad = "invalid", "damaged: blocks 5, 7", []chain.Range{{From: 5, To: 6}, {From: 7, To: 8}}
	in.Totals.BadBlocks += 2
	AddEvent(in, wire.Event{
		Kind: wire.EventFinding, Node: n.ID, URL: n.URL, Cause: n.Cause, Ranges: n.Bad, Blocks: 2, Bytes: 1 << 20,
		Millis: 900,
		Findings: []wire.Finding{{Block: 5, What: chain.WrongFrame, Detail: "segments/0 at 4711"},
			{Block: 7, What: chain.WrongMissing}},
	})
}

// Repairing is a step: the other node sends.
func Repairing(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State = "receiving"
	n.Task = &wire.Task{Kind: wire.TaskReceive, Peer: "s-ddddeeeeffff", Blocks: 1, Height: 12, Bytes: 1000, Millis: 100}
}

// Repaired is a step: the repair has ended.
func Repaired(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State, n.Task, n.Bad, n.Cause = "valid", nil, nil, ""
	AddEvent(in, wire.Event{
		Kind: wire.EventRepair, Node: n.ID, URL: n.URL, Source: "s-ddddeeeeffff", Blocks: 2, Bytes: 3000, Millis: 250,
		Cause: "1 bit of block 5 was changed",
	})
}

// Losing is a step: no other node has a good copy of what is bad.
func Losing(in *wire.Integrity, n *wire.NodeIntegrity) { in.Lost = n.Bad }

// Same is a step without a change.
func Same(*wire.Integrity, *wire.NodeIntegrity) {}

// Dead is a step: the node does not answer.
func Dead(_ *wire.Integrity, n *wire.NodeIntegrity) { n.Live = false }

// AddEvent adds an event to the integrity log.
func AddEvent(in *wire.Integrity, e wire.Event) {
	e.Number, e.Time = in.Events[0].Number+1, Time
	in.Events = append([]wire.Event{e}, in.Events...)
}
