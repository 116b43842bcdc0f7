package masternode

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// level has the leader raise the group's protocol level to the highest that every other member, non-voters included, has announced.
func (w *planner) level() {
	if w.view.Level >= masterfsm.ProtocolLevel {
		return
	}
	lowest := uint64(masterfsm.ProtocolLevel)
	for i := range w.members {
		m := &w.members[i]
		if m.ID == w.view.Term.Leader {
			continue
		}
		announced := w.view.Level
		if seen := w.memory.nodes[m.ID]; seen != nil {
			announced = seen.level
		}
		if announced < masterfsm.ProtocolLevel {
			w.decided.older = append(w.decided.older, m.ID)
		}
		lowest = min(lowest, announced)
	}
	if lowest > w.view.Level {
		w.want(action{kind: actRaiseLevel})
	}
}

// raiseLevel asks every other member for its level once more, since one may have been started again with an older program, and commits the
// new level. No member is let in meanwhile.
func (l *leadership) raiseLevel() job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		n := l.node
		n.changing.Lock()
		defer n.changing.Unlock()
		members, v := n.group()
		lowest := uint64(masterfsm.ProtocolLevel)
		for _, m := range members {
			if m.ID == n.cfg.Member.ID {
				continue
			}
			asking, cancel := context.WithTimeout(ctx, answerTime)
			there, err := n.cfg.Masters.Member(asking, m.URL)
			cancel()
			switch {
			case err != nil:
				return nil, fmt.Errorf("ask master %s at %s for its protocol level: %w", m.ID, m.URL, err)
			case there.ID != m.ID:
				return nil, fmt.Errorf("ask master %s for its protocol level: master %s answers at %s", m.ID, there.ID, m.URL)
			}
			if err := n.knowsLevel(there, v.Level+1); err != nil {
				return nil, err
			}
			lowest = min(lowest, there.Level)
			// From the new level on its start counts, which it can tell the others over the raft port alone.
			reaching, cancel := context.WithTimeout(ctx, answerTime)
			reached := n.cfg.Membership.Reaches(reaching, m.ID, "")
			cancel()
			if !reached {
				return nil, fmt.Errorf("%w: raise the protocol level: master %s at %s does not answer at its raft port", wire.ErrUnavailable, m.ID, m.URL)
			}
		}
		if _, err := n.propose(ctx, &masterfsm.RaiseLevel{Level: lowest, Time: n.now()}); err != nil {
			return nil, err
		}
		n.log.Info("the group's protocol level is raised: older versions of ChainStore cannot join any more",
			"level", lowest)
		return nil, nil
	}
}

// knowsLevel returns an error where the program of a master does not know a protocol level.
func (n *Node) knowsLevel(m wire.Member, level uint64) error {
	if m.Level < level {
		return fmt.Errorf("%w: master %s at %s knows protocol level %d, level %d is needed: start it with the version of ChainStore "+
			"that the other masters have", wire.ErrBadRequest, m.ID, m.URL, m.Level, level)
	}
	return nil
}

// levelNotices are the notices about the group's protocol level; l is nil where this master does not lead.
func (l *leadership) levelNotices(level uint64) []wire.Message {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.older) == 0 {
		return nil
	}
	return []wire.Message{{
		Code: wire.CodeLevelWaits,
		Args: wire.Args{"level": level, "next": uint64(masterfsm.ProtocolLevel), "nodes": slices.Clone(l.older)},
	}}
}
