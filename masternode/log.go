package masternode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/signing"
	"github.com/chainstore/chainstore/wire"
)

// logKeys has the leader found the log's first key, and give it the one that this master was given. A master of a version that does not know
// log keys stops at the first one in its log. So the leader waits until each master with a vote has announced that it knows them.
func (w *planner) logKeys() {
	switch {
	case len(w.view.Log.Keys) == 0:
		for i := range w.members {
			m := &w.members[i]
			if seen := w.memory.nodes[m.ID]; m.Voter && m.ID != w.view.Term.Leader && (seen == nil || !seen.knowsKeys) {
				w.decided.mute = append(w.decided.mute, m.ID)
			}
		}
		if len(w.decided.mute) == 0 {
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
func (g *givenKey) note(c *signing.LogConfig, view masterfsm.View) {
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

func (n *Node) logSecret(group string) signing.Sealer {
	return signing.Sealer{Token: n.cfg.Log.Secret, Group: group}
}

// foundLog gives the log its first key. Where a leader before was quicker that one's stays.
func (l *leadership) foundLog(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.node.cfg.Log.FirstKey(view.Group)
		if err == nil {
			_, err = l.node.addLogKey(ctx, key, view.Group.ID, true)
		}
		return nil, err
	}
}

// addGivenKey gives the log the key that this master was given.
func (l *leadership) addGivenKey(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		_, err := l.node.addLogKey(ctx, l.node.cfg.Log.Key, view.Group.ID, false)
		return nil, err
	}
}

// addLogKey seals a key and commits it.
func (n *Node) addLogKey(ctx context.Context, key *signing.Key, group string, first bool) (*masterfsm.LogKey, error) {
	sealed, err := n.logSecret(group).Seal(key)
	if err != nil {
		return nil, err
	}
	added, err := proposed[*masterfsm.LogKey](ctx, n, &masterfsm.AddLogKey{
		Origin: key.Origin(), Public: key.Public(), Sealed: sealed, First: first, Time: n.now(),
	})
	if err == nil {
		n.log.Info("the log has a key that signs", "key", key.VerifierKey(), "first", first)
	}
	return added, err
}

// logOf reads the log's name and keys, the group that it is of, and the size of what is published.
func (n *Node) logOf() (keys masterfsm.Log, group string, published uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { keys, group, published = s.Log(), s.Group().ID, s.Published().Boundary.Size })
	return keys, group, published
}

// Log tells the log's identity, as the leader knows it, and its witnesses, where the leader can be asked. Error: wire.ErrNoLeader.
func (n *Node) Log(ctx context.Context) (wire.Log, error) {
	if err := n.confirmShared(ctx); err != nil {
		return wire.Log{}, err
	}
	keys, _, published := n.logOf()
	l := wire.Log{Origin: keys.Origin, Keys: []wire.LogKey{}, Size: &published, Witnesses: n.cosigners(ctx)}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { l.Quorum = int(s.Settings().WitnessQuorum) })
	for i := range keys.Keys {
		l.Keys = append(l.Keys, wireLogKey(keys, &keys.Keys[i]))
	}
	return l, nil
}

func wireLogKey(of masterfsm.Log, k *masterfsm.LogKey) wire.LogKey {
	return wire.LogKey{ID: k.ID, VerifierKey: of.VerifierKey(k), Since: k.Since, Retired: k.Retired}
}

// AddLogKey makes a key that signs beside the others, and tells its public part. This master must lead: the error wraps [wire.ErrNotLeader]
// otherwise. Other errors: ErrNoLogKey where the log has no first key yet, wire.ErrTooMany.
func (n *Node) AddLogKey(ctx context.Context) (wire.LogKey, error) {
	if n.leadership.Load() == nil {
		return wire.LogKey{}, wire.ErrNotLeader
	}
	// The first key is the leader's to found. What cannot be opened here is under another cluster token, and the others would not open this one.
	if _, err := n.checkpointHere(); errors.Is(err, signing.ErrNoLogKey) {
		return wire.LogKey{}, err
	}
	keys, group, _ := n.logOf()
	key, err := signing.NewKey(keys.Origin)
	if err != nil {
		return wire.LogKey{}, err
	}
	added, err := n.addLogKey(ctx, key, group, false)
	if err != nil {
		return wire.LogKey{}, err
	}
	return wireLogKey(keys, added), nil
}

// RetireLogKey ends a key: it signs no more, and its private part leaves the table. To retire it again does nothing. It is refused where no
// other opens here, although others sign. This master must lead. Errors: wire.ErrNotLeader, wire.ErrNoLeader, masterfsm.ErrUnknownLogKey,
// wire.ErrLastKey.
func (n *Node) RetireLogKey(ctx context.Context, id string) error {
	if n.leadership.Load() == nil {
		return wire.ErrNotLeader
	}
	n.retiring.Lock()
	defer n.retiring.Unlock()
	if err := n.signsWithout(id); err != nil {
		return err
	}
	if _, err := n.propose(ctx, &masterfsm.RetireLogKey{ID: id, Time: n.now()}); err != nil {
		return err
	}
	n.log.Warn("a key of the log is retired", "id", id)
	return nil
}

// signsWithout reports why the log would not be signed without one of the keys that sign; what the table refuses by itself is left to it.
func (n *Node) signsWithout(id string) error {
	keys, group, _ := n.logOf()
	signing := keys.Signing()
	others := slices.DeleteFunc(slices.Clone(signing), func(k masterfsm.LogKey) bool { return k.ID == id })
	if len(others) == len(signing) || len(others) == 0 {
		return nil
	}
	for i := range others {
		if _, err := n.logSecret(group).Open(keys.Origin, &others[i]); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s; the others do not open under this cluster token: give the leader one of them with --checkpoint-key first", wire.ErrLastKey, id)
}

// logNotices are the notices about the log; l is nil where this master does not lead.
func (n *Node) logNotices(l *leadership) []wire.Message {
	notices := n.flagNotices()
	if keys, _, _ := n.logOf(); keys.Origin == "" {
		if mute := l.silent(); len(mute) > 0 {
			notices = append(notices, wire.Message{Code: wire.CodeLogKeyWaits, Args: wire.Args{"nodes": mute}})
		}
		return notices // else the leader is about to make it
	}
	var waits *checkpointWaitsError
	switch _, err := n.checkpointHere(); {
	case errors.As(err, &waits):
		notices = append(notices, waits.message())
	case err != nil:
		notices = append(notices, wire.Message{Code: wire.CodeNoCheckpoint, Args: wire.Args{"detail": err.Error()}})
	}
	return notices
}

// silent are the masters for which the log's first key waits; nothing where this master does not lead.
func (l *leadership) silent() []string {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mute
}

// flagNotices are about what this master's flags ask of the log that the group does not do.
func (n *Node) flagNotices() []wire.Message {
	notices := []wire.Message{}
	keys, _, _ := n.logOf()
	if keys.Origin == "" {
		return notices
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, keys.Origin); asked != keys.Origin {
		notices = append(notices, wire.Message{Code: wire.CodeOriginIgnored, Args: wire.Args{"asked": asked, "origin": keys.Origin}})
	}
	if c.Key == nil {
		return notices
	}
	known, ok := keys.Known(c.Key.Public())
	switch {
	case c.Key.Origin() != keys.Origin:
		notices = append(notices, wire.Message{
			Code: wire.CodeCheckpointKeyForeign, Args: wire.Args{"asked": c.Key.Origin(), "origin": keys.Origin},
		})
	case ok && !known.Signs():
		notices = append(notices, wire.Message{Code: wire.CodeCheckpointKeyRetired, Args: wire.Args{"key": known.ID}})
	case !ok && n.leadership.Load() == nil:
		notices = append(notices, wire.Message{Code: wire.CodeCheckpointKeyWaits})
	}
	return notices
}
