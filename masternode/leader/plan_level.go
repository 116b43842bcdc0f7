package leader

import "github.com/chainstore/chainstore/masterfsm"

// olderWorkers returns the workers whose programs send their secret in place of a proof.
func olderWorkers(v *masterfsm.View) (ids []string) {
	for i := range v.Storages {
		if s := &v.Storages[i]; s.Worker().Older {
			ids = append(ids, s.ID)
		}
	}
	for i := range v.Miners {
		if m := &v.Miners[i]; m.Worker().Older {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// level raises the group's protocol level to the highest that every other member, non-voters included, has announced.
// Workers announce theirs to the table from level 2 on; only level 6 waits for them.
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
	if older := olderWorkers(&w.view); len(older) > 0 && w.view.Level < masterfsm.LevelProofs {
		w.decided.older = append(w.decided.older, older...)
		lowest = min(lowest, masterfsm.LevelProofs-1)
	}
	if lowest > w.view.Level {
		w.want(action{kind: actRaiseLevel})
	}
}
