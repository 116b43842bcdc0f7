package masterfsm

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// act says how a command is recorded in the audit trail.
type act struct {
	act trail.Act
	// intent says that the command precedes a change outside of the table. Its record is an intent, and EndIntent
	// follows.
	intent bool
	// grows says that the command may be refused for want of room. always says that it makes room, or must always be
	// possible. The others have hardRoom.
	grows, always bool
	// only reports whether a command of the kind is an act; nil if all are.
	only func(Command) bool
	// about returns what the command is about, before it is applied.
	about func(*State, Command) subject
}

// subject is what an act is about. values are its parts, by which the act is judged and recorded: they are called
// before and after the command was applied, and a command that leaves them as they are leaves no record. They must
// contain no secret.
type subject struct {
	target trail.Target
	values func(*State) []trail.Value
	// parameters of the command are recorded before the new values, so that they are never left out, and not compared.
	parameters []trail.Value
	// changes says that only the values that differ are recorded, and the one called name.
	changes bool
}

// acts lists the commands that administrators and nodes cause, and the changes that the leader makes by itself. A new
// command has an entry here or in noActs. From protocol level 7 on the state machine refuses these commands unless they
// are wrapped by [EncodeAct].
var acts = map[kind]act{
	6: {act: trail.WorkerRegister, about: aboutRegister},
	8: {act: trail.ProjectCreate, grows: true, about: func(s *State, _ Command) subject {
		return aboutProject(s.nextProject)
	}},
	9:  {act: trail.StorageCheck, grows: true, only: isCheckRequest, about: aboutCheck},
	14: {act: trail.LossConfirm, always: true, about: aboutLoss},
	15: {act: trail.StorageRemove, always: true, about: func(_ *State, c Command) subject {
		r := c.(*RemoveStorage)
		return aboutStorage(r.ID).with(r.Force, "force")
	}},
	16: {act: trail.MasterAdmit, intent: true, about: func(_ *State, c Command) subject {
		a := c.(*AdmitMaster)
		return aboutMaster(a.ID).with(a.Take, "take")
	}},
	17: {act: trail.MasterRemove, intent: true, always: true, about: func(_ *State, c Command) subject {
		r := c.(*RemoveMaster)
		return aboutMaster(r.ID).with(r.Force, "force")
	}},
	18: {act: trail.ProjectChange, grows: true, about: func(_ *State, c Command) subject {
		return aboutProject(c.(*ChangeProject).Project)
	}},
	19: {act: trail.TokenCreate, grows: true, about: func(_ *State, c Command) subject {
		return aboutProject(c.(*CreateToken).Project)
	}},
	20: {act: trail.TokenRevoke, always: true, about: func(_ *State, c Command) subject {
		return aboutProject(c.(*RevokeToken).Project)
	}},
	21: {act: trail.LogKeyAdd, grows: true, about: func(_ *State, c Command) subject {
		return aboutLogKey(newKeyID(c.(*AddLogKey)))
	}},
	22: {act: trail.LogKeyRetire, always: true, about: func(_ *State, c Command) subject {
		return aboutLogKey(c.(*RetireLogKey).ID)
	}},
	24: {act: trail.LevelRaise, always: true, about: aboutLevel},
	25: {act: trail.TimeSet, grows: true, about: aboutTime},
	26: {act: trail.SettingsChange, always: true, about: aboutSettings},
	28: {act: trail.MinerRemove, always: true, about: func(_ *State, c Command) subject {
		return aboutMiner(c.(*RemoveMiner).ID)
	}},
	32: {act: trail.AdminCreate, grows: true, about: func(s *State, _ Command) subject {
		return aboutAdmin(s.lastAdmin + 1)
	}},
	41: {act: trail.TicketCreate, grows: true, about: func(s *State, _ Command) subject {
		return aboutTicket(s.lastTicket + 1)
	}},
	42: {act: trail.TicketRevoke, always: true, about: func(_ *State, c Command) subject {
		return aboutTicket(c.(*RevokeTicket).ID)
	}},
	43: {act: trail.WorkerDecide, about: aboutWaiting},
	47: {act: trail.ProjectClose, about: func(_ *State, c Command) subject {
		return aboutProject(c.(*CloseProject).Project)
	}},
	48: {act: trail.LogClose, about: aboutLogs},
	49: {act: trail.TLSStep, always: true, about: func(*State, Command) subject {
		return ofGroup(func(s *State) []trail.Value { return pairs("step", s.tls.Step.Name()) })
	}},
	33: {act: trail.AdminRevoke, always: true, about: func(_ *State, c Command) subject {
		return aboutAdmin(c.(*RevokeAdmin).ID)
	}},
}

// noActs lists the commands that are no acts, with the reason. NoteAct and EndIntent are here because they write their
// records themselves.
var noActs = map[kind]string{
	1:  "the term of a leader",
	3:  "a block is cut",
	4:  "a block is mined",
	5:  "heights of storage nodes",
	7:  "a finding, which is in the integrity log",
	10: "a check, which is in the integrity log",
	11: "a check",
	12: "a repair, which is in the integrity log",
	13: "a repair",
	23: "cosignatures of witnesses, which the log publishes",
	27: "which miners answer; their removal is an act",
	29: "a fault of a disk, which is in the integrity log",
	31: "a client of a project forgets its own stream; the records stay",
	34: "the time at which a token expires, which the record of its creation has",
	35: "a client of a project begins a stream",
	39: "it is the record itself",
	40: "it is the record itself",
}

// IsAct reports whether a command is recorded in the audit trail. From protocol level 7 on it is wrapped by
// [EncodeAct], as NoteAct and EndIntent are.
func IsAct(c Command) bool {
	switch c.(type) {
	case *NoteAct, *EndIntent:
		return true
	}
	a, ok := acts[kindOf(c)]
	return ok && (a.only == nil || a.only(c))
}

// NeedsOrigin reports whether a command is wrapped by [EncodeAct] at a protocol level. The command that raises the
// level to 7 is the first one.
func NeedsOrigin(level uint64, c Command) bool {
	raise, raises := c.(*RaiseLevel)
	return IsAct(c) && (level >= LevelAudit || raises && raise.Level >= LevelAudit)
}

// How far the backlog may be over its limit, in bytes, before acts that make no room are refused: first those of
// administrators that can wait, then also registrations, admissions and the like, which nodes cause.
const (
	reservedRoom = 4 << 20
	hardRoom     = 3 * reservedRoom
)

// hasRoom reports whether there is room for the record of an act. A registration that changes no address leaves none.
func (s *State) hasRoom(a *originated) bool {
	over, entry := s.pendingBytes-min(s.pendingBytes, s.settings.MaxPendingBytes), acts[a.kind]
	switch c := a.command.(type) {
	case *EndIntent:
		return true
	case *NoteAct:
		entry.grows = c.Phase == trail.Reported
	case *Register:
		entry.always = !s.RegistersAddress(c)
	}
	return entry.always || over < reservedRoom || over < hardRoom && !entry.grows
}

// applyAct applies a command of a known origin, and writes its record in the same commit. A command that is refused, or
// that changes nothing, leaves no record.
func (s *State) applyAct(body []byte) (any, error) {
	a, err := parseAct(body)
	if err != nil {
		return nil, err
	}
	if err := s.mayAct(&a); err != nil {
		return nil, err
	}
	switch c := a.command.(type) {
	case *NoteAct:
		return nil, s.note(&a, c)
	case *EndIntent:
		return nil, s.endIntent(&a, c)
	}
	entry := acts[a.kind]
	subject := entry.about(s, a.command)
	before, level := subject.values(s), s.level
	renamed := s.names[trail.Project]
	result, err := a.command.apply(s)
	if err != nil {
		return nil, err
	}
	s.forgetReports()
	after := subject.values(s)
	if slices.Equal(before, after) {
		return result, nil
	}
	if renamed != 0 && renamed != trail.ProjectID {
		s.recordRename(&a, renamed)
	}
	r := trail.Record{Act: entry.act, Target: subject.target, Before: before, After: after}
	if subject.changes {
		r.Before, r.After = differing(before, after), differing(after, before)
	}
	r.After = slices.Concat(subject.parameters, r.After)
	switch {
	case level < LevelAudit && s.level >= LevelAudit:
		s.recordBaseline(&a, r)
	case entry.intent:
		s.openIntent(&a, r)
	default:
		s.record(&a, r)
	}
	return result, nil
}

// mayAct refuses a command that cannot be an act now. Its named admin token must be in the table: a revocation counts
// from its place in the log on, also for a request in progress.
func (s *State) mayAct(a *originated) error {
	switch {
	case !IsAct(a.command):
		return fmt.Errorf("%w: a command of kind %d is no act", ErrBadCommand, a.kind)
	case !NeedsOrigin(s.level, a.command):
		return fmt.Errorf("%w: acts are recorded from protocol level %d on, the group is at %d", ErrBadCommand,
			LevelAudit, s.level)
	case !a.Actor.Kind.Known() || !utf8.ValidString(a.Actor.Name) || !utf8.ValidString(a.Source.Address) ||
		!utf8.ValidString(a.Source.Member):
		return fmt.Errorf("%w: the origin of an act is not of a known kind, or not UTF-8", ErrBadCommand)
	case !s.hasRoom(a):
		return fmt.Errorf("%w: there is no room for the record of this act: %d bytes wait, and max_pending_bytes is %d",
			wire.ErrBacklog, s.pendingBytes, s.settings.MaxPendingBytes)
	case a.Actor.Kind != trail.ByNamed:
		return nil
	}
	admin, ok := find(s.admins, func(o *Admin) bool { return o.ID == a.Actor.ID && o.Name == a.Actor.Name })
	if !ok || s.now >= admin.Expires {
		return fmt.Errorf("%w: the admin token %q was revoked or has expired", wire.ErrUnauthorized, a.Actor.Name)
	}
	return nil
}

// record appends a record to the audit trail, and returns its leaf index. There is no quota, and the backlog does not
// count: see mayAct.
func (s *State) record(a *originated, r trail.Record) (index uint64) {
	r.Actor, r.Source = a.Actor, a.Source
	payload := r.AppendTo(nil)
	written := chain.Record{
		Project: trail.ProjectID, Salt: a.salt, Key: r.Target.Key(), Type: trail.Type, Payload: payload,
	}
	index = s.NextIndex()
	s.put(&Placement{}, &submitted{commit: written.Commit(), record: written.AppendTo(nil)})
	s.audit.Records++
	return index
}

// recordRename records that the project of an id had the name of the audit trail. The record has a salt of its own.
func (s *State) recordRename(a *originated, id uint32) {
	first := a.derived("project-rename")
	s.record(&first, trail.Record{
		Act: trail.ProjectRename, Target: numberedTarget(trail.OfProject, id),
		Before: []trail.Value{{Name: "name", Value: trail.Project}},
		After:  []trail.Value{{Name: "name", Value: s.projectAt(id).Name}},
	})
}

// derived returns the origin with a salt of its own, for another record of the same commit.
func (a *originated) derived(label string) originated {
	other := *a
	sum := sha256.Sum256(append(a.salt[:], label...))
	copy(other.salt[:], sum[:])
	return other
}

// differing returns the values that others do not have, and the name.
func differing(values, others []trail.Value) (list []trail.Value) {
	for _, v := range values {
		if v.Name == "name" || !slices.Contains(others, v) {
			list = append(list, v)
		}
	}
	return list
}

// Intent is an act outside of the table that was begun, and whose outcome is not recorded yet.
type Intent struct {
	Index  uint64       `json:"index"` // the leaf index of its record
	Act    trail.Act    `json:"act"`
	Target trail.Target `json:"target"`
	Term   uint64       `json:"term"`           // of the leader that committed it
	Leader string       `json:"leader"`         // its member id
	Since  uint64       `json:"since"`          // unix milliseconds
	Raft   string       `json:"raft,omitempty"` // of MasterAdmit: the address that the master gets
}

func (s *State) openIntent(a *originated, r trail.Record) {
	r.Phase, r.Outcome = trail.Intent, trail.Unknown
	i := Intent{Act: r.Act, Target: r.Target, Term: s.term.Term, Leader: s.term.Leader, Since: s.now}
	if a.Actor.Kind == trail.ByLeader { // one whose clock is wrong hands over before its term begins
		i.Leader = a.Actor.Name
	}
	if c, ok := a.command.(*AdmitMaster); ok {
		i.Raft = c.Raft
	}
	i.Index = s.record(a, r)
	s.intents = append(slices.Clone(s.intents), i)
}

// NoteAct records an act that is no command: an intent of it, or that a node has reported it. An intent is refused with
// [ErrStale] if one of the same act and target is open.
type NoteAct struct {
	Act    trail.Act     `json:"act"`
	Phase  trail.Phase   `json:"phase"` // trail.Intent or trail.Reported
	Target trail.Target  `json:"target"`
	After  []trail.Value `json:"after,omitempty"`
	Time   uint64        `json:"time"`
}

// EndIntent records the outcome of an open intent. It is refused with [ErrStale] if no intent has that index, so the
// outcome is recorded once.
type EndIntent struct {
	Index   uint64        `json:"index"`
	Outcome trail.Outcome `json:"outcome"`
	Time    uint64        `json:"time"`
}

// apply refuses the command: a note has an origin, always.
func (c *NoteAct) apply(*State) (any, error) { return nil, ErrUnrecorded }

func (c *EndIntent) apply(*State) (any, error) { return nil, ErrUnrecorded }

func (s *State) note(a *originated, c *NoteAct) error {
	values := trail.CutValues(c.After)
	r := trail.Record{Act: c.Act, Phase: c.Phase, Target: c.Target, After: values}
	switch {
	case c.Phase == trail.Intent && (c.Act == trail.MasterPromote || c.Act == trail.LeadershipTransfer):
		if _, open := s.openIntentOf(c.Act, c.Target); open {
			return fmt.Errorf("%w: an intent of the act %s is open", ErrStale, c.Act)
		}
		s.tick(c.Time)
		s.openIntent(a, r)
	case c.Phase == trail.Reported && (c.Act == trail.CertificateReload || c.Act == trail.SecretReload):
		at := slices.IndexFunc(s.reports, func(o Reported) bool { return o.Act == c.Act && o.Target == c.Target })
		if at >= 0 && slices.Equal(s.reports[at].Values, values) {
			return fmt.Errorf("%w: the same was reported before", ErrStale)
		}
		s.tick(c.Time)
		s.reports = slices.Clone(s.reports)
		if at >= 0 {
			r.Before = s.reports[at].Values
			s.reports = slices.Delete(s.reports, at, at+1)
		}
		s.reports = append(s.reports, Reported{Act: c.Act, Target: c.Target, Values: values})
		s.reports = s.reports[max(0, len(s.reports)-maxReported):]
		if at >= 0 || c.Act != trail.SecretReload { // the secrets of a new node are no change
			s.record(a, r)
		}
	default:
		return fmt.Errorf("%w: the act %s cannot be noted in the phase %s", ErrBadCommand, c.Act, c.Phase)
	}
	return nil
}

// Reported is what a node has reported last.
type Reported struct {
	Act    trail.Act     `json:"act"`
	Target trail.Target  `json:"target"`
	Values []trail.Value `json:"values"`
}

// forgetReports drops the reports of nodes that are not in the table any more. A master may report before it is there.
func (s *State) forgetReports() {
	gone := func(r Reported) bool {
		id := r.Target.ID
		switch r.Target.Kind {
		case trail.OfStorage:
			return s.storage(id) == nil
		case trail.OfMiner:
			return !slices.ContainsFunc(s.miners, func(m Miner) bool { return m.ID == id })
		}
		return r.Target.Kind == trail.OfMaster && s.MasterRemoved(id)
	}
	if slices.ContainsFunc(s.reports, gone) {
		s.reports = slices.DeleteFunc(slices.Clone(s.reports), gone)
	}
}

// maxReported bounds the reports that the table remembers: more than two for each node.
const maxReported = 2 * (2*maxWorkers + maxMasters)

func (s *State) openIntentOf(act trail.Act, target trail.Target) (Intent, bool) {
	return find(s.intents, func(i *Intent) bool { return i.Act == act && i.Target == target })
}

func (s *State) endIntent(a *originated, c *EndIntent) error {
	i, open := search(s.intents, c.Index, func(i *Intent) uint64 { return i.Index })
	switch {
	case !open:
		return fmt.Errorf("%w: no intent at the leaf index %d is open", ErrStale, c.Index)
	case c.Outcome != trail.Succeeded && c.Outcome != trail.NotDone && c.Outcome != trail.Unknown:
		return fmt.Errorf("%w: the outcome %s ends no intent", ErrBadCommand, c.Outcome)
	}
	s.tick(c.Time)
	intent := s.intents[i]
	s.intents = slices.Delete(slices.Clone(s.intents), i, i+1)
	s.record(a, trail.Record{
		Act: intent.Act, Phase: trail.Ended, Outcome: c.Outcome, Intent: intent.Index, Target: intent.Target,
	})
	return nil
}

// restoreAudit takes what a snapshot has of the audit trail.
func (s *State) restoreAudit(project *Project, intents []Intent, reports []Reported) error {
	_, taken := s.names[trail.Project]
	switch {
	case project == nil && (s.level >= LevelAudit || len(intents) > 0):
		return fmt.Errorf("no project %s at protocol level %d", trail.Project, s.level)
	case project == nil:
		return nil
	case project.ID != trail.ProjectID || project.Name != trail.Project || taken || len(project.Tokens) > 0:
		return fmt.Errorf("project %d, %q, in the place of the audit trail", project.ID, project.Name)
	case !slices.IsSortedFunc(intents, func(a, b Intent) int { return cmp.Compare(a.Index, b.Index) }):
		return errors.New("open intents out of order")
	}
	s.enterAudit(project)
	s.intents, s.reports = intents, reports
	return nil
}

// What acts are about.

func numberedTarget(kind trail.TargetKind, id uint32) trail.Target {
	return trail.Target{Kind: kind, ID: strconv.FormatUint(uint64(id), 10)}
}

func ofGroup(values func(*State) []trail.Value) subject {
	return subject{target: trail.Target{Kind: trail.OfGroup}, values: values}
}

// with adds a parameter of the command that says yes, where it is set.
func (s subject) with(set bool, name string) subject {
	if set {
		s.parameters = append(s.parameters, trail.Value{Name: name, Value: "true"})
	}
	return s
}

// pairs makes values of names and values that alternate.
func pairs(of ...any) (values []trail.Value) {
	for i := 0; i < len(of); i += 2 {
		values = append(values, trail.Value{Name: fmt.Sprint(of[i]), Value: fmt.Sprint(of[i+1])})
	}
	return values
}

// rightsText names rights.
func rightsText(r Rights) string {
	var names []string
	if r.Has(MayRead) {
		names = append(names, wire.RightRead)
	}
	if r.Has(MayAppend) {
		names = append(names, wire.RightAppend)
	}
	return strings.Join(names, ",")
}

// aboutProject has the ids, rights and labels of the project's tokens.
func aboutProject(id uint32) subject {
	return subject{target: numberedTarget(trail.OfProject, id), changes: true, values: func(s *State) []trail.Value {
		p := s.projectAt(id)
		if p == nil {
			return nil
		}
		values := pairs("name", p.Name, "public", p.Public, "records-per-second", p.Quota.RecordsPerSecond,
			"bytes-per-second", p.Quota.BytesPerSecond, "record-bytes", p.Quota.RecordBytes, "closed", p.Closed != 0)
		for i := range p.Tokens {
			t := &p.Tokens[i]
			text := strings.TrimSpace(rightsText(t.Rights) + " " + t.Label)
			values = append(values, pairs(fmt.Sprint("token-", t.ID), text)...)
		}
		return values
	}}
}

func aboutTime(_ *State, c Command) subject {
	group := ofGroup(func(s *State) []trail.Value { return pairs("time", s.now) })
	return group.with(c.(*SetTime).Force, "force")
}

func aboutLevel(*State, Command) subject {
	return ofGroup(func(s *State) []trail.Value { return pairs("level", s.level) })
}

func aboutLoss(_ *State, c Command) subject {
	block := c.(*ConfirmLost).Block
	target := trail.Target{Kind: trail.OfBlock, ID: strconv.FormatUint(block, 10)}
	return subject{target: target, values: func(s *State) []trail.Value {
		_, confirmed := s.Lost(block)
		return pairs("confirmed-lost", confirmed)
	}}
}

// isCheckRequest reports whether a person has asked for a check. A master that got a wrong answer makes one due, too.
func isCheckRequest(c Command) bool { return c.(*Suspect).Cause.Code == wire.CodeRequested }

func aboutCheck(_ *State, c Command) subject {
	id := c.(*Suspect).ID
	return subject{target: trail.Target{Kind: trail.OfStorage, ID: id}, values: func(s *State) []trail.Value {
		n := s.storage(id)
		if n == nil {
			return nil
		}
		return pairs("url", n.URL, "check-due", n.Due.Code)
	}}
}

func aboutStorage(id string) subject {
	return subject{target: trail.Target{Kind: trail.OfStorage, ID: id}, values: func(s *State) []trail.Value {
		n := s.storage(id)
		if n == nil {
			return nil
		}
		return pairs("url", n.URL, "state", n.State, "height", n.Height)
	}}
}

func aboutMiner(id string) subject {
	return subject{target: trail.Target{Kind: trail.OfMiner, ID: id}, values: func(s *State) []trail.Value {
		m, ok := find(s.miners, func(m *Miner) bool { return m.ID == id })
		if !ok {
			return nil
		}
		return pairs("url", m.URL, "dead", m.Dead)
	}}
}

// aboutRegister has the addresses of all workers: a registration may replace others.
func aboutRegister(_ *State, c Command) subject {
	r := c.(*Register)
	kind := trail.OfStorage
	if r.Role == RoleMiner {
		kind = trail.OfMiner
	}
	return subject{target: trail.Target{Kind: kind, ID: r.ID}, changes: true, values: func(s *State) []trail.Value {
		var values []trail.Value
		for i := range s.storages {
			values = append(values, pairs("storage/"+s.storages[i].ID, s.storages[i].URL)...)
		}
		for i := range s.miners {
			values = append(values, pairs("miner/"+s.miners[i].ID, s.miners[i].URL)...)
		}
		for i := range s.waitingWorkers {
			values = append(values, pairs("waiting/"+s.waitingWorkers[i].ID, s.waitingWorkers[i].URL)...)
		}
		return values
	}}
}

// aboutTicket has who made a join ticket, until when it is valid, and the master that it has admitted.
func aboutTicket(id uint32) subject {
	return subject{target: numberedTarget(trail.OfTicket, id), values: func(s *State) []trail.Value {
		t, ok := find(s.tickets, func(t *Ticket) bool { return t.ID == id })
		if !ok {
			return nil
		}
		return pairs("name", t.Name, "by", t.By, "expires", t.Expires, "member", t.Member)
	}}
}

// aboutWaiting has the address of a worker that waits, and whether it is approved or refused.
func aboutWaiting(s *State, c Command) subject {
	id, kind := c.(*DecideWorker).ID, trail.OfStorage
	if w, ok := find(s.waitingWorkers, func(w *WaitingWorker) bool { return w.ID == id }); ok && w.Role == RoleMiner {
		kind = trail.OfMiner
	}
	return subject{target: trail.Target{Kind: kind, ID: id}, values: func(s *State) []trail.Value {
		w, ok := find(s.waitingWorkers, func(w *WaitingWorker) bool { return w.ID == id })
		if !ok {
			return pairs("refused", slices.Contains(s.integrity.Removed, id))
		}
		return pairs("url", w.URL, "approved", w.Approved)
	}}
}

// aboutMaster has the addresses of all masters: one that has moved may take those of others.
func aboutMaster(id string) subject {
	return subject{target: trail.Target{Kind: trail.OfMaster, ID: id}, changes: true,
		values: func(s *State) []trail.Value {
			var values []trail.Value
			for _, m := range s.masters {
				values = append(values, pairs("master/"+m.ID, strings.TrimSpace(m.URL+" "+m.Raft))...)
				if m.Key != "" {
					values = append(values, pairs("key/"+m.ID, wire.KeyFingerprint(m.Key))...)
				}
			}
			return append(values, pairs("removed", s.MasterRemoved(id))...)
		}}
}
