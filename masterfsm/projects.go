package masterfsm

import (
	"fmt"
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
		ID: uint32(len(s.projects) + 1), Name: c.Name, Public: c.Public, Created: s.now,
		Tokens: []Token{{Hash: c.TokenHash, Created: s.now}},
	}
	s.addProject(p)
	return &p, nil
}

// addProject enters a project and its look-ups.
func (s *State) addProject(p Project) {
	s.projects = append(s.projects, p)
	s.names[p.Name] = p.ID
	for _, t := range p.Tokens {
		s.tokens[t.Hash] = p.ID
	}
}

// Project is the project of an id.
func (s *State) Project(id uint32) (Project, bool) {
	if id == 0 || int(id) > len(s.projects) {
		return Project{}, false
	}
	return s.projects[id-1], true
}

// ProjectByToken is the project that a token opens, given the token's SHA-256.
func (s *State) ProjectByToken(hash chain.Hash) (Project, bool) {
	return s.Project(s.tokens[hash])
}

// ProjectByName is the project of a name.
func (s *State) ProjectByName(name string) (Project, bool) {
	return s.Project(s.names[name])
}
