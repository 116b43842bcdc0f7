package masterapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// identifyByIssuer finds the holder of a token of the OIDC issuer. Like the tokens of the table it is refused by a
// master that has not heard from a leader: the projects that it gives access to are in the table.
func (m *master) identifyByIssuer(r *http.Request, token string) (caller, error) {
	if err := m.node.TrustsTable(); err != nil {
		return caller{}, err
	}
	id, err := m.issuer.Identify(r.Context(), token, m.mayAsk(r))
	if err != nil {
		return caller{}, err
	}
	if id.Role == wire.RoleAdmin || id.Role == wire.RoleOperator {
		m.provenNode(r)
	} else {
		httpapi.Proven(r, httpapi.User)
	}
	return caller{role: cmp.Or(id.Role, wire.RoleProject), identity: &id}, nil
}

// asProject is the parameter of a query that names the project of a request. It is needed for a token that gives access
// to several projects.
const asProject = "as"

// projectOf returns what a caller may do in the project of a request.
func (m *master) projectOf(r *http.Request, from caller) (masterfsm.Access, error) {
	named := r.URL.Query().Get(asProject)
	switch {
	case from.identity != nil && len(from.identity.Grants) > 0:
		access, err := m.node.Granted(r.Context(), from.identity.Grants, named)
		if err != nil {
			return masterfsm.Access{}, err
		}
		httpapi.CountAs(r, m.users, strconv.FormatUint(uint64(access.Project.ID), 10))
		return access, nil
	case from.role != wire.RoleProject:
		return masterfsm.Access{}, fmt.Errorf("%w: records are appended and read with a project's token",
			wire.ErrForbidden)
	case named != "" && !masternode.IsNamed(&from.access.Project, named):
		return masterfsm.Access{}, fmt.Errorf("%w: as=%.100q: the token is of the project %q", wire.ErrForbidden, named,
			from.access.Project.Name)
	}
	return from.access, nil
}

// accessAgain returns a function that judges the token of a long request again. It also fails once the token has
// expired.
func (m *master) accessAgain(r *http.Request) func(ctx context.Context) (masterfsm.Access, error) {
	return func(ctx context.Context) (masterfsm.Access, error) {
		r := r.WithContext(ctx)
		from, err := m.identify(r)
		if err != nil {
			return masterfsm.Access{}, err
		}
		return m.projectOf(r, from)
	}
}

// administers reports whether a caller has a role by name: a named admin token, or a token of the OIDC issuer.
func (from caller) administers() bool {
	return from.admin.ID != 0 || from.identity != nil && from.identity.Role != ""
}

// actor is who makes a request.
type actor struct {
	kind string
	name string // unique within the kind, for people
}

// The kinds of actors.
const (
	actorAdmin      = "admin-token"       // the unnamed one
	actorNamedAdmin = "named-admin-token" // with its name
	actorIdentity   = "oidc"              // with issuer, subject and name
	actorProject    = "project-token"     // with the project's name and the token's id
	actorNode       = "node"
)

// actor returns who a caller is.
func (from caller) actor() actor {
	switch {
	case from.identity != nil:
		return actor{actorIdentity, from.identity.String()}
	case from.admin.ID != 0:
		return actor{actorNamedAdmin, from.admin.Name}
	case from.role == wire.RoleAdmin:
		return actor{actorAdmin, ""}
	case from.role == wire.RoleProject:
		return actor{actorProject, fmt.Sprintf("%s/%d", from.access.Project.Name, from.access.Token)}
	}
	return actor{actorNode, ""}
}

// wireIdentity returns an identity in the form of the API.
func wireIdentity(id *oidc.Identity) *wire.Identity {
	w := &wire.Identity{
		Issuer: id.Issuer, Subject: id.Subject, Name: id.Name, Expires: uint64(id.Expires.UnixMilli()),
		Projects: id.Grants,
	}
	if w.Projects == nil {
		w.Projects = []wire.Grant{}
	}
	return w
}

// signIn is GET /v1/sign-in: how the console signs in. It is the same for everyone.
func (m *master) signIn(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.issuer.SignIn())
}
