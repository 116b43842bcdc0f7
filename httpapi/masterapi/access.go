package masterapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// caller is the holder of a request's token.
type caller struct {
	role   string           // wire.RoleAdmin, RoleOperator, RoleAuditor, RoleCluster or RoleProject
	access masterfsm.Access // where it is RoleProject
	admin  masterfsm.Admin  // of a named admin token; zero for the token of --admin-token-file
	// identity is the holder of a token of the OIDC issuer, nil for other tokens. role is the one of its claims, or
	// wire.RoleProject.
	identity *oidc.Identity
}

// identify finds the holder of a request's token. No other code compares a user's token with the known ones.
func (m *master) identify(r *http.Request) (caller, error) {
	token, err := httpapi.Bearer(r)
	switch {
	case err != nil:
		return caller{}, err
	case m.admin.Matches(token):
		m.provenNode(r)
		return caller{role: wire.RoleAdmin}, nil
	case m.cluster.Matches(token):
		if _, ok := certs.PeerOf(r.TLS); ok || !m.secured || m.InPlainText(r) {
			m.provenNode(r)
		}
		return caller{role: wire.RoleCluster}, nil
	case m.issuer.Issues(token):
		return m.identifyByIssuer(r, token)
	}
	h, err := m.node.Holder(r.Context(), token, m.mayAsk(r))
	switch {
	case err != nil:
		return caller{}, err
	case h.Admin.ID == 0:
		httpapi.Proven(r, httpapi.User)
		return caller{role: wire.RoleProject, access: h.Access}, nil
	case h.Admin.Role == wire.RoleAuditor: // it sends no bodies that count
		httpapi.Proven(r, httpapi.User)
	default:
		m.provenNode(r)
	}
	return caller{role: h.Admin.Role, admin: h.Admin}, nil
}

// provenNode records that a request has the token of a node or of an administrator. Users cannot take the bytes from
// which its body counts.
func (m *master) provenNode(r *http.Request) {
	httpapi.Proven(r, httpapi.Node)
	httpapi.CountAs(r, m.masters, httpapi.AddressOf(r))
}

const (
	// An address may send so many unknown tokens per second, and so many at once, about which the leader is asked.
	unknownTokens      = 20
	unknownTokensBurst = 200
)

// mayAsk counts a request with an unknown token before the leader is asked about it.
func (m *master) mayAsk(r *http.Request) func() error {
	return func() error { return m.take(m.unknown, r) }
}

// access returns what a project's token permits, for a request that has it.
func (m *master) access(r *http.Request, token string) (masterfsm.Access, error) {
	access, err := m.node.Access(r.Context(), token, m.mayAsk(r))
	if err == nil {
		httpapi.Proven(r, httpapi.User)
	}
	return access, err
}

// withCaller is a handler that takes any token of the cluster: admin, cluster or a project's.
func (m *master) withCaller(h func(c *gin.Context, from caller) error) gin.HandlerFunc {
	return m.Do(func(c *gin.Context) error {
		from, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		if from.access.Project.ID != 0 {
			httpapi.CountAs(c.Request, m.users, strconv.FormatUint(uint64(from.access.Project.ID), 10))
		}
		return h(c, from)
	})
}

// withAnyToken is withCaller for an answer that is the same for all callers.
func (m *master) withAnyToken(h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, _ caller) error { return h(c) })
}

// withReader is a handler that reads records with a project's token. masternode.Node.MayRead decides for each record
// whether that token may read it.
func (m *master) withReader(h func(c *gin.Context, reader masterfsm.Access) error) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, from caller) error {
		access, err := m.projectOf(c.Request, from)
		if err != nil {
			return err
		}
		return h(c, access)
	})
}

// withAppender is a handler that appends to the project of the request's token, if the token has the right to append.
func (m *master) withAppender(h func(c *gin.Context, project masterfsm.Project) error) gin.HandlerFunc {
	return m.withReader(func(c *gin.Context, a masterfsm.Access) error {
		if err := masternode.MayAppend(a); err != nil {
			return err
		}
		return h(c, a.Project)
	})
}

// may reports whether a caller may do what a role may do.
func (from caller) may(role string) bool {
	own, needed := slices.Index(wire.AdminRoles, from.role), slices.Index(wire.AdminRoles, role)
	return own >= 0 && own <= needed
}

// permit refuses a caller that has not the rights of a role. The error wraps wire.ErrForbidden.
func (from caller) permit(role string) error {
	switch {
	case from.may(role):
		return nil
	case from.identity != nil:
		return fmt.Errorf("%w: the token of %s has the role %s, and this needs the role %s", wire.ErrForbidden,
			from.identity, from.role, role)
	case from.admin.ID != 0:
		return fmt.Errorf("%w: the admin token %q has the role %s, and this needs the role %s", wire.ErrForbidden,
			from.admin.Name, from.role, role)
	case role == wire.RoleAdmin:
		return fmt.Errorf("%w: the admin token is needed", wire.ErrForbidden)
	}
	return fmt.Errorf("%w: an admin token with the role %s is needed", wire.ErrForbidden, role)
}

// withRole is a handler for administrators with the rights of a role, wire.RoleAdmin for everything, wire.RoleOperator
// to run the cluster, wire.RoleAuditor to read. Any other known token gets a 403. The leader judges the token again
// when it acts: a master may pass a request on that does not know yet that the token was revoked.
func (m *master) withRole(role string, h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, from caller) error {
		if err := from.permit(role); err != nil {
			return err
		}
		c.Set(keyRole, role)
		return h(c)
	})
}

// keyRole is the key of a request's context for the role that it needs.
const keyRole = "role"

// judge refuses a request that needs a role, and whose token has not that role any more. It is called where this master
// leads, so it knows of every revocation that was acknowledged.
func (m *master) judge(c *gin.Context) error {
	role := c.GetString(keyRole)
	switch {
	case role == "":
		return nil
	case !m.node.Leads():
		return wire.ErrNotLeader
	}
	from, err := m.identify(c.Request)
	if err != nil {
		return err
	}
	if err := from.permit(role); err != nil {
		return err
	}
	actor := from.actor()
	m.Log.Info("administration", "method", c.Request.Method, "route", c.FullPath(), "actor_kind", actor.kind,
		"actor", actor.name)
	return nil
}

// adminRoutes adds the routes of named admin tokens, and that of signing in.
func (m *master) adminRoutes() {
	m.GET("/v1/sign-in", m.Do(m.openRoute(m.signIn)))
	m.GET("/v1/admins", m.withRole(wire.RoleAuditor, m.listAdmins))
	m.POST("/v1/admins", m.withRole(wire.RoleAdmin, m.createAdmin))
	m.DELETE("/v1/admins/:id", m.withRole(wire.RoleAdmin, m.revokeAdmin))
}

func (m *master) listAdmins(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.Admins(c.Request.Context()))
}

func (m *master) createAdmin(c *gin.Context) error {
	var a wire.NewAdmin
	body, err := httpapi.ReadExact(c, &a)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusCreated)(m.node.CreateAdmin(c.Request.Context(), a))
	})
}

func (m *master) revokeAdmin(c *gin.Context) error {
	id, err := httpapi.Number(c, "id", math.MaxUint32)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RevokeAdmin(c.Request.Context(), uint32(id)))
	})
}

// mayCreate refuses a request that may not create projects. An administrator with all rights may, and anyone where
// registration is open; a token in the request must be a known one, and one with a role needs all rights. It
// returns a check of the project's name: only such an administrator may give a project the name of the legacy project.
func (m *master) mayCreate(c *gin.Context) (mayName func(name string) error, err error) {
	var from caller
	anonymous := c.GetHeader("Authorization") == ""
	if anonymous {
		if err := m.take(m.open, c.Request); err != nil {
			return nil, err
		}
	}
	if !m.OpenRegistration || !anonymous {
		if from, err = m.identify(c.Request); err != nil {
			return nil, err
		}
		if !m.OpenRegistration || from.administers() {
			if err := from.permit(wire.RoleAdmin); err != nil {
				return nil, err
			}
			c.Set(keyRole, wire.RoleAdmin)
		}
	}
	return func(name string) error {
		if m.OriginalAPI && name == masternode.LegacyProject && !from.may(wire.RoleAdmin) {
			return fmt.Errorf("%w: %q is reserved for the original's routes", wire.ErrNameTaken, name)
		}
		return nil
	}, nil
}

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
		access.Token = holder(from.identity)
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

// holder stands for the id of a token in append streams, which compare records only for the token that has sent them.
// It stays the same when a token is renewed. Ids of the tokens in the table are below 1<<31.
func holder(id *oidc.Identity) uint32 {
	sum := sha256.Sum256([]byte(id.Issuer + "\x00" + id.Subject))
	return 1<<31 | binary.BigEndian.Uint32(sum[:])
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
