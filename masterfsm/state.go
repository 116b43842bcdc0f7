package masterfsm

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/masterfsm/streams"
	"github.com/chainstore/chainstore/wire"
)

// Boundaries is how many block boundaries the table remembers.
const Boundaries = 1024

// Boundary is where the chain stood after a block: a root that the group committed.
type Boundary struct {
	Height uint64     `json:"height"`
	Hash   chain.Hash `json:"hash"` // of block Height-1
	Size   uint64     `json:"size"` // of the tree with that block's seal
	Root   chain.Hash `json:"root"` // of that tree
}

func (b *Boundary) height() uint64 { return b.Height }

// State is the status table. Only one goroutine may call Apply, and not while another one reads. The zero State is not
// valid: make one with [New] or [Restore].
type State struct {
	group    Group
	level    uint64 // the group's protocol level
	term     Term
	settings Settings
	now      uint64 // the newest time that a command brought, unix milliseconds: never runs backwards

	// The clock of the keys, the quotas and the checks: milliseconds that leaders have counted by their monotonic
	// clocks, each since its BeginTerm. Setting a system clock does not change it.
	age, begun uint64 // now, and when the term began

	head       chain.Head // of the mined chain
	boundaries []Boundary // the newest last, at most Boundaries
	waiting    *waiting   // the header of the first held block that is not mined, nil where there is none

	held   []*heldBlock // the blocks that the masters hold, without a gap: mined first, then pending
	open   heldBlock    // the records behind them
	stored uint64       // number of blocks that Replicas nodes have on disk: never falls
	// checkpoint is the newest boundary that has been stored since the log has a key. The group signs it.
	checkpoint Boundary
	published  Boundary   // the one that is shown: see State.publish
	cosigned   []Cosigned // those that may yet be shown and have cosignatures, by size
	log        Log
	floor      uint64 // height below which no checkpoint is shown: see State.Floor

	pendingBytes uint64 // of records in blocks that are not stored, and in the open buffer
	retained     uint64 // of records in held blocks that are stored

	integrity IntegrityLog
	storages  []Storage // by id
	miners    []Miner   // by id
	// failedSyncs are the nodes with a failed sync, by id. Some may have been removed since.
	failedSyncs []FailedSync
	projects    []Project // by id
	// nextProject is the id that the next project gets.
	nextProject uint32
	tokens      map[chain.Hash]uint32
	names       map[string]uint32

	audit   *Project   // that of the audit trail; nil below protocol level 7, unless a recovery has found its records
	intents []Intent   // open ones, in the order of their records; never changed in place
	reports []Reported // the newest of each node, never changed in place

	admins    []Admin // by id, never changed in place
	lastAdmin uint32  // the highest id that a named admin token has had

	tickets    []Ticket // by id, never changed in place
	lastTicket uint32   // the highest id that a join ticket has had

	waitingWorkers []WaitingWorker // by id, never changed in place

	tls wire.TLSState // the step of the move to TLS

	masters        []Master // by id
	removedMasters []string // ids, the newest last

	members map[string]*memberWindow // by member id
	keys    keyWindow
	streams *streams.Table
}

// Group names the cluster.
type Group struct {
	ID    string `json:"id"`
	Epoch uint64 `json:"epoch"` // goes up when a lost majority is replaced by hand
}

// Term is the term and leader of the newest BeginTerm.
type Term struct {
	Term   uint64 `json:"term"`
	Leader string `json:"leader"` // member id
	URL    string `json:"url"`
}

// New returns the empty table of a group that is not founded yet.
func New() *State {
	return &State{
		settings:    DefaultSettings(),
		checkpoint:  Boundary{Root: chain.Tree{}.Root()},
		published:   Boundary{Root: chain.Tree{}.Root()},
		nextProject: 1,
		tokens:      map[chain.Hash]uint32{},
		names:       map[string]uint32{},
		members:     map[string]*memberWindow{},
		keys:        newKeyWindow(),
		streams:     streams.New(),
	}
}

// Apply changes the state by one committed log entry. The result depends on the command: []Outcome for an append,
// *Project for CreateProject and ChangeProject, *Token for CreateToken, *Admin for CreateAdmin and RevokeAdmin,
// *Ticket for CreateTicket and RevokeTicket, *Storage or *Miner for Register, *Storage for Suspect, BeginCheck and
// BeginRepair, *LogKey for AddLogKey, *WaitingWorker for DecideWorker and for Register of a worker that must wait, nil
// for the others. That of an act is the result of its command. An error that wraps [ErrCommand] must stop the master;
// any other is a refusal that changed nothing.
func (s *State) Apply(data []byte) (any, error) {
	k, body, err := checkCommand(data)
	if err != nil {
		return nil, err
	}
	if k == kindAppend || k == kindStreamAppend {
		time, leadership, submissions, err := parseAppend(k, body)
		if err != nil {
			return nil, err
		}
		outcomes := make([]Outcome, len(submissions))
		for i := range submissions {
			before := s.placed()
			outcomes[i].Placements, outcomes[i].Err = s.submit(time, leadership, &submissions[i])
			outcomes[i].Added = s.placed() - before
		}
		return outcomes, nil
	}
	if k == kindAct {
		return s.applyAct(body)
	}
	c, err := decode(k, body)
	if err != nil {
		return nil, err
	}
	if NeedsOrigin(s.level, c) {
		return nil, fmt.Errorf("%w: %T", ErrUnrecorded, c)
	}
	return c.apply(s)
}

func (c *BeginTerm) apply(s *State) (any, error) {
	if err := c.Settings.Check(); err != nil {
		return nil, err
	}
	if c.Term < s.term.Term {
		return nil, fmt.Errorf("%w: term %d after term %d", ErrStale, c.Term, s.term.Term)
	}
	s.tick(c.Time)
	s.elapse(c.Age)
	if s.group.ID == "" {
		s.group = Group{ID: c.Group, Epoch: 1}
	}
	s.term, s.begun = Term{Term: c.Term, Leader: c.Member, URL: s.tls.Step.URL(c.URL)}, s.age
	if s.level < LevelSettings {
		s.use(c.Settings)
	}
	s.advanceStored()
	return nil, nil
}

// Group names the cluster; its ID is "" until the first leader has begun.
func (s *State) Group() Group { return s.group }

// Term is the term and leader of the newest BeginTerm.
func (s *State) Term() Term { return s.term }

// Settings are those in force.
func (s *State) Settings() Settings { return s.settings }

// Head is the head of the mined chain.
func (s *State) Head() chain.Head { return s.head }

// Stored is the number of blocks, from block 0 on, that Replicas storage nodes were known to have on disk.
func (s *State) Stored() uint64 { return s.stored }

// Boundary is the newest boundary, zero in an empty chain.
func (s *State) Boundary() Boundary {
	if len(s.boundaries) == 0 {
		return Boundary{Root: chain.Tree{}.Root()}
	}
	return s.boundaries[len(s.boundaries)-1]
}

// Checkpoint is the boundary that the group signs: the newest remembered one whose blocks are all on Replicas storage
// nodes. It never goes back. It is that of the empty tree until a block is stored and the log has a key.
func (s *State) Checkpoint() Boundary { return s.checkpoint }

// Floor is the height below which no checkpoint may be shown. It is the height of the chain that the newest recovery
// adopted, 0 without a recovery. The group may have shown any checkpoint up to there, and the recovered table may not
// know it.
func (s *State) Floor() uint64 { return s.floor }

// BoundaryAt is the boundary at a height, when the table still remembers it.
func (s *State) BoundaryAt(height uint64) (Boundary, bool) {
	i, ok := search(s.boundaries, height, (*Boundary).height)
	if !ok {
		return Boundary{}, false
	}
	return s.boundaries[i], true
}

// BlockOfHash is the block of a hash, where the table still remembers its boundary.
func (s *State) BlockOfHash(hash chain.Hash) (block uint64, ok bool) {
	for i := len(s.boundaries) - 1; i >= 0; i-- {
		if b := &s.boundaries[i]; b.Hash == hash {
			return b.Height - 1, true
		}
	}
	return 0, false
}

// View is a small copy of the parts of the state that the leader's plan needs. It stays valid when the state changes.
type View struct {
	Group    Group
	Level    uint64 // the group's protocol level
	Term     Term
	Settings Settings
	Now      uint64
	Age      uint64 // that of State.Age
	Begun    uint64 // the Age at which the term began

	Head     Boundary
	HeldFrom uint64 // number of the first block that the masters hold
	Stored   uint64 // number of stored blocks
	Waiting  *chain.Header

	OpenBlock    uint64 // number of the open block
	OpenRecords  int
	OpenBytes    int
	OpenSince    uint64 // time of its first record
	Pending      int    // blocks that are cut and not stored
	PendingBytes uint64 // unstored bytes, the open buffer's among them

	Storages  []Storage
	Miners    []Miner
	Lost      []chain.Range // blocks of which no node has a good copy
	Confirmed []chain.Range // those that a person confirmed as lost

	Masters        []Master // by id
	RemovedMasters []string // ids of removed masters

	FailedSyncs []FailedSync // of the nodes in the table, by id

	WaitingWorkers []WaitingWorker // workers that wait for approval, by id

	Intents []Intent   // open ones, in the order of their records; never changed in place
	Reports []Reported // the newest of each node; never changed in place

	TLS wire.TLSState

	AdminExpiry uint64 // when the next named admin token expires, unix milliseconds; 0 for none

	Log        Log        // never changed in place
	Checkpoint Boundary   // the newest that is stored
	Cosigned   []Cosigned // that of State.Cosigned
}

// View returns a view. Its cost does not depend on the number of blocks and records.
func (s *State) View() View {
	v := View{
		Group: s.group, Level: s.level, Term: s.term, Settings: s.settings,
		Now: s.now, Age: s.age, Begun: s.begun,
		Head: s.Boundary(), HeldFrom: s.heldFrom(), Stored: s.stored,
		OpenBlock: s.open.number, OpenRecords: len(s.open.ends), OpenBytes: len(s.open.records),
		OpenSince: s.open.time,
		Pending:   int(s.open.number - s.stored), PendingBytes: s.pendingBytes,
		Storages: slices.Clone(s.storages), Miners: slices.Clone(s.miners),
		Lost: s.integrity.Lost, Confirmed: s.integrity.Confirmed,
		// never changed in place
		Masters: s.masters, RemovedMasters: s.removedMasters, Log: s.log, Cosigned: s.cosigned,
		Checkpoint: s.checkpoint, FailedSyncs: s.knownFailedSyncs(), AdminExpiry: s.adminExpiry(),
		WaitingWorkers: s.WaitingWorkers(s.now),
		Intents:        s.intents, Reports: s.reports,
		TLS: s.tls,
	}
	if s.waiting != nil {
		v.Waiting = new(s.waiting.header)
	}
	return v
}

// NextIndex is the leaf index that the next record gets: positions from here on are not given out.
func (s *State) NextIndex() uint64 { return s.open.first + uint64(len(s.open.ends)) }

// NextPosition is the position that the next record gets.
func (s *State) NextPosition() Position {
	return Position{Block: s.open.number, Offset: uint32(len(s.open.ends)), Index: s.NextIndex()}
}

// placed is how many records have a position. Each block that is cut has a seal, which has an index too.
func (s *State) placed() uint64 { return s.NextIndex() - s.open.number }

// Height is the number of blocks that are cut, mined or not; the open block has this number.
func (s *State) Height() uint64 { return s.open.number }

// Master is the entry of a master, zero if there is none.
func (v *View) Master(id string) Master {
	m, _ := find(v.Masters, func(m *Master) bool { return m.ID == id })
	return m
}

// Storage is the entry of a storage node, zero if there is none.
func (v *View) Storage(id string) Storage {
	n, _ := find(v.Storages, func(n *Storage) bool { return n.ID == id })
	return n
}

// Miner is the entry of a miner, zero if there is none.
func (v *View) Miner(id string) Miner {
	m, _ := find(v.Miners, func(m *Miner) bool { return m.ID == id })
	return m
}

// find returns the first element that matches, the zero value if none does.
func find[T any](list []T, matches func(*T) bool) (found T, ok bool) {
	for i := range list {
		if matches(&list[i]) {
			return list[i], true
		}
	}
	return found, false
}

// appendBounded returns a copy of a list with one more element, without the first ones if it has more than most.
func appendBounded(list []string, element string, most int) []string {
	list = append(slices.Clone(list), element)
	return list[max(0, len(list)-most):]
}

// atMost finds the last element of a sorted list whose key is not above a key, -1 if there is none.
func atMost[T any](list []T, key uint64, of func(*T) uint64) int {
	return sort.Search(len(list), func(i int) bool { return of(&list[i]) > key }) - 1
}

// put returns a copy of a list that is sorted by a key, with an element that replaces the one of the same key.
func put[T any, K cmp.Ordered](list []T, element T, of func(*T) K) []T {
	at, found := search(list, of(&element), of)
	list = slices.Clone(list)
	if !found {
		return slices.Insert(list, at, element)
	}
	list[at] = element
	return list
}

// search finds a key in a list that is sorted by it, or the place at which it is to be inserted.
func search[T any, K cmp.Ordered](list []T, key K, of func(*T) K) (at int, found bool) {
	at = sort.Search(len(list), func(i int) bool { return of(&list[i]) >= key })
	return at, at < len(list) && of(&list[at]) == key
}

// MaxTime is the last millisecond of the year 9999, which is the last year of RFC 3339. A later time is a fault.
const MaxTime = 253_402_300_799_999

// How far a [SetTime] may move the time, in milliseconds: MaxStep is a day, MaxJump a hundred years.
const (
	MaxStep = 24 * 60 * 60 * 1000
	MaxJump = 36_525 * MaxStep
)

// SetTime moves the table's time forward to Time. An operator requests it where the time is behind and the masters may
// not move it by themselves. It is refused with [ErrBadCommand] where Time is not later than the table's time, more
// than [MaxJump] later, or later than [MaxTime]; and more than [MaxStep] later unless Force is set, because a mistake
// cannot be corrected. The result is the time that it has replaced. Known from protocol level 3 on.
type SetTime struct {
	Time  uint64 `json:"time"` // unix milliseconds
	Force bool   `json:"force,omitempty"`
}

func (c *SetTime) apply(s *State) (any, error) {
	was := s.now
	switch {
	case s.level < LevelElapsed:
		return nil, fmt.Errorf("%w: the time is set from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelElapsed, s.level)
	case c.Time > MaxTime:
		return nil, fmt.Errorf("%w: the time is before 1970 or after the year 9999", ErrBadCommand)
	case c.Time <= was:
		return nil, fmt.Errorf("%w: the time %d is not later than the group's time, %d, and that never runs backwards",
			ErrBadCommand, c.Time, was)
	case c.Time-was > MaxJump:
		return nil, fmt.Errorf("%w: the time is more than 100 years after the group's time", ErrBadCommand)
	case c.Time-was > MaxStep && !c.Force:
		return nil, fmt.Errorf("%w: the time is %d h after the group's time and cannot be set back: if it is right, "+
			"confirm it with --yes (\"force\": true)", ErrBadCommand, (c.Time-was)/(60*60*1000))
	}
	s.tick(c.Time)
	s.recordActEvent(Event{Kind: EventTime,
		Cause: s.cause(wire.CodeTimeSet, wire.Args{"seconds": (c.Time - was) / 1000})})
	return was, nil
}

// tick moves the table's time to that of a command.
func (s *State) tick(time uint64) { s.now = s.timeOf(time) }

// timeOf returns the table's time after a command of a time. It never runs backwards. From protocol level 3 on an
// absurd time is ignored, such as that of a clock before 1970.
func (s *State) timeOf(time uint64) uint64 {
	if time > MaxTime && s.level >= LevelElapsed {
		return s.now
	}
	return max(s.now, time)
}

// Now is the newest time that a command brought, unix milliseconds.
func (s *State) Now() uint64 { return s.now }

// Age is how many milliseconds leaders have counted by their monotonic clocks, as far as it is committed. Setting a
// system clock does not change it. The keys, the quotas and the schedules of checks depend on it.
func (s *State) Age() uint64 { return s.age }

// elapse moves the age to that of a command. An absurd one is ignored.
func (s *State) elapse(age uint64) { s.age = s.ageOf(age) }

// ageOf is the age after a command with one.
func (s *State) ageOf(age uint64) uint64 {
	if age <= longestLeadership {
		return max(s.age, age)
	}
	return s.age
}

// longestLeadership bounds the time that a leader may claim to have led, in milliseconds. It is 8,000 years, so that no
// sum overflows.
const longestLeadership = 1 << 48

// ageAt is the age, as far as a leader has counted it. The count of a leader of another term is ignored:
// it began at another BeginTerm.
func (s *State) ageAt(leadership Leadership) uint64 {
	if leadership.Term != s.term.Term {
		return s.age
	}
	return max(s.age, s.begun+min(leadership.Elapsed, longestLeadership))
}
