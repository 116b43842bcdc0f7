package masterfsm

import (
	"fmt"

	"github.com/chainstore/chainstore/chain"
)

// projectGap is how far above the highest id that was ever seen the ids of projects go on after a recovery: projects may have been made that
// nothing tells of any more.
const projectGap = 1024

// Recovery turns a state into the first of a new epoch of its group, when the masters that would have told the rest are lost: that of a
// master that survived, or the empty one. It is used offline and is in no log; what it leaves is the new group's first snapshot.
//
//	r := state.Recover(group)
//	r.Adopt(block) for each block of the storage nodes' chain beyond the state's head
//	r.Finish(heights)
type Recovery struct {
	s        *State
	verifier *chain.Verifier
	blocks   int
	dropped  int
	projects int
}

// Recovered tells what a recovery did.
type Recovered struct {
	Blocks   int // that were adopted
	Dropped  int // records of the state that did not fit behind them, or stood in the place of others
	Projects int // that were found in records alone
}

// Recover begins a recovery of the group, under an epoch that must be above all that were.
func (s *State) Recover(g Group) *Recovery {
	s.group = g
	s.waiting = nil
	return &Recovery{s: s, verifier: chain.NewVerifier(s.head)}
}

// Adopt makes a block the next of the chain, after the verifier found that it is. What the state holds of that block is the same, or goes.
// With keep the masters hold the block's body; one that the state held anyway stays. The error is the verifier's: nothing was changed.
func (r *Recovery) Adopt(b chain.Block, keep bool) error {
	leaves, err := r.verifier.Take(&b)
	if err != nil {
		return err
	}
	s, number := r.s, b.Header.Block
	own := r.own(number, leaves, b.Header)
	if err := r.count(&b, own); err != nil {
		return err
	}
	body := minedBlock(b)
	if s.heldAt(number) != nil {
		s.replace(body)
	} else {
		s.open = buffer{number: number + 1, first: b.Header.Size()}
		if keep {
			s.held = append(s.held, body)
		} else {
			s.held = nil // without a gap, or not at all: the storage nodes have them
		}
	}
	s.head = r.verifier.Head()
	if len(s.boundaries) == Boundaries {
		s.boundaries = s.boundaries[1:]
	}
	s.boundaries = append(s.boundaries, Boundary{
		Height: s.head.Height, Hash: s.head.Hash, Size: s.head.Tree.Size(), Root: s.head.Tree.Root(),
	})
	s.tick(b.Header.Time)
	r.blocks++
	return nil
}

// own is how many records of a block the state has, the same at the same places. Where it has others, all that it holds from that block on
// is dropped: it was never committed, or in another group.
func (r *Recovery) own(number uint64, leaves []chain.Hash, h chain.Header) int {
	s := r.s
	mine, first, cut := s.open.leaves, s.open.first, false
	if held := s.heldAt(number); held != nil {
		mine, first, cut = held.leaves, held.first, true
	}
	same := first == h.First && len(mine) <= int(h.Count) && (!cut || len(mine) == int(h.Count))
	for i := 0; same && i < len(mine); i++ {
		same = mine[i] == leaves[i]
	}
	if same {
		return len(mine)
	}
	for _, b := range s.held {
		if b.number >= number {
			r.dropped += len(b.ends)
			r.uncount(b.ends, b.records)
		}
	}
	r.dropped += len(s.open.ends)
	r.uncount(s.open.ends, s.open.records)
	s.held = s.held[:min(uint64(len(s.held)), number-min(number, s.heldFrom()))]
	s.open = buffer{number: number, first: h.First}
	return 0
}

// count counts a block's records for their projects, but for the first own, which the state counted when they were appended.
func (r *Recovery) count(b *chain.Block, own int) error {
	for offset := uint32(own); offset < b.Header.Count; offset++ {
		record, err := chain.ParseRecord(b.Encoded(offset))
		if err != nil {
			return err // the verifier has parsed it: cannot happen
		}
		p := r.s.projectAt(record.Project)
		if p == nil {
			p = r.restore(record.Project, record.Time)
		}
		p.Records++
	}
	return nil
}

// uncount takes records that are dropped from their projects.
func (r *Recovery) uncount(ends []uint32, records []byte) {
	for offset := range ends {
		if record, err := chain.ParseRecord(encodedAt(ends, records, uint32(offset))); err == nil {
			if p := r.s.projectAt(record.Project); p != nil {
				p.Records--
			}
		}
	}
}

// restore makes a project of an id that only records tell of: private, without a token.
func (r *Recovery) restore(id uint32, created uint64) *Project {
	s := r.s
	name := fmt.Sprintf("recovered-%d", id)
	for _, taken := s.names[name]; taken; _, taken = s.names[name] {
		name += "-"
	}
	at := len(s.projects)
	for at > 0 && s.projects[at-1].ID > id {
		at--
	}
	s.projects = append(s.projects, Project{})
	copy(s.projects[at+1:], s.projects[at:])
	s.projects[at] = Project{ID: id, Name: name, Created: created, Next: 1, Tokens: []Token{}}
	s.names[name] = id
	s.nextProject = max(s.nextProject, id+1)
	r.projects++
	return &s.projects[at]
}

// Finish ends the recovery. nodes are the heights that storage nodes are known to have on this very chain.
func (r *Recovery) Finish(nodes []NodeHeight) Recovered {
	s := r.s
	s.nextProject += projectGap
	for _, n := range nodes {
		if node := s.storage(n.ID); node != nil && node.Version == n.Version && n.Height <= s.head.Height {
			node.Height = max(node.Height, n.Height)
		}
	}
	if from := s.heldFrom(); s.stored < from {
		s.stored = from // the bodies are not here: they are on a storage node, or lost
	}
	s.pendingBytes, s.retained = uint64(len(s.open.records)), 0
	for _, b := range s.held {
		if b.number < s.stored {
			s.retained += b.size()
		} else {
			s.pendingBytes += b.size()
		}
	}
	s.prepare()
	s.settle()
	return Recovered{Blocks: r.blocks, Dropped: r.dropped, Projects: r.projects}
}
