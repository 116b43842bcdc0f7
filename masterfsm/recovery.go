package masterfsm

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Recovery turns a state into the first one of a new epoch of its group, when a majority of the masters is lost. The
// state is that of a master that survived, or an empty one. A recovery runs offline and is in no log; its result is the
// new group's first snapshot.
//
//	r := state.Recover(group)
//	r.Adopt(block) for each block of the storage nodes' chain beyond the state's head
//	r.SetTime(time)
//	r.Finish(stored, heights)
type Recovery struct {
	s        *State
	verifier *chain.Verifier
	bytes    uint64 // of records in the blocks that the state holds
	done     Recovered
	trail    recoveryTrail
}

// Recovered is the summary of a recovery.
type Recovered struct {
	Blocks int // that were adopted
	// records of the state that were never committed: the chain has others in their place, or in the place of one
	// before
	Dropped  int
	Keys     int // idempotency keys that were forgotten with them
	Streams  int // append streams that were forgotten with them, or because of blocks that were adopted
	Projects int // that were found in records alone
	// Single blocks are on fewer storage nodes than the settings ask, and are more than the masters may hold: those
	// right before the first that they hold.
	Single uint64
}

// OnStorage is the number of blocks, from block 0 on, that some storage node was known to have. A leader sends them
// only committed blocks, so these blocks are the group's even if the end of the log is not.
func (s *State) OnStorage() uint64 {
	on := s.stored
	for i := range s.storages {
		if n := &s.storages[i]; n.OnGroupChain && n.Height <= s.head.Height {
			on = max(on, n.Height)
		}
	}
	return on
}

// Recover begins a recovery of the group under an epoch that must be higher than all before. The state may be older
// than what an administrator has revoked or refused since. So no open join ticket and no approval of a worker stays.
func (s *State) Recover(g Group) *Recovery {
	before := s.group
	s.group = g
	s.waiting = nil
	s.tickets = slices.DeleteFunc(slices.Clone(s.tickets), func(t Ticket) bool { return t.Member == "" })
	s.waitingWorkers = nil
	r := &Recovery{s: s, verifier: chain.NewVerifier(s.head)}
	r.trail.before = before
	for number := s.heldFrom(); number < s.open.number; number++ {
		r.bytes += s.heldAt(number).size()
	}
	return r
}

// Adopt appends a block to the chain after the verifier accepted it. Records that the state holds in place of it are
// dropped. The masters hold its body, and drop the oldest bodies when they exceed RetainBytes plus MaxPendingBytes. An
// error is the verifier's: nothing was changed.
func (r *Recovery) Adopt(b chain.Block) error {
	leaves, err := r.verifier.Take(&b)
	if err != nil {
		return err
	}
	s, number := r.s, b.Header.Block
	own, differs := s.compare(leaves, &b.Header)
	if differs { // what the state has was never committed, or in another group
		r.drop(number, own)
	}
	r.count(&b, own)
	body := minedBlock(b, slices.Clone(leaves[:b.Header.Count]))
	if held := s.heldAt(number); held != nil {
		r.bytes -= held.size()
		s.replace(body)
	} else {
		s.open = heldBlock{number: number + 1, first: b.Header.Size()}
		s.held = append(s.held, body)
	}
	r.bytes += body.size()
	s.extend(r.verifier.Head())
	s.now = max(s.now, b.Header.Time)
	r.done.Blocks++
	r.shed()
	return nil
}

// compare returns how many of a block's first records the state has at the same positions. differs says that it has
// other records behind them, or cut the block at another place or time.
func (s *State) compare(leaves []chain.Hash, h *chain.Header) (same uint32, differs bool) {
	mine := s.bodyAt(h.Block)
	for same < mine.count() && same < h.Count && mine.leaves[same] == leaves[same] {
		same++
	}
	return same, same < mine.count() || mine != &s.open && (same < h.Count || mine.time != h.Time)
}

// Contradicts reports whether adopting a block would drop records that the state holds: the block has other records at
// the same positions, or ends before them.
func (s *State) Contradicts(b *chain.Block) bool {
	number := b.Header.Block
	if number < s.head.Height || number > s.open.number {
		return false
	}
	same, differs := s.compare(b.Leaves(nil), &b.Header)
	behind := number+1 < s.open.number || number < s.open.number && len(s.open.ends) > 0
	return same < s.bodyAt(number).count() || behind && differs
}

// drop removes all records that the state holds from a position on.
func (r *Recovery) drop(block uint64, offset uint32) {
	s := r.s
	r.forget(block, offset)
	s.reports = nil // the record of one may be dropped, and the node reports again
	first, _ := s.firstOf(block)
	s.intents = slices.DeleteFunc(slices.Clone(s.intents),
		func(i Intent) bool { return i.Index >= first+uint64(offset) })
	for number := block; number < s.open.number; number++ {
		b := s.heldAt(number)
		r.uncount(b, offset)
		r.bytes -= b.size()
		offset = 0
	}
	r.uncount(&s.open, offset)
	s.held = s.held[:block-s.heldFrom()]
	s.open = heldBlock{number: block, first: first}
}

// count adds a block's records to the counts of their projects, except for the first own, which were counted when they
// were appended.
func (r *Recovery) count(b *chain.Block, own uint32) {
	for offset := own; offset < b.Header.Count; offset++ {
		leaf := chain.EncodedLeaf(b.Encoded(offset), chain.Hash{})
		p := r.s.projectAt(leaf.Project)
		if p == nil {
			p = r.restore(leaf.Project, leaf.Time)
		}
		p.Records++
	}
}

// uncount subtracts the dropped records of a block, those from an offset on, from the counts of their projects.
func (r *Recovery) uncount(b *heldBlock, from uint32) {
	for offset := from; offset < b.count(); offset++ {
		r.done.Dropped++
		if chain.EncodedLeaf(b.encoded(offset), chain.Hash{}).Project == trail.ProjectID {
			r.trail.dropped++
		}
		if p := r.s.projectAt(chain.EncodedLeaf(b.encoded(offset), chain.Hash{}).Project); p != nil {
			p.Records--
		}
	}
}

// restore makes a project for an id that occurs only in records. It is private and has no token. The id of the audit
// trail is known.
func (r *Recovery) restore(id uint32, created uint64) *Project {
	s := r.s
	if id == trail.ProjectID {
		if p := s.foundAudit(created); p != nil {
			r.trail.renamed = p.ID
		}
		return s.audit
	}
	name := fmt.Sprintf("recovered-%d", id)
	for _, taken := s.names[name]; taken; _, taken = s.names[name] {
		name += "-"
	}
	s.projects = put(s.projects, Project{ID: id, Name: name, Created: created, Next: 1, Tokens: []Token{}}, projectID)
	s.names[name] = id
	r.done.Projects++
	return s.projectAt(id)
}

// shed drops the oldest bodies if the masters hold more than they may. A storage node has them.
func (r *Recovery) shed() {
	s := r.s
	for len(s.held) > 0 && s.held[0].mined && r.bytes > s.settings.RetainBytes &&
		r.bytes-s.settings.RetainBytes > s.settings.MaxPendingBytes {
		r.bytes -= s.held[0].size()
		clear(s.held[:1]) // so that its memory is free
		s.held = s.held[1:]
	}
}

// Isolate removes all masters, storage nodes and miners, so that the new group calls none of them.
func (r *Recovery) Isolate() {
	s := r.s
	s.masters, s.storages, s.miners, s.term.URL = nil, nil, nil, ""
	r.trail.isolated = true
	s.tls = wire.TLSState{Change: s.tls.Change + 1} // the first master may have no certificates
}

// AtLeastTLS makes the step of TLS at least another one of the group. The survivor's table may be older than its file
// of the step: a recovery must not bring plain text back.
func (r *Recovery) AtLeastTLS(step wire.TLSStep) {
	s := r.s
	if s.level < LevelTLSSteps || wire.LaterTLS(s.tls.Step, step) == s.tls.Step {
		return
	}
	s.tls = wire.TLSState{Step: step, Change: s.tls.Change + 1}
	s.useSchemes()
}

// SetTime moves the table's time forward, to that of the clock of the operator who recovers the group. The group may
// have been down for long, and its first master alone cannot move the time so far. An absurd time is ignored.
func (r *Recovery) SetTime(time uint64) {
	if time <= MaxTime {
		r.s.now = max(r.s.now, time)
	}
}

// ForgetLog removes the log's name, keys and checkpoints. The next leader founds another log, with another name and key
// than those that were closed. It does not continue any of these.
func (r *Recovery) ForgetLog() {
	s, empty := r.s, New()
	closed := slices.Clone(s.log.Closed)
	for i := range closed {
		closed[i].Size, closed[i].Root = 0, chain.Hash{}
	}
	s.log, s.cosigned = Log{Closed: closed}, empty.cosigned
	s.checkpoint, s.published = empty.checkpoint, empty.published
	r.trail.logForgotten = true
}

// Finish ends the recovery. stored is how many blocks are on Replicas storage nodes that the table does not know. nodes
// are the heights that nodes of the table have on this chain. It returns an error if no ids are left for new projects.
func (r *Recovery) Finish(stored uint64, nodes []NodeHeight) (Recovered, error) {
	s := r.s
	next, err := r.nextProject()
	if err != nil {
		return Recovered{}, err
	}
	s.nextProject = next
	if r.done.Blocks > 0 { // they may have records of a stream that the table does not count
		r.done.Streams += s.streams.ForgetIf(func(streams.Run) bool { return true })
	}
	for _, n := range nodes {
		if node := s.storage(n.ID); node != nil && node.Version == n.Version && n.Height <= s.head.Height {
			node.Height = max(node.Height, n.Height)
		}
	}
	s.stored = max(s.stored, min(stored, s.head.Height))
	if from, copies := s.heldFrom(), max(s.stored, s.replicated()); copies < from {
		r.done.Single = from - copies
		// The bodies are on a storage node, or lost. The checkpoint does not depend on stored, and covers none of them
		// yet.
		s.stored = from
	}
	r.record()
	s.countBytes()
	s.floor = s.head.Height
	s.prepare()
	s.advanceStored()
	return r.done, nil
}

// MaxEpoch is the highest epoch of which there are ids of projects.
const MaxEpoch = math.MaxUint32 / MaxProjects

// nextProject is the id of the first new project. Each epoch has MaxProjects ids of its own, as many as it can use. So
// no two projects get the same id, even if nothing remains of the first.
func (r *Recovery) nextProject() (uint32, error) {
	epoch, next := r.s.group.Epoch, uint64(r.s.nextProject)
	if n := len(r.s.projects); n > 0 {
		next = max(next, uint64(r.s.projects[n-1].ID)+1)
	}
	if epoch == 0 || epoch > MaxEpoch || next > math.MaxUint32-MaxProjects {
		return 0, fmt.Errorf("%w: epoch %d, projects up to id %d: each epoch takes %d ids, and there are %d",
			ErrBadCommand,
			epoch, next-1, MaxProjects, uint32(math.MaxUint32))
	}
	return uint32(max(next, (epoch-1)*MaxProjects+1)), nil
}

// forget drops the idempotency keys, the streams and the results of submissions that have a record at a position or
// behind it: other records come there, and a retry must append again.
func (r *Recovery) forget(block uint64, offset uint32) {
	s := r.s
	kept := newKeyWindow()
	for number := s.keys.first; number < s.keys.next; number++ {
		if e := s.keys.at(number); s.endsBefore(e.block, e.offset, e.count, block, offset) {
			kept.add(*e)
		} else {
			r.done.Keys++
		}
	}
	s.keys = kept
	r.done.Streams += s.streams.ForgetIf(func(run streams.Run) bool {
		return !s.endsBefore(run.Block, run.Offset, run.Count, block, offset)
	})
	goes := func(run Run) bool { return !s.endsBefore(run.Block, run.Offset, run.Count, block, offset) }
	for _, w := range s.members {
		maps.DeleteFunc(w.Results, func(_ uint64, done result) bool {
			return slices.ContainsFunc(done.placements,
				func(p Placement) bool { return slices.ContainsFunc(p.Runs, goes) })
		})
	}
}

// endsBefore reports whether count records starting at (block, offset) all come before (endBlock, endOffset). They may
// continue in the next blocks.
func (s *State) endsBefore(block uint64, offset, count uint32, endBlock uint64, endOffset uint32) bool {
	if block >= endBlock {
		return block == endBlock && uint64(offset)+uint64(count) <= uint64(endOffset)
	}
	blocks := endBlock - block
	first, known := s.firstOf(block)
	end, knownEnd := s.firstOf(endBlock)
	if !known || !knownEnd {
		return uint64(count) <= blocks // each block has a record at least
	}
	return first+uint64(offset)+uint64(count) <= end+uint64(endOffset)-blocks // each block has one leaf more, its seal
}

// firstOf is the leaf index of a block's first record, where the block is held or open, or the table remembers the
// boundary before it.
func (s *State) firstOf(block uint64) (first uint64, known bool) {
	if b := s.bodyAt(block); b != nil {
		return b.first, true
	}
	before, known := s.BoundaryAt(block)
	return before.Size, known || block == 0
}

// recoveryTrail is what the record of a recovery says, beside its summary. A recovery may separate the audit trail from
// the table: it drops records whose acts have happened, and adopts records of acts that the table does not have.
type recoveryTrail struct {
	by           originated
	before       Group
	dropped      int    // records of the audit trail that were dropped
	renamed      uint32 // project that had the name of the audit trail, 0 for none
	logForgotten bool
	isolated     bool
}

// By sets the member that is recovered and the salt of the recovery's record. The operator at its machine is the actor.
func (r *Recovery) By(member string, salt [chain.SaltSize]byte) {
	r.trail.by.Actor = trail.Actor{Kind: trail.ByOperator, Name: "recovery"}
	r.trail.by.Source, r.trail.by.salt = trail.Source{Member: member}, salt
}

// record records the recovery wherever the state has an audit trail, at any level. Open intents end here: raft's
// configuration and the terms of the old group, which would tell their outcome, are gone.
func (r *Recovery) record() {
	s, t := r.s, &r.trail
	if s.audit == nil {
		return
	}
	if t.renamed != 0 {
		s.recordRename(&t.by, t.renamed)
	}
	var admins []string
	for i := range s.admins {
		if a := &s.admins[i]; s.now < a.Expires {
			admins = append(admins, strconv.FormatUint(uint64(a.ID), 10))
		}
	}
	s.record(&t.by, trail.Record{
		Act: trail.Recovery, Target: trail.Target{Kind: trail.OfGroup},
		Before: pairs("group", t.before.ID, "epoch", t.before.Epoch),
		After: pairs("group", s.group.ID, "epoch", s.group.Epoch, "height", s.head.Height,
			"adopted-blocks", r.done.Blocks, "dropped-records", r.done.Dropped, "dropped-audit-records", t.dropped,
			"restored-projects", r.done.Projects, "log-forgotten", t.logForgotten, "isolated", t.isolated,
			"admin-tokens", strings.Join(admins, ",")),
	})
	for _, i := range s.intents {
		by := t.by.derived("intent-" + strconv.FormatUint(i.Index, 10))
		s.record(&by, trail.Record{
			Act: i.Act, Phase: trail.Ended, Outcome: trail.Unknown, Intent: i.Index, Target: i.Target,
		})
	}
	s.intents = nil
}
