package masterfsm

import (
	"fmt"
	"slices"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

// Role is the role of a worker.
type Role string

// The roles of workers.
const (
	RoleStorage Role = "storage"
	RoleMiner   Role = "miner"
)

// NodeState is the state of a storage node: see docs/integrity.md.
type NodeState string

// The states of a storage node.
const (
	Valid      NodeState = "valid"
	Validating NodeState = "validating"
	Invalid    NodeState = "invalid"
	Sending    NodeState = "sending"
	Receiving  NodeState = "receiving"
)

// RetainsBlocks reports whether a node in this state counts as one that has the blocks it acknowledged.
func (n NodeState) RetainsBlocks() bool { return n == Valid || n == Validating || n == Sending }

// Storage is a storage node.
type Storage struct {
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	State       NodeState  `json:"state"`
	Version     uint64     `json:"version"` // goes up with each change of the state or the registration
	Height      uint64     `json:"height"`  // blocks that it is known to have on disk
	Cause       Cause      `json:"cause"`   // of the state, if there is one
	Since       uint64     `json:"since"`   // when the state began, unix milliseconds
	MasterToken string     `json:"master_token"`
	AccessHash  chain.Hash `json:"access_hash"`
	Boot        string     `json:"boot"` // the worker's start that was judged
	// that start keeps a list of the worker's starts; false at protocol level 0
	Lists bool   `json:"lists,omitempty"`
	Level uint64 `json:"level,omitempty"` // the highest protocol level that it has announced; 0 below level 2

	// What is known of the blocks below Height.
	OnGroupChain bool          `json:"sound"`         // they are the group's chain, but for the bad ones
	Bad          []chain.Range `json:"bad,omitempty"` // known to be damaged or missing
	// the last check could not look at what is from here on, 0 where it could
	Unchecked uint64 `json:"unchecked"`
	// it counts as a copy of them; derived, see State.countsAsCopy
	CountsAsCopy bool   `json:"-"`
	Due          Cause  `json:"due"`     // why a check is due at once, if one is
	Checked      uint64 `json:"checked"` // when the last check ended, unix milliseconds
	// CheckedAge is State.Age when the last check ended, 0 if that was below protocol level 3.
	CheckedAge uint64 `json:"checked_age,omitempty"`
	// CheckMillis is how long the last check took that ended, as the node reported it; 0 below protocol level 3.
	CheckMillis uint64 `json:"check_ms,omitempty"`
	// EarlyEnds is how many checks in a row ended before they looked at all blocks, 0 below protocol level 3.
	EarlyEnds uint64 `json:"early_ends,omitempty"`

	// What is under way: of a node that is Validating, Receiving or Sending.
	Target  Target        `json:"target"`
	Peer    string        `json:"peer"`              // the other node of the repair
	Ticket  string        `json:"ticket"`            // Receiving
	Keep    uint64        `json:"keep"`              // Receiving: its chain is the group's below this block
	Missing []chain.Range `json:"missing,omitempty"` // Receiving: what is to be sent
}

// Worker returns the address of the node.
func (n *Storage) Worker() wire.Worker {
	return wire.Worker{URL: n.URL, Token: n.MasterToken, Older: n.Level < LevelProofs}
}

// NotChecked reports whether a node waits for a check that looks at all blocks, and does not count as a copy meanwhile.
func (n *Storage) NotChecked() bool {
	return (n.State == Invalid || n.State == Receiving) && n.Unchecked > 0 && len(n.Bad) == 0
}

func (n *Storage) move(to NodeState, cause Cause, now uint64) {
	if n.State != to {
		n.Since = now
	}
	n.State, n.Cause = to, cause
	n.Version++
}

// Miner is a miner node.
type Miner struct {
	ID          string     `json:"id"`
	URL         string     `json:"url"`
	MasterToken string     `json:"master_token"`
	AccessHash  chain.Hash `json:"access_hash"`
	Boot        string     `json:"boot,omitempty"`  // the worker's start that registered; "" at protocol level 0
	Lists       bool       `json:"lists,omitempty"` // that start keeps a list of the worker's starts
	Level       uint64     `json:"level,omitempty"` // the highest protocol level that it has announced; 0 below level 2
	// Dead: it did not answer the leader for long; see MarkMiners. DeadAge is State.Age when it was marked so. Both are
	// zero below protocol level 3.
	Dead    bool   `json:"dead,omitempty"`
	DeadAge uint64 `json:"dead_age,omitempty"`
}

// Worker returns the address of the miner.
func (m *Miner) Worker() wire.Worker {
	return wire.Worker{URL: m.URL, Token: m.MasterToken, Miner: true, Older: m.Level < LevelProofs}
}

// MinerExpiry is how long a miner is dead before it is removed from the table, in milliseconds of State.Age.
const MinerExpiry = 24 * 60 * 60 * 1000

// MarkMiners records which miners do not answer the leader, and which do again. Known from protocol level 3 on.
type MarkMiners struct {
	Miners []MinerMark `json:"miners"`
	Time   uint64      `json:"time"`
	Age    uint64      `json:"age"` // State.Age as the leader has counted it
}

// MinerMark is the mark of one miner. It is ignored if the table has another start of the miner.
type MinerMark struct {
	ID   string `json:"id"`
	Boot string `json:"boot"`
	Dead bool   `json:"dead"`
}

// RemoveMiner removes a miner. If it is Expired, it may register again: it is refused with [ErrStale] unless the miner
// has been dead for [MinerExpiry]. Otherwise an administrator removes it: its id is never admitted again, and the
// integrity log records it. Known from protocol level 3 on.
type RemoveMiner struct {
	ID      string `json:"id"`
	Expired bool   `json:"expired,omitempty"`
	Time    uint64 `json:"time"`
	Age     uint64 `json:"age,omitempty"` // of an expired one: State.Age as the leader has counted it
}

// maxWorkers bounds the table; maxText its strings.
const (
	maxWorkers = 256
	maxText    = 1024
)

// transitions are the changes of a storage node's state that are allowed: see docs/integrity.md. A registration may set
// any state.
var transitions = map[NodeState][]NodeState{
	Valid:      {Sending, Validating, Invalid},
	Sending:    {Valid, Invalid},
	Validating: {Valid, Invalid},
	Invalid:    {Receiving},
	Receiving:  {Valid, Invalid},
}

func (n NodeState) may(to NodeState) bool { return slices.Contains(transitions[n], to) }

func (n *Storage) id() string { return n.ID }

func (s *State) storage(id string) *Storage {
	i, ok := search(s.storages, id, (*Storage).id)
	if !ok {
		return nil
	}
	return &s.storages[i]
}

func (c *Invalidate) apply(s *State) (any, error) {
	n, err := s.at(c.ID, c.Version, Invalid)
	if err != nil {
		return nil, err
	}
	if err := s.checkCause(c.Cause); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	s.leaveRepair(n)
	n.OnGroupChain = false
	n.move(Invalid, c.Cause, s.now)
	s.recordNode(n, Event{Kind: EventFinding, Cause: c.Cause})
	s.advanceStored()
	return nil, nil
}

func (c *Register) apply(s *State) (any, error) {
	if c.ID == "" || c.URL == "" || len(c.ID) > maxText || len(c.URL) > maxText || len(c.MasterToken) > maxText ||
		len(c.Boot) > maxText || len(c.Previous) > maxText {
		return nil, fmt.Errorf("%w: a worker needs id and URL, of at most %d bytes each", ErrBadCommand, maxText)
	}
	if slices.Contains(s.integrity.Removed, c.ID) {
		return nil, fmt.Errorf("%w: %s", wire.ErrRemoved, c.ID)
	}
	if err := s.CheckWorkerLevel(c); err != nil {
		return nil, err
	}
	if err := s.CheckStart(c); err != nil {
		return nil, err
	}
	if err := s.CheckFailedSync(c); err != nil {
		return nil, err
	}
	if s.MustWait(c) {
		return s.wait(c)
	}
	var entered any
	var err error
	if url := s.tls.Step.URL(c.URL); url != c.URL {
		own := *c
		own.URL, c = url, &own
	}
	switch c.Role {
	case RoleStorage:
		entered, err = s.registerStorage(c)
	case RoleMiner:
		entered, err = s.registerMiner(c)
	default:
		return nil, fmt.Errorf("%w: unknown role %q", ErrBadCommand, c.Role)
	}
	if err == nil {
		s.endWaiting(c.ID)
		s.endFailedSync(c.ID, c.URL, c.Kernel)
	}
	return entered, err
}

// CheckWorkerLevel refuses a worker that announces a level at which its program cannot prove its secrets, once the
// group needs that. The level was raised only after every worker of the table had announced it. Versions before level 2
// announce none; masters refuse their tokens.
func (s *State) CheckWorkerLevel(c *Register) error {
	if s.level >= LevelProofs && c.Level > 0 && c.Level < LevelProofs {
		return fmt.Errorf("%w: worker %q knows protocol level %d, and the group is at level %d: start the worker "+
			"with the version of ChainStore that the masters have", ErrBadCommand, c.ID, c.Level, s.level)
	}
	if s.tls.Step.Mixed() && c.Level < LevelTLSSteps {
		return fmt.Errorf("%w: worker %q knows protocol level %d, and the group moves to TLS, which takes level %d: "+
			"start the worker with the version of ChainStore that the masters have", ErrBadCommand, c.ID, c.Level,
			LevelTLSSteps)
	}
	return nil
}

// CheckStart refuses a worker whose folder does not know the start that the table has of it, with an
// [*wire.OtherStartError].
func (s *State) CheckStart(c *Register) error {
	if s.level < LevelIdentities {
		return nil
	}
	m, _ := find(s.miners, func(m *Miner) bool { return m.ID == c.ID })
	boot, lists := m.Boot, m.Lists
	if n := s.storage(c.ID); n != nil && m.ID == "" {
		boot, lists = n.Boot, n.Lists
	}
	if !lists || c.Lists && (c.Boot == boot || c.Previous == boot) {
		return nil
	}
	return &wire.OtherStartError{Start: boot, Err: fmt.Errorf("%w: worker %s", wire.ErrOtherStart, c.ID)}
}

// RegistersAddress reports whether a registration adds a worker, or changes its address: these leave a record in the
// audit trail.
func (s *State) RegistersAddress(c *Register) bool {
	if c.Role == RoleMiner {
		m, ok := find(s.miners, func(m *Miner) bool { return m.ID == c.ID })
		return !ok || m.URL != c.URL
	}
	n := s.storage(c.ID)
	return n == nil || n.URL != c.URL
}

func (s *State) registerStorage(c *Register) (any, error) {
	replaced := func(n Storage) bool { return n.URL == c.URL && n.ID != c.ID }
	others := slices.DeleteFunc(slices.Clone(s.storages), replaced)
	if s.storage(c.ID) == nil && len(others) >= maxWorkers {
		return nil, fmt.Errorf("%w: %d storage nodes are registered already", ErrBadCommand, maxWorkers)
	}
	s.tick(c.Time)
	for i := range s.storages {
		if old := &s.storages[i]; replaced(*old) {
			s.leaveRepair(old)
		}
	}
	s.storages = slices.DeleteFunc(s.storages, replaced)
	n := s.storage(c.ID)
	if n == nil {
		s.storages = put(s.storages, Storage{ID: c.ID, Since: s.now}, (*Storage).id)
		n = s.storage(c.ID)
	}
	before := *n
	n.URL, n.MasterToken, n.AccessHash, n.Boot = c.URL, c.MasterToken, c.AccessHash, c.Boot
	n.Lists = c.Lists && s.level >= LevelIdentities
	if s.level >= LevelCodes {
		n.Level = c.Level
	}
	if s.level >= LevelIdentities && before.Boot == c.Boot && c.Boot != "" && before.URL == c.URL {
		// It was judged when this start registered first. It has gone on since, so the height of now says nothing.
		return new(*n), nil
	}
	s.leaveRepair(n)
	n.Height = c.Height
	s.enter(n, c.Hash)
	if c.Height < before.Height {
		s.recordMissing(n, chain.Range{From: c.Height, To: before.Height}, chain.WrongShort,
			"it started with %d blocks and had acknowledged %d", c.Height, before.Height)
	} else if n.State == Invalid && (before.Version == 0 && c.Height > 0 ||
		before.Height == c.Height && before.State.RetainsBlocks()) {
		s.recordNode(n, Event{Kind: EventFinding, Cause: n.Cause})
	}
	switch {
	case c.Unclean && c.Height > 0:
		n.Due = s.cause(wire.CodeUncleanStop, nil)
	case before.State == Validating && n.Due.IsZero():
		n.Due = s.cause(wire.CodeCheckCutOff, nil)
	}
	s.advanceStored()
	return new(*n), nil
}

// judge returns the state of a node that boots with height blocks, the last of which has that hash.
func (s *State) judge(height uint64, hash chain.Hash) (NodeState, Cause) {
	switch {
	case height > s.head.Height:
		return Invalid, s.cause(wire.CodeAhead, wire.Args{"blocks": height, "height": s.head.Height})
	case height < s.heldFrom():
		return Invalid, s.cause(wire.CodeBehind, wire.Args{"blocks": height, "from": s.heldFrom()})
	case height == 0:
		return Valid, Cause{}
	}
	b, ok := s.BoundaryAt(height)
	switch {
	case !ok:
		return Invalid, s.cause(wire.CodeUnknownHeight, wire.Args{"height": height})
	case b.Hash != hash:
		return Invalid, s.cause(wire.CodeOtherChain, wire.Args{"block": height - 1})
	}
	return Valid, Cause{}
}

func (s *State) registerMiner(c *Register) (any, error) {
	miners := slices.DeleteFunc(slices.Clone(s.miners), func(m Miner) bool { return m.ID == c.ID || m.URL == c.URL })
	if len(miners) >= maxWorkers {
		at := longestDead(miners)
		if at < 0 {
			return nil, fmt.Errorf("%w: %d miners are registered already, and none of them is known to be dead; "+
				"remove one", ErrBadCommand, maxWorkers)
		}
		miners = slices.Delete(miners, at, at+1)
	}
	s.tick(c.Time)
	m := Miner{ID: c.ID, URL: c.URL, MasterToken: c.MasterToken, AccessHash: c.AccessHash}
	if s.level >= LevelIdentities {
		m.Boot, m.Lists = c.Boot, c.Lists
	}
	if s.level >= LevelCodes {
		m.Level = c.Level
	}
	s.miners = put(miners, m, func(m *Miner) string { return m.ID })
	return &m, nil
}

// longestDead returns the place of the miner that was marked as dead first, -1 if none is dead.
func longestDead(miners []Miner) int {
	at := -1
	for i := range miners {
		if miners[i].Dead && (at < 0 || miners[i].DeadAge < miners[at].DeadAge) {
			at = i
		}
	}
	return at
}

func (c *MarkMiners) apply(s *State) (any, error) {
	switch {
	case s.level < LevelMiners:
		return nil, fmt.Errorf("%w: miners are marked from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelMiners, s.level)
	case len(c.Miners) > maxWorkers:
		return nil, fmt.Errorf("%w: marks of %d miners", ErrBadCommand, len(c.Miners))
	}
	s.tick(c.Time)
	s.elapse(c.Age)
	for _, mark := range c.Miners {
		i := slices.IndexFunc(s.miners, func(m Miner) bool { return m.ID == mark.ID })
		if i < 0 || s.miners[i].Boot != mark.Boot {
			continue
		}
		switch m := &s.miners[i]; {
		case !mark.Dead:
			m.Dead, m.DeadAge = false, 0
		case !m.Dead:
			m.Dead, m.DeadAge = true, s.age
		}
	}
	return nil, nil
}

func (c *RemoveMiner) apply(s *State) (any, error) {
	if s.level < LevelMiners {
		return nil, fmt.Errorf("%w: miners are removed from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelMiners, s.level)
	}
	m, ok := find(s.miners, func(m *Miner) bool { return m.ID == c.ID })
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, c.ID)
	}
	if c.Expired {
		age := max(s.age, c.Age)
		if !m.Dead || c.Age > longestLeadership || age-m.DeadAge < MinerExpiry {
			return nil, fmt.Errorf("%w: miner %s has not been dead for %d s", ErrStale, c.ID, MinerExpiry/1000)
		}
	}
	s.tick(c.Time)
	s.elapse(c.Age)
	if !c.Expired {
		s.recordActEvent(Event{Kind: EventRemoved, Node: m.ID, URL: m.URL, Cause: s.cause(wire.CodeRemoved, nil)})
		s.integrity.Removed = appendBounded(s.integrity.Removed, c.ID, maxRemoved)
	}
	s.miners = slices.DeleteFunc(slices.Clone(s.miners), func(m Miner) bool { return m.ID == c.ID })
	return nil, nil
}

// Storages returns a copy of the storage nodes, by id.
func (s *State) Storages() []Storage { return slices.Clone(s.storages) }

// Miners returns a copy of the miners, by id.
func (s *State) Miners() []Miner { return slices.Clone(s.miners) }

// RemoveStorage removes a storage node. Its id is never admitted again. It is refused with [wire.ErrTooFewCopies] if
// fewer than Replicas other nodes have a good copy of all stored blocks, unless Force is set.
type RemoveStorage struct {
	ID    string `json:"id"`
	Force bool   `json:"force"`
	Time  uint64 `json:"time"`
}

func (c *RemoveStorage) apply(s *State) (any, error) {
	n := s.storage(c.ID)
	if n == nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknownNode, c.ID)
	}
	copies := 0
	for i := range s.storages {
		if other := &s.storages[i]; other.ID != c.ID && other.CountsAsCopy && other.Height >= s.stored {
			copies++
		}
	}
	if copies < int(s.settings.Replicas) && !c.Force {
		return nil, fmt.Errorf("%w: without %s there would be %d good copies of the stored blocks, %d are due; "+
			"wait until other nodes are valid, or force it",
			wire.ErrTooFewCopies, c.ID, copies, s.settings.Replicas)
	}
	s.tick(c.Time)
	s.recordActEvent(Event{Kind: EventRemoved, Node: n.ID, URL: n.URL, Cause: s.cause(wire.CodeRemoved, nil)})
	s.leaveRepair(n)
	s.storages = slices.DeleteFunc(slices.Clone(s.storages), func(n Storage) bool { return n.ID == c.ID })
	s.integrity.Removed = appendBounded(s.integrity.Removed, c.ID, maxRemoved)
	s.advanceStored()
	return nil, nil
}

// FailedSync is a failed sync of a node's data folder. The node does not take part again under the same kernel, which
// may show data that is not on the disk, unless an operator overrides that. The node remembers it in its folder too.
type FailedSync struct {
	ID     string `json:"id"`     // of the master, storage node or miner
	Kernel string `json:"kernel"` // boot id of the kernel, "" if it is not known
	Detail string `json:"detail"` // what failed
	Since  uint64 `json:"since"`  // unix milliseconds
}

func (f *FailedSync) id() string { return f.ID }

// Forbids reports whether the node may not take part under a kernel.
func (f *FailedSync) Forbids(kernel string) bool {
	return f.ID != "" && (f.Kernel == kernel || f.Kernel == "" || kernel == "")
}

// ReportFailedSync enters a [FailedSync], from protocol level 3 on. Over removes it: a master was started under another
// kernel, which is Kernel, or by an operator who overrode the refusal. A worker's [Register] does the same. It is
// refused with [ErrUnknownNode] if the table does not have the node, and with [ErrStale] if there is nothing to remove.
type ReportFailedSync struct {
	ID     string `json:"id"`
	Kernel string `json:"kernel"`
	Detail string `json:"detail,omitempty"`
	Over   bool   `json:"over,omitempty"`
	Time   uint64 `json:"time"`
}

func (c *ReportFailedSync) apply(s *State) (any, error) {
	url, known := s.urlOf(c.ID)
	switch {
	case s.level < LevelFailedSyncs:
		return nil, fmt.Errorf("%w: the group is at protocol level %d, failed syncs are known from level %d on",
			ErrBadCommand, s.level, LevelFailedSyncs)
	case !known:
		return nil, fmt.Errorf("%w: %q", ErrUnknownNode, c.ID)
	case len(c.Kernel) > maxText || len(c.Detail) > maxText:
		return nil, fmt.Errorf("%w: a boot id and a detail have at most %d bytes each", ErrBadCommand, maxText)
	case c.Over && s.FailedSyncOf(c.ID).ID == "":
		return nil, fmt.Errorf("%w: no failed sync of %s is known", ErrStale, c.ID)
	}
	s.tick(c.Time)
	if c.Over {
		s.endFailedSync(c.ID, url, c.Kernel)
		return nil, nil
	}
	before := s.FailedSyncOf(c.ID)
	s.failedSyncs = put(s.knownFailedSyncs(), FailedSync{ID: c.ID, Kernel: c.Kernel, Detail: c.Detail, Since: s.now},
		(*FailedSync).id)
	if before.ID == "" || before.Kernel != c.Kernel {
		s.recordEvent(Event{Kind: EventSuspect, Node: c.ID, URL: url,
			Cause: s.cause(wire.CodeSyncFailed, wire.Args{"detail": c.Detail})})
	}
	return nil, nil
}

// urlOf returns the URL of a node in the table, and whether it is there.
func (s *State) urlOf(id string) (url string, ok bool) {
	if n := s.storage(id); n != nil {
		return n.URL, true
	}
	if m, ok := find(s.miners, func(m *Miner) bool { return m.ID == id }); ok {
		return m.URL, true
	}
	m, ok := find(s.masters, func(m *Master) bool { return m.ID == id })
	return m.URL, ok
}

// knownFailedSyncs returns the failed syncs of the nodes in the table.
func (s *State) knownFailedSyncs() (list []FailedSync) {
	for _, f := range s.failedSyncs {
		if _, ok := s.urlOf(f.ID); ok {
			list = append(list, f)
		}
	}
	return list
}

// FailedSyncOf returns the failed sync of a node, zero if there is none.
func (s *State) FailedSyncOf(id string) FailedSync {
	f, _ := find(s.failedSyncs, func(f *FailedSync) bool { return f.ID == id })
	return f
}

// CheckFailedSync refuses a worker of which a sync failed under its kernel, with [wire.ErrFailedSync].
func (s *State) CheckFailedSync(c *Register) error {
	f := s.FailedSyncOf(c.ID)
	if c.AfterFailedSync || !f.Forbids(c.Kernel) {
		return nil
	}
	return fmt.Errorf("%w since the machine was started: %s: %s", wire.ErrFailedSync, c.ID, f.Detail)
}

// endFailedSync removes the failed sync of a node that takes part again, if there is one.
func (s *State) endFailedSync(id, url, kernel string) {
	f := s.FailedSyncOf(id)
	if f.ID == "" {
		return
	}
	code := wire.CodeSyncFailedRestart
	if f.Forbids(kernel) {
		code = wire.CodeSyncFailedOverride
	}
	s.failedSyncs = slices.DeleteFunc(slices.Clone(s.failedSyncs), func(f FailedSync) bool { return f.ID == id })
	s.recordEvent(Event{Kind: EventSuspect, Node: id, URL: url, Cause: s.cause(code, nil)})
}
