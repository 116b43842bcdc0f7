package leader

import (
	"github.com/chainstore/chainstore/masterfsm"
)

// level raises the group's protocol level once every other member, non-voters included, has answered with a level that
// is high enough. Until then the group keeps its level.
func (w *planner) level() {
	if w.view.Level >= masterfsm.ProtocolLevel {
		return
	}
	for i := range w.members {
		m := &w.members[i]
		if m.ID == w.view.Term.Leader {
			continue
		}
		if seen := w.memory.nodes[m.ID]; seen == nil || seen.level < masterfsm.ProtocolLevel {
			w.decided.older = append(w.decided.older, m.ID)
		}
	}
	if len(w.decided.older) == 0 {
		w.want(action{kind: actRaiseLevel})
	}
}
