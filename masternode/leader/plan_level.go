package leader

import "github.com/chainstore/chainstore/masterfsm"

// level raises the group's protocol level to the highest that every other member, non-voters included, has announced.
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
