package leader

import (
	"bytes"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
)

// logKeys has the leader found the log's first key, and give it the one that this master was given. A master of a version that does not know
// log keys stops at the first one in its log: so it waits until each that has a vote has said that it does.
func (w *planner) logKeys() {
	switch {
	case len(w.view.Log.Keys) == 0:
		for i := range w.members {
			m := &w.members[i]
			if seen := w.memory.nodes[m.ID]; m.Voter && m.ID != w.view.Term.Leader && (seen == nil || !seen.signs) {
				w.decided.noLogKeys = append(w.decided.noLogKeys, m.ID)
			}
		}
		if len(w.decided.noLogKeys) == 0 {
			w.want(action{kind: actFoundLog})
		}
	case w.memory.givenKey.due:
		w.want(action{kind: actAddLogKey})
	}
}

// givenKey is what the leader knows of the key that this master was given.
type givenKey struct {
	due  bool   // the log is to have it: the table does not know it, or has it under a seal of another cluster token
	seal []byte // under which the table had it when that was decided, nil for none: to try one costs the derivation of a key
}

// note holds the table against the key. One that was retired stays so.
func (g *givenKey) update(c *signing.LogConfig, view masterfsm.View) {
	if c.Key == nil || c.Key.Origin() != view.Log.Origin {
		*g = givenKey{}
		return
	}
	known, ok := view.Log.Known(c.Key.Public())
	switch {
	case !ok || !known.Signs():
		*g = givenKey{due: !ok}
	case g.seal == nil || !bytes.Equal(g.seal, known.Sealed):
		_, err := signing.Sealer{Token: c.Secret, Group: view.Group.ID}.Open(view.Log.Origin, &known)
		*g = givenKey{due: err != nil, seal: known.Sealed}
	}
}
