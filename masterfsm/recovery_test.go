package masterfsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// lostGroup is a group whose chain is on some storage nodes, and the log of its leader. A survivor has a prefix of that
// log.
type lostGroup struct {
	*table
	log    [][]byte
	blocks []chain.Block
}

func newLostGroup(t *testing.T) *lostGroup {
	g := &lostGroup{table: newTable(t, smallSettings())}
	g.log = [][]byte{
		Encode(&BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: startTime, Group: "g",
			Settings: smallSettings()}),
		Encode(&CreateProject{Name: "one", TokenHash: chain.Hash{1}, Time: startTime}),
		Encode(&CreateProject{Name: "two", Public: true, TokenHash: chain.Hash{2}, Time: startTime}),
	}
	return g
}

// do applies a command and records it, and records every block that it mined.
func (g *lostGroup) do(data []byte) {
	g.t.Helper()
	if _, err := only(g.Apply(data)); err != nil {
		g.t.Fatal(err)
	}
	g.log = append(g.log, data)
	for n := uint64(len(g.blocks)); n < g.Head().Height; n++ {
		b, ok := g.Block(n)
		if !ok {
			g.t.Fatalf("block %d is not held", n)
		}
		g.blocks = append(g.blocks, b)
	}
}

func (g *lostGroup) append(calls ...call) {
	g.t.Helper()
	g.seq++
	g.do(appendOf(g.t, "m1", 1, g.seq, startTime+g.seq, calls...))
}

// survivor returns the state after a prefix of the log.
func (g *lostGroup) survivor(entries int) *State {
	g.t.Helper()
	s := New()
	for _, data := range g.log[:entries] {
		if _, err := s.Apply(data); err != nil {
			g.t.Fatal(err)
		}
	}
	return s
}

// adopt recovers a state with the storage nodes' blocks up to a height. stored of them are on the required number of
// nodes.
func (g *lostGroup) adopt(s *State, height int, stored uint64, nodes ...NodeHeight) Recovered {
	g.t.Helper()
	r := s.Recover(Group{ID: "g", Epoch: max(s.Group().Epoch, 1) + 1})
	for n := int(s.Head().Height); n < height; n++ {
		contradicts, dropped := s.Contradicts(&g.blocks[n]), r.done.Dropped
		if err := r.Adopt(g.blocks[n]); err != nil {
			g.t.Fatal(err)
		}
		if contradicts != (r.done.Dropped > dropped) {
			g.t.Errorf("block %d contradicts the state: %v; %d records were dropped", n, contradicts,
				r.done.Dropped-dropped)
		}
	}
	done, err := r.Finish(stored, nodes)
	if err != nil {
		g.t.Fatal(err)
	}
	checkInvariants(g.t, s)
	checkLeaves(g.t, s)
	restored, err := Restore(bytes.NewReader(snapshotBytes(g.t, s)))
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Equal(snapshotBytes(g.t, restored), snapshotBytes(g.t, s)) {
		g.t.Error("what was recovered is not what its snapshot gives")
	}
	return done
}

// fill appends to the group: blocks of four records, some of them mined.
func (g *lostGroup) fill() {
	for n := range 30 {
		g.append(call{project: 1 + uint32(n%2), key: fmt.Sprint(n), payloads: payloads(1+n%5, fmt.Sprint(n))})
		if n%3 == 2 {
			for g.View().Waiting != nil && g.View().Waiting.Block+2 < g.Height() {
				g.do(Encode(g.solved()))
			}
		}
	}
}

// TestRecoverSurvivor checks the recovery for every prefix of the log and every height of the storage nodes. The
// recovered state has the chain of the storage nodes. Every record of the survivor that does not contradict the chain
// keeps its position, and the group continues.
func TestRecoverSurvivor(t *testing.T) {
	g := newLostGroup(t)
	g.fill()
	for entries := 1; entries <= len(g.log); entries++ {
		for _, height := range []int{0, len(g.blocks) / 2, len(g.blocks)} {
			for _, most := range []uint64{1, 1 << 20} { // size limit of the masters
				s := g.survivor(entries)
				next, mined := s.NextIndex(), s.Head().Height
				s.settings.MaxPendingBytes, s.settings.RetainBytes = most, 0
				done := g.adopt(s, height, 0)
				if done.Dropped != 0 || done.Blocks != max(0, height-int(mined)) {
					t.Fatalf("%d entries, %d blocks: %+v", entries, height, done)
				}
				if shed := s.heldFrom(); done.Single != shed || shed > uint64(height) || shed == 0 && most == 1 &&
					done.Blocks > 0 {
					t.Fatalf("%d entries, %d blocks: the masters hold those from %d on, "+
						"and said that %d are on too few nodes", entries, height, shed, done.Single)
				}
				if s.Group().Epoch < 2 || s.Head().Height != max(mined, uint64(height)) {
					t.Fatalf("%d entries, %d blocks: group %+v, height %d", entries, height, s.Group(), s.Head().Height)
				}
				if want := max(next, s.Head().Tree.Size()); s.NextIndex() != want && s.NextIndex() != s.open.first {
					t.Fatalf("%d entries, %d blocks: the next record gets index %d, not %d", entries, height,
						s.NextIndex(), want)
				}
				g.compare(s)
				g.goOn(s)
			}
		}
	}
}

// compare compares all records of a state with those of the group.
func (g *lostGroup) compare(s *State) {
	g.t.Helper()
	for block := s.heldFrom(); block <= s.Height(); block++ {
		for offset := uint32(0); ; offset++ {
			found, at, mine, _ := s.Record(block, offset)
			if found != FoundRecord {
				break
			}
			found, where, theirs, _ := g.Record(block, offset)
			if found != FoundRecord || at != where || !bytes.Equal(mine, theirs) {
				g.t.Fatalf("record %+v is another than the group's %+v (%d)", at, where, found)
			}
		}
	}
}

// goOn appends to a recovered state and mines all blocks.
func (g *lostGroup) goOn(s *State) {
	g.t.Helper()
	b := &table{t: g.t, State: s, seq: 1000}
	b.ok(&BeginTerm{Term: 9, Member: "m1", URL: "http://m1", Time: b.now, Settings: smallSettings()})
	p := b.ok(&CreateProject{Name: fmt.Sprint("new", b.now), TokenHash: chain.Hash{77}, Time: b.now}).(*Project)
	if p.ID <= uint32(s.Group().Epoch-1)*MaxProjects {
		g.t.Fatalf("a new project has id %d in epoch %d", p.ID, s.Group().Epoch)
	}
	b.add(b.now, call{project: p.ID, payloads: payloads(9, "after")})
	v := chain.NewVerifier(s.Head())
	for s.View().Waiting != nil {
		n := s.Head().Height
		b.mine()
		block, ok := s.Block(n)
		if !ok {
			g.t.Fatalf("block %d is not held", n)
		}
		if _, err := v.Take(&block); err != nil {
			g.t.Fatal(err)
		}
	}
}

// TestRecoverDivergedSurvivor recovers a survivor whose log ends in entries that were never committed, so that the
// chain has other records at their places. The keys and submissions of dropped records are removed, so that a retry
// appends them. The others are kept.
func TestRecoverDivergedSurvivor(t *testing.T) {
	for _, own := range []int{1, 3, 4, 9} { // in the open block, and up to several cut blocks
		g := newLostGroup(t)
		g.append(call{project: 1, key: "common", payloads: payloads(6, "common")})
		s := g.survivor(len(g.log))
		a := &table{t: t, State: s, seq: 500}
		alone := call{project: 1, key: "alone", payloads: payloads(own, "never committed")}
		a.add(startTime+50, alone)
		again := call{project: 1, key: "common", payloads: payloads(6, "common")}
		a.add(startTime+50, again)
		g.append(call{project: 1, payloads: payloads(7, "committed")})
		for g.View().Waiting != nil {
			g.do(Encode(g.solved()))
		}
		had, _ := s.Project(1)
		done := g.adopt(s, len(g.blocks), 0)
		if done.Dropped != own {
			t.Errorf("%d records of its own: %+v", own, done)
		}
		p, _ := s.Project(1)
		if inChain := uint64(len(g.blocks)) * 4; p.Records != inChain || had.Records != uint64(6+own) {
			t.Errorf("%d of its own: the project has %d records, %d are in the chain", own, p.Records, inChain)
		}
		g.compare(s)
		if done := a.submit(appendOf(t, "m1", 1, 502, startTime+90, again)); !done[0].Replay ||
			done[0].Runs[0].Block != 0 {
			t.Errorf("what a submission became whose records are kept: %+v", done)
		}
		if done := a.submit(appendOf(t, "m1", 1, 501, startTime+90, alone)); done[0].Replay ||
			done[0].Runs[0].Block < uint64(len(g.blocks)) {
			t.Errorf("%d of its own: the dropped submission became %+v", own, done)
		}
		if done := a.add(startTime+91, again, alone); !done[0].Replay || !done[1].Replay ||
			done[1].Runs[0].Block < uint64(len(g.blocks)) {
			t.Errorf("%d of its own: retries became %+v", own, done)
		}
		g.goOn(s)
	}
}

// TestRecoverKeys checks which idempotency keys are kept, for every position at which a survivor's log may have
// diverged.
func TestRecoverKeys(t *testing.T) {
	const same = 9 // common records
	for at := range same + 1 {
		for size := 1; at+size <= same+3; size++ {
			g := newLostGroup(t)
			n := 0
			add := func(a *lostGroup, count int, key string) {
				for ; count > 0 && key == ""; count-- {
					a.append(call{project: 1, payloads: payloads(1, fmt.Sprint("one", n))})
					n++
				}
				if key != "" {
					a.append(call{project: 1, key: key, payloads: payloads(count, key)})
				}
			}
			add(g, at, "")
			before, seq := len(g.log), g.seq
			add(g, size, "k")
			add(g, same+3-at-size, "")
			s := g.survivor(len(g.log))
			other := newLostGroup(t) // has the first nine records, and different ones after them
			for _, data := range g.log[3:before] {
				other.do(data)
			}
			left := same - at
			if at+size <= same {
				other.do(g.log[before])
				left -= size
				for _, data := range g.log[before+1 : before+1+left] {
					other.do(data)
				}
			} else { // a request of which only a part fits is a different request there
				if other.seq = seq; left > 0 {
					other.append(call{project: 1, key: "k", payloads: payloads(size, "k")[:left]})
				}
			}
			other.seq += 100
			other.append(call{project: 1, payloads: payloads(7, "other")})
			for other.View().Waiting != nil {
				other.do(Encode(other.solved()))
			}
			other.adopt(s, len(other.blocks), 0)
			_, kept := s.keys.find(scopedKey(1, digest("k")))
			if want := at+size <= same; kept != want {
				t.Fatalf("a key of %d records from %d on, %d are kept: found %v", size, at, same, kept)
			}
		}
	}
}

// TestRecoverOtherCut recovers a survivor that cut a block at another time than the group did. Its later records were
// never committed, and are older than the chain's head.
func TestRecoverOtherCut(t *testing.T) {
	for _, own := range []int{2, 5} {
		g := newLostGroup(t)
		g.append(call{project: 1, key: "common", payloads: payloads(3, "common")})
		s := g.survivor(len(g.log))
		a := &table{t: t, State: s, seq: 500}
		a.ok(&Cut{Block: 0, Time: startTime + 10})
		a.add(startTime+20, call{project: 1, key: "alone", payloads: payloads(own, "never committed")})
		g.do(Encode(&Cut{Block: 0, Time: startTime + 99}))
		g.do(Encode(g.solved()))
		if done := g.adopt(s, 1, 0); done.Dropped != own || done.Keys != 1 {
			t.Errorf("%d records behind the cut: %+v", own, done)
		}
		g.compare(s)
		g.goOn(s)
	}
}

// TestRecoverKeepsBodies checks that the survivor keeps blocks that fewer than two nodes have, whatever is claimed by
// nodes that do not count as copies.
func TestRecoverKeepsBodies(t *testing.T) {
	g := newLostGroup(t)
	g.node("d1", 0)
	g.node("d2", 0)
	g.log = append(g.log,
		Encode(&Register{Role: RoleStorage, ID: "d1", URL: "http://d1", Time: startTime}),
		Encode(&Register{Role: RoleStorage, ID: "d2", URL: "http://d2", Time: startTime}),
		Encode(&Invalidate{ID: "d2", Version: 1, Cause: TextCause("test"), Time: startTime}))
	if _, err := g.Apply(g.log[len(g.log)-1]); err != nil {
		t.Fatal(err)
	}
	g.append(call{project: 1, payloads: payloads(12, "held")})
	for g.View().Waiting != nil {
		g.do(Encode(g.solved()))
	}
	s := g.survivor(len(g.log))
	g.append(call{project: 1, payloads: payloads(12, "only in the chain")})
	for g.View().Waiting != nil {
		g.do(Encode(g.solved()))
	}
	d1, d2 := s.storage("d1").Version, s.storage("d2").Version
	done := g.adopt(s, len(g.blocks), 0, NodeHeight{ID: "d1", Version: d1, Height: 6},
		NodeHeight{ID: "d2", Version: d2, Height: 6})
	if s.Stored() != 0 || s.heldFrom() != 0 || done.Single != 0 {
		t.Errorf("%d blocks stored, held from %d on: %+v", s.Stored(), s.heldFrom(), done)
	}
	if got := s.OnStorage(); got != 6 {
		t.Errorf("%d blocks are on a storage node", got)
	}
}

// TestRecoverFromNothing recovers from the chain of a storage node alone. Projects are restored as private, without
// tokens.
func TestRecoverFromNothing(t *testing.T) {
	g := newLostGroup(t)
	g.do(Encode(&CreateProject{Name: "three", TokenHash: chain.Hash{3}, Time: startTime}))
	g.append(call{project: 3, payloads: payloads(5, "three")})
	g.append(call{project: 2, payloads: payloads(7, "two")})
	for g.View().Waiting != nil {
		g.do(Encode(g.solved()))
	}
	s := New()
	done := g.adopt(s, len(g.blocks), uint64(len(g.blocks)))
	if done.Projects != 2 || done.Blocks != len(g.blocks) || s.Stored() != uint64(len(g.blocks)) {
		t.Errorf("%+v, %d blocks stored", done, s.Stored())
	}
	var got []string
	for _, p := range s.projects {
		got = append(got, fmt.Sprint(p.ID, p.Name, p.Public, p.Records, len(p.Tokens)))
	}
	if want := []string{"2recovered-2false 7 0", "3recovered-3false 5 0"}; !slices.Equal(got, want) {
		t.Errorf("projects %q, want %q", got, want)
	}
	b := &table{t: t, State: s}
	b.ok(&BeginTerm{Term: 1, Member: "m9", URL: "http://m9", Time: startTime + 99, Group: "other",
		Settings: smallSettings()})
	if s.Group() != (Group{ID: "g", Epoch: 2}) {
		t.Errorf("the group is %+v", s.Group())
	}
	b.ok(&CreateToken{Project: 3, Rights: MayAppend, TokenHash: chain.Hash{33}, Time: startTime + 99})
	if p := b.ok(&CreateProject{Name: "four", TokenHash: chain.Hash{4},
		Time: startTime + 99}).(*Project); p.ID != MaxProjects+1 {
		t.Errorf("a new project has id %d", p.ID)
	}
	g.goOn(s)
}

// TestRecoverTwice recovers twice from the same chain, which has no record of the first recovered group. No id that
// this group may have assigned is assigned again.
func TestRecoverTwice(t *testing.T) {
	g := newLostGroup(t)
	g.fill()
	var last uint32
	s := New()
	for epoch := uint32(1); epoch <= 3; epoch++ {
		r := s.Recover(Group{ID: "g", Epoch: uint64(epoch)})
		if s.Head().Height == 0 {
			if err := r.Adopt(g.blocks[0]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := r.Finish(1, nil); err != nil {
			t.Fatal(err)
		}
		p, err := s.Apply(Encode(&CreateProject{Name: fmt.Sprint(epoch), TokenHash: chain.Hash{byte(epoch + 9)},
			Time: startTime}))
		if err != nil {
			t.Fatal(err)
		}
		if id := p.(*Project).ID; id <= last || id <= (epoch-1)*MaxProjects {
			t.Errorf("epoch %d gives out id %d", epoch, id)
		}
		last = epoch * MaxProjects
		if epoch == 2 {
			s = New()
		}
	}
	for _, epoch := range []uint64{1 << 32 / MaxProjects, 1 << 32, 1<<64 - 1} {
		if _, err := New().Recover(Group{ID: "g", Epoch: epoch + 1}).Finish(0, nil); err == nil {
			t.Errorf("epoch %d leaves ids for its projects", epoch)
		}
	}
}

// TestRecoverRefusesForeignBlocks checks that a block that does not extend the chain is refused and changes nothing.
func TestRecoverRefusesForeignBlocks(t *testing.T) {
	g, other := newLostGroup(t), newLostGroup(t)
	for _, x := range []*lostGroup{g, other} {
		x.append(call{project: 1, payloads: payloads(9, fmt.Sprint(x == g))})
		for x.View().Waiting != nil {
			x.do(Encode(x.solved()))
		}
	}
	s := g.survivor(len(g.log) - 1)
	r := s.Recover(Group{ID: "g", Epoch: 2})
	before := snapshotBytes(t, s)
	for _, b := range []chain.Block{other.blocks[1], g.blocks[0]} {
		if err := r.Adopt(b); err == nil || !bytes.Equal(snapshotBytes(t, s), before) {
			t.Errorf("block %d: %v", b.Header.Block, err)
		}
	}
	if err := r.Adopt(g.blocks[1]); err != nil {
		t.Error(err)
	}
}

// TestContradictsOutsideOfTheLog checks that blocks below the head, or beyond the open block, contradict nothing.
func TestContradictsOutsideOfTheLog(t *testing.T) {
	g := newLostGroup(t)
	g.fill()
	s := g.survivor(len(g.log))
	if s.Contradicts(&g.blocks[0]) {
		t.Error("a mined block contradicts the state")
	}
	if empty := New(); empty.Contradicts(&g.blocks[1]) {
		t.Error("a block beyond the open one contradicts the empty state")
	}
}

func TestIsolate(t *testing.T) {
	g := newLostGroup(t)
	g.node("a", 0)
	g.ok(&AdmitMaster{ID: "m1", URL: "http://m1", Raft: "m1:1", Time: g.now})
	g.ok(&Register{Role: RoleMiner, ID: "w", URL: "http://w", Time: g.now})
	r := g.Recover(Group{ID: "g", Epoch: 2})
	r.Isolate()
	if v := g.View(); len(v.Masters)+len(v.Storages)+len(v.Miners) != 0 || v.Term.URL != "" || v.Term.Term != 1 {
		t.Errorf("%+v", v)
	}
}
