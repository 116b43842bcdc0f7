package masterfsm

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
)

// Run is a range of consecutive positions: Count records starting at (Block, Offset), with leaf indices starting at
// Index.
type Run struct {
	Block  uint64 `json:"block"`
	Offset uint32 `json:"offset"`
	Count  uint32 `json:"count"`
	Index  uint64 `json:"index"`
}

// Placement is the result of one request of a submission.
type Placement struct {
	// Runs are the positions of its records, in order. A replay has one run, without Index: the position of the first
	// record and the number of records, which may continue in the next blocks. The replay of a part of a stream has all
	// its runs, without Index.
	Runs   []Run  `json:"runs,omitempty"`
	Time   uint64 `json:"time,omitempty"` // of its records; 0 for a replay
	Replay bool   `json:"replay,omitempty"`
	Err    Reason `json:"err,omitempty"`
	// Shortage gives the details of RefusedRate.
	Shortage *Shortage `json:"shortage,omitempty"`
	// Next is the number that the stream's next record gets, where the reason is RefusedGap, RefusedPassed or
	// RefusedForeign.
	Next uint64 `json:"next,omitempty"`
}

// Reason says why a request was refused, in a form that travels between masters.
type Reason uint8

// The reasons. [Reason.Error] returns the error of each.
const (
	Accepted Reason = iota
	RefusedBacklog
	RefusedProject
	RefusedKey
	RefusedRate
	RefusedSize
	RefusedGap     // the part of a stream does not follow its newest record, or overlaps it
	RefusedPassed  // the positions of the part are no longer remembered
	RefusedStream  // the stream is not known, and the part does not begin it
	RefusedLevel   // the group's protocol level has no streams
	RefusedRoom    // the project has as many streams as it may
	RefusedForeign // the records were appended before, with another token, and this one may not read
	RefusedClosed  // nothing is appended to the project any more
)

var reasons = [...]error{
	Accepted:       nil,
	RefusedBacklog: wire.ErrBacklog,
	RefusedProject: ErrUnknownProject,
	RefusedKey:     wire.ErrKeyReused,
	RefusedRate:    wire.ErrQuota,
	RefusedSize:    ErrOversize,
	RefusedGap:     wire.ErrStreamGap,
	RefusedPassed:  wire.ErrStreamPassed,
	RefusedStream:  wire.ErrUnknownStream,
	RefusedLevel:   wire.ErrNoStreams,
	RefusedRoom:    wire.ErrTooMany,
	RefusedForeign: wire.ErrForbidden,
	RefusedClosed:  wire.ErrProjectClosed,
}

// hasNext reports whether a placement of that reason has Next.
func (r Reason) hasNext() bool { return r == RefusedGap || r == RefusedPassed || r == RefusedForeign }

// Error is nil for Accepted, else wire.ErrBacklog, ErrUnknownProject, wire.ErrKeyReused, wire.ErrQuota, ErrOversize,
// wire.ErrStreamGap, wire.ErrStreamPassed, wire.ErrUnknownStream, wire.ErrNoStreams, wire.ErrTooMany, wire.ErrForbidden
// or wire.ErrProjectClosed.
func (r Reason) Error() error {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Errorf("%w: reason %d", ErrBadCommand, r)
}

// SubmissionWindow is how many sequence numbers of a member are remembered with their results: a member keeps fewer
// submissions under way.
const SubmissionWindow = 32

// memberWindow holds the results of the last submissions of one member's newest boot.
type memberWindow struct {
	Boot    uint64
	Newest  uint64
	Results map[uint64]result // by sequence number
}

// result is the result of one submission.
type result struct {
	// content distinguishes the submission from another one of the same name. It is zero for one that was applied at
	// protocol level 0.
	content    Digest
	placements []Placement
}

// passed reports whether a sequence number lies so far back that its result is forgotten.
func (w *memberWindow) passed(seq uint64) bool {
	return seq < w.Newest && w.Newest-seq >= SubmissionWindow
}

// Outcome is the result of one submission of an Append: a placement for each of its requests, or ErrStale,
// ErrNameReused or ErrMasterRemoved.
type Outcome struct {
	Placements []Placement
	Err        error
	Added      uint64 // records that it added to the buffer: 0 where it returns the result of an earlier time
}

// submit appends the records of a submission to the buffer, or returns the result of an earlier time.
func (s *State) submit(time uint64, leadership Leadership, a *submission) ([]Placement, error) {
	if s.MasterRemoved(a.member) {
		return nil, fmt.Errorf("%w: %s, which sent submission %d", ErrMasterRemoved, a.member, a.seq)
	}
	w := s.members[a.member]
	if w == nil || w.Boot < a.boot {
		w = &memberWindow{Boot: a.boot, Results: map[uint64]result{}}
		s.members[a.member] = w
	}
	var content Digest
	if s.level >= LevelIdentities {
		content = a.content()
	}
	//mutant:retried-submission
	if done, ok := w.Results[a.seq]; ok && w.Boot == a.boot {
		if done.content != content {
			return nil, fmt.Errorf("%w: submission %d of boot %d of master %s has other content than before",
				ErrNameReused, a.seq, a.boot, a.member)
		}
		return done.placements, nil
	}
	if a.boot < w.Boot || w.passed(a.seq) {
		return nil, fmt.Errorf("%w: submission %d of boot %d, the table is at %d of boot %d",
			ErrStale, a.seq, a.boot, w.Newest, w.Boot)
	}
	s.tick(time)
	s.age = s.ageAt(leadership)
	s.keys.evict(s.age, s.settings)
	placements := make([]Placement, len(a.requests))
	for i := range a.requests {
		placements[i] = s.place(&a.requests[i])
	}
	w.Results[a.seq] = result{content: content, placements: placements}
	w.Newest = max(w.Newest, a.seq)
	for seq := range w.Results {
		if w.passed(seq) {
			delete(w.Results, seq)
		}
	}
	return placements, nil
}

// place gives the records of one request their positions, all or none.
func (s *State) place(q *request) Placement {
	project := s.projectAt(q.project)
	if project == nil || project == s.audit { // only acts add to the audit trail
		return Placement{Err: RefusedProject}
	}
	if q.part.Stream != (Digest{}) {
		return s.placePart(project, q)
	}
	var key Digest
	if q.key != (Digest{}) {
		key = scopedKey(q.project, q.key)
		//mutant:retried-key
		if e, ok := s.keys.find(key); ok {
			if e.body != [8]byte(q.body[:8]) {
				return Placement{Err: RefusedKey}
			}
			return Placement{Runs: []Run{{Block: e.block, Offset: e.offset, Count: e.count}}, Replay: true}
		}
	}
	p := s.placeNew(project, q)
	if p.Err == Accepted && q.key != (Digest{}) {
		s.keys.add(keyEntry{
			key: key, body: [8]byte(q.body[:8]), block: p.Runs[0].Block, offset: p.Runs[0].Offset,
			count: uint32(len(q.records)), age: s.age,
		})
	}
	return p
}

// placeNew gives records that were not placed before their positions, all or none.
func (s *State) placeNew(project *Project, q *request) Placement {
	if project.Closed != 0 {
		return Placement{Err: RefusedClosed}
	}
	if s.pendingBytes >= s.settings.MaxPendingBytes {
		return Placement{Err: RefusedBacklog}
	}
	if reason, short := s.afford(project, q.records); reason != Accepted {
		return Placement{Err: reason, Shortage: short}
	}
	p := Placement{Time: s.now}
	for i := range q.records {
		s.put(&p, &q.records[i])
	}
	project.Records += uint64(len(q.records))
	return p
}

// placePart gives the records of the part of a stream their positions if they follow the stream's newest record.
// Records that were placed before get their first positions, if the table still has them, and if the sender may know
// what they are: it compares them with its own.
func (s *State) placePart(project *Project, q *request) Placement {
	if s.level < LevelStreams {
		return Placement{Err: RefusedLevel}
	}
	first, use := q.part.First, streams.Use{
		Age: s.age, Token: q.part.Token, Named: q.part.has(PartNamed), Window: s.StreamWindow(),
	}
	if s.level >= LevelStreamIDs {
		use.Time, use.ID = s.now, q.part.ID
	}
	name := streams.Name(scopedKey(q.project, q.part.Stream))
	stream, known := s.streams.Find(name)
	last, count := stream.Last, uint64(len(q.records))
	switch {
	case !known && (first != 1 || !q.part.has(PartBegins)):
		return Placement{Err: RefusedStream}
	case !known && !s.streams.Room(q.project, use):
		return Placement{Err: RefusedRoom}
	case first == last+1: // 1 for a new stream
	case first > last:
		return Placement{Err: RefusedGap, Next: last + 1}
	case first < stream.Oldest:
		return Placement{Err: RefusedPassed, Next: last + 1}
	case first+count-1 > last: // the sender divides it
		return Placement{Err: RefusedGap, Next: last + 1}
	case !q.part.has(PartReader) && (stream.Token != q.part.Token || first < stream.Own):
		return Placement{Err: RefusedForeign, Next: last + 1}
	default:
		p := Placement{Replay: true}
		for _, r := range s.streams.Positions(name, first, count, use) {
			p.Runs = append(p.Runs, Run{Block: r.Block, Offset: r.Offset, Count: r.Count})
		}
		return p
	}
	p := s.placeNew(project, q)
	if p.Err != Accepted {
		return p
	}
	runs := make([]streams.Run, len(p.Runs))
	for i, r := range p.Runs {
		runs[i] = streams.Run{Block: r.Block, Offset: r.Offset, Count: r.Count}
	}
	s.streams.Add(q.project, name, runs, use)
	return p
}

// StreamWindow returns how many records of an append stream, the newest, have their positions in the table at most.
func (s *State) StreamWindow() uint64 {
	if s.level < LevelWindow {
		return streams.FirstWindow
	}
	return streams.Window
}

// Stream returns the state of a project's stream. id is the digest of the stream's id.
func (s *State) Stream(project uint32, id Digest) (streams.State, bool) {
	return s.streams.Find(streams.Name(scopedKey(project, id)))
}

// Streams returns up to limit streams of a project whose ids come after one, in the order of their ids. A stream that
// was not used since the group has protocol level 5 has no id, and is not among them.
func (s *State) Streams(project uint32, after string, limit int) []streams.State {
	all := slices.DeleteFunc(s.streams.Of(project), func(o streams.State) bool { return o.ID <= after })
	slices.SortFunc(all, func(a, b streams.State) int { return strings.Compare(a.ID, b.ID) })
	return all[:min(limit, len(all))]
}

// OpenStream begins a stream without a record, whose id a master has just made. Its client can then send the first
// records as often as it takes. It is refused with [wire.ErrTooMany] where there is no room for another stream. Known
// from protocol level 5 on.
type OpenStream struct {
	Project uint32 `json:"project"`
	ID      string `json:"id"`
	Time    uint64 `json:"time"`
	Age     uint64 `json:"age"` // State.Age as the leader has counted it
}

func (c *OpenStream) apply(s *State) (any, error) {
	name := streams.Name(scopedKey(c.Project, StreamDigest(c.ID)))
	_, known := s.streams.Find(name)
	use, project := streams.Use{Age: s.ageOf(c.Age), ID: c.ID}, s.projectAt(c.Project)
	switch {
	case s.level < LevelStreamIDs:
		return nil, wire.ErrNoStreams
	case project == nil || project == s.audit:
		return nil, ErrUnknownProject
	case project.Closed != 0:
		return nil, wire.ErrProjectClosed
	case known:
		return nil, fmt.Errorf("%w: the append stream %s is already there", ErrBadCommand, c.ID)
	case !s.streams.Room(c.Project, use):
		return nil, wire.ErrTooMany
	}
	s.tick(c.Time)
	s.elapse(c.Age)
	use.Time = s.now
	s.streams.Begin(c.Project, name, use)
	return nil, nil
}

// StreamDigest is the digest of the id of a stream.
func StreamDigest(id string) Digest {
	sum := sha256.Sum256([]byte(id))
	return Digest(sum[:len(Digest{})])
}

// RemoveStream makes the table forget a stream of a project. Its records stay. Another stream may have its id. Known
// from protocol level 4 on.
type RemoveStream struct {
	Project uint32 `json:"project"`
	Stream  Digest `json:"stream"` // of its id
	Time    uint64 `json:"time"`
}

func (c *RemoveStream) apply(s *State) (any, error) {
	switch {
	case s.level < LevelStreams:
		return nil, wire.ErrNoStreams
	case !s.streams.Remove(streams.Name(scopedKey(c.Project, c.Stream))):
		return nil, wire.ErrUnknownStream
	}
	s.tick(c.Time)
	return nil, nil
}

// put gives one record its position at the end of the buffer, and cuts the buffer when it is full.
func (s *State) put(p *Placement, r *submitted) {
	b := &s.open
	offset := uint32(len(b.ends))
	if offset == 0 {
		b.time = s.now
	}
	start := len(b.records)
	b.records = append(b.records, r.record...)
	encoded := b.records[start:]
	chain.SetEncodedTime(encoded, s.now)
	leaf := chain.EncodedLeaf(encoded, r.commit)
	b.leaves = append(b.leaves, leaf.Hash())
	b.ends = append(b.ends, uint32(len(b.records)))
	s.pendingBytes += uint64(len(encoded))

	if n := len(p.Runs); n > 0 && p.Runs[n-1].Block == b.number {
		p.Runs[n-1].Count++
	} else {
		p.Runs = append(p.Runs, Run{Block: b.number, Offset: offset, Count: 1, Index: b.first + uint64(offset)})
	}
	if len(b.ends) >= int(s.settings.MaxRecords) || len(b.records) >= int(s.settings.MaxBytes) {
		s.cut()
	}
}
