package masterfsm

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

func TestRegisterRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	long := strings.Repeat("x", maxText+1)
	for name, c := range map[string]Register{
		"no id":          {Role: RoleStorage, URL: "u"},
		"no URL":         {Role: RoleStorage, ID: "a"},
		"id too long":    {Role: RoleStorage, ID: long, URL: "u"},
		"URL too long":   {Role: RoleMiner, ID: "a", URL: long},
		"token too long": {Role: RoleMiner, ID: "a", URL: "u", MasterToken: long},
		"boot too long":  {Role: RoleStorage, ID: "a", URL: "u", Boot: long},
		"no role":        {ID: "a", URL: "u"},
		"unknown role":   {Role: "master", ID: "a", URL: "u"},
	} {
		t.Run(name, func(t *testing.T) {
			c.Time = startTime + 99
			b.refused(&c, ErrBadCommand)
		})
	}
}

func TestRegisterFullTable(t *testing.T) {
	for _, role := range []Role{RoleStorage, RoleMiner} {
		b := newTable(t, smallSettings())
		for n := range maxWorkers {
			id := fmt.Sprintf("w%03d", n)
			if role == RoleMiner {
				b.miners = append(b.miners, Miner{ID: id, URL: "http://" + id})
			} else {
				b.storages = append(b.storages, Storage{ID: id, URL: "http://" + id, State: Invalid, Version: 1})
			}
		}
		checkInvariants(t, b.State)
		b.refused(&Register{Role: role, ID: "one more", URL: "http://more", Time: startTime + 99}, ErrBadCommand)
		b.ok(&Register{Role: role, ID: "w007", URL: "http://moved", Time: startTime})
		// A worker that lost its identity replaces its former self.
		b.ok(&Register{Role: role, ID: "new", URL: "http://w008", Time: startTime})
		if n := len(b.Storages()) + len(b.Miners()); n != maxWorkers {
			t.Errorf("%s: %d workers", role, n)
		}
	}
}

func TestRegisterStorage(t *testing.T) {
	b := newTable(t, smallSettings())
	n := b.ok(&Register{
		Role: RoleStorage, ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7}, Boot: "1",
		Time: startTime + 1,
	}).(*Storage)
	want := Storage{
		ID: "b", URL: "http://b", State: Valid, Version: 1, Since: startTime + 1, MasterToken: "tok",
		AccessHash: chain.Hash{7}, Boot: "1",
		OnGroupChain: true, CountsAsCopy: true,
	}
	if !reflect.DeepEqual(*n, want) || !reflect.DeepEqual(*b.storage("b"), want) {
		t.Errorf("%+v, want %+v", *n, want)
	}
	// The result is a copy.
	n.Height = 99
	b.is("b", Valid, 0)
	// A repeated registration with another address and other tokens gets a new version, but keeps the time of its
	// state.
	n = b.ok(&Register{Role: RoleStorage, ID: "b", URL: "http://b2", MasterToken: "tok2", AccessHash: chain.Hash{8},
		Boot: "2", Time: startTime + 5}).(*Storage)
	want.URL, want.MasterToken, want.AccessHash, want.Boot, want.Version = "http://b2", "tok2", chain.Hash{8}, "2", 2
	if !reflect.DeepEqual(*n, want) {
		t.Errorf("%+v, want %+v", *n, want)
	}
	// The list is ordered by id.
	b.node("c", 0)
	b.node("a", 0)
	ids := []string{}
	for _, n := range b.Storages() {
		ids = append(ids, n.ID)
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("%v", ids)
	}
	// Another id at the same address replaces the old one.
	b.ok(&Register{Role: RoleStorage, ID: "z", URL: "http://b2", Time: startTime + 6})
	if b.storage("b") != nil || b.storage("z") == nil || len(b.Storages()) != 3 {
		t.Errorf("%+v", b.Storages())
	}
}

func TestRegisterMiner(t *testing.T) {
	b := newTable(t, smallSettings())
	m := b.ok(&Register{Role: RoleMiner, ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7},
		Time: startTime}).(*Miner)
	want := Miner{ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7}}
	if *m != want || !slices.Equal(b.Miners(), []Miner{want}) {
		t.Errorf("%+v, %+v", *m, b.Miners())
	}
	b.ok(&Register{Role: RoleMiner, ID: "a", URL: "http://a", Time: startTime})
	b.ok(&Register{Role: RoleMiner, ID: "b", URL: "http://b2", Time: startTime})
	b.ok(&Register{Role: RoleMiner, ID: "c", URL: "http://a", Time: startTime}) // replaces a
	got := b.Miners()
	if len(got) != 2 || got[0].ID != "b" || got[0].URL != "http://b2" || got[1].ID != "c" {
		t.Errorf("%+v", got)
	}
}

// TestJudge checks the state of a node at its start, by the blocks that it has.
func TestJudge(t *testing.T) {
	settings := smallSettings()
	settings.Replicas = 1
	b := newTable(t, settings)
	b.node("first", 0)
	b.fill(4 * 6)
	b.mine() // 6 blocks
	b.ack("first", 3)
	b.fill(8) // two more are cut and not mined
	if b.heldFrom() != 3 {
		t.Fatalf("held from %d", b.heldFrom())
	}
	hash := func(height uint64) chain.Hash { at, _ := b.BoundaryAt(height); return at.Hash }
	for _, c := range []struct {
		name   string
		height uint64
		hash   chain.Hash
		state  NodeState
		cause  string
	}{
		{"all", 6, hash(6), Valid, ""},
		{"some that are held", 4, hash(4), Valid, ""},
		{"just what is dropped", 3, hash(3), Valid, ""},
		{"less than that", 2, hash(2), Invalid, "behind: it has 2 blocks, the masters hold them from 3 on"},
		{"nothing", 0, chain.Hash{}, Invalid, "behind"},
		{"another chain", 5, hash(4), Invalid, "another chain: block 4"},
		{"no hash", 5, chain.Hash{}, Invalid, "another chain: block 4"},
		{"more than is mined", 7, hash(6), Invalid, "alarm: it has 7 blocks, the masters know of 6"},
		{"far more", 1<<64 - 1, hash(6), Invalid, "alarm"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := b.ok(&Register{Role: RoleStorage, ID: "n", URL: "http://n", Height: c.height, Hash: c.hash,
				Time: startTime}).(*Storage)
			if n.State != c.state || !strings.HasPrefix(n.Cause.Text(), c.cause) || n.Height != c.height {
				t.Errorf("%s at %d: %q, want %s: %q", n.State, n.Height, n.Cause.Text(), c.state, c.cause)
			}
		})
	}
	t.Run("nothing, and all is held", func(t *testing.T) {
		b := newTable(t, settings)
		b.fill(8)
		b.mine()
		b.node("n", 0)
		b.is("n", Valid, 0)
	})
	t.Run("older than the boundaries", func(t *testing.T) {
		b := newTable(t, settings)
		b.fill(12)
		b.mine()
		early := b.boundaries[0]
		b.boundaries = b.boundaries[1:] // as if a thousand blocks were held
		state, cause := b.judge(1, early.Hash)
		if state != Invalid || !strings.HasPrefix(cause.Text(), "behind: height 1 is older than the table remembers") {
			t.Errorf("%s: %q", state, cause)
		}
	})
}

// command returns the command that moves a node to a state, whatever its current state.
func (b *table) command(id string, to NodeState) Command {
	n := b.storage(id)
	switch to {
	case Validating:
		return &BeginCheck{ID: id, Version: n.Version, Time: startTime + 2}
	case Invalid:
		return &Invalidate{ID: id, Version: n.Version, Cause: TextCause("because"), Time: startTime + 2}
	case Receiving:
		return &BeginRepair{ID: id, Version: n.Version, Ticket: "t", Time: startTime + 2}
	case Sending:
		other := b.storage("other")
		if other.State == Valid {
			b.ok(&Invalidate{ID: "other", Version: other.Version, Time: startTime + 2})
		}
		return &BeginRepair{
			ID: "other", Version: other.Version, Sender: id, SenderVersion: n.Version, Ticket: "t", Time: startTime + 2,
		}
	}
	switch n.State {
	case Sending:
		return &EndRepair{ID: "other", Version: b.storage("other").Version, Time: startTime + 2}
	case Receiving:
		return &EndRepair{ID: id, Version: n.Version, Time: startTime + 2}
	}
	return &EndCheck{ID: id, Version: n.Version, Time: startTime + 2}
}

func TestTransitions(t *testing.T) {
	// How to reach each state from Valid.
	paths := map[NodeState][]NodeState{
		Valid: nil, Sending: {Sending}, Validating: {Validating}, Invalid: {Invalid}, Receiving: {Invalid, Receiving},
	}
	for from, path := range paths {
		for to := range paths {
			b := newTable(t, smallSettings())
			b.node("n", 0)
			b.node("other", 0)
			b.node("third", 0)
			for _, via := range path {
				b.ok(b.command("n", via))
			}
			c := b.command("n", to)
			version := b.storage("n").Version
			if !slices.Contains(transitions[from], to) {
				if from == Invalid && to == Sending {
					b.ok(c) // it may send its good blocks, and stays Invalid
					b.is("n", Invalid, 0)
					continue
				}
				b.refused(c, ErrStale)
				continue
			}
			b.ok(c)
			if n := b.storage("n"); n.State != to || n.Version != version+1 || n.Since != startTime+2 {
				t.Errorf("%s to %s: %+v", from, to, n)
			}
		}
		if slices.Contains(transitions[from], from) {
			t.Errorf("%s to itself", from)
		}
	}
}

func TestInvalidateRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	version := b.node("n", 0).Version
	for name, c := range map[string]struct {
		command Invalidate
		want    error
	}{
		"unknown node":  {Invalidate{ID: "x", Version: version}, ErrUnknownNode},
		"older version": {Invalidate{ID: "n", Version: version - 1}, ErrStale},
		"newer version": {Invalidate{ID: "n", Version: version + 1}, ErrStale},
		"cause too long": {Invalidate{ID: "n", Version: version, Cause: TextCause(strings.Repeat("x", maxText+1))},
			ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Time = startTime + 99
			b.refused(&c.command, c.want)
		})
	}
}

// TestNodeWithMoreBlocksThanThereAreNeverCounts checks that the masters never drop the only copy of a block because of
// a node that claims more blocks than exist.
func TestNodeWithMoreBlocksThanThereAreNeverCounts(t *testing.T) {
	settings := smallSettings()
	settings.Replicas = 1
	b := newTable(t, settings)
	b.fill(8)
	n := b.node("liar", 2) // two blocks are cut, none is mined
	if n.State != Invalid {
		t.Fatalf("%+v", n)
	}
	b.refused(b.command("liar", Validating), ErrStale)
	b.ok(b.command("liar", Receiving))
	b.ok(&EndRepair{ID: "liar", Version: b.storage("liar").Version, Height: 2, Time: startTime})
	b.is("liar", Invalid, 2)
	if b.Stored() != 0 || b.heldFrom() != 0 {
		t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
	}
}

func TestRemoveStorage(t *testing.T) {
	b := newTable(t, smallSettings())
	for _, id := range []string{"a", "b", "c"} {
		b.node(id, 0)
	}
	b.fill(8)
	b.mine()
	b.ack("a", 2)
	b.ack("b", 2)
	b.refused(&RemoveStorage{ID: "x", Time: startTime}, ErrUnknownNode)
	b.refused(&RemoveStorage{ID: "a", Time: startTime}, wire.ErrTooFewCopies) // c has no blocks yet
	b.ack("c", 2)
	b.ok(&RemoveStorage{ID: "a", Time: startTime})
	if b.storage("a") != nil || len(b.Storages()) != 2 {
		t.Fatalf("%+v", b.Storages())
	}
	b.refused(&Register{Role: RoleStorage, ID: "a", URL: "http://a", Time: startTime}, wire.ErrRemoved)
	b.refused(&RemoveStorage{ID: "b", Time: startTime}, wire.ErrTooFewCopies)
	b.ok(&RemoveStorage{ID: "b", Force: true, Time: startTime})
	if e := b.IntegrityLog().Events; len(e) != 2 || e[0].Kind != EventRemoved || e[1].Node != "b" || e[1].Number != 1 {
		t.Errorf("%+v", e)
	}
}

// TestDeadMinersMakeRoom checks that a full table has room for a new miner if one is dead, and that the one goes that
// has been dead longest.
func TestDeadMinersMakeRoom(t *testing.T) {
	b := newTable(t, smallSettings())
	register := func(id string) *Register {
		return &Register{Role: RoleMiner, ID: id, URL: "http://" + id, Boot: "1", Time: startTime}
	}
	b.refused(&MarkMiners{Time: startTime}, ErrBadCommand)
	b.refused(&RemoveMiner{ID: "x", Time: startTime}, ErrBadCommand)
	b.ok(&RaiseLevel{Level: LevelMiners, Time: startTime})
	for i := range maxWorkers {
		b.ok(register(fmt.Sprintf("%03d", i)))
	}
	b.refused(register("new"), ErrBadCommand)
	dead := func(age uint64, ids ...string) {
		c := &MarkMiners{Time: startTime, Age: age}
		for _, id := range ids {
			c.Miners = append(c.Miners, MinerMark{ID: id, Boot: "1", Dead: true})
		}
		b.ok(c)
	}
	dead(100, "200")
	dead(200, "010", "200", "unknown") // the first mark counts
	b.ok(&MarkMiners{Time: startTime, Age: 250, Miners: []MinerMark{{ID: "020", Boot: "older", Dead: true}}})
	dead(300, "030")
	b.ok(&MarkMiners{Time: startTime, Age: 350, Miners: []MinerMark{{ID: "030", Boot: "1"}}}) // it answers again
	restored := restored(t, b.State)
	b.ok(register("new"))
	b.ok(register("newer"))
	b.refused(register("newest"), ErrBadCommand)
	for _, id := range []string{"200", "010"} {
		if slices.ContainsFunc(b.Miners(), func(m Miner) bool { return m.ID == id }) {
			t.Errorf("%s is still in the table", id)
		}
	}
	if len(b.Miners()) != maxWorkers || len(restored.Miners()) != maxWorkers || !restored.Miners()[200].Dead {
		t.Errorf("%d miners, %d restored", len(b.Miners()), len(restored.Miners()))
	}
	if events := b.IntegrityLog().Events; len(events) > 0 {
		t.Errorf("%+v", events)
	}
	dead(400, "100")
	b.ok(register("100")) // it registers again
	if m, _ := find(b.miners, func(m *Miner) bool { return m.ID == "100" }); m.Dead || m.DeadAge != 0 {
		t.Errorf("%+v", m)
	}
}

// TestRemoveMiner checks the removal by a person, which is permanent and recorded, and that after a time, which is
// neither.
func TestRemoveMiner(t *testing.T) {
	b := newTable(t, smallSettings())
	b.ok(&RaiseLevel{Level: LevelMiners, Time: startTime})
	for _, id := range []string{"a", "b"} {
		b.ok(&Register{Role: RoleMiner, ID: id, URL: "http://" + id, Time: startTime})
	}
	b.refused(&RemoveMiner{ID: "x", Time: startTime}, ErrUnknownNode)
	b.refused(&RemoveMiner{ID: "a", Expired: true, Time: startTime, Age: 2 * MinerExpiry}, ErrStale)
	b.ok(&MarkMiners{Miners: []MinerMark{{ID: "a", Dead: true}}, Time: startTime, Age: 3 * MinerExpiry})
	b.refused(&RemoveMiner{ID: "a", Expired: true, Time: startTime, Age: 4*MinerExpiry - 1}, ErrStale)
	b.ok(&RemoveMiner{ID: "a", Expired: true, Time: startTime, Age: 4 * MinerExpiry})
	b.ok(&Register{Role: RoleMiner, ID: "a", URL: "http://a", Time: startTime})
	if events := b.IntegrityLog().Events; len(events) > 0 {
		t.Errorf("%+v", events)
	}
	b.ok(&RemoveMiner{ID: "b", Time: startTime})
	b.refused(&Register{Role: RoleMiner, ID: "b", URL: "http://b", Time: startTime}, wire.ErrRemoved)
	events := b.IntegrityLog().Events
	if len(events) != 1 || events[0].Kind != EventRemoved || events[0].Node != "b" || events[0].URL != "http://b" {
		t.Errorf("%+v", events)
	}
	if len(b.Miners()) != 1 {
		t.Errorf("%+v", b.Miners())
	}
}
