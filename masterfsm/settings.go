package masterfsm

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Settings are the limits that the whole group shares. The leaders of a new group bring theirs in [BeginTerm], until
// the group is at protocol level 3. From then on they change only through [ChangeSettings], which an administrator
// requests.
type Settings struct {
	MaxRecords      uint32 `json:"max_records"`       // records in a block before it is cut
	MaxBytes        uint32 `json:"max_bytes"`         // bytes of records in a block before it is cut
	MaxPendingBytes uint64 `json:"max_pending_bytes"` // unstored bytes before appends are refused
	RetainBytes     uint64 `json:"retain_bytes"`      // stored bytes kept for storage nodes that are behind
	Difficulty      uint8  `json:"difficulty"`        // leading zero bits of a block's hash
	Replicas        uint8  `json:"replicas"`          // storage nodes that must have a block before the masters drop it
	MaxKeys         uint32 `json:"max_keys"`          // idempotency keys remembered
	KeyAge          uint64 `json:"key_age"`           // milliseconds that they are remembered for
	// WitnessQuorum is how many witnesses must have cosigned a checkpoint before it is published.
	WitnessQuorum uint8 `json:"witness_quorum,omitempty"`
	// ApproveWorkers makes new workers wait for the approval of an administrator. It is false below protocol level 7.
	ApproveWorkers bool `json:"approve_workers,omitempty"`
}

// DefaultSettings are those of the design.
func DefaultSettings() Settings {
	return Settings{
		MaxRecords:      16_384,
		MaxBytes:        4 << 20,
		MaxPendingBytes: 256 << 20,
		RetainBytes:     64 << 20,
		Difficulty:      16,
		Replicas:        2,
		MaxKeys:         1_000_000,
		KeyAge:          10 * 60 * 1000,
	}
}

// Check reports which setting is out of its range.
func (s Settings) Check() error {
	switch {
	case s.MaxRecords == 0 || s.MaxRecords > 1<<20:
		return fmt.Errorf("%w: max records %d is not within 1 and %d", ErrBadCommand, s.MaxRecords, 1<<20)
	case s.MaxBytes == 0 || s.MaxBytes > 64<<20:
		return fmt.Errorf("%w: max bytes %d is not within 1 and %d", ErrBadCommand, s.MaxBytes, 64<<20)
	case s.Difficulty > chain.MaxDifficulty:
		return fmt.Errorf("%w: difficulty %d is over the cap of %d bits", ErrBadCommand, s.Difficulty,
			chain.MaxDifficulty)
	case s.Replicas == 0:
		return fmt.Errorf("%w: replicas must be at least 1", ErrBadCommand)
	case s.MaxPendingBytes == 0:
		return fmt.Errorf("%w: max pending bytes must be at least 1", ErrBadCommand)
	case s.WitnessQuorum > MaxWitnesses:
		return fmt.Errorf("%w: a witness quorum of %d is over the cap of %d witnesses", ErrBadCommand, s.WitnessQuorum,
			MaxWitnesses)
	}
	return nil
}

// Setting is a setting with the name of its flag.
type Setting struct {
	Name  string
	Value uint64 // milliseconds if it is a time, 1 for true
}

// Text is the value in the form that the flag has.
func (s Setting) Text() string {
	switch {
	case s.Name == "approve-workers":
		return strconv.FormatBool(s.Value == 1)
	case s.Name != "key-age":
		return strconv.FormatUint(s.Value, 10)
	case s.Value%1000 == 0:
		return strconv.FormatUint(s.Value/1000, 10) + "s"
	}
	return strconv.FormatUint(s.Value, 10) + "ms"
}

// List returns all settings, always in the same order.
func (s Settings) List() []Setting {
	approve := uint64(0)
	if s.ApproveWorkers {
		approve = 1
	}
	return []Setting{
		{"max-records", uint64(s.MaxRecords)},
		{"max-bytes", uint64(s.MaxBytes)},
		{"max-pending-bytes", s.MaxPendingBytes},
		{"retain-bytes", s.RetainBytes},
		{"difficulty", uint64(s.Difficulty)},
		{"replicas", uint64(s.Replicas)},
		{"max-keys", uint64(s.MaxKeys)},
		{"key-age", s.KeyAge},
		{"witness-quorum", uint64(s.WitnessQuorum)},
		{"approve-workers", approve},
	}
}

// SettingsChange changes the settings that are not nil.
type SettingsChange struct {
	MaxRecords      *uint32 `json:"max_records,omitempty"`
	MaxBytes        *uint32 `json:"max_bytes,omitempty"`
	MaxPendingBytes *uint64 `json:"max_pending_bytes,omitempty"`
	RetainBytes     *uint64 `json:"retain_bytes,omitempty"`
	Difficulty      *uint8  `json:"difficulty,omitempty"`
	Replicas        *uint8  `json:"replicas,omitempty"`
	MaxKeys         *uint32 `json:"max_keys,omitempty"`
	KeyAge          *uint64 `json:"key_age,omitempty"`
	WitnessQuorum   *uint8  `json:"witness_quorum,omitempty"`
	ApproveWorkers  *bool   `json:"approve_workers,omitempty"` // from protocol level 7 on
}

// Of returns settings after the change.
func (c SettingsChange) Of(s Settings) Settings {
	change(&s.MaxRecords, c.MaxRecords)
	change(&s.MaxBytes, c.MaxBytes)
	change(&s.MaxPendingBytes, c.MaxPendingBytes)
	change(&s.RetainBytes, c.RetainBytes)
	change(&s.Difficulty, c.Difficulty)
	change(&s.Replicas, c.Replicas)
	change(&s.MaxKeys, c.MaxKeys)
	change(&s.KeyAge, c.KeyAge)
	change(&s.WitnessQuorum, c.WitnessQuorum)
	change(&s.ApproveWorkers, c.ApproveWorkers)
	return s
}

func change[T any](setting, to *T) {
	if to != nil {
		*setting = *to
	}
}

// ChangeSettings changes settings of the group. Below protocol level 7 it records each change in the integrity log. An
// administrator requests it. The result is the new [Settings]. Known from protocol level 3 on.
type ChangeSettings struct {
	Change SettingsChange `json:"change"`
	Time   uint64         `json:"time"`
}

// maxSettingBytes and maxKeyAge bound settings that a person changes, so that no sum overflows.
const (
	maxSettingBytes = 1 << 50
	maxKeyAge       = 1 << 40 // milliseconds
)

func (c *ChangeSettings) apply(s *State) (any, error) {
	if s.level < LevelSettings {
		return nil, fmt.Errorf("%w: settings are changed from protocol level %d on, the group is at %d",
			ErrBadCommand, LevelSettings, s.level)
	}
	was, changed := s.settings, c.Change.Of(s.settings)
	if err := changed.Check(); err != nil {
		return nil, err
	}
	switch {
	case changed.MaxPendingBytes > maxSettingBytes || changed.RetainBytes > maxSettingBytes:
		return nil, fmt.Errorf("%w: max pending bytes %d or retain bytes %d is over %d",
			ErrBadCommand, changed.MaxPendingBytes, changed.RetainBytes, uint64(maxSettingBytes))
	case c.Change.ApproveWorkers != nil && s.level < LevelApprovals:
		return nil, fmt.Errorf("%w: workers are approved from protocol level %d on, the group is at %d",
			ErrBadCommand, LevelApprovals, s.level)
	case changed.KeyAge > maxKeyAge:
		return nil, fmt.Errorf("%w: key age %d ms is over %d ms", ErrBadCommand, changed.KeyAge, uint64(maxKeyAge))
	}
	s.tick(c.Time)
	before := was.List()
	for i, now := range changed.List() {
		if now != before[i] {
			s.recordActEvent(Event{Kind: EventSetting, Cause: s.cause(wire.CodeSettingChanged,
				wire.Args{"setting": now.Name, "from": before[i].Text(), "to": now.Text()})})
		}
	}
	s.use(changed)
	s.advanceStored()
	return changed, nil
}

// use makes settings those in force.
func (s *State) use(settings Settings) {
	s.settings = settings
	if !settings.ApproveWorkers {
		s.waitingWorkers = nil // they come in with their next registration
	}
	if s.waiting != nil && settings.Difficulty < s.waiting.header.Difficulty {
		s.waiting.header.Difficulty = settings.Difficulty // a block may wait for easier work, never for harder
	}
}

func aboutSettings(*State, Command) subject {
	group := ofGroup(func(s *State) (values []trail.Value) {
		for _, setting := range s.settings.List() {
			values = append(values, trail.Value{Name: setting.Name, Value: setting.Text()})
		}
		return values
	})
	group.changes = true
	return group
}

// SetTLS changes the step of the move from plain text to TLS. It is refused with [ErrStale] where the table is not at
// From, and with [ErrBadCommand] for a change that is none of tlsSteps, or while a worker runs a program that does not
// know the steps. The URLs of all nodes get the scheme of the step. Known from protocol level 7 on.
type SetTLS struct {
	From wire.TLSStep `json:"from"`
	To   wire.TLSStep `json:"to"`
	Time uint64       `json:"time"`
	// Checked are the nodes that the leader saw on TLS, for [wire.TLSRequire]. The command is refused with [ErrStale]
	// if the table has others meanwhile, or another start of one.
	Checked []CheckedNode `json:"checked,omitempty"`
}

// CheckedNode is a node that [SetTLS] names.
type CheckedNode struct {
	ID   string `json:"id"`
	Boot string `json:"boot,omitempty"` // of a worker: the start that registered
}

// tlsChange is a change of the step.
type tlsChange struct{ from, to wire.TLSStep }

// tlsSteps are the changes that are allowed. [wire.TLSRequire] has none: an attacker with the token of an administrator
// must not be able to bring plain text back.
var tlsSteps = map[tlsChange]bool{
	{wire.TLSByFlags, wire.TLSAccept}:  true,
	{wire.TLSByFlags, wire.TLSRequire}: true, // a group whose nodes all have certificates
	{wire.TLSAccept, wire.TLSPrefer}:   true,
	{wire.TLSPrefer, wire.TLSAccept}:   true,
	{wire.TLSPrefer, wire.TLSRequire}:  true,
}

// CheckTLSChange refuses a change of the step that is none of tlsSteps, with [ErrBadCommand].
func CheckTLSChange(from, to wire.TLSStep) error {
	if tlsSteps[tlsChange{from, to}] {
		return nil
	}
	return fmt.Errorf("%w: the step of TLS cannot change from %s to %s: the order is accept, prefer, require, one at "+
		"a time; prefer may go back to accept, and nothing follows require", ErrBadCommand, from.Name(), to.Name())
}

func (c *SetTLS) apply(s *State) (any, error) {
	switch {
	case s.level < LevelTLSSteps:
		return nil, fmt.Errorf("%w: the step of TLS is changed from protocol level %d on, the group is at %d",
			ErrBadCommand, LevelTLSSteps, s.level)
	case c.From != s.tls.Step:
		return nil, fmt.Errorf("%w: the step of TLS is %s now", ErrStale, s.tls.Step.Name())
	}
	if err := CheckTLSChange(c.From, c.To); err != nil {
		return nil, err
	}
	if id := s.workerBelow(LevelTLSSteps); id != "" {
		return nil, fmt.Errorf("%w: worker %s runs a version of ChainStore that does not know the steps of TLS: start "+
			"it with the version that the masters have", ErrBadCommand, id)
	}
	if id := s.unchecked(c.Checked); c.To == wire.TLSRequire && id != "" {
		return nil, fmt.Errorf("%w: node %s has joined or started since the leader checked that all nodes speak TLS: "+
			"try again", ErrStale, id)
	}
	s.tick(c.Time)
	s.tls = wire.TLSState{Step: c.To, Change: s.tls.Change + 1}
	s.useSchemes()
	return nil, nil
}

// workerBelow returns the id of a worker whose program does not know a protocol level, "" if all do.
func (s *State) workerBelow(level uint64) string {
	for i := range s.storages {
		if s.storages[i].Level < level {
			return s.storages[i].ID
		}
	}
	for i := range s.miners {
		if s.miners[i].Level < level {
			return s.miners[i].ID
		}
	}
	return ""
}

// unchecked returns the id of a node in the table that a list does not have, or with another start; "" for none.
func (s *State) unchecked(list []CheckedNode) string {
	has := func(id, boot string) bool { return slices.Contains(list, CheckedNode{ID: id, Boot: boot}) }
	for _, m := range s.masters {
		if !has(m.ID, "") {
			return m.ID
		}
	}
	for i := range s.storages {
		if n := &s.storages[i]; !has(n.ID, n.Boot) {
			return n.ID
		}
	}
	for i := range s.miners {
		if n := &s.miners[i]; !has(n.ID, n.Boot) {
			return n.ID
		}
	}
	return ""
}

// useSchemes gives the URLs of all nodes the scheme of the step. It changes no registration: a node that is called in
// another way is the same node.
func (s *State) useSchemes() {
	masters := make([]Master, len(s.masters)) // s.masters is never changed in place
	for i, m := range s.masters {
		m.URL = s.tls.Step.URL(m.URL)
		masters[i] = m
	}
	s.masters = masters
	for i := range s.storages {
		s.storages[i].URL = s.tls.Step.URL(s.storages[i].URL)
	}
	for i := range s.miners {
		s.miners[i].URL = s.tls.Step.URL(s.miners[i].URL)
	}
	s.term.URL = s.tls.Step.URL(s.term.URL)
}

// TLS is the step of the move from plain text to TLS.
func (s *State) TLS() wire.TLSState { return s.tls }
