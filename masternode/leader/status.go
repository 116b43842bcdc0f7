package leader

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/wire"
)

// Status is what a leader knows beside the replicated state. It is zero on a master that does not lead.
type Status struct {
	Leads     bool
	Live      map[string]bool         // by worker id: it answered recently
	Silent    []string                // storage nodes that have not answered for a while
	Refusals  map[string]string       // by node id: the code of the notice about its last answer
	Tasks     map[string]wire.Task    // by storage node: its check or repair
	Aborted   map[string]wire.Aborted // by storage node: its last check, if that ended early
	Witnesses []wire.Witness
	NoLogKeys []string // voters that the log's first key waits for; see planner.logKeys
	Clocks    Clocks
	Disks     map[string]wire.Disk        // by id of a storage node or master that answered recently, and this one
	Flags     map[string]wire.AccessFlags // by id of a master that answered recently, and this one
	// Certificates are those of nodes that answered recently, and of this one, by id; none without TLS.
	Certificates map[string]*wire.Certificate
	// Secrets are those that nodes use which answered recently, and this one, by id.
	Secrets map[string][]wire.SecretUse
	// TLS is what the nodes said about the step of TLS that answered recently, by id. This master is not among them.
	TLS   map[string]*wire.TLSUse
	Boots map[string]string // of the workers in TLS: the start that was asked, as the table has it
	// AtRest is the encryption of the data folders of masters that answered recently, and of this one, by id.
	AtRest  map[string]*wire.AtRest
	SealOld bool     // a key of the log is sealed under another value of its secret than the present one
	Full    []string // masters with a full disk, if appends are refused because of them
	Older   []string // members that the group's protocol level waits for; see planner.level
	// Levels are those that masters of Older have announced, without those that have not answered.
	Levels map[string]uint64

	Epoch     uint64
	Later     map[string]uint64 // by worker id: the epoch that it obeys, if that is later than Epoch
	Suspended bool              // nothing is acknowledged because of them
}

// Status returns what this leader knows.
func (l *Leader) Status() Status {
	now := l.current.Load()
	if now == nil {
		return Status{}
	}
	now.mu.Lock()
	s := now.status
	now.mu.Unlock()
	s.Leads, s.Epoch = true, now.order.Epoch
	s.Later, s.Suspended = now.fences.laterEpochs()
	return s
}

// Full returns the masters whose disks are full, if appends are refused because of them: this leader, or so many voters
// that the others are no majority.
func (l *Leader) Full() []string {
	now := l.current.Load()
	if now == nil {
		return nil
	}
	now.mu.Lock()
	defer now.mu.Unlock()
	return now.status.Full
}

// diskKnown is how long the free space, flags or certificate of a node are used after its answer. Masters are asked
// every five seconds.
const diskKnown = 15 * time.Second

// flags returns the flags of the masters that say them.
func (l *leadership) flags(view masterfsm.View, m *memory, now time.Time) map[string]wire.AccessFlags {
	flags := map[string]wire.AccessFlags{l.cfg.Membership.Member().ID: l.cfg.Flags}
	for i := range view.Masters {
		id := view.Masters[i].ID
		if s := m.nodes[id]; s != nil && s.flags.Known && now.Sub(s.answered) < diskKnown {
			flags[id] = s.flags
		}
	}
	return flags
}

// Bounds of the texts in what a node says of its certificate, and of the names and fingerprints of its secrets.
const (
	maxCertificateText = 512
	maxSecretText      = 64
)

func bounded(text string, n int) string { return strings.ToValidUTF8(text[:min(len(text), n)], "") }

// boundedCertificate returns what a node says of its certificate, within bounds.
func boundedCertificate(c *wire.Certificate) *wire.Certificate {
	if c == nil {
		return nil
	}
	cut := func(text string) string { return bounded(text, maxCertificateText) }
	own := wire.Certificate{
		Identity: cut(c.Identity), Serial: cut(c.Serial), UserSerial: cut(c.UserSerial), NotAfter: c.NotAfter,
		Error: cut(c.Error),
	}
	for _, a := range c.Authorities[:min(len(c.Authorities), wire.MaxAuthorities)] {
		own.Authorities = append(own.Authorities, cut(a))
	}
	for _, g := range c.Graces[:min(len(c.Graces), wire.MaxGraces)] {
		g.Identity, g.Serial = cut(g.Identity), cut(g.Serial)
		own.Graces = append(own.Graces, g)
	}
	return &own
}

// certificates returns those of the nodes that answered recently.
func (l *leadership) certificates(view masterfsm.View, m *memory, now time.Time) map[string]*wire.Certificate {
	known := map[string]*wire.Certificate{}
	m.eachSeen(view, func(id string, s *lastSeen) {
		if s.certificate != nil && now.Sub(s.answered) < diskKnown {
			known[id] = s.certificate
		}
	})
	if own := l.cfg.Certificate(); own != nil {
		known[l.cfg.Membership.Member().ID] = own
	}
	return known
}

// boundedSecrets returns what a node says of its secrets, within bounds.
func boundedSecrets(list []wire.SecretUse) []wire.SecretUse {
	own := slices.Clone(list[:min(len(list), wire.MaxSecretUses)])
	for i := range own {
		u := &own[i]
		u.Error = bounded(u.Error, maxCertificateText)
		for _, text := range []*string{&u.Secret, &u.Current, &u.Next, &u.Old} {
			*text = bounded(*text, maxSecretText)
		}
	}
	return own
}

// secrets returns those of the nodes that answered recently.
func (l *leadership) secrets(view masterfsm.View, m *memory, now time.Time) map[string][]wire.SecretUse {
	known := map[string][]wire.SecretUse{}
	m.eachSeen(view, func(id string, s *lastSeen) {
		if len(s.secrets) > 0 && now.Sub(s.answered) < diskKnown {
			known[id] = s.secrets
		}
	})
	if own := l.cfg.Secrets(); len(own) > 0 {
		known[l.cfg.Membership.Member().ID] = own
	}
	return known
}

// tlsUses returns what nodes said about the step of TLS that answered recently, and the starts of the workers among
// them.
func (m *memory) tlsUses(view masterfsm.View, now time.Time) (known map[string]*wire.TLSUse, boots map[string]string) {
	known, boots = map[string]*wire.TLSUse{}, map[string]string{}
	m.eachSeen(view, func(id string, s *lastSeen) {
		if s.tls != nil && s.tls.Step.Known() && now.Sub(s.answered) < diskKnown {
			known[id], boots[id] = s.tls, s.tlsBoot
		}
	})
	return known, boots
}

// boundedAtRest returns what a node says of the encryption of its folder, within bounds.
func boundedAtRest(a *wire.AtRest) *wire.AtRest {
	if a == nil {
		return nil
	}
	return &wire.AtRest{Key: bounded(a.Key, maxSecretText), Plain: a.Plain, Old: a.Old}
}

// atRest returns the encryption of the folders of the masters that answered recently.
func (l *leadership) atRest(view masterfsm.View, m *memory, now time.Time) map[string]*wire.AtRest {
	known := map[string]*wire.AtRest{}
	for i := range view.Masters {
		id := view.Masters[i].ID
		if s := m.nodes[id]; s != nil && s.atRest != nil && now.Sub(s.answered) < diskKnown {
			known[id] = s.atRest
		}
	}
	if own := l.cfg.AtRest(); own != nil {
		known[l.cfg.Membership.Member().ID] = own
	}
	return known
}

// disks returns the disks of the nodes that answered recently, and the masters because of which appends are refused.
func (l *leadership) disks(view masterfsm.View, m *memory, now time.Time) (disks map[string]wire.Disk, full []string) {
	disks = map[string]wire.Disk{}
	add := func(id string) {
		if s := m.nodes[id]; s != nil && s.disk.State != "" && now.Sub(s.answered) < diskKnown {
			disks[id] = s.disk
		}
	}
	for i := range view.Storages {
		add(view.Storages[i].ID)
	}
	for i := range view.Masters {
		add(view.Masters[i].ID)
	}
	own := l.cfg.Membership.Member().ID
	disks[own] = l.cfg.Disk()
	if !slices.ContainsFunc(slices.Collect(maps.Values(disks)), wire.Disk.IsFull) {
		return disks, nil
	}
	voters := 0
	for _, member := range l.cfg.Membership.Members() {
		if !member.Voter {
			continue
		}
		if voters++; disks[member.ID].IsFull() {
			full = append(full, member.ID)
		}
	}
	if !disks[own].IsFull() && voters-len(full) > voters/2 {
		full = nil
	}
	return disks, full
}

// publish replaces the status after a decision. The maps and lists of a status are not changed afterwards.
func (l *leadership) publish(view masterfsm.View, m *memory, d decision, now time.Time) {
	s := Status{
		Live: map[string]bool{}, Tasks: maps.Clone(m.tasks), Aborted: map[string]wire.Aborted{},
		NoLogKeys: slices.Clone(d.noLogKeys), Older: slices.Clone(d.older), Levels: maps.Clone(d.levels),
	}
	for i := range view.Storages {
		id := view.Storages[i].ID
		s.Live[id] = m.live(id, now, l.pace)
		if seen := m.nodes[id]; seen != nil && seen.aborted != nil {
			s.Aborted[id] = *seen.aborted
		}
	}
	s.Silent, s.Refusals = m.silent(view, now, l.pace), m.refusals(view)
	for i := range view.Miners {
		id := view.Miners[i].ID
		s.Live[id] = m.live(id, now, l.pace)
	}
	for _, w := range m.witnesses.list {
		s.Witnesses = append(s.Witnesses, w.Witness)
	}
	s.Disks, s.Full = l.disks(view, m, now)
	s.Flags, s.Certificates = l.flags(view, m, now), l.certificates(view, m, now)
	s.TLS, s.Boots = m.tlsUses(view, now)
	s.Secrets, s.SealOld = l.secrets(view, m, now), m.seals.due
	s.AtRest = l.atRest(view, m, now)
	s.Clocks = m.clocks
	s.Clocks.Table = l.clock.deviation()
	if wall, ok := wallMillis(now); ok && s.Clocks.Agrees {
		s.Clocks.Table = 0
		if by := ahead(view.Now, wall); by > maxStep {
			s.Clocks.Table = by // no command can bring it back
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = s
}
