package leader

import "github.com/chainstore/chainstore/masterfsm"

// olderWorkers reports whether there are workers that may send their secret in place of a proof. ids are those that
// announced an older level. The others may have registered before the table had levels, and do so again in seconds.
func olderWorkers(v *masterfsm.View) (ids []string, there bool) {
	check := func(id string, level uint64) {
		there = there || level < masterfsm.LevelProofs
		if level > 0 && level < masterfsm.LevelProofs {
			ids = append(ids, id)
		}
	}
	for i := range v.Storages {
		check(v.Storages[i].ID, v.Storages[i].Level)
	}
	for i := range v.Miners {
		check(v.Miners[i].ID, v.Miners[i].Level)
	}
	return ids, there
}

// level raises the group's protocol level to the highest that every other member, non-voters included, has announced.
// Workers announce theirs to the table from level 2 on; only level 6 waits for them.
func (w *planner) level() {
	if w.view.Level >= masterfsm.ProtocolLevel {
		return
	}
	lowest := uint64(masterfsm.ProtocolLevel)
	w.decided.levels = map[string]uint64{}
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
			if seen := w.memory.nodes[m.ID]; seen != nil && seen.isMember {
				w.decided.levels[m.ID] = announced
			}
		}
		lowest = min(lowest, announced)
	}
	if older, there := olderWorkers(&w.view); there && w.view.Level < masterfsm.LevelProofs {
		w.decided.older = append(w.decided.older, older...)
		lowest = min(lowest, masterfsm.LevelProofs-1)
	}
	if lowest > w.view.Level {
		w.want(action{kind: actRaiseLevel})
	}
}

// approvals makes new workers need approval where this master has that flag, once the group knows approvals.
func (w *planner) approvals() {
	if w.memory.approve && !w.view.Settings.ApproveWorkers && w.view.Level >= masterfsm.LevelApprovals {
		w.want(action{kind: actApprovals})
	}
}
