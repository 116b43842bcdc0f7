package masterfsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire/trail"
)

// startTime is the time at which the tests begin, in Unix milliseconds.
const startTime = 1_700_000_000_000

// smallSettings returns settings that cut after 4 records or 2,000 bytes, mine at once, and keep little.
func smallSettings() Settings {
	s := DefaultSettings()
	s.MaxRecords, s.MaxBytes, s.Difficulty = 4, 2000, 4
	s.MaxPendingBytes, s.RetainBytes = 100_000, 1_000_000
	return s
}

// table is a state under test. Every command is applied in its encoded form, and the invariants are checked after each.
type table struct {
	t testing.TB
	*State
	seq  uint64
	acts uint64 // that were encoded
}

// newTable returns the table of a group with one leader and the projects 1 and 2.
func newTable(t testing.TB, settings Settings) *table {
	t.Helper()
	b := &table{t: t, State: New()}
	b.ok(&BeginTerm{Term: 1, Member: "m1", URL: "http://m1", Time: startTime, Group: "g", Settings: settings})
	b.ok(&CreateProject{Name: "one", TokenHash: chain.Hash{1}, Time: startTime})
	b.ok(&CreateProject{Name: "two", Public: true, TokenHash: chain.Hash{2}, Time: startTime})
	return b
}

// encode encodes a command as a leader does, which is the actor of acts.
func (b *table) encode(c Command) []byte {
	if !NeedsOrigin(b.level, c) {
		return Encode(c)
	}
	b.acts++
	return EncodeAct(leaderOrigin, saltOf(b.acts), Encode(c))
}

// leaderOrigin is the origin of acts of the leader.
var leaderOrigin = trail.Origin{Actor: trail.Actor{Kind: trail.ByLeader, Name: "m1"}}

// saltOf returns another salt for each number.
func saltOf(number uint64) (salt [chain.SaltSize]byte) {
	binary.BigEndian.PutUint64(salt[:], number)
	return salt
}

// ok applies a command that must be accepted. It sets the result of a check that has none.
func (b *table) ok(c Command) any {
	b.t.Helper()
	if end, is := c.(*EndCheck); is && end.Result == "" && b.level >= LevelResults {
		end.Result = end.ResultOf()
	}
	result, err := b.Apply(b.encode(c))
	if err != nil {
		b.t.Fatalf("%T: %v", c, err)
	}
	checkInvariants(b.t, b.State)
	return result
}

// refused applies a command that must be refused with an error and must not change the state.
func (b *table) refused(c Command, want error) {
	b.t.Helper()
	b.refusedBytes(b.encode(c), want)
}

func (b *table) refusedBytes(data []byte, want error) {
	b.t.Helper()
	before := snapshotBytes(b.t, b.State)
	result, err := only(b.Apply(data))
	if !errors.Is(err, want) || result != nil {
		b.t.Fatalf("got %v, %v, want %v", result, err, want)
	}
	if !bytes.Equal(before, snapshotBytes(b.t, b.State)) {
		b.t.Fatalf("the refusal changed the state: %v", err)
	}
}

// call is the request of one client in a submission.
type call struct {
	project  uint32
	key      string // "" for none
	payloads []string
	// of the part of a stream, "" for none, the number of its first record, and the flags that it does not have
	stream  string
	first   uint64
	token   uint32
	without PartFlags
}

func (c *call) part() Part {
	const all = PartBegins | PartNamed | PartReader | PartHasID
	p := Part{Stream: digest(c.stream), First: c.first, Token: c.token, Flags: all &^ c.without}
	if p.has(PartHasID) {
		p.ID = c.stream
	}
	return p
}

func digest(s string) Digest {
	if s == "" {
		return Digest{}
	}
	sum := sha256.Sum256([]byte(s))
	return Digest(sum[:16])
}

// record returns the record of a call's i-th payload, with a zero time.
func (c *call) record(i int) chain.Record {
	salt := sha256.Sum256([]byte(c.payloads[i]))
	return chain.Record{
		Project: c.project, Salt: [16]byte(salt[:16]), Key: c.key, Type: "text/plain", Payload: []byte(c.payloads[i]),
	}
}

// sent returns the encoding of a submission, as sent between masters.
func sent(t testing.TB, member string, boot, seq uint64, calls ...call) []byte {
	t.Helper()
	return encoded(NewSubmission(nil, member, boot, seq), calls...)
}

// sentParts is sent for calls of which some are parts of streams.
func sentParts(t testing.TB, member string, boot, seq uint64, calls ...call) []byte {
	t.Helper()
	return encoded(NewStreamSubmission(nil, member, boot, seq), calls...)
}

func encoded(s *Submission, calls ...call) []byte {
	for _, c := range calls {
		if c.stream != "" {
			s.StartPart(c.project, c.part())
		} else {
			s.StartRequest(c.project, digest(c.key), digest(fmt.Sprint(c.payloads)))
		}
		for i := range c.payloads {
			r := c.record(i)
			s.AddEncoded(r.Commit(), r.AppendTo(nil))
		}
	}
	return bytes.Clone(s.Bytes())
}

// appendOf returns the append command of one submission, from the leader of term 1.
func appendOf(t testing.TB, member string, boot, seq, time uint64, calls ...call) []byte {
	t.Helper()
	return appendBy(t, 1, member, boot, seq, time, calls...)
}

// appendBy is like appendOf for the leader of a given term, which began at the start of the test.
func appendBy(t testing.TB, term uint64, member string, boot, seq, time uint64, calls ...call) []byte {
	t.Helper()
	return EncodeAppend(time, Leadership{Term: term, Elapsed: max(time, startTime) - startTime},
		sent(t, member, boot, seq, calls...))
}

// only returns the outcome of the only submission of an append, and the result of any other command unchanged.
func only(result any, err error) (any, error) {
	outcomes, ok := result.([]Outcome)
	switch {
	case !ok || len(outcomes) != 1:
		return result, err
	case outcomes[0].Err != nil:
		return nil, outcomes[0].Err
	}
	return outcomes[0].Placements, err
}

// submit applies a command in which all submissions must be accepted.
func (b *table) submit(data []byte) []Placement {
	b.t.Helper()
	result, err := only(b.Apply(data))
	if err != nil {
		b.t.Fatal(err)
	}
	checkInvariants(b.t, b.State)
	return result.([]Placement)
}

// add appends the calls in one submission at a given time.
func (b *table) add(time uint64, calls ...call) []Placement {
	b.t.Helper()
	b.seq++
	return b.submit(appendBy(b.t, b.Term().Term, "m1", 1, b.seq, time, calls...))
}

// fill appends count records, one per submission, and returns their positions.
func (b *table) fill(count int) []Position {
	b.t.Helper()
	var at []Position
	for i := range count {
		p := b.add(b.now, call{project: 1, payloads: []string{fmt.Sprintf("filler %d of %d", i, b.seq)}})
		at = append(at, Position{Block: p[0].Runs[0].Block, Offset: p[0].Runs[0].Offset, Index: p[0].Runs[0].Index})
	}
	return at
}

// solved returns the command with the correct nonce for the waiting block.
func (b *table) solved() *Mined {
	b.t.Helper()
	if b.waiting == nil {
		b.t.Fatal("no block waits")
	}
	header := b.waiting.header
	nonce, found := chain.Solve(header.Inner(), header.Difficulty, 0, 1<<24)
	if !found {
		b.t.Fatal("no nonce")
	}
	return &Mined{Block: header.Block, Nonce: nonce, Time: b.now}
}

// mine mines all cut blocks.
func (b *table) mine() {
	b.t.Helper()
	for b.waiting != nil {
		b.ok(b.solved())
	}
}

// node registers a storage node that has the first height blocks of the chain.
func (b *table) node(id string, height uint64) *Storage {
	b.t.Helper()
	var hash chain.Hash
	if at, ok := b.BoundaryAt(height); ok {
		hash = at.Hash
	}
	return b.ok(&Register{Role: RoleStorage, ID: id, URL: "http://" + id, Height: height, Hash: hash,
		Time: b.now}).(*Storage)
}

// ack acknowledges a height for a node.
func (b *table) ack(id string, height uint64) {
	b.t.Helper()
	b.ok(&Acknowledge{Nodes: []NodeHeight{{ID: id, Version: b.storage(id).Version, Height: height}}, Time: b.now})
}

// is checks the state and the height of a node.
func (b *table) is(id string, state NodeState, height uint64) {
	b.t.Helper()
	n := b.storage(id)
	if n == nil {
		b.t.Fatalf("%s is not in the table", id)
	}
	if n.State != state || n.Height != height {
		b.t.Errorf("%s is %s at %d (%s), want %s at %d", id, n.State, n.Height, n.Cause.Text(), state, height)
	}
}

func snapshotBytes(t testing.TB, s *State) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := s.Snapshot().Write(&buf); err != nil {
		t.Fatal("snapshot:", err)
	}
	return buf.Bytes()
}

func restored(t testing.TB, s *State) *State {
	t.Helper()
	back, err := Restore(bytes.NewReader(snapshotBytes(t, s)))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

// checkInvariants checks the consistency of the state by computing all derived values again.
func checkInvariants(t testing.TB, s *State) {
	t.Helper()
	checkBlocks(t, s)
	checkSums(t, s)
	checkWorkers(t, s)
	checkCauses(t, s)
	used := 0
	for _, slot := range s.keys.slots {
		if slot != 0 {
			used++
		}
	}
	if uint64(used) != s.keys.count() {
		t.Fatalf("%d slots of the table of keys are taken, %d keys are remembered", used, s.keys.count())
	}
	for number := s.keys.first; number < s.keys.next; number++ {
		if e, ok := s.keys.find(s.keys.at(number).key); !ok || e != s.keys.at(number) {
			t.Fatalf("key %d of %d to %d is not found", number, s.keys.first, s.keys.next)
		}
	}
	tokens := 0
	for i, p := range s.projects {
		tokens += len(p.Tokens)
		for j, token := range p.Tokens {
			if s.tokens[token.Hash] != p.ID || token.ID >= p.Next || j > 0 && token.ID <= p.Tokens[j-1].ID {
				t.Fatalf("token %+v stands at %d of project %d, the next gets id %d", token, j, p.ID, p.Next)
			}
		}
		if q := p.Quota; q.check() != nil || p.Spent.Records > 1000*q.RecordsPerSecond ||
			p.Spent.Bytes > 1000*q.BytesPerSecond || p.Spent.Age > s.age {
			t.Fatalf("project %d has spent %+v of %+v at age %d", p.ID, p.Spent, q, s.age)
		}
		if i > 0 && p.ID <= s.projects[i-1].ID || p.ID >= s.nextProject || s.names[p.Name] != p.ID {
			t.Fatalf("project %+v stands at %d, the next gets id %d", p, i, s.nextProject)
		}
	}
	names := len(s.projects)
	if s.audit != nil {
		names++
		if p := s.audit; p.ID != trail.ProjectID || p.Name != trail.Project || p.Public || p.Quota != (Quota{}) ||
			len(p.Tokens) > 0 || s.names[p.Name] != p.ID {
			t.Fatalf("the audit trail has the project %+v", p)
		}
	}
	if s.level >= LevelAudit && s.audit == nil {
		t.Fatal("there is no audit trail")
	}
	if len(s.tokens) != tokens || len(s.names) != names {
		t.Fatalf("%d projects, %d tokens, %d names", len(s.projects), len(s.tokens), len(s.names))
	}
	checkAdmins(t, s)
	checkJoining(t, s)
	for id, w := range s.members {
		if len(w.Results) > SubmissionWindow {
			t.Fatalf("%d results of %s", len(w.Results), id)
		}
	}
}

func checkAdmins(t testing.TB, s *State) {
	t.Helper()
	names := map[string]bool{}
	for i, a := range s.admins {
		h, ok := s.Holder(a.Hash)
		if !ok || h.Admin != a || h.Expired != (a.Expires <= s.now) || names[a.Name] || a.ID > s.lastAdmin ||
			i > 0 && a.ID <= s.admins[i-1].ID || s.level < LevelAdmins {
			t.Fatalf("admin token %+v stands at %d and is found as %+v, the newest is %d", a, i, h, s.lastAdmin)
		}
		names[a.Name] = true
	}
	if len(s.admins) > MaxAdmins {
		t.Fatalf("%d admin tokens", len(s.admins))
	}
}

// checkJoining checks that each ticket has admitted at most one master, and that no two masters have one key.
func checkJoining(t testing.TB, s *State) {
	t.Helper()
	seen := map[any]bool{}
	once := func(what any, zero bool) {
		t.Helper()
		if seen[what] && !zero {
			t.Fatalf("%v is there twice: %+v, %+v", what, s.tickets, s.masters)
		}
		seen[what] = true
	}
	for i, ticket := range s.tickets {
		once(ticket.Hash, false)
		once("member "+ticket.Member, ticket.Member == "")
		if ticket.ID > s.lastTicket || i > 0 && ticket.ID <= s.tickets[i-1].ID || s.level < LevelJoining {
			t.Fatalf("ticket %+v stands at %d, the newest is %d", ticket, i, s.lastTicket)
		}
	}
	for _, m := range s.masters {
		once("key "+m.Key, m.Key == "")
		once("url "+m.URL, m.URL == "")
		if (m.Key == "") != (m.Start == 0) || m.Key != "" && s.level < LevelJoining {
			t.Fatalf("master %+v at level %d", m, s.level)
		}
	}
	for i, w := range s.waitingWorkers {
		if s.level < LevelApprovals || !s.settings.ApproveWorkers || i > 0 && w.ID <= s.waitingWorkers[i-1].ID ||
			i >= 2*MaxWaiting || w.Role == RoleStorage && s.storage(w.ID) != nil {
			t.Fatalf("waiting worker %+v stands at %d", w, i)
		}
	}
	if len(s.tickets) > MaxTickets {
		t.Fatalf("%d tickets", len(s.tickets))
	}
}

// checkBlocks checks that the held blocks are consecutive, that the mined ones come first, and that the head is after
// them.
func checkBlocks(t testing.TB, s *State) {
	t.Helper()
	number, first := s.open.number, s.open.first
	mined := uint64(0)
	for i := len(s.held) - 1; i >= 0; i-- {
		b := s.held[i]
		if b.number+1 != number || b.first+uint64(b.count())+1 != first || b.count() == 0 {
			t.Fatalf("block %d of %d records at %d stands before block %d at %d", b.number, b.count(), b.first, number,
				first)
		}
		number, first = b.number, b.first
		if b.mined {
			mined++
			if h := &b.block.Header; h.Block != b.number || h.First != b.first || h.Time != b.time {
				t.Fatalf("block %d has the header %+v", b.number, h)
			}
			if !slices.Equal(b.leaves, b.block.Leaves(nil)) {
				t.Fatalf("mined block %d has the leaves %v", b.number, b.leaves)
			}
		} else if mined > 0 || len(b.leaves) != len(b.ends) || int(b.ends[len(b.ends)-1]) != len(b.records) {
			t.Fatalf("block %d: %d leaves, %d ends, %d mined blocks behind it", b.number, len(b.leaves), len(b.ends),
				mined)
		}
	}
	if want := s.heldFrom() + mined; s.head.Height != want {
		t.Fatalf("the head is at %d, %d blocks from %d on are mined", s.head.Height, mined, s.heldFrom())
	}
	if (s.waiting == nil) != (s.head.Height == s.open.number) {
		t.Fatalf("head %d, open block %d, waiting %+v", s.head.Height, s.open.number, s.waiting)
	}
	if w := s.waiting; w != nil {
		h := &w.header
		if h.Block != s.head.Height || h.Prev != s.head.Hash || h.First != s.head.Tree.Size() ||
			h.Root != w.tree.Root() || h.Size() != w.tree.Size()+1 || h.Time < s.head.Time {
			t.Fatalf("the waiting header %+v does not extend the head %+v", h, s.head)
		}
	}
	if s.stored < s.heldFrom() || s.stored > s.head.Height {
		t.Fatalf("%d blocks are stored, held are those from %d on, mined %d", s.stored, s.heldFrom(), s.head.Height)
	}
	if len(s.boundaries) > Boundaries || uint64(len(s.boundaries)) != min(s.head.Height, Boundaries) {
		t.Fatalf("%d boundaries at height %d", len(s.boundaries), s.head.Height)
	}
	for i := range s.boundaries {
		if b := &s.boundaries[i]; b.Height != s.head.Height-uint64(len(s.boundaries)-1-i) {
			t.Fatalf("boundary %d is of height %d", i, b.Height)
		}
	}
	if b := s.Boundary(); b.Height != s.head.Height || b.Hash != s.head.Hash || b.Size != s.head.Tree.Size() ||
		b.Root != s.head.Tree.Root() {
		t.Fatalf("boundary %+v, head %+v", b, s.head)
	}
	if len(s.open.leaves) != len(s.open.ends) || len(s.open.ends) > 0 &&
		int(s.open.ends[len(s.open.ends)-1]) != len(s.open.records) {
		t.Fatalf("open: %d leaves, %d ends", len(s.open.leaves), len(s.open.ends))
	}
}

func checkSums(t testing.TB, s *State) {
	t.Helper()
	pending, retained := uint64(len(s.open.records)), uint64(0)
	for _, b := range s.held {
		if b.number < s.stored {
			retained += b.size()
		} else {
			pending += b.size()
		}
	}
	if s.pendingBytes != pending || s.retained != retained {
		t.Fatalf("pending %d, retained %d; the blocks have %d and %d", s.pendingBytes, s.retained, pending, retained)
	}
	records := uint64(0)
	for i := range s.projects {
		records += s.projects[i].Records
	}
	if s.audit != nil {
		records += s.audit.Records
	}
	if given := s.NextIndex() - s.Height(); records != given { // one leaf of each block is its seal
		t.Fatalf("the projects have %d records, %d indices were given out", records, given)
	}
}

func checkWorkers(t testing.TB, s *State) {
	t.Helper()
	urls := map[string]bool{}
	last := ""
	for i := range s.storages {
		n := &s.storages[i]
		if n.ID <= last || urls[n.URL] || n.Version == 0 {
			t.Fatalf("storage node %q at %s, version %d, behind %q", n.ID, n.URL, n.Version, last)
		}
		last, urls[n.URL] = n.ID, true
		if n.CountsAsCopy != s.countsAsCopy(n) || n.CountsAsCopy && !n.OnGroupChain {
			t.Fatalf("%s is %s, whole %v, sound %v", n.ID, n.State, n.CountsAsCopy, n.OnGroupChain)
		}
		if err := checkRanges(n.Bad); err != nil {
			t.Fatal(err)
		}
		if n.State == Valid && (len(s.unrepaired(n)) > 0 || n.Unchecked > 0) {
			t.Fatalf("%s is valid, and lacks %v", n.ID, n.Bad)
		}
		if n.State != Receiving && n.State != Validating && n.Target != (Target{}) || n.Target.Height > s.head.Height {
			t.Fatalf("%s is %s with the target %+v", n.ID, n.State, n.Target)
		}
		if n.State == Sending {
			if r := s.storage(n.Peer); r == nil || r.State != Receiving || r.Peer != n.ID {
				t.Fatalf("%s sends to %q, which is %+v", n.ID, n.Peer, r)
			}
		}
		if n.CountsAsCopy && (n.Height > s.head.Height || n.Height < s.heldFrom()) {
			t.Fatalf("%s is %s at %d; held are the blocks from %d to %d", n.ID, n.State, n.Height, s.heldFrom(),
				s.head.Height)
		}
	}
	clear(urls)
	last = ""
	for _, m := range s.miners {
		if m.ID <= last || urls[m.URL] {
			t.Fatalf("miner %q at %s behind %q", m.ID, m.URL, last)
		}
		last, urls[m.URL] = m.ID, true
	}
}

// checkLeaves recomputes the leaf hashes of all unmined records.
func checkLeaves(t testing.TB, s *State) {
	t.Helper()
	check := func(b *heldBlock) {
		for i := range b.count() {
			r, err := chain.ParseRecord(b.encoded(i))
			if err != nil || r.Leaf().Hash() != b.leaves[i] || r.Time > s.now {
				t.Fatalf("block %d, record %d: %v, time %d of %d", b.number, i, err, r.Time, s.now)
			}
		}
	}
	for _, b := range s.held {
		if !b.mined {
			check(b)
		}
	}
	check(&s.open)
}

// checkHeldChain verifies all held mined blocks with a chain verifier that starts at the boundary before them. start is
// the head at heldFrom, which the test must have kept.
func checkHeldChain(t testing.TB, s *State, start chain.Head) {
	t.Helper()
	v := chain.NewVerifier(start)
	for number := s.heldFrom(); number < s.head.Height; number++ {
		b, ok := s.Block(number)
		if !ok {
			t.Fatalf("block %d is not held", number)
		}
		if _, err := v.Take(&b); err != nil {
			t.Fatal(err)
		}
	}
	if v.Head().Hash != s.head.Hash || v.Head().Tree.Root() != s.head.Tree.Root() {
		t.Fatalf("the blocks lead to %v, the head is %v", v.Head().Hash, s.head.Hash)
	}
}

// zeroHead is the head of an empty chain.
var zeroHead chain.Head
