package leader

import (
	"testing"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
)

// TestGivenKeyIsTriedOnce checks that the leader tries to open a key once for each seal.
func TestGivenKeyIsTriedOnce(t *testing.T) {
	right := signing.LogConfig{Secret: "right", Origin: "example.com/log"}
	var err error
	if right.Key, err = signing.NewKey(right.Origin); err != nil {
		t.Fatal(err)
	}
	row := func() masterfsm.LogKey {
		sealed, err := signing.Sealer{Token: "right", Group: "g"}.Seal(right.Key)
		if err != nil {
			t.Fatal(err)
		}
		return masterfsm.LogKey{ID: "0123abcd", Public: right.Key.Public(), Sealed: sealed}
	}
	sealed := row()
	wrong := right
	wrong.Secret = "wrong"
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
