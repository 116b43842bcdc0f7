package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
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
		if err := masterfsm.CheckOrigin(c.Origin); err != nil {
			return err
		}
	}
	if c.Key != nil && c.Origin != "" && c.Origin != c.Key.Origin() {
		return fmt.Errorf("%w: the log's key is one of %q, and its origin is to be %q: they must be the same", masterfsm.ErrBadCommand, c.Key.Origin(), c.Origin)
	}
	return nil
}

// firstKey is the key that this master founds the log of a group with.
func (c *LogConfig) firstKey(group string) (*LogKey, error) {
	if c.Key != nil {
		return c.Key, nil
	}
	return NewLogKey(cmp.Or(c.Origin, "chainstore/"+group))
}

// log has the leader found the log's first key, and give it the one that this master was given.
func (w *planner) log() {
	switch {
	case len(w.view.Log.Keys) == 0:
		w.want(action{kind: actFoundLog})
	case w.memory.keyDue:
		w.want(action{kind: actAddLogKey})
	}
}

// logKeyDue reports whether the log is to have the key that this master was given: the table does not know it, or has it under a seal of another
// cluster token. A key that was retired stays so.
func (n *Node) logKeyDue(view masterfsm.View) bool {
	key := n.cfg.Log.Key
	if key == nil || key.Origin() != view.Log.Origin {
		return false
	}
	known, ok := view.Log.Known(key.Public())
	if !ok || !known.Signs() {
		return !ok
	}
	_, err := n.logSecret(view.Group.ID).open(view.Log.Origin, &known)
	return err != nil
}

func (n *Node) logSecret(group string) logSecret {
	return logSecret{token: n.cfg.Log.Secret, group: group}
}

// foundLog gives the log its first key. Where a leader before was quicker that one's stays.
func (l *leadership) foundLog(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key, err := l.node.cfg.Log.firstKey(view.Group.ID)
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

// logOf reads the log's identity, the group that it is of, and the size of what is published.
func (n *Node) logOf() (log masterfsm.Log, group string, published uint64) {
	n.cfg.Ledger.Read(func(s *masterfsm.State) { log, group, published = s.Log(), s.Group().ID, s.Published().Boundary.Size })
	return log, group, published
}

// Log tells the log's identity, as the leader knows it, and its witnesses, where the leader can be asked. Error: ErrNoLeader.
func (n *Node) Log(ctx context.Context) (wire.Log, error) {
	if err := n.confirmTogether(ctx); err != nil {
		return wire.Log{}, err
	}
	log, _, published := n.logOf()
	l := wire.Log{Origin: log.Origin, Keys: []wire.LogKey{}, Size: &published, Witnesses: n.cosigners(ctx)}
	n.cfg.Ledger.Read(func(s *masterfsm.State) { l.Quorum = int(s.Settings().WitnessQuorum) })
	for i := range log.Keys {
		l.Keys = append(l.Keys, wireLogKey(log, &log.Keys[i]))
	}
	return l, nil
}

func wireLogKey(log masterfsm.Log, k *masterfsm.LogKey) wire.LogKey {
	return wire.LogKey{ID: k.ID, VerifierKey: log.VerifierKey(k), Since: k.Since, Retired: k.Retired}
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
	log, group, _ := n.logOf()
	key, err := NewLogKey(log.Origin)
	if err != nil {
		return wire.LogKey{}, err
	}
	added, err := n.addLogKey(ctx, key, group, false)
	if err != nil {
		return wire.LogKey{}, err
	}
	return wireLogKey(log, added), nil
}

// RetireLogKey ends a key: it signs no more, and its private part is gone. To retire it again does nothing. This master must lead. Errors:
// ErrNotLeader, ErrNoLeader, masterfsm.ErrUnknownLogKey, masterfsm.ErrLastLogKey.
func (n *Node) RetireLogKey(ctx context.Context, id string) error {
	if _, err := n.propose(ctx, &masterfsm.RetireLogKey{ID: id, Time: n.now()}); err != nil {
		return err
	}
	n.log.Warn("a key of the log is retired", "id", id)
	return nil
}

// logNotices are what somebody must know of the log.
func (n *Node) logNotices() []string {
	notices := n.flagNotices()
	if log, _, _ := n.logOf(); log.Origin == "" {
		return notices // the leader is about to make the first key
	}
	if _, err := n.checkpointHere(); err != nil {
		notices = append(notices, err.Error())
	}
	return notices
}

// flagNotices are what this master's flags ask of the log that the group does not do.
func (n *Node) flagNotices() []string {
	notices := []string{}
	log, _, _ := n.logOf()
	if log.Origin == "" {
		return notices
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, log.Origin); asked != log.Origin {
		notices = append(notices, fmt.Sprintf("--origin %s changes nothing: the log's origin is %s for good", asked, log.Origin))
	}
	if c.Key == nil {
		return notices
	}
	known, ok := log.Known(c.Key.Public())
	switch {
	case c.Key.Origin() != log.Origin:
		notices = append(notices, fmt.Sprintf("the key of --checkpoint-key is one of %s and is not used: the log's origin is %s for good",
			c.Key.Origin(), log.Origin))
	case ok && !known.Signs():
		notices = append(notices, fmt.Sprintf("the key of --checkpoint-key, %s, is retired and is not used again", known.ID))
	}
	return notices
}
