package masterfsm

import (
	"testing"
)

// signing returns a lost group whose log has a key, with the storage nodes a and b.
func signing(t *testing.T) *lostGroup {
	g := newLostGroup(t)
	g.do(Encode(addKey(1, true)))
	for _, id := range []string{"a", "b"} {
		g.do(Encode(&Register{Role: RoleStorage, ID: id, URL: "http://" + id, Time: startTime}))
	}
	return g
}

// stores mines a number of blocks, which both nodes store.
func (g *lostGroup) stores(blocks int) {
	g.t.Helper()
	for range blocks {
		g.append(call{project: 1, payloads: payloads(4, "stored")})
	}
	for g.View().Waiting != nil {
		g.do(Encode(g.solved()))
	}
	for _, id := range []string{"a", "b"} {
		g.do(Encode(&Acknowledge{Nodes: []NodeHeight{{ID: id, Version: g.storage(id).Version, Height: g.Head().Height}},
			Time: startTime}))
	}
}

// has returns what a recovery learns from a node that has the whole chain.
func (g *lostGroup) has(s *State, id string) NodeHeight {
	return NodeHeight{ID: id, Version: s.storage(id).Version, Height: uint64(len(g.blocks))}
}

// mayShow reports whether a state may publish its checkpoint.
func mayShow(s *State) bool { return s.Published().Boundary.Height >= s.Floor() }

// TestRecoveredSurvivorShowsNothingOlder recovers a survivor that lags, without one of its two nodes, so that it knows
// only a checkpoint older than the published one. It must publish none until enough nodes have the chain again.
func TestRecoveredSurvivorShowsNothingOlder(t *testing.T) {
	g := signing(t)
	g.stores(3)
	behind := len(g.log)
	g.stores(3)
	shown := g.Published().Boundary
	if g.Floor() != 0 || !mayShow(g.State) || shown != g.Boundary() {
		t.Fatalf("before: floor %d, shown %+v", g.Floor(), shown)
	}

	s := g.survivor(behind)
	g.adopt(s, len(g.blocks), 0, g.has(s, "a"))
	if c := s.Published().Boundary; mayShow(s) || c.Size >= shown.Size || s.Floor() != uint64(len(g.blocks)) {
		t.Fatalf("shown before %+v, now %+v from %d blocks on", shown, c, s.Floor())
	}
	b := &table{t: t, State: s, seq: 1000}
	b.ok(&BeginTerm{Term: 9, Member: "m1", URL: "http://m1", Time: b.now, Settings: smallSettings()})
	b.fill(4) // the group continues meanwhile
	b.mine()
	b.ack("b", s.Floor()-1)
	if mayShow(s) {
		t.Errorf("%+v may be shown", s.Published().Boundary)
	}
	b.ack("b", s.Floor())
	if c := s.Published().Boundary; !mayShow(s) || c != shown {
		t.Errorf("%+v is shown, it was %+v before", c, shown)
	}

	// If all nodes are queried and have all blocks, the recovered group publishes at once.
	s = g.survivor(behind)
	g.adopt(s, len(g.blocks), 0, g.has(s, "a"), g.has(s, "b"))
	if c := s.Published().Boundary; !mayShow(s) || c != shown {
		t.Errorf("%+v is shown, it was %+v before", c, shown)
	}
}

// TestRecoveredFromStorageShowsNothingOlder founds a group again from a long chain that one node has completely, and
// the other in part. It must publish no checkpoint until both have the chain.
func TestRecoveredFromStorageShowsNothingOlder(t *testing.T) {
	lost := longChain(t, Boundaries+80, 0)
	s := New()
	r := s.Recover(Group{ID: "g", Epoch: 2})
	for n := range lost.Head().Height {
		block, ok := lost.Block(n)
		if !ok {
			t.Fatalf("block %d is not held", n)
		}
		if err := r.Adopt(block); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Finish(50, nil); err != nil {
		t.Fatal(err)
	}
	b := &table{t: t, State: s}
	settings := smallSettings()
	settings.MaxPendingBytes = 1 << 30
	b.ok(&BeginTerm{Term: 1, Member: "m9", URL: "http://m9", Time: b.now, Settings: settings})
	b.ok(addKey(1, true)) // from its backup
	if mayShow(s) {
		t.Errorf("%+v may be shown of %d blocks", s.Published().Boundary, s.Floor())
	}
	for _, id := range []string{"a", "b"} {
		b.node(id, s.Head().Height)
	}
	if c := s.Published().Boundary; !mayShow(s) || c != s.Boundary() {
		t.Errorf("%+v is shown, both nodes have %+v", c, s.Boundary())
	}
}

// TestRecoveredSignsNothingSingle checks that blocks that were dropped because of the size limit count as stored, but
// that no checkpoint covers them until enough nodes have them.
func TestRecoveredSignsNothingSingle(t *testing.T) {
	g := signing(t)
	early := len(g.log)
	g.stores(4)
	s := g.survivor(early)
	s.settings.MaxPendingBytes, s.settings.RetainBytes = 1, 0
	done := g.adopt(s, len(g.blocks), 0, g.has(s, "a"))
	if done.Single == 0 || s.Stored() != done.Single || s.Checkpoint().Height != 0 {
		t.Errorf("%d blocks are on too few nodes, %d count as stored, %d are signed", done.Single, s.Stored(),
			s.Checkpoint().Height)
	}
	b := &table{t: t, State: s}
	b.node("b", s.Head().Height) // it returns with the chain
	if c := s.Checkpoint(); c != s.Boundary() {
		t.Errorf("both nodes have the chain, %+v is signed", c)
	}
}

// TestRecoverAnotherLog checks that a recovery with another log name removes everything that was signed under the old
// name.
func TestRecoverAnotherLog(t *testing.T) {
	g := signing(t)
	g.stores(2)
	g.do(Encode(cosign(g.Checkpoint(), "w1")))
	s := g.survivor(len(g.log))
	r := s.Recover(Group{ID: "g", Epoch: 2})
	r.ForgetLog()
	if _, err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	if l := s.Log(); l.Origin != "" || len(l.Keys) != 0 || s.Checkpoint() != New().Checkpoint() ||
		len(s.Cosigned()) != 0 || s.Published().Boundary.Size != 0 {
		t.Errorf("%+v, checkpoint %+v, published %+v", l, s.Checkpoint(), s.Published())
	}
	key := addKey(2, true)
	key.Origin = "example.com/another"
	if _, err := s.Apply(Encode(key)); err != nil || s.Log().Origin != key.Origin ||
		s.Published().Boundary != s.Boundary() {
		t.Errorf("%+v signs %+v: %v", s.Log(), s.Published(), err)
	}
	if _, known := s.Log().Known(addKey(1, false).Public); known {
		t.Error("the old key is known")
	}
}

// TestRecoverAClosedLog checks that a recovery with another log name does not bring back a name or a key of a log that
// was closed.
func TestRecoverAClosedLog(t *testing.T) {
	g := signing(t)
	g.stores(2)
	g.do(g.encode(&RaiseLevel{Level: ProtocolLevel, Time: startTime}))
	g.do(g.encode(closeLog(origin, "example.com/second", 2, g.Published().Boundary)))
	s := g.survivor(len(g.log))
	if len(s.Log().Closed) != 1 {
		t.Fatalf("%+v", s.Log())
	}
	r := s.Recover(Group{ID: "g", Epoch: 2})
	r.ForgetLog()
	if _, err := r.Finish(0, nil); err != nil {
		t.Fatal(err)
	}
	if l := s.Log(); l.Origin != "" || len(l.Closed) != 1 || l.Closed[0].Size != 0 || !l.Closed[0].Root.IsZero() {
		t.Errorf("%+v", l)
	}
	b := &table{t: t, State: s}
	b.refused(addKey(3, true), ErrStale) // the closed name
	stolen := addKey(1, true)
	stolen.Origin = "example.com/third"
	b.refused(stolen, ErrStale)
	fresh := addKey(3, true)
	fresh.Origin = stolen.Origin
	b.ok(fresh)
	if l := s.Log(); l.Origin != fresh.Origin || len(l.Closed) != 1 {
		t.Errorf("%+v", l)
	}
}
