package leader

import (
	"context"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// raiseLevel asks every other member for its level again, since it may have been restarted with an older program, and
// commits the new level. No member is added meanwhile.
func (l *leadership) raiseLevel() job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		l.cfg.Changing.Lock()
		defer l.cfg.Changing.Unlock()
		var view masterfsm.View
		l.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
		lowest := uint64(masterfsm.ProtocolLevel)
		if _, older := olderWorkers(&view); older && view.Level < masterfsm.LevelProofs {
			lowest = masterfsm.LevelProofs - 1
		}
		for _, m := range l.cfg.Membership.Members() {
			if m.ID == l.cfg.Member.ID {
				continue
			}
			m.URL = view.Master(m.ID).URL
			asking, cancel := context.WithTimeout(ctx, pingTimeout)
			there, err := l.cfg.Masters.Member(asking, m.URL)
			cancel()
			switch {
			case err != nil:
				return nil, fmt.Errorf("ask master %s at %s for its protocol level: %w", m.ID, m.URL, err)
			case there.ID != m.ID:
				return nil, fmt.Errorf("ask master %s for its protocol level: master %s answers at %s",
					m.ID, there.ID, m.URL)
			}
			if err := KnowsLevel(there, view.Level+1); err != nil {
				return nil, err
			}
			lowest = min(lowest, there.Level)
			// From the new level on a member must announce its start to the others over the raft port.
			reaching, cancel := context.WithTimeout(ctx, pingTimeout)
			reached := l.cfg.Membership.Reaches(reaching, m.ID, "")
			cancel()
			if !reached {
				return nil, fmt.Errorf("%w: raise the protocol level: master %s at %s does not answer at its raft port",
					wire.ErrUnavailable, m.ID, m.URL)
			}
		}
		if _, err := l.Propose(ctx, &masterfsm.RaiseLevel{Level: lowest, Time: l.Now()}); err != nil {
			return nil, err
		}
		l.log.Info("the group's protocol level is raised: older versions of ChainStore cannot join any more",
			"level", lowest)
		return nil, nil
	}
}

// KnowsLevel returns an error if a master's program does not know a protocol level.
func KnowsLevel(m wire.Member, level uint64) error {
	if m.Level < level {
		return fmt.Errorf("%w: master %s at %s knows protocol level %d, level %d is needed: start it with "+
			"the version of ChainStore that the other masters have", wire.ErrBadRequest, m.ID, m.URL, m.Level, level)
	}
	return nil
}
