package main

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// step changes how a node of the fake stands.
type step func(in *wire.Integrity, n *wire.NodeIntegrity)

// fakeIntegrity is the part of the fake that is about checks. The fake's lock guards it.
type fakeIntegrity struct {
	mu    sync.Mutex // guards all below while the server runs
	state wire.Integrity
	// checks are what becomes of the check of each node, by its id: a step a look, from the order on.
	checks  map[string][]step
	pending []func()
	ordered []string // ids
	removed []string // as the path names them, with the query
}

func (f *fakeCluster) handleIntegrity(mux *http.ServeMux) {
	f.integrity = fakeIntegrity{state: sampleIntegrity(), checks: map[string][]step{}}
	mux.HandleFunc("GET /v1/cluster/integrity", f.any(f.getIntegrity))
	mux.HandleFunc("POST /v1/cluster/integrity/confirm-lost", f.admin(f.confirmLost))
	mux.HandleFunc("POST /v1/storages/{id}/check", f.admin(f.checkStorage))
	mux.HandleFunc("DELETE /v1/storages/{id}", f.admin(f.removeStorage))
}

func (f *fakeIntegrity) node(id string) *wire.NodeIntegrity {
	for i := range f.state.Nodes {
		if n := &f.state.Nodes[i]; n.ID == id || n.URL == id {
			return n
		}
	}
	return nil
}

func (f *fakeCluster) getIntegrity(w http.ResponseWriter, _ *http.Request) {
	f.integrity.mu.Lock()
	defer f.integrity.mu.Unlock()
	in := &f.integrity
	if len(in.pending) > 0 {
		in.pending[0]()
		in.pending = in.pending[1:]
	}
	reply(w, http.StatusOK, in.state)
}

func (f *fakeCluster) checkStorage(w http.ResponseWriter, r *http.Request) {
	f.integrity.mu.Lock()
	defer f.integrity.mu.Unlock()
	in := &f.integrity
	n := in.node(r.PathValue("id"))
	if n == nil {
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such storage node")
		return
	}
	n.Due = "asked for"
	in.ordered = append(in.ordered, n.ID)
	id := n.ID
	for _, s := range in.checks[id] {
		in.pending = append(in.pending, func() { s(&in.state, in.node(id)) })
	}
	reply(w, http.StatusAccepted, n)
}

func (f *fakeCluster) confirmLost(w http.ResponseWriter, r *http.Request) {
	f.integrity.mu.Lock()
	defer f.integrity.mu.Unlock()
	var body struct {
		Block *uint64 `json:"block"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Block == nil {
		f.t.Errorf("%+v, %v", body, err)
		return
	}
	in := &f.integrity.state
	if !holds(in.Lost, *body.Block) {
		problem(w, http.StatusConflict, wire.ErrNotLost.Name, "Block not lost")
		return
	}
	in.Confirmed = chain.AddRange(in.Confirmed, chain.Range{From: *body.Block, To: *body.Block + 1})
	reply(w, http.StatusOK, in)
}

func (f *fakeCluster) removeStorage(w http.ResponseWriter, r *http.Request) {
	f.integrity.mu.Lock()
	defer f.integrity.mu.Unlock()
	n := f.integrity.node(r.PathValue("id"))
	switch {
	case n == nil:
		problem(w, http.StatusNotFound, wire.ErrNotFound.Name, "No such storage node")
	case r.URL.Query().Get("force") != "true" && len(f.integrity.state.Nodes) <= 2:
		problem(w, http.StatusConflict, wire.ErrTooFewCopies.Name, "Too few copies would remain")
	default:
		f.integrity.removed = append(f.integrity.removed, n.ID+"?"+r.URL.RawQuery)
		w.WriteHeader(http.StatusNoContent)
	}
}

// sampleIntegrity is that of a healthy cluster that has been repaired before.
func sampleIntegrity() wire.Integrity {
	return wire.Integrity{
		Nodes: []wire.NodeIntegrity{
			{ID: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082", State: stateValid, Live: true, Height: 12, Checked: fakeTime},
			{ID: "s-ddddeeeeffff", URL: "http://127.0.0.1:8083", State: stateValid, Live: true, Height: 12, Checked: fakeTime - 100_000},
		},
		Totals: wire.Totals{Checks: 40, CheckedBytes: 40 << 20, BadBlocks: 1, Repairs: 1, RepairedBlocks: 1, RepairedBytes: 2048},
		Events: []wire.Event{
			{Number: 2, Time: fakeTime - 2000, Kind: wire.EventRepair, Node: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082",
				Source: "s-ddddeeeeffff", Cause: "3 bytes of record 2 were changed", Ranges: []chain.Range{{From: 7, To: 8}},
				Blocks: 1, Bytes: 2048, Millis: 350},
			{Number: 1, Time: fakeTime - 3000, Kind: wire.EventFinding, Node: "s-aaaabbbbcccc", URL: "http://127.0.0.1:8082",
				Cause: "damaged: block 7", Ranges: []chain.Range{{From: 7, To: 8}}, Blocks: 1, Bytes: 1 << 20, Millis: 1234,
				Findings: []chain.Finding{{Block: 7, What: chain.WrongPayload, Detail: "segments/0, record 2"}}},
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
		Kind: wire.EventFinding, Node: n.ID, URL: n.URL, Cause: n.Cause, Ranges: n.Bad, Blocks: 2, Bytes: 1 << 20, Millis: 900,
		Findings: []chain.Finding{{Block: 5, What: chain.WrongFrame, Detail: "segments/0 at 4711"}, {Block: 7, What: chain.WrongMissing}},
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
		Kind: wire.EventRepair, Node: n.ID, URL: n.URL, Source: "s-ddddeeeeffff", Blocks: 2, Bytes: 3000, Millis: 250, Cause: "1 bit of block 5 was changed",
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
