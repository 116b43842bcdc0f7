package masterfsm

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
)

// lostGroup is a group whose chain some storage node has, and how its leader's log grew: what a survivor saw of it is a prefix.
type lostGroup struct {
	*table
	log    [][]byte
	blocks []chain.Block
}

func newLostGroup(t *testing.T) *lostGroup {
	g := &lostGroup{table: newTable(t, smallSettings())}
	g.log = [][]byte{
		Encode(&BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: startTime, Group: "g", Settings: smallSettings()}),
		Encode(&CreateProject{Name: "one", TokenHash: chain.Hash{1}, Time: startTime}),
		Encode(&CreateProject{Name: "two", Public: true, TokenHash: chain.Hash{2}, Time: startTime}),
	}
	return g
}

// do applies a command and keeps it, and every block that it mined.
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

// survivor is a state that saw so much of the log.
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

// adopt recovers a state with the storage nodes' blocks up to a height.
func (g *lostGroup) adopt(s *State, height int, keep bool) Recovered {
	g.t.Helper()
	r := s.Recover(Group{ID: "g", Epoch: 2})
	for n := int(s.Head().Height); n < height; n++ {
		if err := r.Adopt(g.blocks[n], keep); err != nil {
			g.t.Fatal(err)
		}
	}
	done := r.Finish(nil)
	checkInvariants(g.t, s)
	restored, err := Restore(bytes.NewReader(snapshotBytes(g.t, s)))
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Equal(snapshotBytes(g.t, restored), snapshotBytes(g.t, s)) {
		g.t.Error("what was recovered is not what its snapshot gives")
	}
	return done
}

// fill lets the group do a good deal: blocks of four records, mined now and then.
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

// Whatever prefix of the log a survivor saw, and however far the storage nodes are: the chain is theirs, every record that the survivor has
// and the chain does not contradict keeps its position, and the group goes on.
func TestRecoverSurvivor(t *testing.T) {
	g := newLostGroup(t)
	g.fill()
	for entries := 1; entries <= len(g.log); entries++ {
		for _, height := range []int{0, len(g.blocks) / 2, len(g.blocks)} {
			for _, keep := range []bool{false, true} {
				s := g.survivor(entries)
				next, mined := s.NextIndex(), s.Head().Height
				done := g.adopt(s, height, keep)
				if done.Dropped != 0 || done.Blocks != max(0, height-int(mined)) {
					t.Fatalf("%d entries, %d blocks: %+v", entries, height, done)
				}
				if s.Group() != (Group{ID: "g", Epoch: 2}) || s.Head().Height != max(mined, uint64(height)) {
					t.Fatalf("%d entries, %d blocks: group %+v, height %d", entries, height, s.Group(), s.Head().Height)
				}
				if want := max(next, s.Head().Tree.Size()); s.NextIndex() != want && s.NextIndex() != s.open.first {
					t.Fatalf("%d entries, %d blocks: the next record gets index %d, not %d", entries, height, s.NextIndex(), want)
				}
				g.compare(s)
				g.goOn(s)
			}
		}
	}
}

// compare holds every record that a state has against the group's.
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

// goOn appends to a recovered state and mines all of it.
func (g *lostGroup) goOn(s *State) {
	g.t.Helper()
	b := &table{t: g.t, State: s, seq: 1000}
	b.ok(&BeginTerm{Term: 9, Member: "m1", URL: "http://m1", Time: b.now, Settings: smallSettings()})
	p := b.ok(&CreateProject{Name: fmt.Sprint("new", b.now), TokenHash: chain.Hash{77}, Time: b.now}).(*Project)
	if p.ID <= projectGap {
		g.t.Fatalf("a new project has id %d", p.ID)
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

// A survivor whose log ends in entries that were never committed: the chain has other records at their places.
func TestRecoverDivergedSurvivor(t *testing.T) {
	for _, own := range []int{1, 3, 4, 9} { // in the open block, up to several cut ones
		g := newLostGroup(t)
		g.append(call{project: 1, payloads: payloads(6, "common")})
		s := g.survivor(len(g.log))
		a := &table{t: t, State: s, seq: 500}
		a.add(startTime+50, call{project: 1, payloads: payloads(own, "never committed")})
		g.append(call{project: 1, payloads: payloads(7, "committed")})
		for g.View().Waiting != nil {
			g.do(Encode(g.solved()))
		}
		had, _ := s.Project(1)
		done := g.adopt(s, len(g.blocks), true)
		if done.Dropped < own {
			t.Errorf("%d records of its own: %+v", own, done)
		}
		p, _ := s.Project(1)
		if inChain := uint64(len(g.blocks)) * 4; p.Records != inChain || had.Records != uint64(6+own) {
			t.Errorf("%d of its own: the project has %d records, %d are in the chain", own, p.Records, inChain)
		}
		g.compare(s)
		g.goOn(s)
	}
}

// With no master left the chain of a storage node is all there is: projects come back private and without tokens.
func TestRecoverFromNothing(t *testing.T) {
	g := newLostGroup(t)
	g.do(Encode(&CreateProject{Name: "three", TokenHash: chain.Hash{3}, Time: startTime}))
	g.append(call{project: 3, payloads: payloads(5, "three")})
	g.append(call{project: 2, payloads: payloads(7, "two")})
	for g.View().Waiting != nil {
		g.do(Encode(g.solved()))
	}
	s := New()
	done := g.adopt(s, len(g.blocks), false)
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
	b.ok(&BeginTerm{Term: 1, Member: "m9", URL: "http://m9", Time: startTime + 99, Group: "other", Settings: smallSettings()})
	if s.Group() != (Group{ID: "g", Epoch: 2}) {
		t.Errorf("the group is %+v", s.Group())
	}
	b.ok(&CreateToken{Project: 3, Rights: MayAppend, TokenHash: chain.Hash{33}, Time: startTime + 99})
	if p := b.ok(&CreateProject{Name: "four", TokenHash: chain.Hash{4}, Time: startTime + 99}).(*Project); p.ID != 4+projectGap {
		t.Errorf("a new project has id %d", p.ID)
	}
	g.goOn(s)
}

// A block that does not extend the chain is refused, and changes nothing.
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
		if err := r.Adopt(b, true); err == nil || !bytes.Equal(snapshotBytes(t, s), before) {
			t.Errorf("block %d: %v", b.Header.Block, err)
		}
	}
	if err := r.Adopt(g.blocks[1], true); err != nil {
		t.Error(err)
	}
}
