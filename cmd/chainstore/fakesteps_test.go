package main

import (
	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// step changes how a node of the fake stands.
type step func(in *wire.Integrity, n *wire.NodeIntegrity)

// steps sets what a check of a storage node does.
func (f *fakeCluster) steps(id string, steps ...step) {
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

// sampleIntegrity is that of a healthy cluster that has been repaired before.
func sampleIntegrity() wire.Integrity {
	return wire.Integrity{
		Nodes: []wire.NodeIntegrity{
			{ID: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082", State: stateValid, Live: true, Height: 12,
				Checked: fakeTime},
			{ID: "s-ddddeeeeffff", URL: "http://127.0.0.1:8083", State: stateValid, Live: true, Height: 12,
				Checked: fakeTime - 100_000},
		},
		Totals: wire.Totals{Checks: 40, CheckedBytes: 40 << 20, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1,
			RepairedBytes: 2048},
		Events: []wire.Event{
			{Number: 2, Time: fakeTime - 2000, Kind: wire.EventRepair, Node: "s-aaaabbbbcccc",
				URL:    "http://127.0.0.1:8082",
				Source: "s-ddddeeeeffff", Cause: "3 bytes of record 2 were changed",
				Ranges: []chain.Range{{From: 7, To: 8}},
				Blocks: 1, Bytes: 2048, Millis: 350},
			{Number: 1, Time: fakeTime - 3000, Kind: wire.EventFinding, Node: "s-aaaabbbbcccc",
				URL:   "http://127.0.0.1:8082",
				Cause: "damaged: block 7", Ranges: []chain.Range{{From: 7, To: 8}}, Blocks: 1, Bytes: 1 << 20,
				Millis:   1234,
				Findings: []wire.Finding{{Block: 7, What: chain.WrongPayload, Detail: "segments/0, record 2"}}},
		},
	}
}

// checking is a step: the check is under way.
func checking(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State = stateValidating
	n.Task = &wire.Task{Kind: wire.TaskCheck, Blocks: 6, Height: 12, Bytes: 1 << 19, Total: 1 << 20, Millis: 700}
}

// checkedGood is a step: the check has ended and found nothing.
func checkedGood(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State, n.Task, n.Due = stateValid, nil, ""
	n.Checked += 5000
	in.Totals.Checks++
	in.Totals.CheckedBytes += 1<<20 + 512
}

// checkedBad is a step: the check has ended and found blocks 5 and 7 bad.
func checkedBad(in *wire.Integrity, n *wire.NodeIntegrity) {
	checkedGood(in, n)
	n.State, n.Cause, n.Bad = stateInvalid, "damaged: blocks 5, 7", []chain.Range{{From: 5, To: 6}, {From: 7, To: 8}}
	in.Totals.BadBlocks += 2
	tell(in, wire.Event{
		Kind: wire.EventFinding, Node: n.ID, URL: n.URL, Cause: n.Cause, Ranges: n.Bad, Blocks: 2, Bytes: 1 << 20,
		Millis: 900,
		Findings: []wire.Finding{{Block: 5, What: chain.WrongFrame, Detail: "segments/0 at 4711"},
			{Block: 7, What: chain.WrongMissing}},
	})
}

// repairing is a step: the other node sends.
func repairing(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State = stateReceiving
	n.Task = &wire.Task{Kind: wire.TaskReceive, Peer: "s-ddddeeeeffff", Blocks: 1, Height: 12, Bytes: 1000, Millis: 100}
}

// repaired is a step: the repair has ended.
func repaired(in *wire.Integrity, n *wire.NodeIntegrity) {
	n.State, n.Task, n.Bad, n.Cause = stateValid, nil, nil, ""
	tell(in, wire.Event{
		Kind: wire.EventRepair, Node: n.ID, URL: n.URL, Source: "s-ddddeeeeffff", Blocks: 2, Bytes: 3000, Millis: 250,
		Cause: "1 bit of block 5 was changed",
	})
}

// losing is a step: no other node has a good copy of what is bad.
func losing(in *wire.Integrity, n *wire.NodeIntegrity) { in.Lost = n.Bad }

func same(*wire.Integrity, *wire.NodeIntegrity) {}

func dead(_ *wire.Integrity, n *wire.NodeIntegrity) { n.Live = false }

// tell adds an event to the story.
func tell(in *wire.Integrity, e wire.Event) {
	e.Number, e.Time = in.Events[0].Number+1, fakeTime
	in.Events = append([]wire.Event{e}, in.Events...)
}
