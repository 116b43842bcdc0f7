package leader

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
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

// AddLogKey seals a key as the others of the log are sealed, and commits it.
func (l *Leader) AddLogKey(ctx context.Context, key *signing.Key, group string, first bool) (*masterfsm.LogKey, error) {
	var log masterfsm.Log
	l.cfg.Ledger.Read(func(s *masterfsm.State) { log = s.Log() })
	sealed, err := l.cfg.Log.Sealer(group).As(log).Seal(key)
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

// sealAgain seals the signing keys that open here, and are not sealed under the present value of the secret, under that
// value, which all members accept. [masterfsm.AddLogKey] replaces the sealed part of a key that the table has.
func (l *leadership) sealAgain(view masterfsm.View, value string) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		sealer, keys := l.cfg.Log.Sealer(view.Group.ID), view.Log.Signing()
		if sealer.Values[0] != value {
			return nil, nil // the file has changed meanwhile: the next plan decides
		}
		for i := range keys {
			if sealer.SealedUnderFirst(view.Log.Origin, &keys[i]) {
				continue
			}
			key, err := sealer.Open(view.Log.Origin, &keys[i])
			if err != nil {
				continue // the status says so
			}
			sealed, err := sealer.Seal(key)
			if err != nil {
				return nil, err
			}
			if _, err := ProposeFor[*masterfsm.LogKey](ctx, l.Leader, &masterfsm.AddLogKey{
				Origin: key.Origin(), Public: key.Public(), Sealed: sealed, Time: l.Now(),
			}); err != nil {
				return nil, err
			}
			l.log.Info("a key of the log is sealed under the new value of its secret", "key", key.VerifierKey())
		}
		return nil, nil
	}
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
	case w.memory.seals.due && w.sealIsAccepted():
		w.want(action{kind: actSealAgain})
	}
}

// sealIsAccepted reports whether every other member has said that it accepts the value that this master seals with. A
// member of an older version does not say it.
func (w *planner) sealIsAccepted() bool {
	for i := range w.members {
		id := w.members[i].ID
		if id == w.view.Term.Leader {
			continue
		}
		seen := w.memory.nodes[id]
		if seen == nil || w.now.Sub(seen.answered) >= diskKnown || !slices.ContainsFunc(seen.secrets,
			func(u wire.SecretUse) bool { return u.Secret == wire.SecretSeal && u.Accepts(w.memory.seals.value) }) {
			return false
		}
	}
	return true
}

// seals is what the leader knows of the seals of the log's keys.
type seals struct {
	due   bool     // a key opens here, and is not sealed under the present value of the secret
	value string   // the fingerprint of that value
	seen  [][]byte // the seals of the signing keys when due was decided
	first string   // the value then: keys are derived only for a new one, and for new seals
}

// update compares the seals with the secret. own are the secrets of this master.
func (s *seals) update(c *signing.LogConfig, view masterfsm.View, own []wire.SecretUse) {
	sealer := c.Sealer(view.Group.ID)
	keys := view.Log.Signing()
	seen := make([][]byte, len(keys))
	for i := range keys {
		seen[i] = keys[i].Sealed
	}
	first := sealer.Values[0]
	if s.first == first && slices.EqualFunc(s.seen, seen, bytes.Equal) {
		return
	}
	*s = seals{seen: seen, first: first}
	for _, u := range own {
		if u.Secret == wire.SecretSeal {
			s.value = u.Current
		}
	}
	for i := range keys {
		if sealer.SealedUnderFirst(view.Log.Origin, &keys[i]) {
			continue
		}
		_, err := sealer.Open(view.Log.Origin, &keys[i])
		s.due = s.due || err == nil
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
