package masterfsm

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chainstore/chainstore/chain"
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
		// One that lost its identity takes the place of the one that it was.
		b.ok(&Register{Role: role, ID: "new", URL: "http://w008", Time: startTime})
		if n := len(b.Storages()) + len(b.Miners()); n != maxWorkers {
			t.Errorf("%s: %d workers", role, n)
		}
	}
}

func TestRegisterStorage(t *testing.T) {
	b := newTable(t, smallSettings())
	n := b.ok(&Register{
		Role: RoleStorage, ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7}, Boot: "1", Time: startTime + 1,
	}).(*Storage)
	want := Storage{
		ID: "b", URL: "http://b", State: Valid, Version: 1, Since: startTime + 1, MasterToken: "tok", AccessHash: chain.Hash{7}, Boot: "1",
	}
	if *n != want || *b.storage("b") != want {
		t.Errorf("%+v, want %+v", *n, want)
	}
	// The result is a copy.
	n.Height = 99
	b.is("b", Valid, 0)
	// Again, at another address, with other tokens: a new version; the state began when it began.
	n = b.ok(&Register{Role: RoleStorage, ID: "b", URL: "http://b2", MasterToken: "tok2", AccessHash: chain.Hash{8}, Boot: "2", Time: startTime + 5}).(*Storage)
	want.URL, want.MasterToken, want.AccessHash, want.Boot, want.Version = "http://b2", "tok2", chain.Hash{8}, "2", 2
	if *n != want {
		t.Errorf("%+v, want %+v", *n, want)
	}
	// They are kept by id.
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
	m := b.ok(&Register{Role: RoleMiner, ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7}, Time: startTime}).(*Miner)
	want := Miner{ID: "b", URL: "http://b", MasterToken: "tok", AccessHash: chain.Hash{7}}
	if *m != want || !slices.Equal(b.Miners(), []Miner{want}) {
		t.Errorf("%+v, %+v", *m, b.Miners())
	}
	b.ok(&Register{Role: RoleMiner, ID: "a", URL: "http://a", Time: startTime})
	b.ok(&Register{Role: RoleMiner, ID: "b", URL: "http://b2", Time: startTime})
	b.ok(&Register{Role: RoleMiner, ID: "c", URL: "http://a", Time: startTime}) // in the place of a
	got := b.Miners()
	if len(got) != 2 || got[0].ID != "b" || got[0].URL != "http://b2" || got[1].ID != "c" {
		t.Errorf("%+v", got)
	}
}

// In which state a node boots, by what it has.
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
			n := b.ok(&Register{Role: RoleStorage, ID: "n", URL: "http://n", Height: c.height, Hash: c.hash, Time: startTime}).(*Storage)
			if n.State != c.state || !strings.HasPrefix(n.Cause, c.cause) || n.Height != c.height {
				t.Errorf("%s at %d: %q, want %s: %q", n.State, n.Height, n.Cause, c.state, c.cause)
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
		if state != Invalid || !strings.HasPrefix(cause, "behind: height 1 is older than the table remembers") {
			t.Errorf("%s: %q", state, cause)
		}
	})
}

func TestSetStateTransitions(t *testing.T) {
	// From where each state is reached out of Valid.
	paths := map[NodeState][]NodeState{
		Valid: nil, Sending: {Sending}, Validating: {Validating}, Invalid: {Invalid}, Receiving: {Invalid, Receiving},
	}
	for from, path := range paths {
		for to := range paths {
			b := newTable(t, smallSettings())
			b.node("n", 0)
			for _, via := range path {
				b.ok(&SetState{ID: "n", Version: b.storage("n").Version, State: via, Time: startTime + 1})
			}
			version := b.storage("n").Version
			c := &SetState{ID: "n", Version: version, State: to, Cause: "because", Time: startTime + 2}
			if !slices.Contains(transitions[from], to) {
				b.refused(c, ErrStale)
				continue
			}
			b.ok(c)
			n := b.storage("n")
			if n.State != to || n.Cause != "because" || n.Version != version+1 || n.Since != startTime+2 {
				t.Errorf("%s to %s: %+v", from, to, n)
			}
		}
		if slices.Contains(transitions[from], from) {
			t.Errorf("%s to itself", from)
		}
	}
}

func TestSetStateRefusals(t *testing.T) {
	b := newTable(t, smallSettings())
	version := b.node("n", 0).Version
	for name, c := range map[string]struct {
		command SetState
		want    error
	}{
		"unknown node":   {SetState{ID: "x", Version: version, State: Invalid}, ErrUnknownNode},
		"older version":  {SetState{ID: "n", Version: version - 1, State: Invalid}, ErrStale},
		"newer version":  {SetState{ID: "n", Version: version + 1, State: Invalid}, ErrStale},
		"unknown state":  {SetState{ID: "n", Version: version, State: "asleep"}, ErrStale},
		"no state":       {SetState{ID: "n", Version: version}, ErrStale},
		"cause too long": {SetState{ID: "n", Version: version, State: Invalid, Cause: strings.Repeat("x", maxText+1)}, ErrBadCommand},
	} {
		t.Run(name, func(t *testing.T) {
			c.command.Time = startTime + 99
			b.refused(&c.command, c.want)
		})
	}
}

// The word of a node that claims more blocks than there are must never make the masters drop what only they hold.
func TestNodeWithMoreBlocksThanThereAreNeverCounts(t *testing.T) {
	settings := smallSettings()
	settings.Replicas = 1
	b := newTable(t, settings)
	b.fill(8)
	n := b.node("liar", 2) // two blocks are cut, none is mined
	if n.State != Invalid {
		t.Fatalf("%+v", n)
	}
	for _, to := range []NodeState{Valid, Validating} {
		b.refused(&SetState{ID: "liar", Version: n.Version, State: to, Time: startTime}, ErrStale)
	}
	b.ok(&SetState{ID: "liar", Version: n.Version, State: Receiving, Time: startTime})
	b.refused(&SetState{ID: "liar", Version: n.Version + 1, State: Valid, Time: startTime}, ErrStale)
	if b.Stored() != 0 || b.heldFrom() != 0 {
		t.Errorf("stored %d, held from %d", b.Stored(), b.heldFrom())
	}
}
