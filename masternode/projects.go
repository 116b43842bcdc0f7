package masternode

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/httpapi/wire"
	"github.com/chainstore/chainstore/masterfsm"
)

// maxSilence is how long a master may have heard from no leader and still believe its table of tokens.
const maxSilence = 5 * time.Second

// Project is the project that a token opens. What this master does not know it asks the leader about first; a master that has
// not heard from a leader for 5 s refuses, since a revocation may have passed it by. Errors: ErrUnauthorized, ErrNoLeader.
func (n *Node) Project(ctx context.Context, token string) (masterfsm.Project, error) {
	if silence := n.cfg.Ledger.LastContact(); silence > maxSilence {
		return masterfsm.Project{}, fmt.Errorf(
			"%w: this master has not heard from one for %v, so it cannot tell whether the token still holds", ErrNoLeader, silence.Round(time.Second))
	}
	hash := chain.Hash(sha256.Sum256([]byte(token)))
	var p masterfsm.Project
	err := n.confirmed(ctx, func() error {
		var ok bool
		n.cfg.Ledger.Read(func(s *masterfsm.State) { p, ok = s.ProjectByToken(hash) })
		if !ok {
			return errNotHere
		}
		return nil
	})
	if errors.Is(err, ErrNotFound) {
		return p, ErrUnauthorized
	}
	return p, err
}

// RenewToken gives a project, named by its name or id, a new token, and takes the others from it. This master must lead. Errors:
// ErrNotLeader, ErrNotFound.
func (n *Node) RenewToken(ctx context.Context, nameOrID string) (wire.CreatedProject, error) {
	if n.leadership.Load() == nil {
		return wire.CreatedProject{}, ErrNotLeader
	}
	var p masterfsm.Project
	var ok bool
	n.cfg.Ledger.Read(func(s *masterfsm.State) {
		if p, ok = s.ProjectByName(nameOrID); ok {
			return
		}
		if id, err := strconv.ParseUint(nameOrID, 10, 32); err == nil {
			p, ok = s.Project(uint32(id))
		}
	})
	if !ok {
		return wire.CreatedProject{}, fmt.Errorf("%w: no project has the name or id %q", ErrNotFound, nameOrID)
	}
	token := rand.Text()
	if _, err := n.propose(ctx, &masterfsm.RenewToken{Project: p.ID, TokenHash: sha256.Sum256([]byte(token)), Time: n.now()}); err != nil {
		return wire.CreatedProject{}, err
	}
	n.log.Warn("project has a new token, the old ones are void", "project", p.Name)
	return wire.CreatedProject{ID: p.ID, Name: p.Name, Token: token}, nil
}

// CreateProject makes a project with its first token. This master must lead: the error wraps [ErrNotLeader] otherwise. Other
// errors: masterfsm.ErrNameTaken, masterfsm.ErrBadCommand.
func (n *Node) CreateProject(ctx context.Context, name string, public bool) (wire.CreatedProject, error) {
	if !utf8.ValidString(name) {
		// Looked at here, since the command's JSON would put other characters in the place of what is no text.
		return wire.CreatedProject{}, fmt.Errorf("%w: a project's name must be UTF-8", ErrBadRequest)
	}
	token := rand.Text()
	result, err := n.propose(ctx, &masterfsm.CreateProject{
		Name: name, Public: public, TokenHash: sha256.Sum256([]byte(token)), Time: n.now(),
	})
	if err != nil {
		return wire.CreatedProject{}, err
	}
	p, ok := result.(*masterfsm.Project)
	if !ok {
		return wire.CreatedProject{}, fmt.Errorf("the state machine answered with %T", result)
	}
	return wire.CreatedProject{ID: p.ID, Name: p.Name, Token: token}, nil
}
