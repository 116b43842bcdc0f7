package masterfsm

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/wire"
)

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
}

// MayRead reports whether records of a project are open to the token: those of a public project to any, those of another to its own tokens
// with the right to read.
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

func (*CreateToken) kind() kind { return kindCreateToken }
func (*RevokeToken) kind() kind { return kindRevokeToken }

func (c *CreateToken) apply(s *State) (any, error) {
	p := s.projectAt(c.Project)
	if p == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownProject, c.Project)
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
	if _, known := s.tokens[hash]; known || hash == (chain.Hash{}) {
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
	p := s.projectAt(c.Project)
	if p == nil {
		return nil, fmt.Errorf("%w: %d", ErrUnknownProject, c.Project)
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

// Access is what a token opens, given its SHA-256.
func (s *State) Access(hash chain.Hash) (Access, bool) {
	p := s.projectAt(s.tokens[hash])
	if p == nil {
		return Access{}, false
	}
	at := slices.IndexFunc(p.Tokens, func(t Token) bool { return t.Hash == hash })
	if at < 0 {
		return Access{}, false
	}
	return Access{Project: *p, Rights: p.Tokens[at].Rights}, true
}
