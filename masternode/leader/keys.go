package leader

import (
	"bytes"
	"context"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
)

// addLogKey adds the log's first key, or the key that this master was given. If another leader was quicker, its first
// key stays.
func (l *leadership) addLogKey(view masterfsm.View, first bool) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.cfg.Log.FirstKey(view.Group)
		if err == nil {
			_, err = l.AddLogKey(ctx, key, view.Group.ID, first)
		}
		return nil, err
	}
}

// AddLogKey seals a key and commits it.
func (l *Leader) AddLogKey(ctx context.Context, key *signing.Key, group string, first bool) (*masterfsm.LogKey, error) {
	sealed, err := l.cfg.Log.Sealer(group).Seal(key)
	if err != nil {
		return nil, err
	}
	added, err := ProposeFor[*masterfsm.LogKey](ctx, l, &masterfsm.AddLogKey{
		Origin: key.Origin(), Public: key.Public(), Sealed: sealed, First: first, Time: l.Now(),
	})
	if err == nil {
		l.log.Info("the log has a key that signs", "key", key.VerifierKey(), "first", first)
	}
	return added, err
}

// logKeys founds the log's first key, and adds the key that this master was given. A master of a version without log
// keys stops at the first such command in its log, so this waits until each voter has said that it knows them.
func (w *planner) logKeys() {
	switch {
	case len(w.view.Log.Keys) == 0:
		for i := range w.members {
			m := &w.members[i]
			if seen := w.memory.nodes[m.ID]; m.Voter && m.ID != w.view.Term.Leader && (seen == nil || !seen.knowsKeys) {
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
	due  bool   // to be added: the table does not have it, or has it sealed under another cluster token
	seal []byte // of the table when due was decided, nil for none; a key is derived only for a new seal
}

// update compares the key with the table. A retired key stays retired.
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
		_, err := c.Sealer(view.Group.ID).Open(view.Log.Origin, &known)
		*g = givenKey{due: err != nil, seal: known.Sealed}
	}
}
