package masterapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/internal/oidc"
	"github.com/chainstore/chainstore/internal/origin"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
	"github.com/chainstore/chainstore/wire/trail"
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

// errNeedsProject is the refusal of a caller that has no project's token.
var errNeedsProject = fmt.Errorf("%w: records are appended and read with a project's token", wire.ErrForbidden)

// withReader is a handler that reads records with a project's token. masternode.Node.MayRead decides for each record
// whether that token may read it. An admin token reads the audit trail, and no other private project.
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
		if a.Project.ID == trail.ProjectID {
			return errNeedsProject
		}
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

// countRefused counts the requests that this master answers with 401, 403 or 429. Those that the leader refuses are
// counted there.
func (m *master) countRefused(c *gin.Context) {
	c.Next()
	if c.GetBool(keyForwarded) {
		return
	}
	switch c.Writer.Status() {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		if c.FullPath() != "" {
			m.refusals.add(refusal{c.Request.Method + " " + c.FullPath(), httpapi.ProblemOf(c)}, m.leader.source(c))
		}
	}
}

// refusals counts the requests that were refused, by route and reason: they leave no record in the audit trail, or
// anyone could fill the chain. Its methods may be called by many goroutines.
type refusals struct {
	log hclog.Logger

	mu     sync.Mutex // guards the fields below
	counts map[refusal]uint64
	logged map[refusal]time.Time // when the log had one of the kind
}

// refusal is a kind of refused requests. There are a few for each route.
type refusal struct {
	route  string // method and path in gin's notation
	reason string // the name of the problem
}

// refusalPause is the time between two refusals of a kind that are logged.
const refusalPause = 10 * time.Second

// add counts a refused request, and logs it if none of its kind was logged a short while ago.
func (r *refusals) add(kind refusal, from trail.Source) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts, r.logged = map[refusal]uint64{}, map[refusal]time.Time{}
	}
	r.counts[kind]++
	if strings.Contains(kind.route, " /internal/") {
		return // httpapi.Nodes logs those of nodes
	}
	if at := r.logged[kind]; at.IsZero() || now.Sub(at) >= refusalPause {
		r.logged[kind] = now
		r.log.Warn("a request was refused", "route", kind.route, "reason", kind.reason, "from", from.Address,
			"through", from.Member, "count", r.counts[kind])
	}
}

// all returns a copy of the counts.
func (r *refusals) all() map[refusal]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// Keys of a request's context: the role that it needs, and whether the leader's answer was passed on.
const (
	keyRole      = "role"
	keyForwarded = "forwarded"
)

// judge refuses a request that needs a role, and whose token has not that role any more. It is called where this master
// leads, so it knows of every revocation that was acknowledged. The context of the request then has its origin, for the
// audit trail.
func (m *master) judge(c *gin.Context) error {
	role := c.GetString(keyRole)
	if role != "" && !m.node.Leads() {
		return wire.ErrNotLeader
	}
	actor := trail.Actor{Kind: trail.ByAnyone}
	if role != "" || c.GetHeader("Authorization") != "" {
		from, err := m.identify(c.Request)
		switch {
		case err == nil:
			actor = from.actor()
		case role != "":
			return err
		}
		if role != "" {
			if err := from.permit(role); err != nil {
				return err
			}
		}
	}
	if role != "" {
		m.Log.Info("administration", "method", c.Request.Method, "route", c.FullPath(), "actor_kind",
			actor.Kind.String(), "actor", actor.Name)
	}
	m.originate(c, actor)
	return nil
}

// originate puts the origin of a request into its context.
func (m *master) originate(c *gin.Context, actor trail.Actor) {
	ctx := origin.With(c.Request.Context(), trail.Origin{Actor: actor, Source: m.sourceOf(c)})
	c.Request = c.Request.WithContext(ctx)
}

// sourceOf returns where a request came from. Only another master, which proves itself, may name another source than
// its own address. No header of a client counts.
func (m *master) sourceOf(c *gin.Context) trail.Source {
	if forwarded(c) && m.fromPeer(c.Request) {
		return m.hopOf(c).Source
	}
	host, _, _ := net.SplitHostPort(c.Request.RemoteAddr)
	return trail.Source{Address: host, Member: m.node.Member().ID}
}

// hopOf returns what another master, which proves itself, says about a request that it forwards. From protocol level 7
// on it must be signed with the key of the member that it says it is: otherwise the id says that it is not proven.
func (m *master) hopOf(c *gin.Context) origin.Hop {
	h, other := certifiedHop(c)
	if !other && h.Source.Member != "" && !m.node.Signed(h.Source.Member, h.Message(origin.Request{
		Caller: c.GetHeader(wire.HeaderCaller), Method: c.Request.Method, URI: c.Request.RequestURI,
		Authorization: c.GetHeader("Authorization"), Body: httpapi.ProofOf(c.Request).Body(),
	}), h.Signature) {
		h.Source.Member += notProven
	}
	return h
}

// certifiedHop returns what another master says about a request that it forwards. It may say the id of another one:
// with TLS the master is the one of the certificate then, and other is true.
func certifiedHop(c *gin.Context) (h origin.Hop, other bool) {
	h = origin.ParseHop(c.GetHeader(wire.HeaderHops))
	peer, ok := httpapi.Peer(c)
	if other = ok && peer.Name != h.Source.Member; other {
		h.Source.Member = peer.String()
	}
	return h, other
}

// notProven follows the id of a master that did not sign with the key of the member.
const notProven = " (not proven)"

// actor returns the caller in the form of the audit trail.
func (from caller) actor() trail.Actor {
	switch {
	case from.identity != nil:
		return trail.Actor{
			Kind: trail.ByIdentity, Role: trail.RoleOf(from.identity.Role), Name: from.identity.Short(trail.MaxText),
		}
	case from.admin.ID != 0:
		return trail.Actor{
			Kind: trail.ByNamed, ID: from.admin.ID, Role: trail.RoleOf(from.admin.Role), Name: from.admin.Name,
		}
	case from.role == wire.RoleAdmin:
		return trail.Actor{Kind: trail.ByAdmin, Role: trail.RoleAdmin}
	case from.role == wire.RoleProject:
		return trail.Actor{Kind: trail.ByProject, ID: from.access.Project.ID, Name: from.access.Project.Name}
	}
	return trail.Actor{Kind: trail.ByNode, Name: "cluster token"}
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

// hasGrants reports whether a caller has a token of the OIDC issuer with rights in projects.
func (from caller) hasGrants() bool { return from.identity != nil && len(from.identity.Grants) > 0 }

// projectOf returns what a caller may do in the project of a request. An admin token, and a token of the OIDC issuer
// with a role, reads the audit trail; one that has rights in projects, too, names it.
func (m *master) projectOf(r *http.Request, from caller) (masterfsm.Access, error) {
	named := r.URL.Query().Get(asProject)
	switch {
	case from.may(wire.RoleAuditor) && (named == trail.Project || named == "" && !from.hasGrants()):
		auditor, ok := m.node.Auditor()
		if !ok {
			return masterfsm.Access{}, fmt.Errorf("%w; an admin token reads the audit trail, from protocol level %d on",
				errNeedsProject, masterfsm.LevelAudit)
		}
		return auditor, nil
	case from.hasGrants():
		access, err := m.node.Granted(r.Context(), from.identity.Grants, named)
		if err != nil {
			return masterfsm.Access{}, err
		}
		httpapi.CountAs(r, m.users, strconv.FormatUint(uint64(access.Project.ID), 10))
		access.Token = holder(from.identity)
		return access, nil
	case from.role != wire.RoleProject:
		return masterfsm.Access{}, errNeedsProject
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

// ticketRoutes adds the routes of join tickets.
func (m *master) ticketRoutes() {
	m.GET("/v1/join-tickets", m.withRole(wire.RoleAuditor, m.listTickets))
	m.POST("/v1/join-tickets", m.withRole(wire.RoleAdmin, m.createTicket))
	m.DELETE("/v1/join-tickets/:id", m.withRole(wire.RoleAdmin, m.revokeTicket))
}

func (m *master) listTickets(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.Tickets(c.Request.Context()))
}

func (m *master) createTicket(c *gin.Context) error {
	var t wire.NewJoinTicket
	body, err := httpapi.ReadExact(c, &t)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		from, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		return httpapi.Answer(c, http.StatusCreated)(m.node.CreateTicket(c.Request.Context(), t, from.author()))
	})
}

// author names the administrator that makes a ticket: "" for the unnamed token. The name of a user of the OIDC issuer
// is cut to the length of that of an admin token.
func (from caller) author() string {
	if from.identity == nil {
		return from.admin.Name
	}
	name := "oidc " + from.identity.Subject
	return strings.ToValidUTF8(name[:min(len(name), masterfsm.MaxAdminName)], "")
}

func (m *master) revokeTicket(c *gin.Context) error {
	id, err := httpapi.Number(c, "id", math.MaxUint32)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RevokeTicket(c.Request.Context(), uint32(id)))
	})
}
