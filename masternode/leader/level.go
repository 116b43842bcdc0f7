package leader

import (
	"context"
	"fmt"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// raiseLevel asks every other member for its level again, since it may have been restarted with an older program, and
// commits the new level. No member is added meanwhile. From the level of keys on the first key of a member is taken at
// the addresses that the table has. So before that the leader records its own, and the others must answer with theirs.
func (l *leadership) raiseLevel() job {
	return func(ctx context.Context) (func(*memory, time.Time), error) {
		l.cfg.Changing.Lock()
		defer l.cfg.Changing.Unlock()
		if err := l.recordSelf(ctx); err != nil {
			return nil, err
		}
		var view masterfsm.View
		l.cfg.Ledger.Read(func(s *masterfsm.State) { view = s.View() })
		var moved error // a member that has not announced its addresses yet
		lowest := uint64(masterfsm.ProtocolLevel)
		if _, older := olderWorkers(&view); older && view.Level < masterfsm.LevelProofs {
			lowest = masterfsm.LevelProofs - 1
		}
		for _, m := range l.cfg.Membership.Members() {
			if m.ID == l.cfg.Member.ID {
				continue
			}
			row := view.Master(m.ID)
			m.URL = row.URL
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
			if there.URL != row.URL || there.Raft != row.Raft || m.Raft != row.Raft {
				moved = fmt.Errorf("%w: raise the protocol level: the table has master %s at %s and %s, raft at %s, "+
					"and it announces %s and %s",
					wire.ErrUnavailable, m.ID, row.URL, row.Raft, m.Raft, there.URL, there.Raft)
			}
			// From the new level on a member must announce its start to the others over the raft port.
			reaching, cancel := context.WithTimeout(ctx, pingTimeout)
			reached := l.cfg.Membership.Reaches(reaching, m.ID, "")
			cancel()
			if !reached {
				return nil, fmt.Errorf("%w: raise the protocol level: master %s at %s does not answer at its raft port",
					wire.ErrUnavailable, m.ID, m.URL)
			}
		}
		if moved != nil && view.Level < masterfsm.LevelJoining {
			if lowest = min(lowest, masterfsm.LevelJoining-1); lowest <= view.Level {
				return nil, moved
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

// recordSelf commits the addresses of this master, below the level of keys, unless the table has them.
func (l *leadership) recordSelf(ctx context.Context) error {
	var level uint64
	var row masterfsm.Master
	own := l.cfg.Membership.Member()
	l.cfg.Ledger.Read(func(s *masterfsm.State) {
		view := s.View()
		level, row = view.Level, view.Master(own.ID)
	})
	if level >= masterfsm.LevelJoining || row.URL == l.cfg.Member.URL && row.Raft == own.Raft {
		return nil
	}
	_, err := l.Propose(ctx, &masterfsm.AdmitMaster{
		ID: own.ID, URL: l.cfg.Member.URL, Raft: own.Raft, Take: true, Time: l.Now(),
	})
	return err
}

// KnowsLevel returns an error if a master's program does not know a protocol level.
func KnowsLevel(m wire.Member, level uint64) error {
	if m.Level < level {
		return fmt.Errorf("%w: master %s at %s knows protocol level %d, level %d is needed: start it with "+
			"the version of ChainStore that the other masters have", wire.ErrBadRequest, m.ID, m.URL, m.Level, level)
	}
	return nil
}
