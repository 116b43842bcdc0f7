package masternode

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// LogConfig is how a master takes part in the group's log.
type LogConfig struct {
	// Secret is the cluster token: the log's private keys lie in the table sealed under it.
	Secret string
	// Origin is the name that the log gets from the leader that founds its first key, "" for that of Key, or for chainstore/ and the group's
	// id. A log that has a name keeps it.
	Origin string
	// Key is a private key that the log is to have: its first where it has none. nil for none: the leader makes the first.
	Key *LogKey
}

func (c *LogConfig) validate() error {
	if c.Secret == "" {
		return errors.New("masternode: the cluster token is needed, under which the log's keys are sealed")
	}
	if c.Origin != "" {
		if err := masterfsm.CheckNoteName(c.Origin); err != nil {
			return err
		}
	}
	if c.Key != nil && c.Origin != "" && c.Origin != c.Key.Origin() {
		return fmt.Errorf("%w: the log's key is one of %q, and its origin is to be %q: they must be the same", masterfsm.ErrBadCommand, c.Key.Origin(), c.Origin)
	}
	return nil
}

// firstKey is the key that this master founds the log of a group with. A group that was recovered without the key of before has another
// default origin in each epoch: no origin is to have keys of which the later do not follow from the first.
func (c *LogConfig) firstKey(group masterfsm.Group) (*LogKey, error) {
	if c.Key != nil {
		return c.Key, nil
	}
	origin := "chainstore/" + group.ID
	if group.Epoch > 1 {
		origin += fmt.Sprint("/", group.Epoch)
	}
	return NewLogKey(cmp.Or(c.Origin, origin))
}

// logKeys has the leader found the log's first key, and give it the one that this master was given. A master of a version that does not know
// log keys stops at the first one in its log: so it waits until each that has a vote has said that it does.
func (w *planner) logKeys() {
	switch {
	case len(w.view.Log.Keys) == 0:
		for i := range w.members {
			m := &w.members[i]
			if seen := w.memory.nodes[m.ID]; m.Voter && m.ID != w.view.Term.Leader && (seen == nil || !seen.signs) {
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
func (g *givenKey) note(c *LogConfig, view masterfsm.View) {
	if c.Key == nil || c.Key.Origin() != view.Log.Origin {
		*g = givenKey{}
		return
	}
	known, ok := view.Log.Known(c.Key.Public())
	switch {
	case !ok || !known.Signs():
		*g = givenKey{due: !ok}
	case g.seal == nil || !bytes.Equal(g.seal, known.Sealed):
		_, err := logSecret{token: c.Secret, group: view.Group.ID}.open(view.Log.Origin, &known)
		*g = givenKey{due: err != nil, seal: known.Sealed}
	}
}

func (n *Node) logSecret(group string) logSecret {
	return logSecret{token: n.cfg.Log.Secret, group: group}
}

// foundLog gives the log its first key. Where a leader before was quicker that one's stays.
func (l *leadership) foundLog(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.node.cfg.Log.firstKey(view.Group)
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
func (n *Node) addLogKey(ctx context.Context, key *LogKey, group string, first bool) (*masterfsm.LogKey, error) {
	sealed, err := n.logSecret(group).seal(key)
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

// Log tells the log's identity, as the leader knows it, and its witnesses, where the leader can be asked. Error: ErrNoLeader.
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

// AddLogKey makes a key that signs beside the others, and tells its public part. This master must lead: the error wraps [ErrNotLeader]
// otherwise. Other errors: ErrNoLogKey where the log has no first key yet, masterfsm.ErrTooMany.
func (n *Node) AddLogKey(ctx context.Context) (wire.LogKey, error) {
	if n.leadership.Load() == nil {
		return wire.LogKey{}, ErrNotLeader
	}
	// The first key is the leader's to found. What cannot be opened here is under another cluster token, and the others would not open this one.
	if _, err := n.checkpointHere(); errors.Is(err, ErrNoLogKey) {
		return wire.LogKey{}, err
	}
	keys, group, _ := n.logOf()
	key, err := NewLogKey(keys.Origin)
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
// other opens here, although others sign. This master must lead. Errors: ErrNotLeader, ErrNoLeader, masterfsm.ErrUnknownLogKey,
// masterfsm.ErrLastLogKey.
func (n *Node) RetireLogKey(ctx context.Context, id string) error {
	if n.leadership.Load() == nil {
		return ErrNotLeader
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
		if _, err := n.logSecret(group).open(keys.Origin, &others[i]); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: %s; the others do not open under this cluster token: give the leader one of them with --checkpoint-key first", masterfsm.ErrLastLogKey, id)
}

// logNotices are what somebody must know of the log; l is nil where this master does not lead.
func (n *Node) logNotices(l *leadership) []string {
	notices := n.flagNotices()
	if keys, _, _ := n.logOf(); keys.Origin == "" {
		if mute := l.silent(); len(mute) > 0 {
			notices = append(notices, fmt.Sprintf("the log gets its first key once all masters say that they know log keys: %s did not; start it, with this version, or remove it",
				strings.Join(mute, ", ")))
		}
		return notices // else the leader is about to make it
	}
	if _, err := n.checkpointHere(); err != nil {
		notices = append(notices, err.Error())
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

// flagNotices are what this master's flags ask of the log that the group does not do.
func (n *Node) flagNotices() []string {
	notices := []string{}
	keys, _, _ := n.logOf()
	if keys.Origin == "" {
		return notices
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, keys.Origin); asked != keys.Origin {
		notices = append(notices, fmt.Sprintf("--origin %s changes nothing: the log's origin is %s for good", asked, keys.Origin))
	}
	if c.Key == nil {
		return notices
	}
	known, ok := keys.Known(c.Key.Public())
	switch {
	case c.Key.Origin() != keys.Origin:
		notices = append(notices, fmt.Sprintf("the key of --checkpoint-key is one of %s and is not used: the log's origin is %s for good",
			c.Key.Origin(), keys.Origin))
	case ok && !known.Signs():
		notices = append(notices, fmt.Sprintf("the key of --checkpoint-key, %s, is retired and is not used again", known.ID))
	case !ok && n.leadership.Load() == nil:
		notices = append(notices, "the key of --checkpoint-key is not in the log yet: it is added when this master leads ('chainstore master transfer')")
	}
	return notices
}
