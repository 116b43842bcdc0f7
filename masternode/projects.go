package masternode

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode/leader"
	"github.com/chainstore/chainstore/wire"
)

// CreateProject makes a project with its first token. This master must lead. Errors: wire.ErrNotLeader,
// wire.ErrNameTaken, wire.ErrTooMany, masterfsm.ErrBadCommand, wire.ErrBadRequest.
func (n *Node) CreateProject(ctx context.Context, p wire.NewProject) (wire.CreatedProject, error) {
	if err := checkText("a project's name", p.Name); err != nil {
		return wire.CreatedProject{}, err
	}
	token := newToken()
	c := &masterfsm.CreateProject{
		Name: p.Name, Public: p.Public, TokenHash: sha256.Sum256([]byte(token)), Time: n.leader.Now(),
	}
	if p.Quota != nil {
		c.Quota = masterfsm.Quota(*p.Quota)
	}
	created, err := leader.ProposeFor[*masterfsm.Project](ctx, n.leader, c)
	if err != nil {
		return wire.CreatedProject{}, err
	}
	return wire.CreatedProject{
		ID: created.ID, Name: created.Name, Public: created.Public, Token: token, TokenID: created.Tokens[0].ID,
	}, nil
}

// ChangeProject changes a project, named by its name or id. This master must lead. Errors: wire.ErrNotLeader,
// masterfsm.ErrUnknownProject, masterfsm.ErrBadCommand, wire.ErrBadRequest.
func (n *Node) ChangeProject(ctx context.Context, nameOrID string, change wire.ProjectChange) (wire.Project, error) {
	switch other := change.Public != nil || change.Quota != nil; {
	case change.Closed == nil && !other:
		return wire.Project{}, fmt.Errorf("%w: nothing is to be changed: give public, quota or closed",
			wire.ErrBadRequest)
	case change.Closed != nil && other:
		return wire.Project{}, fmt.Errorf("%w: closed is changed alone: send public and quota in another request",
			wire.ErrBadRequest)
	}
	p, err := n.ledProject(ctx, nameOrID)
	if err != nil {
		return wire.Project{}, err
	}
	changed, err := leader.ProposeFor[*masterfsm.Project](ctx, n.leader, changeOf(p.ID, change, n.leader.Now()))
	if err != nil {
		return wire.Project{}, err
	}
	n.log.Info("project changed", "project", changed.Name, "public", changed.Public, "quota", quotaText(changed.Quota),
		"closed", changed.Closed != 0)
	return WireProject(changed), nil
}

// changeOf returns the command that changes a project.
func changeOf(project uint32, change wire.ProjectChange, now uint64) masterfsm.Command {
	if change.Closed != nil {
		return &masterfsm.CloseProject{Project: project, Open: !*change.Closed, Time: now}
	}
	c := &masterfsm.ChangeProject{Project: project, Public: change.Public, Time: now}
	if change.Quota != nil {
		c.Quota = masterfsm.QuotaChange(*change.Quota)
	}
	return c
}

// Project returns the project of a name or id, as the leader knows it. Errors: masterfsm.ErrUnknownProject,
// wire.ErrNoLeader.
func (n *Node) Project(ctx context.Context, nameOrID string) (wire.Project, error) {
	p, err := n.confirmedProject(ctx, nameOrID)
	return WireProject(&p), err
}

// Projects lists up to limit projects whose id is above after, as the leader knows them. Error: wire.ErrNoLeader.
func (n *Node) Projects(ctx context.Context, after uint32, limit int) ([]wire.Project, error) {
	if err := n.confirm(ctx); err != nil {
		return nil, err
	}
	projects := []wire.Project{}
	for len(projects) < limit {
		ask := min(limit-len(projects), projectsAtOnce)
		var page []masterfsm.Project
		n.cfg.Ledger.Read(func(s *masterfsm.State) { page = s.Projects(after, ask) })
		for i := range page {
			projects = append(projects, WireProject(&page[i]))
			after = page[i].ID
		}
		if len(page) < ask {
			break
		}
	}
	return projects, nil
}

// projectsAtOnce is how many projects are copied while no command is applied.
const projectsAtOnce = 1000

// Tokens lists a project's tokens. Errors: masterfsm.ErrUnknownProject, wire.ErrNoLeader.
func (n *Node) Tokens(ctx context.Context, nameOrID string) (wire.ProjectTokens, error) {
	p, err := n.confirmedProject(ctx, nameOrID)
	tokens := wire.ProjectTokens{Tokens: make([]wire.ProjectToken, len(p.Tokens))}
	for i := range p.Tokens {
		tokens.Tokens[i] = wireToken(&p.Tokens[i])
	}
	return tokens, err
}

// CreateToken adds a token to a project. This master must lead. Errors: wire.ErrNotLeader, masterfsm.ErrUnknownProject,
// wire.ErrTooMany, masterfsm.ErrBadCommand, wire.ErrBadRequest.
func (n *Node) CreateToken(ctx context.Context, nameOrID string, t wire.NewToken) (wire.CreatedToken, error) {
	if err := checkText("a token's label", t.Label); err != nil {
		return wire.CreatedToken{}, err
	}
	rights, err := parseRights(t.Rights)
	if err != nil {
		return wire.CreatedToken{}, err
	}
	p, err := n.ledProject(ctx, nameOrID)
	if err != nil {
		return wire.CreatedToken{}, err
	}
	token := newToken()
	created, err := leader.ProposeFor[*masterfsm.Token](ctx, n.leader, &masterfsm.CreateToken{
		Project: p.ID, Label: t.Label, Rights: rights, TokenHash: sha256.Sum256([]byte(token)), Time: n.leader.Now(),
	})
	if err != nil {
		return wire.CreatedToken{}, err
	}
	n.log.Info("project has one more token", "project", p.Name, "id", created.ID, "label", created.Label)
	return wire.CreatedToken{ProjectToken: wireToken(created), Token: token}, nil
}

// RevokeToken removes a token from a project. Every master refuses it as soon as it has applied that, or 5 s after it
// last heard from a leader. This master must lead. Errors: wire.ErrNotLeader, masterfsm.ErrUnknownProject,
// masterfsm.ErrUnknownToken.
func (n *Node) RevokeToken(ctx context.Context, nameOrID string, token uint32) error {
	p, err := n.ledProject(ctx, nameOrID)
	if err != nil {
		return err
	}
	revoked := &masterfsm.RevokeToken{Project: p.ID, Token: token, Time: n.leader.Now()}
	if _, err := n.leader.Propose(ctx, revoked); err != nil {
		return err
	}
	n.log.Info("token revoked", "project", p.Name, "id", token)
	return nil
}

// LegacyProject is the name of the project that the legacy routes without a token use.
const LegacyProject = "legacy"

// Legacy returns the project of the legacy routes without a token. Errors, which are confirmed with the leader:
// wire.ErrNotFound if there is none, wire.ErrForbidden if it was made private. Others: wire.ErrNoLeader.
func (n *Node) Legacy(ctx context.Context) (masterfsm.Project, error) {
	exists := false // in the state that was looked at last
	p, err := find(ctx, n, func(s *masterfsm.State) (p masterfsm.Project, public bool) {
		p, exists = s.ProjectByName(LegacyProject)
		return p, exists && p.Public
	})
	switch {
	case err == nil:
		return p, nil
	case exists && errors.Is(err, wire.ErrNotFound):
		err = fmt.Errorf("%w: the project %q is not public", wire.ErrForbidden, LegacyProject)
	}
	return masterfsm.Project{}, err
}

// CreateLegacy makes the legacy project, public and without a token, unless it exists. This master must lead. The error
// wraps [wire.ErrNotLeader] otherwise.
func (n *Node) CreateLegacy(ctx context.Context) error {
	_, err := n.leader.Propose(ctx, &masterfsm.CreateProject{Name: LegacyProject, Public: true, Time: n.leader.Now()})
	if errors.Is(err, wire.ErrNameTaken) {
		return nil // another request was quicker
	}
	return err
}

// confirmedProject finds a project after confirming with the leader.
func (n *Node) confirmedProject(ctx context.Context, nameOrID string) (masterfsm.Project, error) {
	if err := n.confirm(ctx); err != nil {
		return masterfsm.Project{}, err
	}
	return n.projectNamed(nameOrID)
}

// findProject finds a project. A negative answer is confirmed.
func (n *Node) findProject(ctx context.Context, nameOrID string) (masterfsm.Project, error) {
	if p, err := n.projectNamed(nameOrID); err == nil {
		return p, nil
	}
	return n.confirmedProject(ctx, nameOrID)
}

// ledProject finds a project if this master leads.
func (n *Node) ledProject(ctx context.Context, nameOrID string) (masterfsm.Project, error) {
	if !n.leader.Leads() {
		return masterfsm.Project{}, wire.ErrNotLeader
	}
	return n.findProject(ctx, nameOrID)
}

func (n *Node) projectNamed(nameOrID string) (p masterfsm.Project, err error) {
	var ok bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) { p, ok = s.FindProject(nameOrID) })
	if !ok {
		err = fmt.Errorf("%w: none has the name or id %q", masterfsm.ErrUnknownProject, nameOrID)
	}
	return p, err
}

// checkText refuses text that is not UTF-8, since the JSON of a command would replace it, and control characters.
func checkText(what, text string) error {
	if !utf8.ValidString(text) {
		return fmt.Errorf("%w: %s must be UTF-8", wire.ErrBadRequest, what)
	}
	if err := wire.CheckText(what, text); err != nil {
		return fmt.Errorf("%w: %w", wire.ErrBadRequest, err)
	}
	return nil
}

// WireProject returns a project in the form of the API.
func WireProject(p *masterfsm.Project) wire.Project {
	return wire.Project{
		ID: p.ID, Name: p.Name, Public: p.Public, Created: p.Created, Records: p.Records, Quota: wire.Quota(p.Quota),
		Closed: p.Closed,
	}
}

func wireToken(t *masterfsm.Token) wire.ProjectToken {
	return wire.ProjectToken{ID: t.ID, Label: t.Label, Rights: WireRights(t.Rights), Created: t.Created}
}

var rightOf = map[string]masterfsm.Rights{wire.RightRead: masterfsm.MayRead, wire.RightAppend: masterfsm.MayAppend}

// WireRights returns rights in the form of the API.
func WireRights(r masterfsm.Rights) []string {
	return slices.DeleteFunc([]string{wire.RightRead, wire.RightAppend}, func(name string) bool {
		return !r.Has(rightOf[name])
	})
}

// parseRights parses the rights of a new token. No names mean all rights.
func parseRights(names []string) (r masterfsm.Rights, err error) {
	if len(names) == 0 {
		return masterfsm.MayRead | masterfsm.MayAppend, nil
	}
	for _, name := range names {
		right, ok := rightOf[name]
		if !ok {
			return 0, fmt.Errorf("%w: there is no right %q: name %s, %s or both",
				wire.ErrBadRequest, name, wire.RightRead, wire.RightAppend)
		}
		r |= right
	}
	return r, nil
}
