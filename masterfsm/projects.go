package masterfsm

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
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
}

// Limits of projects. What is over one of the first two wraps [ErrBadCommand], what does not fit any more [wire.ErrTooMany].
const (
	MaxProjectName = 128 // bytes
	MaxTokenLabel  = 64  // bytes
	MaxTokens      = 100 // of a project at a time
	MaxProjects    = 100_000
)

// CreateProject makes a project with its first token, or without one where TokenHash is zero. The result is its [Project].
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

func (*CreateProject) kind() kind { return kindCreateProject }
func (*ChangeProject) kind() kind { return kindChangeProject }

func (c *CreateProject) apply(s *State) (any, error) {
	_, taken := s.names[c.Name]
	switch {
	case c.Name == "" || len(c.Name) > MaxProjectName || !utf8.ValidString(c.Name):
		return nil, fmt.Errorf("%w: a project's name has 1 to %d bytes of UTF-8", ErrBadCommand, MaxProjectName)
	case taken:
		return nil, fmt.Errorf("%w: %q", wire.ErrNameTaken, c.Name)
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
	p = *added
	return &p, nil
}

func (c *ChangeProject) apply(s *State) (any, error) {
	p := s.projectAt(c.Project)
	if p == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownProject, c.Project)
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
	changed := *p
	return &changed, nil
}

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
	i, ok := slices.BinarySearchFunc(s.projects, id, func(p Project, id uint32) int { return cmp.Compare(p.ID, id) })
	if !ok {
		return nil
	}
	return &s.projects[i]
}

// ProjectByName is the project of a name.
func (s *State) ProjectByName(name string) (Project, bool) {
	return s.Project(s.names[name])
}

// FindProject is the project that people mean by a name or an id. The id counts first: nobody can take a project's place in an
// administrator's command by giving another that name.
func (s *State) FindProject(nameOrID string) (Project, bool) {
	if id, err := strconv.ParseUint(nameOrID, 10, 32); err == nil {
		if p, ok := s.Project(uint32(id)); ok {
			return p, true
		}
	}
	return s.ProjectByName(nameOrID)
}

// Projects lists up to limit projects in the order of their ids, from the first whose id is above after.
func (s *State) Projects(after uint32, limit int) []Project {
	i, found := slices.BinarySearchFunc(s.projects, after, func(p Project, id uint32) int { return cmp.Compare(p.ID, id) })
	if found {
		i++
	}
	return slices.Clone(s.projects[i:min(len(s.projects), i+limit)])
}
