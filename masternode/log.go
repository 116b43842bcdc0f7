package masternode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/chain"
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

// origin is the name that this master would give a log of a group.
func (c *LogConfig) origin(group string) string {
	if c.Key != nil {
		return c.Key.Origin()
	}
	return cmp.Or(c.Origin, "chainstore/"+group)
}

// givenKey is the public part of the key that this master was given for a log, zero where it was given none, or one of another log.
func (c *LogConfig) givenKey(log masterfsm.Log) chain.Hash {
	if c.Key == nil || log.Origin != "" && log.Origin != c.Key.Origin() {
		return chain.Hash{}
	}
	return c.Key.Public()
}

// log has the leader found the log's first key, and add the one that it was given.
func (w *planner) log() {
	given := w.memory.givenKey
	switch _, known := w.view.Log.Key(func(k *masterfsm.LogKey) bool { return k.Public == given }); {
	case len(w.view.Log.Keys) == 0:
		w.want(action{kind: actFoundLog})
	case !given.IsZero() && !known:
		w.want(action{kind: actAddLogKey})
	}
}

// foundLog gives the log its first key: the one that this master was given, or a new one. Where a leader before was quicker that one's stays.
func (l *leadership) foundLog(view masterfsm.View) job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		key := l.node.cfg.Log.Key
		if key == nil {
			var err error
			if key, err = NewLogKey(l.node.cfg.Log.origin(view.Group.ID)); err != nil {
				return nil, err
			}
		}
		_, err := l.node.addLogKey(ctx, key, true)
		return nil, err
	}
}

// addGivenKey gives the log the key that this master was given.
func (l *leadership) addGivenKey() job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		_, err := l.node.addLogKey(ctx, l.node.cfg.Log.Key, false)
		return nil, err
	}
}

// addLogKey seals a key and commits it.
func (n *Node) addLogKey(ctx context.Context, key *LogKey, first bool) (*masterfsm.LogKey, error) {
	var group string
	n.cfg.Ledger.Read(func(s *masterfsm.State) { group = s.Group().ID })
	sealed, err := logSecret{token: n.cfg.Log.Secret, group: group}.seal(key)
	if err != nil {
		return nil, err
	}
	added, err := proposed[*masterfsm.LogKey](ctx, n, &masterfsm.AddLogKey{
		Origin: key.Origin(), Public: key.Public(), Sealed: sealed, First: first, Time: n.now(),
	})
	if err == nil {
		n.log.Info("the log has a key", "origin", key.Origin(), "id", added.ID, "first", first)
	}
	return added, err
}

// warnOfLog says what this master's flags ask of the log that the group does not do, and that it cannot sign.
func (n *Node) warnOfLog(log masterfsm.Log) {
	for _, notice := range n.logNotices(log) {
		n.log.Error(notice)
	}
}

// logNotices are what somebody must know of this master and the log.
func (n *Node) logNotices(log masterfsm.Log) []string {
	var notices []string
	if log.Origin == "" {
		return nil
	}
	c := &n.cfg.Log
	if asked := cmp.Or(c.Origin, log.Origin); asked != log.Origin {
		notices = append(notices, fmt.Sprintf("--origin %s changes nothing: the log's origin is %s for good", asked, log.Origin))
	}
	if c.Key != nil {
		known, ok := log.Key(func(k *masterfsm.LogKey) bool { return k.Public == c.Key.Public() })
		switch {
		case c.Key.Origin() != log.Origin:
			notices = append(notices, fmt.Sprintf("the key of --checkpoint-key is one of %s and is not used: the log's origin is %s for good",
				c.Key.Origin(), log.Origin))
		case ok && !known.Signs():
			notices = append(notices, fmt.Sprintf("the key of --checkpoint-key, %s, is retired and is not used again", known.ID))
		}
	}
	if _, err := n.checkpointHere(); err != nil {
		notices = append(notices, fmt.Sprintf("no checkpoint can be signed: %v", err))
	}
	return notices
}
