package masterfsm

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
)

// Project owns records. Its id is never given out again.
type Project struct {
	ID      uint32  `json:"id"` // from 1
	Name    string  `json:"name"`
	Public  bool    `json:"public"`
	Created uint64  `json:"created"` // unix milliseconds
	Records uint64  `json:"records"` // appended so far
	Tokens  []Token `json:"tokens"`
}

// Token lets its bearer into a project. The plain text is known to the bearer alone.
type Token struct {
	Hash    chain.Hash `json:"hash"` // SHA-256 of the plain text
	Created uint64     `json:"created"`
}

// Limits of projects.
const (
	MaxProjectName = 128
	maxProjects    = 100_000
)

func (c *CreateProject) apply(s *State) (any, error) {
	_, taken := s.names[c.Name]
	_, known := s.tokens[c.TokenHash]
	switch {
	case c.Name == "" || len(c.Name) > MaxProjectName || !utf8.ValidString(c.Name):
		return nil, fmt.Errorf("%w: a project's name has 1 to %d bytes of UTF-8", ErrBadCommand, MaxProjectName)
	case taken:
		return nil, fmt.Errorf("%w: %q", ErrNameTaken, c.Name)
	case known:
		return nil, fmt.Errorf("%w: that token is in use", ErrBadCommand)
	case len(s.projects) >= maxProjects:
		return nil, fmt.Errorf("%w: there are %d projects already", ErrBadCommand, maxProjects)
	}
	s.tick(c.Time)
	p := Project{
		ID: s.nextProject, Name: c.Name, Public: c.Public, Created: s.now,
		Tokens: []Token{{Hash: c.TokenHash, Created: s.now}},
	}
	s.addProject(p)
	return &p, nil
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

// ProjectByToken is the project that a token opens, given the token's SHA-256.
func (s *State) ProjectByToken(hash chain.Hash) (Project, bool) {
	return s.Project(s.tokens[hash])
}

// ProjectByName is the project of a name.
func (s *State) ProjectByName(name string) (Project, bool) {
	return s.Project(s.names[name])
}

// RenewToken gives a project one new token in the place of all that it has. The result is its [Project].
type RenewToken struct {
	Project   uint32     `json:"project"`
	TokenHash chain.Hash `json:"token_hash"`
	Time      uint64     `json:"time"`
}

func (*RenewToken) kind() kind { return kindRenewToken }

func (c *RenewToken) apply(s *State) (any, error) {
	p := s.projectAt(c.Project)
	if p == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownProject, c.Project)
	}
	if _, known := s.tokens[c.TokenHash]; known {
		return nil, fmt.Errorf("%w: that token is in use", ErrBadCommand)
	}
	s.tick(c.Time)
	for _, t := range p.Tokens {
		delete(s.tokens, t.Hash)
	}
	p.Tokens = []Token{{Hash: c.TokenHash, Created: s.now}}
	s.tokens[c.TokenHash] = p.ID
	renewed := *p
	return &renewed, nil
}
