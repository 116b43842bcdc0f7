package leader

import (
	"testing"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// TestGivenKeyIsTriedOnce checks that the leader tries to open a key once for each seal.
func TestGivenKeyIsTriedOnce(t *testing.T) {
	right := signing.LogConfig{Secret: signing.Fixed("right"), Origin: "example.com/log"}
	var err error
	if right.Key, err = signing.NewKey(right.Origin); err != nil {
		t.Fatal(err)
	}
	row := func() masterfsm.LogKey {
		sealed, err := signing.Sealer{Values: []string{"right"}, Group: "g"}.Seal(right.Key)
		if err != nil {
			t.Fatal(err)
		}
		return masterfsm.LogKey{ID: "0123abcd", Public: right.Key.Public(), Sealed: sealed}
	}
	sealed := row()
	wrong := right
	wrong.Secret = signing.Fixed("wrong")
	view := masterfsm.View{Group: masterfsm.Group{ID: "g"}}
	var g givenKey
	is := func(when string, c *signing.LogConfig, want bool) {
		t.Helper()
		if g.update(c, view); g.due != want {
			t.Errorf("%s: due %v", when, g.due)
		}
	}
	is("no log yet", &right, false)
	view.Log.Origin = right.Origin
	is("a key that is not there", &right, true)
	view.Log.Keys = []masterfsm.LogKey{sealed}
	is("a key that opens", &right, false)
	is("the same seal", &wrong, false) // it is not tried
	view.Log.Keys = []masterfsm.LogKey{row()}
	is("another seal", &wrong, true)
	view.Log.Keys = []masterfsm.LogKey{{Public: sealed.Public, Retired: 1}}
	is("a retired key", &right, false)
}

// TestSealAgain checks when the leader seals the log's keys again: a key opens under another value than the present
// one, and every other member has said that it accepts the present one.
func TestSealAgain(t *testing.T) {
	const origin = "example.com/log"
	key, err := signing.NewKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := signing.Sealer{Values: []string{"old"}, Group: "g"}.Seal(key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0)
	view := masterfsm.View{Group: masterfsm.Group{ID: "g"}, Term: masterfsm.Term{Leader: "m1"}}
	view.Log = masterfsm.Log{Origin: origin, Keys: []masterfsm.LogKey{{Public: key.Public(), Sealed: sealed}}}
	accepts := func(list ...string) *lastSeen {
		u := wire.SecretUse{Secret: wire.SecretSeal, Current: list[0]}
		if len(list) > 1 {
			u.Next = list[1]
		}
		return &lastSeen{answered: now, secrets: []wire.SecretUse{u}}
	}
	for name, c := range map[string]struct {
		values []string
		other  *lastSeen
		want   bool
	}{
		"the present value":       {[]string{"old"}, accepts("of old"), false},
		"a next value":            {[]string{"old", "new"}, accepts("of old", "of new"), false},
		"another present value":   {[]string{"new", "old"}, accepts("of old", "of new"), true},
		"not accepted by another": {[]string{"new", "old"}, accepts("of old"), false},
		"an older version":        {[]string{"new", "old"}, &lastSeen{answered: now}, false},
		"no answer":               {[]string{"new", "old"}, nil, false},
		"an old answer": {[]string{"new", "old"}, func() *lastSeen {
			s := accepts("of new")
			s.answered = now.Add(-time.Hour)
			return s
		}(), false},
		"it does not open": {[]string{"new"}, accepts("of new"), false},
	} {
		m := newMemory(now)
		if c.other != nil {
			m.nodes["m2"] = c.other
		}
		w := &planner{
			view: view, memory: m, now: now, wanted: map[action]bool{}, pace: defaultPace(),
			members: []wire.Master{{ID: "m1", Voter: true}, {ID: "m2", Voter: true}},
		}
		own := []wire.SecretUse{{Secret: wire.SecretSeal, Current: "of " + c.values[0]}}
		m.seals.update(&signing.LogConfig{Secret: signing.Fixed(c.values...)}, view, own)
		w.logKeys()
		if got := w.wanted[action{kind: actSealAgain}]; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
