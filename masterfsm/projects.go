package masterfsm

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
)

// Project owns records. Its id is never given out again.
type Project struct {
	ID      uint32  `json:"id"` // from 1
	Name    string  `json:"name"`
	Public  bool    `json:"public"`
	Created uint64  `json:"created"` // unix milliseconds
	Records uint64  `json:"records"` // appended so far
	Quota   Quota   `json:"quota"`
	Spent   Spent   `json:"spent"`      // of the quota
	Next    uint32  `json:"next_token"` // the id that its next token gets
	Tokens  []Token `json:"tokens"`     // by id; never changed in place
	// since when nothing is appended, unix milliseconds; 0 while the project is open
	Closed uint64 `json:"closed,omitempty"`
}

// Limits of projects. What is over one of the first two wraps [ErrBadCommand], what does not fit any more
// [wire.ErrTooMany].
const (
	MaxProjectName = 128 // bytes
	MaxTokenLabel  = 64  // bytes
	MaxTokens      = 100 // of a project at a time
	MaxProjects    = 100_000
)

// CreateProject makes a project with its first token, or without one where TokenHash is zero. The result is its
// [Project].
type CreateProject struct {
	Name      string     `json:"name"`
	Public    bool       `json:"public"`
	Quota     Quota      `json:"quota"`
	TokenHash chain.Hash `json:"token_hash"`
	Time      uint64     `json:"time"`
}

// ChangeProject changes what is not nil. The result is the [Project].
type ChangeProject struct {
	Project uint32      `json:"project"`
	Public  *bool       `json:"public,omitempty"`
	Quota   QuotaChange `json:"quota"`
	Time    uint64      `json:"time"`
}

// CloseProject closes a project, or opens a closed one again. Nothing is appended to a closed project. All else of it
// stays: its records, tokens and settings. The result is the [Project]. Known from protocol level 7 on.
type CloseProject struct {
	Project uint32 `json:"project"`
	Open    bool   `json:"open,omitempty"` // open it again
	Time    uint64 `json:"time"`
}

func (c *CreateProject) apply(s *State) (any, error) {
	_, taken := s.names[c.Name]
	switch {
	case c.Name == "" || len(c.Name) > MaxProjectName || !utf8.ValidString(c.Name):
		return nil, fmt.Errorf("%w: a project's name has 1 to %d bytes of UTF-8", ErrBadCommand, MaxProjectName)
	case taken:
		return nil, fmt.Errorf("%w: %q", wire.ErrNameTaken, c.Name)
	case s.audit != nil && strings.HasPrefix(c.Name, trail.Project):
		return nil, fmt.Errorf("%w: names that begin with %s are reserved for the audit trail", wire.ErrNameTaken,
			trail.Project)
	case len(s.projects) >= MaxProjects:
		return nil, fmt.Errorf("%w: there are %d projects already", wire.ErrTooMany, MaxProjects)
	}
	if err := c.Quota.check(); err != nil {
		return nil, err
	}
	p := Project{ID: s.nextProject, Name: c.Name, Public: c.Public, Quota: c.Quota, Next: 1, Tokens: []Token{}}
	if c.TokenHash != (chain.Hash{}) {
		if err := s.checkToken(&p, c.TokenHash); err != nil {
			return nil, err
		}
	}
	s.tick(c.Time)
	p.Created = s.now
	s.addProject(p)
	added := s.projectAt(p.ID)
	if c.TokenHash != (chain.Hash{}) {
		s.addToken(added, Token{Rights: MayRead | MayAppend, Hash: c.TokenHash})
	}
	return new(*added), nil
}

func (c *ChangeProject) apply(s *State) (any, error) {
	p, err := s.changeable(c.Project)
	if err != nil {
		return nil, err
	}
	quota := c.Quota.of(p.Quota)
	if err := quota.check(); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	if quota != p.Quota {
		p.Quota, p.Spent = quota, Spent{} // what was spent of another quota does not count
	}
	if c.Public != nil {
		p.Public = *c.Public
	}
	return new(*p), nil
}

func (c *CloseProject) apply(s *State) (any, error) {
	if s.level < LevelClosing {
		return nil, fmt.Errorf("%w: projects can be closed from protocol level %d on, the group is at %d",
			ErrBadCommand, LevelClosing, s.level)
	}
	p, err := s.changeable(c.Project)
	if err != nil {
		return nil, err
	}
	s.tick(c.Time)
	switch {
	case c.Open:
		p.Closed = 0
	case p.Closed == 0:
		p.Closed = max(s.now, 1)
	}
	return new(*p), nil
}

func projectID(p *Project) uint32 { return p.ID }

// changeable returns the project of an id to change it. That of the audit trail cannot be changed.
func (s *State) changeable(id uint32) (*Project, error) {
	switch p := s.projectAt(id); {
	case p == nil:
		return nil, fmt.Errorf("%w: %d", ErrUnknownProject, id)
	case p == s.audit:
		return nil, fmt.Errorf("%w: the project %s is the audit trail, which cannot be changed and has no tokens: "+
			"admin tokens read it", wire.ErrForbidden, p.Name)
	default:
		return p, nil
	}
}

// foundAudit makes the project of the audit trail, unless it is there. A project with its name gets another one, and
// is returned.
func (s *State) foundAudit(created uint64) (renamed *Project) {
	if s.audit != nil {
		return nil
	}
	if id, taken := s.names[trail.Project]; taken {
		renamed = s.projectAt(id)
		renamed.Name = fmt.Sprintf("%s-%d", trail.Project, id)
		for _, taken := s.names[renamed.Name]; taken; _, taken = s.names[renamed.Name] {
			renamed.Name += "-"
		}
		s.names[renamed.Name] = id
	}
	s.enterAudit(&Project{ID: trail.ProjectID, Name: trail.Project, Created: created, Next: 1, Tokens: []Token{}})
	return renamed
}

// enterAudit enters the project of the audit trail. It is apart from the others, so that the id of the next project
// stays what it is.
func (s *State) enterAudit(p *Project) { s.audit, s.names[p.Name] = p, p.ID }

// addProject enters a project, whose id is above all others, and its look-ups.
func (s *State) addProject(p Project) {
	s.projects = append(s.projects, p)
	s.nextProject = max(s.nextProject, p.ID+1)
	s.names[p.Name] = p.ID
	for _, t := range p.Tokens {
		s.tokens[t.Hash] = p.ID
	}
}

// Project is the project of an id.
func (s *State) Project(id uint32) (Project, bool) {
	p := s.projectAt(id)
	if p == nil {
		return Project{}, false
	}
	return *p, true
}

// projectAt finds a project by its id, nil where there is none. Ids have gaps after a recovery.
func (s *State) projectAt(id uint32) *Project {
	if n := int(id); n > 0 && n <= len(s.projects) && s.projects[n-1].ID == id {
		return &s.projects[n-1]
	}
	if id == trail.ProjectID {
		return s.audit
	}
	i, ok := search(s.projects, id, projectID)
	if !ok {
		return nil
	}
	return &s.projects[i]
}

// ProjectByName is the project of a name.
func (s *State) ProjectByName(name string) (Project, bool) {
	return s.Project(s.names[name])
}

// FindProject finds a project by its id or its name. The id has precedence, so that no other project's name can stand
// for it in an administrator's command.
func (s *State) FindProject(nameOrID string) (Project, bool) {
	if id, err := strconv.ParseUint(nameOrID, 10, 32); err == nil {
		if p, ok := s.Project(uint32(id)); ok {
			return p, true
		}
	}
	return s.ProjectByName(nameOrID)
}

// Projects lists up to limit projects in the order of their ids, from the first whose id is above after. That of the
// audit trail is the last.
func (s *State) Projects(after uint32, limit int) []Project {
	i, found := search(s.projects, after, projectID)
	if found {
		i++
	}
	list := slices.Clone(s.projects[i:min(len(s.projects), i+limit)])
	if s.audit != nil && after < s.audit.ID && len(list) < limit {
		list = append(list, *s.audit)
	}
	return list
}

// Token lets its bearer into a project. The plain text is known to the bearer alone.
type Token struct {
	ID      uint32     `json:"id"` // from 1, never given out again within the project
	Label   string     `json:"label"`
	Rights  Rights     `json:"rights"`
	Hash    chain.Hash `json:"hash"`    // SHA-256 of the plain text
	Created uint64     `json:"created"` // unix milliseconds
}

// Rights are what a token lets its bearer do in its project: a set of bits.
type Rights uint8

// The rights.
const (
	MayRead   Rights = 1 << 0
	MayAppend Rights = 1 << 1
)

// Has reports whether all of the rights are among these.
func (r Rights) Has(rights Rights) bool { return r&rights == rights }

// Access is what a token opens: its project, as it was when the token was looked up, with the token's rights.
type Access struct {
	Project Project
	Rights  Rights
	Token   uint32 // its id within the project
}

// MayRead reports whether records of a project are open to the token: those of a public project to any, those of
// another to its own tokens with the right to read.
func (a Access) MayRead(owner *Project) bool {
	return owner.Public || owner.ID == a.Project.ID && a.Rights.Has(MayRead)
}

// CreateToken gives a project one more token. The result is the [Token].
type CreateToken struct {
	Project   uint32     `json:"project"`
	Label     string     `json:"label"`
	Rights    Rights     `json:"rights"`
	TokenHash chain.Hash `json:"token_hash"`
	Time      uint64     `json:"time"`
}

// RevokeToken takes a token from a project. The other tokens stay.
type RevokeToken struct {
	Project uint32 `json:"project"`
	Token   uint32 `json:"token"` // its id
	Time    uint64 `json:"time"`
}

func (c *CreateToken) apply(s *State) (any, error) {
	p, err := s.changeable(c.Project)
	if err != nil {
		return nil, err
	}
	switch {
	case len(c.Label) > MaxTokenLabel || !utf8.ValidString(c.Label):
		return nil, fmt.Errorf("%w: a token's label has at most %d bytes of UTF-8", ErrBadCommand, MaxTokenLabel)
	case c.Rights == 0 || !(MayRead | MayAppend).Has(c.Rights):
		return nil, fmt.Errorf("%w: a token may read, append or both", ErrBadCommand)
	}
	if err := s.checkToken(p, c.TokenHash); err != nil {
		return nil, err
	}
	s.tick(c.Time)
	t := s.addToken(p, Token{Label: c.Label, Rights: c.Rights, Hash: c.TokenHash})
	return &t, nil
}

// checkToken reports why a project cannot have a token of that hash.
func (s *State) checkToken(p *Project, hash chain.Hash) error {
	if s.tokenInUse(hash) || hash == (chain.Hash{}) {
		return fmt.Errorf("%w: that token is in use", ErrBadCommand)
	}
	if len(p.Tokens) >= MaxTokens {
		return fmt.Errorf("%w: the project has %d tokens already: revoke one first", wire.ErrTooMany, MaxTokens)
	}
	return nil
}

// addToken gives a token its id and enters it.
func (s *State) addToken(p *Project, t Token) Token {
	t.ID, t.Created = p.Next, s.now
	p.Next++
	p.Tokens = append(slices.Clone(p.Tokens), t)
	s.tokens[t.Hash] = p.ID
	return t
}

func (c *RevokeToken) apply(s *State) (any, error) {
	p, err := s.changeable(c.Project)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(p.Tokens, func(t Token) bool { return t.ID == c.Token })
	if at < 0 {
		return nil, fmt.Errorf("%w: project %d has no token %d", ErrUnknownToken, c.Project, c.Token)
	}
	s.tick(c.Time)
	delete(s.tokens, p.Tokens[at].Hash)
	p.Tokens = slices.Delete(slices.Clone(p.Tokens), at, at+1)
	return nil, nil
}

// tokenInUse reports whether a project or an administrator has a token of a hash.
func (s *State) tokenInUse(hash chain.Hash) bool {
	_, ofProject := s.tokens[hash]
	_, ofAdmin := s.adminOf(hash)
	return ofProject || ofAdmin
}

// Access is what a project's token opens, given its SHA-256.
func (s *State) Access(hash chain.Hash) (Access, bool) {
	p := s.projectAt(s.tokens[hash])
	if p == nil {
		return Access{}, false
	}
	t, ok := find(p.Tokens, func(t *Token) bool { return t.Hash == hash })
	return Access{Project: *p, Rights: t.Rights, Token: t.ID}, ok
}

// Quota bounds what is appended to a project. 0 is no bound.
type Quota struct {
	RecordsPerSecond uint64 `json:"records_per_second"`
	BytesPerSecond   uint64 `json:"bytes_per_second"` // of payloads
	RecordBytes      uint64 `json:"record_bytes"`     // of one payload
}

// maxRate bounds each part of a quota, so that no product of it overflows.
const maxRate = 1 << 40

func (q Quota) check() error {
	if v := max(q.RecordsPerSecond, q.BytesPerSecond, q.RecordBytes); v > maxRate {
		return fmt.Errorf("%w: a quota of %d, the most is %d; 0 is no bound", ErrBadCommand, v, uint64(maxRate))
	}
	return nil
}

// QuotaChange changes the parts of a quota that are not nil.
type QuotaChange struct {
	RecordsPerSecond *uint64 `json:"records_per_second,omitempty"`
	BytesPerSecond   *uint64 `json:"bytes_per_second,omitempty"`
	RecordBytes      *uint64 `json:"record_bytes,omitempty"`
}

func (c QuotaChange) of(q Quota) Quota {
	change := func(part, to *uint64) {
		if to != nil {
			*part = *to
		}
	}
	change(&q.RecordsPerSecond, c.RecordsPerSecond)
	change(&q.BytesPerSecond, c.BytesPerSecond)
	change(&q.RecordBytes, c.RecordBytes)
	return q
}

// Spent is the spent part of a project's quota: two token buckets of one second's worth each, which refill evenly with
// the table's age. It is in thousandths, because the age counts milliseconds.
type Spent struct {
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
	Age     uint64 `json:"age"` // of the table when this was so: see State.age
}

// Shortage is why a request was refused with [RefusedRate].
type Shortage struct {
	Bytes bool   // the limit is that of bytes a second, not of records a second
	Limit uint64 // what the quota gives in a second
	Left  uint64 // of it now
	Wait  uint64 // milliseconds until there is enough for the request, at least 1
}

// at is what is spent still when the table is of an age.
func (s Spent) at(q Quota, age uint64) Spent {
	passed := min(age-min(s.Age, age), 1000)
	return Spent{
		Records: s.Records - min(s.Records, passed*q.RecordsPerSecond),
		Bytes:   s.Bytes - min(s.Bytes, passed*q.BytesPerSecond), Age: age,
	}
}

// oversize reports whether a request never fits the quota, however long its client waits: a record that is too large,
// or more than one second's worth in one piece.
func (q Quota) oversize(records, bytes, largest uint64) bool {
	over := func(amount, limit uint64) bool { return limit != 0 && amount > limit }
	return over(largest, q.RecordBytes) || over(records, q.RecordsPerSecond) || over(bytes, q.BytesPerSecond)
}

// spend takes a request that is not oversize from what is left; where there is too little it says so and takes nothing.
func (s Spent) spend(q Quota, records, bytes, age uint64) (Spent, *Shortage) {
	s = s.at(q, age)
	short, ofBytes := shortage(q.RecordsPerSecond, s.Records, records), shortage(q.BytesPerSecond, s.Bytes, bytes)
	if ofBytes != nil && (short == nil || ofBytes.Wait > short.Wait) {
		short = ofBytes
		short.Bytes = true
	}
	if short != nil {
		return s, short
	}
	if q.RecordsPerSecond != 0 {
		s.Records += 1000 * records
	}
	if q.BytesPerSecond != 0 {
		s.Bytes += 1000 * bytes
	}
	return s, nil
}

// shortage is nil where an amount fits what is left of a second's worth of which spent thousandths are gone.
func shortage(rate, spent, amount uint64) *Shortage {
	if rate == 0 || spent+1000*amount <= 1000*rate {
		return nil
	}
	missing := spent + 1000*amount - 1000*rate
	return &Shortage{Limit: rate, Left: (1000*rate - spent) / 1000, Wait: (missing + rate - 1) / rate}
}

// afford takes a request from its project's quota. Where it is refused nothing is taken.
func (s *State) afford(p *Project, records []submitted) (Reason, *Shortage) {
	if p.Quota == (Quota{}) {
		return Accepted, nil
	}
	var bytes, largest uint64
	for i := range records {
		size := uint64(records[i].payloadSize())
		bytes += size
		largest = max(largest, size)
	}
	if p.Quota.oversize(uint64(len(records)), bytes, largest) {
		return RefusedSize, nil
	}
	spent, short := p.Spent.spend(p.Quota, uint64(len(records)), bytes, s.age)
	if short != nil {
		return RefusedRate, short
	}
	p.Spent = spent
	return Accepted, nil
}

// Demand is what an append asks for, as far as it counts for its admission.
type Demand struct {
	Project uint32
	Key     Digest // of its idempotency key, zero for none
	Stream  Digest // of the id of its stream, if First is not 0
	First   uint64 // the number of its first record in the stream; 0 if it is no part of one
	Records uint64
	Bytes   uint64 // of payloads
	Largest uint64 // bytes of its largest payload
}

// Admits reports whether an append would be accepted now, as far as that does not depend on a rate: [RefusedClosed],
// [RefusedBacklog] or [RefusedSize] where it would not. quota is that of its project, zero where no rate applies: the
// append is a retry under a known key, its stream has its first record, or the project is unknown. The append itself
// decides again.
func (s *State) Admits(d Demand) (reason Reason, quota Quota) {
	p := s.projectAt(d.Project)
	if p == nil {
		return Accepted, Quota{}
	}
	if d.Key != (Digest{}) {
		if _, known := s.keys.find(scopedKey(d.Project, d.Key)); known {
			return Accepted, Quota{}
		}
	}
	if d.First != 0 { // nothing is appended: it is answered with its first positions, or refused as a gap
		if stream, known := s.Stream(d.Project, d.Stream); known && d.First <= stream.Last {
			return Accepted, Quota{}
		}
	}
	switch {
	case p.Closed != 0:
		return RefusedClosed, Quota{}
	case s.pendingBytes >= s.settings.MaxPendingBytes:
		return RefusedBacklog, Quota{}
	case p.Quota.oversize(d.Records, d.Bytes, d.Largest):
		return RefusedSize, Quota{}
	}
	return Accepted, p.Quota
}

// Spend takes an append from a quota, of which s is spent, at an age in milliseconds. Where there is too little left it
// returns the shortage, and takes nothing.
func (s Spent) Spend(q Quota, d Demand, age uint64) (Spent, *Shortage) {
	return s.spend(q, d.Records, d.Bytes, age)
}
